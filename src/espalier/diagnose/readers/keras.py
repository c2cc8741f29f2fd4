"""Keras: the file of the ``CSVLogger`` callback."""

from __future__ import annotations

from pathlib import Path

from espalier.diagnose.readers.columns import signs_of
from espalier.diagnose.readers.tables import Dialect
from espalier.diagnose.readers.tabular import timed, unread
from espalier.run_record import RunRecord


def read(path: Path, dialect: Dialect) -> RunRecord:
    """A run of ``model.fit`` with a ``CSVLogger``; its epochs count from 0.

    ``loss`` is the mean over the epoch while it trained. Keras writes no settings.
    """
    signs = {c: "train_loss" if c == "loss" else s for c, s in signs_of(dialect.columns).items()}
    found = timed(path, dialect, signs, zero_based=True)
    note = unread(dialect, signs)
    notes = (*found.notes, note) if note else found.notes
    return RunRecord(path=str(path), tool="keras", epochs=found.epochs, notes=notes)
