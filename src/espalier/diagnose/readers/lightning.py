"""Lightning: ``metrics.csv`` of its ``CSVLogger``, with ``hparams.yaml`` beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from espalier.diagnose.readers.columns import signs_of
from espalier.diagnose.readers.settings import facts_of, read_settings
from espalier.diagnose.readers.tables import Dialect
from espalier.diagnose.readers.tabular import timed, unread
from espalier.run_record import RunRecord


def read(path: Path, dialect: Dialect) -> RunRecord:
    """A run of a ``Trainer`` with a ``CSVLogger``; its epochs and steps count from 0.

    One moment is spread over several rows, one for each part of the program that logged then.
    """
    signs = signs_of(dialect.columns)
    found = timed(path, dialect, signs, zero_based=True)
    note = unread(dialect, signs)
    return RunRecord(
        path=str(path),
        tool="lightning",
        epochs=found.epochs,
        steps=found.steps,
        facts=replace(
            facts_of(read_settings(path.with_name("hparams.yaml"))),
            steps_per_epoch=found.steps_per_epoch,
        ),
        notes=(*found.notes, note) if note else found.notes,
    )
