"""Any other table: CSV or JSON lines, with the columns that are known or that ``--map`` names."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from espalier.diagnose.readers.columns import is_telling, map_option, signs_of
from espalier.diagnose.readers.tables import Dialect
from espalier.diagnose.readers.tabular import timed, unread
from espalier.errors import RunError
from espalier.run_record import RunFacts, RunRecord


def read(path: Path, dialect: Dialect, mapping: Mapping[str, str] | None = None) -> RunRecord:
    """A run from a table.

    Raises:
        RunError: No column says how training went; the hint proposes a mapping.
    """
    signs = signs_of(dialect.columns, mapping)
    if not is_telling(signs):
        raise unknown_columns(path, dialect)
    found = timed(path, dialect, signs)
    note = unread(dialect, signs)
    return RunRecord(
        path=str(path),
        tool=f"{dialect.kind} table",
        epochs=found.epochs,
        steps=found.steps,
        facts=RunFacts(steps_per_epoch=found.steps_per_epoch),
        notes=(*found.notes, note) if note else found.notes,
    )


def unknown_columns(path: Path, dialect: Dialect) -> RunError:
    """What to say of a table that no reader understands."""
    shown = ", ".join(column for column in dialect.columns if column)
    return RunError(
        f"{path} has columns that are not known: {shown}; a record needs at least a loss or an "
        "accuracy",
        hint=f"espalier diagnose {shlex.quote(str(path))} {map_option(dialect.columns)}",
    )
