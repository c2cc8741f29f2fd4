"""A table with one reading of its columns, as epochs and steps; what all table readers share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from espalier.diagnose.readers.columns import CLOCKS
from espalier.diagnose.readers.tables import Dialect, number, rows_of
from espalier.diagnose.readers.timeline import Timed, Timeline, Unit


def timed(
    path: Path,
    dialect: Dialect,
    signs: Mapping[str, str],
    *,
    unit: Unit = "unknown",
    zero_based: bool | None = None,
    convert: Callable[[Any], float] = number,
) -> Timed:
    """The rows of a table, put in order.

    Args:
        path: The file.
        dialect: How it is written.
        signs: Column -> sign, the clocks among them.
        unit: Of accuracies.
        zero_based: Whether the tool counts from 0.
        convert: What makes a number of a cell.
    """
    clocks = [next((c for c, s in signs.items() if s == clock), None) for clock in CLOCKS]
    values = [column for column, sign in signs.items() if sign not in CLOCKS]
    timeline = Timeline([signs[c] for c in values], unit=unit, zero_based=zero_based)
    wanted = [clock for clock in clocks if clock] + values
    absent = [clock is None for clock in clocks]
    for row in rows_of(path, dialect, wanted):
        if row is None:
            timeline.begin_again()
            continue
        cells = [convert(cell) for cell in row]
        epoch = math.nan if absent[0] else cells.pop(0)
        step = math.nan if absent[1] else cells.pop(0)
        if any(value == value for value in cells):
            timeline.add(epoch, step, cells)
    return timeline.in_order()


def unread(dialect: Dialect, signs: Mapping[str, str], known: tuple[str, ...] = ()) -> str:
    """A note on the columns that nobody read; empty where there are none."""
    rest = [c for c in dialect.columns if c and c not in signs and c not in known]
    if not rest:
        return ""
    shown = ", ".join(rest[:8]) + (f" and {len(rest) - 8} more" if len(rest) > 8 else "")
    return f"columns that were not read: {shown}; --map SIGN=COLUMN reads them"
