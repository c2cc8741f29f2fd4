"""Tables that people edit in a spreadsheet: none of them changes a cell, however it saves the file.

A text that a spreadsheet would take for a formula, a number, a date or a truth value is written
with an apostrophe before it, and read without.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from espalier.errors import DataError
from espalier.files import write_whole

# Source of the signs: OWASP, "CSV Injection"; the wide ones count where Chinese or Japanese is set.
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
# Also dates, times, shares, sums of money, and hashes such as 12345e6789012345.
_NUMBER = re.compile(r"(?=.*\d)[\d\s.,:/%eE+()$€£¥-]+(?:\s[ap]m?)?", re.I)
# 5 mai and Sep-1: names of months in the languages of the words below, by how they begin.
_MONTHS = "jan|feb|mar|mär|apr|mai|may|jun|jui|jul|aug|aoû|sep|oct|okt|nov|dec|dez|déc|fév|avr"
_DATE = re.compile(rf"(?=.*\d)[\d\s.,/-]*(?:{_MONTHS})[^\W\d_]*[\d\s.,/-]*", re.I)
_TRUTH = frozenset({"true", "false", "wahr", "falsch", "vrai", "faux"})
_APOSTROPHE = "'"


def guarded(text: str) -> str:
    """The text as a cell that a spreadsheet leaves as it is."""
    return _APOSTROPHE + text if _is_changed(text) else text


def unguarded(cell: str) -> str:
    """The text of a cell; the inverse of ``guarded``."""
    rest = cell[1:]
    return rest if cell.startswith(_APOSTROPHE) and _is_changed(rest) else cell


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a CSV file that spreadsheets open with all letters right.

    Raises:
        DiskError: The file could not be written; what was there before is untouched.
    """

    def write(partial: Path) -> None:
        # Without the mark at its start, Excel takes UTF-8 for something else and saves it spoilt.
        # Names of files need not be valid UTF-8; surrogates carry their bytes through.
        with partial.open("w", encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            table = csv.writer(file)
            table.writerow(header)
            table.writerows([guarded(text) for text in row] for row in rows)

    write_whole(path, write)


def read_table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Column names in lower case, and each row with its number as a spreadsheet shows it.

    Commas, semicolons and tabs separate; UTF-8, UTF-16 and Windows-1252 are understood. Rows are
    filled up to the length of the header; blank ones are left out.

    Raises:
        DataError: The file is missing, or is no such table.
    """
    try:
        text = _decoded(path.read_bytes())
        # The header shows what separates: texts of the rows may hold any sign.
        mark = max("\t;,", key=text.partition("\n")[0].count)
        table = list(csv.reader(io.StringIO(text, newline=""), delimiter=mark))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"the table {path} cannot be read: {getattr(error, 'strerror', None) or error}",
            hint="save it as CSV in UTF-8",
        ) from error
    header = [cell.strip().lower() for cell in table[0]] if table else []
    return header, [
        (number, _filled([unguarded(cell) for cell in row], len(header)))
        for number, row in enumerate(table[1:], start=2)
        if any(cell.strip() for cell in row)
    ]


def _is_changed(text: str) -> bool:
    """Whether a spreadsheet would make something else of a text, or an apostrophe is its own."""
    bare = text.strip()
    return (
        text.startswith((_APOSTROPHE, *_FORMULA))
        or bare.startswith(_FORMULA)
        or bare.lower() in _TRUTH
        or _NUMBER.fullmatch(text) is not None
        or _DATE.fullmatch(text) is not None
    )


def _decoded(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    if data.startswith(codecs.BOM_UTF8):
        return data.decode("utf-8-sig", errors="surrogateescape")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        # What Excel saves as plain CSV in Western countries.
        return data.decode("cp1252")


def _filled(cells: list[str], length: int) -> list[str]:
    """Cells as many as the header has; more only where more of them are written on."""
    while len(cells) > length and not cells[-1].strip():
        cells.pop()
    return cells + [""] * (length - len(cells))
