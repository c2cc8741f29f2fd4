"""What checks came to: a row each, with the figure behind it; as lines and as an object."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from espalier.report.names import one_line
from espalier.report.numbers import duration
from espalier.report.paragraphs import wrapped

MARKS = {True: "✓", False: "✗", None: "-"}


@dataclass(frozen=True)
class Verdict:
    """What one check says.

    Attributes:
        passed: Whether what was looked at is in order.
        evidence: The figure behind it, in plain words.
        advice: What to do where it is not.
    """

    passed: bool
    evidence: str
    advice: str = ""


@dataclass(frozen=True)
class CheckRow:
    """One check of a report.

    Attributes:
        group: What it is about: ``data``, ``pictures``, ``network``, ``stage NAME``, ``learning``.
        name: What should be so, in a few words.
        passed: True, False, or None where it does not apply or cannot be judged.
        evidence: The figure behind it; where ``passed`` is None, why.
        advice: What to do; only where ``passed`` is False.
    """

    group: str
    name: str
    passed: bool | None
    evidence: str
    advice: str = ""


@dataclass(frozen=True)
class CheckReport:
    """All checks of one recipe on one data set, in order.

    Attributes:
        rows: One per check.
        suggestions: What may hold accuracy back, in the order of what to try first.
        seconds: Wall time of the checks.
    """

    rows: tuple[CheckRow, ...]
    suggestions: tuple[str, ...]
    seconds: float

    @property
    def failed(self) -> tuple[CheckRow, ...]:
        """The rows that are not in order."""
        return tuple(row for row in self.rows if row.passed is False)

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failed

    def to_json(self) -> dict[str, Any]:
        """The object that ``check --json`` prints."""
        return {
            "ok": self.ok,
            "rows": [dataclasses.asdict(row) for row in self.rows],
            "suggestions": list(self.suggestions),
            "seconds": round(self.seconds, 2),
        }


def report_lines(report: CheckReport) -> list[str]:
    """Ticks and crosses in order, the suggestions, and a summary: lines of at most 80 columns."""
    lines: list[str] = []
    group = ""
    for row in report.rows:
        if row.group != group:
            group = row.group
            lines += ["", group] if lines else [group]
        lines += row_lines(row)
    if report.suggestions:
        lines += ["", "if accuracy stays low"]
        lines += [line for text in report.suggestions for line in indented(f"- {text}")]
    return [*lines, "", *wrapped(summary(report))]


def row_lines(row: CheckRow) -> list[str]:
    """Mark, name and figure; below a cross what to do."""
    lines = indented(f"{MARKS[row.passed]} {row.name}: {row.evidence}")
    return [*lines, *indented(f"  try: {row.advice}")] if row.advice else lines


def indented(text: str) -> list[str]:
    """A paragraph below its heading; names of the user's in it cannot break the lines."""
    start = text[: len(text) - len(text.lstrip())]
    return wrapped(f"  {start}{one_line(text)}")


def summary(report: CheckReport) -> str:
    """How many checks held, which did not, and how long it took."""
    held = sum(row.passed is True for row in report.rows)
    apart = sum(row.passed is None for row in report.rows)
    parts = [f"{held} in order", f"{len(report.failed)} not in order"]
    if apart:
        parts.append(f"{apart} not judged")
    text = f"{', '.join(parts)}; {duration(report.seconds)}"
    return text if report.ok else f"{text}. Look at: {named(report.failed)}"


def named(rows: Sequence[CheckRow]) -> str:
    """The rows by group and name."""
    return "; ".join(f"{row.group}: {row.name}" for row in rows)
