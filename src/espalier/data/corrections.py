"""Corrections of a data set as a table that a person reads, edits and accepts: corrections.csv."""

from __future__ import annotations

import difflib
import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from espalier.data import torchvision_sets
from espalier.data.manifests import is_manifest
from espalier.data.split import SPLIT_WORDS
from espalier.data.spreadsheets import read_table, write_table
from espalier.errors import DataError
from espalier.findings import Correction, CorrectionAction, Report
from espalier.records import Catalog, Sample

COLUMNS = ("sample", "path", "action", "value", "reason", "rule", "accepted")
ACTIONS: tuple[CorrectionAction, ...] = get_args(CorrectionAction)
# What Excel and LibreOffice make of a truth value in a few languages, and what people type.
_YES = frozenset(("yes", "y", "ja", "j", "oui", "si", "sí", "true", "wahr", "vrai", "1", "x", "ok"))
_NO = frozenset(("", "no", "n", "nein", "non", "false", "falsch", "faux", "0", "-"))
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Proposal:
    """One row of a table of corrections.

    Attributes:
        row: Its number as a spreadsheet shows it; the header is 1.
        sample: The image's ``sample_id``; empty where a person named it by its path alone.
        path: Its file, absolute or relative to the data folder.
        action: What to do with it.
        value: The label, split or group; empty for ``drop``.
        reason: Why, in a few words.
        rule: Which rule proposed it; empty where a person wrote the row.
        accepted: Whether a person wants it.
    """

    row: int
    sample: str
    path: str
    action: CorrectionAction
    value: str
    reason: str
    rule: str
    accepted: bool

    @property
    def content(self) -> str:
        """The hash of the image's bytes alone, equal for exact copies."""
        return self.sample.partition("~")[0]


@dataclass(frozen=True)
class Corrections:
    """A table of corrections: all rows, accepted or not, in their order."""

    file: Path
    proposals: tuple[Proposal, ...]


def folder_of(source: str) -> str | None:
    """What paths of a table are relative to: the data folder, or that of the manifest.

    None for a torchvision set, whose images are no files of their own.
    """
    if torchvision_sets.is_address(source):
        return None
    path = Path(os.path.abspath(os.path.expanduser(source)))
    return str(path.parent if is_manifest(path) else path)


def require_new(path: Path) -> None:
    """Refuse a place where a file is: it may hold decisions that a person made.

    Raises:
        DataError: The file exists.
    """
    if path.exists():
        raise DataError(
            f"{path} exists, and nothing is overwritten",
            hint=f"move it away, or name another file, such as {_other_name(path)}",
        )


def write_corrections(report: Report, catalog: Catalog, path: Path) -> int:
    """Write what an audit suggests as a table to be accepted row by row; nothing is accepted yet.

    Findings come in the order of the report, their cases by falling score; a correction that two
    of them suggest is one row. Paths are relative to the data folder.

    Returns:
        Rows written.

    Raises:
        DataError: The file exists.
        DiskError: It could not be written.
    """
    require_new(path)
    folder = folder_of(catalog.source)
    paths = {sample.sample_id: _shown_path(sample.path, folder) for sample in catalog.samples}
    rows = [
        (fix.sample, paths.get(fix.sample, ""), fix.action, fix.value, fix.reason, rule, "")
        for rule, fix in _suggested(report)
    ]
    write_table(path, COLUMNS, rows)
    return len(rows)


def write_quarantine(samples: Sequence[Sample], path: Path) -> int:
    """Write the unreadable files with their reasons as corrections that drop them, accepted.

    Returns:
        Rows written.

    Raises:
        DataError: The file exists.
        DiskError: It could not be written.
    """
    require_new(path)
    rows = [
        (sample.sample_id, sample.path, "drop", "", sample.reason, "unreadable", "yes")
        for sample in samples
        if sample.status == "unreadable"
    ]
    write_table(path, COLUMNS, rows)
    return len(rows)


def read_corrections(path: Path) -> Corrections:
    """Read a table of corrections, as it was written or as a spreadsheet or a person left it.

    Raises:
        DataError: With all problems of the table at once.
    """
    if not path.is_file():
        raise DataError(
            f"there is no file of corrections {path}", hint="espalier audit PHOTOS writes one"
        )
    header, rows = read_table(path)
    problems = _header_problems(header)
    proposals: list[Proposal] = []
    for number, cells in rows if not problems else ():
        found = _row_problems(header, cells)
        problems += [f"row {number}: {problem}" for problem in found]
        if not found:
            proposals.append(_proposal(number, dict(zip(header, cells, strict=True))))
    if problems:
        raise DataError(
            f"the corrections {path} cannot be used",
            problems=first_few(problems),
            hint="columns sample,path,action,value,reason,rule,accepted; actions "
            f"{', '.join(ACTIONS)}; accepted is yes, no or empty",
        )
    return Corrections(path, tuple(proposals))


def first_few(problems: Sequence[str]) -> list[str]:
    """The first problems, and how many more there are."""
    hidden = len(problems) - _SHOWN
    more = [f"and {hidden:,} more like these"] if hidden > 0 else []
    return [*problems[:_SHOWN], *more]


def _other_name(path: Path) -> str:
    names = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(2, 1000))
    return str(next((name for name in names if not name.exists()), path.with_name("other.csv")))


def _shown_path(path: str, folder: str | None) -> str:
    if folder is None or not path.startswith(os.path.join(folder, "")):
        return path
    return os.path.relpath(path, folder)


def _suggested(report: Report) -> Iterator[tuple[str, Correction]]:
    """Each distinct correction once, with the rule that suggests it most strongly."""
    seen: set[tuple[str, str, str]] = set()
    for finding in report.findings:
        for case in sorted(finding.cases, key=lambda case: -case.score):
            for fix in case.corrections:
                key = (fix.sample, fix.action, fix.value)
                if key not in seen:
                    seen.add(key)
                    yield finding.rule, fix


def _header_problems(header: Sequence[str]) -> list[str]:
    """Columns beside ours are a person's own notes; a misspelt one shows as one that is missing."""
    problems = [_no_column(name, header) for name in ("action", "accepted") if name not in header]
    if not {"sample", "path"} & set(header):
        problems.append("no column `sample` and no column `path`: one of them names the images")
    return problems + [
        f"column `{name}` appears twice" for name in COLUMNS if list(header).count(name) > 1
    ]


def _no_column(name: str, header: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, sorted(set(header) - set(COLUMNS)), n=1)
    return f"no column `{name}`" + (f"; is it `{near[0]}`?" if near else "")


def _row_problems(header: Sequence[str], cells: Sequence[str]) -> list[str]:
    if len(cells) > len(header):
        return [f"{len(cells)} cells, and the header has {len(header)}; put commas into quotes"]
    row = dict(zip(header, cells, strict=True))
    problems = []
    if not row.get("sample", "").strip() and not row.get("path", "").strip():
        problems.append("neither a sample nor a path")
    accepted = _word(row, "accepted")
    if accepted not in _YES | _NO:
        problems.append(f"accepted is `{accepted}`; allowed: yes, no or empty")
    return problems + _action_problems(_word(row, "action"), row.get("value", "").strip())


def _action_problems(action: str, value: str) -> list[str]:
    if action not in ACTIONS:
        near = difflib.get_close_matches(action, ACTIONS, n=1)
        guess = f"; did you mean `{near[0]}`?" if near else ""
        return [f"action is `{action}`; allowed: {', '.join(ACTIONS)}{guess}"]
    if action == "drop":
        return []
    if not value:
        wanted = {"relabel": "a class", "move": "train, val or test", "group": "a name"}
        return [f"{action} without a value; wanted: {wanted[action]}"]
    if action == "move" and value.lower() not in SPLIT_WORDS:
        return [f"move to `{value}`; allowed: train, val, test"]
    return []


def _word(row: Mapping[str, str], name: str) -> str:
    return row.get(name, "").strip().lower()


def _proposal(number: int, row: Mapping[str, str]) -> Proposal:
    action = cast(CorrectionAction, _word(row, "action"))
    # Not stripped: a folder may be called `rust ` with a blank, and so is its class.
    value = unicodedata.normalize("NFC", row.get("value", ""))
    if action == "move":
        value = SPLIT_WORDS[value.strip().lower()]
    return Proposal(
        row=number,
        sample=row.get("sample", "").strip().lower(),
        path=row.get("path", ""),
        action=action,
        value="" if action == "drop" else value,
        reason=row.get("reason", "").strip(),
        rule=row.get("rule", "").strip(),
        accepted=_word(row, "accepted") in _YES,
    )
