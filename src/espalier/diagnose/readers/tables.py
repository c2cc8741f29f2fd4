"""Tables of any dialect as a stream of rows: CSV with any separator, and JSON lines.

A byte order mark, Windows line ends, decimal commas, repeated headers and a half-written last line
are no errors. A stream is never held in memory.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from espalier.errors import RunError

# Stands for a number that was recorded as NaN; NaN itself means that nothing was recorded. It fits
# single precision, and no loss is ever that low.
SPELLED_NAN = -3.0e38
_NOTHING = frozenset({"", "none", "null", "-", "--", "n/a", "na", "<na>"})
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
# Such as "tensor(0.53, device='cuda:0')", "np.float64(0.53)" or "85.3 %".
_WRAPPED = re.compile(rf"(?:tensor|array|float\d*)\(\[?\s*({_NUMBER})|^({_NUMBER})\s*%$")
_HEAD = 65_536


@dataclass(frozen=True)
class Dialect:
    """How a table is written.

    Attributes:
        kind: ``csv`` or ``jsonl``.
        columns: In order; of JSON lines, those of the first rows.
        separator: Between the cells of a CSV row.
        decimal_comma: Whether numbers are written as ``0,5``.
    """

    kind: Literal["csv", "jsonl"]
    columns: tuple[str, ...]
    separator: str = ","
    decimal_comma: bool = False


def number(value: Any) -> float:
    """A cell as a number.

    Returns:
        NaN where nothing was recorded, ``SPELLED_NAN`` where NaN was, infinities as they are.
    """
    try:
        found = float(value)
    except (TypeError, ValueError):
        return _spelled(value)
    except OverflowError:
        # An integer of more than 308 digits.
        return math.inf if value > 0 else -math.inf
    return SPELLED_NAN if found != found else found


def _spelled(value: Any) -> float:
    if not isinstance(value, str) or value.strip().lower() in _NOTHING:
        return math.nan
    word = value.strip().lower()
    if "nan" in word or "#ind" in word or "#qnan" in word:
        return SPELLED_NAN
    if re.search(r"\binf|#inf|∞", word):
        return -math.inf if "-" in word.partition("inf")[0] else math.inf
    found = _WRAPPED.search(word)
    return float(found[1] or found[2]) if found else math.nan


def plain_number(value: Any) -> float:
    """A cell as a number, NaN also where NaN was recorded."""
    found = number(value)
    return math.nan if found == SPELLED_NAN else found


def dialect_of(path: Path) -> Dialect | None:
    """How a file is written; None where it is no table."""
    # Null characters are what a disk that lost power leaves at the end of a file.
    head = head_of(path).rstrip("\0")
    lines = [line for line in head.splitlines() if line.strip()]
    if not lines or "\0" in head:
        return None
    if lines[0].lstrip().startswith("{"):
        return _json_dialect(lines)
    if lines[0].lstrip().startswith("["):
        return None
    return _csv_dialect(lines)


def head_of(path: Path) -> str:
    """The first 64 kB of a file as text, without a byte order mark.

    Raises:
        RunError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(_HEAD).decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}", hint=f"ls -l {path}") from error


def _json_dialect(lines: Sequence[str]) -> Dialect | None:
    columns: dict[str, None] = {}
    for line in lines[:200]:
        row = _json_row(line)
        if row is not None:
            columns.update(dict.fromkeys(row))
    return Dialect("jsonl", tuple(columns)) if columns else None


def _csv_dialect(lines: Sequence[str]) -> Dialect | None:
    # A comma may be a decimal one: it separates only where nothing else can.
    separator = next((mark for mark in "\t;|" if mark in lines[0]), ",")
    header = tuple(cell.strip() for cell in next(csv.reader([lines[0]], delimiter=separator)))
    if sum(bool(cell) for cell in header) < 2 or all(_is_number(cell) for cell in header):
        return None
    body = separator.join(lines[1:20])
    decimal_comma = separator != "," and bool(re.search(r"\d,\d", body)) and "." not in body
    return Dialect("csv", header, separator, decimal_comma)


def _is_number(cell: str) -> bool:
    return not math.isnan(number(cell))


def rows_of(path: Path, dialect: Dialect, columns: Sequence[str]) -> Iterator[list[Any] | None]:
    """The cells of the wanted columns, row by row; None where the header stands again.

    Rows of JSON lines lack what they lack: such cells are None.
    """
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        if dialect.kind == "jsonl":
            yield from _json_rows(file, columns)
        elif dialect.columns[-1] in columns and _has_no_end(path):
            place = list(columns).index(dialect.columns[-1])
            yield from _with_whole_cells(_csv_rows(file, dialect, columns), place)
        else:
            yield from _csv_rows(file, dialect, columns)


def _has_no_end(path: Path) -> bool:
    """Whether the last line lacks its end: the file is being written, was cut, or is from hand."""
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) not in (b"\n", b"\r", b"\0")


def _with_whole_cells(rows: Iterator[list[Any] | None], place: int) -> Iterator[list[Any] | None]:
    """Rows whose last line lacks its end: its last cell counts only if it may be whole.

    Of 5e-05 the first half reads as a rate of 5, so a cell shorter than all before it is left out.
    """
    held: list[Any] | None = None
    shortest = 0
    for row in rows:
        if held is not None:
            length = len(held[place])
            shortest = min(shortest or length, length)
            yield held
        held = row
        if row is None:
            yield None
    if held is not None:
        if len(held[place]) < shortest:
            held[place] = ""
        yield held


def _json_rows(file: TextIO, columns: Sequence[str]) -> Iterator[list[Any] | None]:
    for line in file:
        row = _json_row(line)
        if row is not None:
            yield [row.get(name) for name in columns]


def _json_row(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return _flat(row) if isinstance(row, dict) else None


def _flat(row: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested objects as one, with slashes: ``{"val": {"loss": 1}}`` is ``val/loss``."""
    if not any(isinstance(value, dict) for value in row.values()):
        return {f"{prefix}{key}": value for key, value in row.items()} if prefix else row
    found: dict[str, Any] = {}
    for key, value in row.items():
        inner = _flat(value, f"{prefix}{key}/") if isinstance(value, dict) else None
        found.update(inner if inner is not None else {f"{prefix}{key}": value})
    return found


def _csv_rows(file: TextIO, dialect: Dialect, columns: Sequence[str]) -> Iterator[list[Any] | None]:
    lines = (line.replace("\0", "") for line in file)
    reader = csv.reader(filter(str.strip, lines), delimiter=dialect.separator)
    next(reader, None)
    places = [dialect.columns.index(name) for name in columns]
    width, first = len(dialect.columns), dialect.columns[0]
    while True:
        try:
            for row in reader:
                if row[0].strip() == first and tuple(c.strip() for c in row) == dialect.columns:
                    yield None
                elif len(row) >= width:
                    cells = [row[place] for place in places]
                    yield _pointed(cells) if dialect.decimal_comma else cells
            return
        except csv.Error:
            continue


def _pointed(cells: Sequence[str]) -> list[Any]:
    return [cell.replace(",", ".") for cell in cells]


def some_rows(path: Path, dialect: Dialect, limit: int = 50) -> list[list[Any]]:
    """The first rows with all columns."""
    rows = itertools.islice(rows_of(path, dialect, dialect.columns), limit)
    return [row for row in rows if row is not None]
