"""A table of photographs: a CSV, TSV or Parquet file with path,label[,split,group]."""

from __future__ import annotations

import csv
import difflib
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from espalier.data.split import SPLIT_WORDS
from espalier.errors import DataError
from espalier.files import write_whole
from espalier.records import Sample

COLUMNS = ("path", "label", "split", "group")
_REQUIRED = COLUMNS[:2]
_SUFFIXES = (".csv", ".tsv", ".parquet", ".pq")
_SHOWN = 10

Row = dict[str, str]


def is_manifest(path: Path) -> bool:
    """Whether a name is that of a table, and not of a folder that exists."""
    return path.suffix.lower() in _SUFFIXES and not path.is_dir()


def read_manifest(path: Path) -> list[Sample]:
    """One sample per row, not yet opened; paths are absolute or relative to the manifest's folder.

    Raises:
        DataError: With all problems of the table at once.
    """
    if not path.is_file():
        raise DataError(f"the manifest {path} does not exist", hint="check the path")
    header, rows = _read_table(path)
    problems = _header_problems(header)
    samples: list[Sample] = []
    if not problems:
        samples, problems = _samples(path, rows)
    if problems:
        raise DataError(
            f"the manifest {path} cannot be used",
            problems=problems,
            hint=f"columns path,label and, if wanted, split (train, val, test) and group; "
            f"paths relative to {path.parent} or absolute",
        )
    if not samples:
        raise DataError(f"the manifest {path} has no rows", hint="one row per image: path,label")
    return samples


def write_manifest(samples: Sequence[Sample], path: Path) -> None:
    """Write readable photographs as ``path,label,split,group``, with absolute paths.

    Painted pictures are not among them: as rows of a manifest they could come to validate.
    """

    def write(partial: Path) -> None:
        with partial.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(("path", "label", "split", "group"))
            for s in samples:
                if s.status == "ok" and not s.origin:
                    table.writerow((s.path, s.label or "", s.split or "", s.group or ""))

    write_whole(path, write)


def _read_table(path: Path) -> tuple[list[str], list[tuple[int, Row]]]:
    """Column names, and the rows with their number as a spreadsheet shows it (header = 1)."""
    try:
        is_text = path.suffix.lower() in (".csv", ".tsv")
        header, rows = _read_text(path) if is_text else _read_parquet(path)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"the manifest {path} cannot be read: {error}",
            hint="save it as CSV in UTF-8, or as Parquet",
        ) from error
    names = [name.strip().lower() for name in header]
    return names, [
        (number, dict(zip(names, row, strict=True)) if len(row) == len(names) else {})
        for number, row in enumerate(rows, start=2)
        if any(cell.strip() for cell in row)
    ]


def _read_text(path: Path) -> tuple[list[str], list[list[str]]]:
    with path.open(encoding="utf-8-sig", errors="strict", newline="") as file:
        first = file.readline()
        file.seek(0)
        # Spreadsheets in many countries separate by semicolons; the header shows it.
        mark = max("\t;,", key=first.count)
        table = list(csv.reader(file, delimiter=mark))
    return (table[0], table[1:]) if table else ([], [])


def _read_parquet(path: Path) -> tuple[list[str], list[list[str]]]:
    import pandas as pd

    table = pd.read_parquet(path)
    texts = table.astype(object).where(table.notna(), "")
    rows = [[str(cell) for cell in row] for row in texts.itertuples(index=False, name=None)]
    return [str(name) for name in table.columns], rows


def _header_problems(header: Sequence[str]) -> list[str]:
    problems = [f"no column `{name}`" for name in _REQUIRED if name not in header]
    for name in sorted(set(header) - set(COLUMNS)):
        near = difflib.get_close_matches(name, COLUMNS, n=1)
        guess = f"did you mean `{near[0]}`?" if near else f"allowed: {', '.join(COLUMNS)}"
        problems.append(f"unknown column `{name}`; {guess}")
    problems += [f"column `{n}` appears twice" for n in COLUMNS if list(header).count(n) > 1]
    return problems


def _samples(path: Path, rows: Sequence[tuple[int, Row]]) -> tuple[list[Sample], list[str]]:
    problems: list[str] = []
    samples: list[Sample] = []
    first_row: dict[str, int] = {}
    for number, row in rows:
        file = _absolute(path, row.get("path", ""))
        found = _row_problems(row, file)
        if file in first_row and not found:
            found = [f"the same path as row {first_row[file]}: {row['path']}"]
        first_row.setdefault(file, number)
        problems += [f"row {number}: {problem}" for problem in found]
        if not found:
            samples.append(_sample(row, file))
    hidden = len(problems) - _SHOWN
    if hidden > 0:
        problems = [*problems[:_SHOWN], f"and {hidden:,} more like these"]
    return samples, problems


def _absolute(manifest: Path, text: str) -> str:
    return os.path.abspath(os.path.join(manifest.parent, os.path.expanduser(text)))


def _row_problems(row: Row, file: str) -> list[str]:
    if not row:
        return ["not as many cells as the header"]
    if not row["path"]:
        return ["no path"]
    problems = []
    if not os.path.isfile(file):
        problems.append(f"no such file: {row['path']}")
    if not row["label"].strip():
        problems.append(f"no label for {row['path']}")
    word = row.get("split", "").strip().lower()
    if word and word not in SPLIT_WORDS:
        problems.append(f"split `{word}` is not one of {', '.join(SPLIT_WORDS)}")
    return problems


def _sample(row: Row, file: str) -> Sample:
    return Sample(
        "",
        file,
        unicodedata.normalize("NFC", row["label"].strip()),
        group=row.get("group", "").strip() or None,
        split=SPLIT_WORDS.get(row.get("split", "").strip().lower()),
    )
