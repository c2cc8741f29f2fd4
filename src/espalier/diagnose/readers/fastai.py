"""fastai: the file of the ``CSVLogger`` callback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from espalier.diagnose.readers.columns import signs_of
from espalier.diagnose.readers.tables import Dialect, number
from espalier.diagnose.readers.tabular import timed, unread
from espalier.run_record import RunRecord


def read(path: Path, dialect: Dialect) -> RunRecord:
    """A run of ``Learner.fit`` with a ``CSVLogger``; its epochs count from 0.

    Columns without a prefix are of validation. ``train_loss`` is a running mean, smoothed over the
    last batches. ``fine_tune`` writes its frozen epochs first and begins a new file for the rest.
    """
    signs = {c: _of_validation(c, s) for c, s in signs_of(dialect.columns).items()}
    signs["time"] = "seconds"
    found = timed(path, dialect, signs, zero_based=True, convert=_seconds)
    note = unread(dialect, signs)
    notes = (*found.notes, note) if note else found.notes
    return RunRecord(path=str(path), tool="fastai", epochs=found.epochs, notes=notes)


def _of_validation(column: str, sign: str) -> str:
    return sign.replace("train_", "val_") if column != "train_loss" else sign


def _seconds(cell: Any) -> float:
    """``1:02:03`` and ``02:03`` as seconds, all else as a number."""
    if not isinstance(cell, str) or ":" not in cell:
        return number(cell)
    total = 0.0
    for part in cell.split(":"):
        total = 60 * total + number(part)
    return total
