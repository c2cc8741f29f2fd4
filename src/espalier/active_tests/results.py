"""What active tests gave: a row each, figures for the rules, and the file that keeps them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espalier import files
from espalier.report.names import one_line
from espalier.report.numbers import duration
from espalier.report.paragraphs import wrapped
from espalier.run_record import Preflight, RunRecord, from_plain, to_plain

FILE = "probe.json"
FORMAT = 1


@dataclass(frozen=True)
class Tried:
    """One active test.

    Attributes:
        name: What was tried, in a few words.
        text: What came of it; empty where it could not be tried.
        seconds: Wall time.
        reason: Why it could not be tried; empty where it was.
    """

    name: str
    text: str
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True)
class ActiveTests:
    """All active tests of a run.

    Attributes:
        rows: One per test, in the order in which they were tried.
        preflight: Their figures, as rules read them.
        seconds: Wall time of all.
        epochs: How many epochs the run had then.
        step: Optimizer step of the last of them; None where unknown.
        reason: Why nothing could be tried at all; empty where something was.
    """

    rows: tuple[Tried, ...] = ()
    preflight: Preflight = field(default_factory=Preflight)
    seconds: float = 0.0
    epochs: int = 0
    step: int | None = None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """The object of ``probe.json``."""
        return {
            "format": FORMAT,
            "epochs": self.epochs,
            "step": self.step,
            "seconds": round(self.seconds, 2),
            "reason": self.reason,
            "tests": [
                {**dataclasses.asdict(row), "seconds": round(row.seconds, 2)} for row in self.rows
            ],
            "preflight": to_plain(self.preflight),
        }


def position(record: RunRecord) -> tuple[int, int | None]:
    """Epochs of a run, and the step of the last: results are of the run as it stood there."""
    return len(record.epochs), record.epochs[-1].step if record.epochs else None


def with_results(record: RunRecord, preflight: Preflight) -> RunRecord:
    """The run with what was tried; what training itself measured before its first step holds."""
    own = {
        part.name: value
        for part in dataclasses.fields(Preflight)
        if (value := getattr(record.preflight, part.name)) is not None
    }
    return dataclasses.replace(record, preflight=dataclasses.replace(preflight, **own))


def write_results(tests: ActiveTests, folder: Path) -> Path:
    """Write ``probe.json`` whole.

    Raises:
        DiskError: It could not be written.
    """
    path = folder / FILE
    text = json.dumps(tests.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
    files.write_text(path, text + "\n")
    return path


def with_earlier(record: RunRecord, folder: Path) -> RunRecord:
    """The run with the results of earlier tests, if they are of the run as it stands."""
    path = folder / FILE
    if not path.is_file():
        return record
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        found = from_plain(Preflight, _figures(plain))
        of = (plain["epochs"], plain["step"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return _noted(record, f"{FILE} cannot be read and was left out (--probe writes it anew)")
    if of != position(record):
        return _noted(record, f"{FILE} is of {of[0]} epochs and was left out (--probe tries again)")
    return with_results(record, found)


def _figures(plain: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(plain["preflight"], Mapping):
        raise TypeError("preflight")
    return plain["preflight"]


def _noted(record: RunRecord, note: str) -> RunRecord:
    return dataclasses.replace(record, notes=(*record.notes, note))


def result_lines(tests: ActiveTests, decided: tuple[str, ...] = ()) -> list[str]:
    """What was tried, what came of it and why not: lines of at most 80 columns.

    Args:
        tests: The results.
        decided: Rules that say something else because of it, in words.
    """
    if tests.reason:
        return wrapped(one_line(f"nothing was tried: {tests.reason}"))
    lines = wrapped(f"tried in {duration(tests.seconds)}:")
    for row in tests.rows:
        text = f"{row.text} ({duration(row.seconds)})" if row.text else f"not tried: {row.reason}"
        lines += [f"  {line}" for line in wrapped(one_line(f"{row.name}: {text}"), width=78)]
    if decided:
        checks = f"{len(decided)} check{'' if len(decided) == 1 else 's'}"
        lines += wrapped(f"this changed the word of {checks}: {', '.join(decided)}")
    return lines
