"""What rules conclude: findings with evidence, what to do about them, and what was in order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["info", "warning", "error"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "error")
CorrectionAction = Literal["drop", "relabel", "move", "group"]
EditAction = Literal["set", "multiply", "unset"]


@dataclass(frozen=True)
class Evidence:
    """One measured thing that a finding rests on.

    Attributes:
        name: What was measured, in words.
        value: What it was; a number where there is one.
        threshold: What it was compared with; None where nothing was.
        unit: Of value and threshold; empty for a plain count or a word.
        where: The place: an epoch, a step, a layer, a class, a file; empty for the whole subject.
    """

    name: str
    value: float | str
    threshold: float | None = None
    unit: str = ""
    where: str = ""


@dataclass(frozen=True)
class Edit:
    """A change of the recipe that a finding prescribes.

    Attributes:
        key: Dotted key of the recipe; a stage by its name: ``stages.head.lr``.
        action: ``set`` to the value, ``multiply`` by it, or ``unset`` to the default.
        value: What to set, or to multiply by; None for ``unset``.
        because: Why, in a few words.
        safe: Whether it may be applied without asking.
    """

    key: str
    action: EditAction
    value: float | int | str | bool | None
    because: str
    safe: bool = True


@dataclass(frozen=True)
class Correction:
    """A change of the data that a finding suggests for one image; the file is never touched.

    Attributes:
        sample: The image's ``sample_id``.
        action: ``drop`` it, ``relabel`` it, ``move`` it to a split, or put it into a ``group``.
        value: The label, split or group; empty for ``drop``.
        reason: Why, in a few words.
    """

    sample: str
    action: CorrectionAction
    value: str
    reason: str


@dataclass(frozen=True)
class Case:
    """One instance of a finding: an image, a pair, a group of images, or a class.

    Attributes:
        samples: ``sample_id`` of each image concerned; empty where a class is meant.
        text: What is to be seen there, in a few words, with the figure.
        score: How strong the case is; cases are shown by falling score.
        corrections: What to do about it, one entry per image to change.
        label: The class concerned, where it is about one.
    """

    samples: tuple[str, ...]
    text: str
    score: float = 0.0
    corrections: tuple[Correction, ...] = ()
    label: str = ""


@dataclass(frozen=True)
class Finding:
    """What a rule concluded of its subject.

    Attributes:
        rule: Name of the rule, that of its file.
        code: Stable code, such as ``AUD010``.
        severity: ``info``: worth knowing; ``warning``: the result suffers; ``error``: the result
            is wrong, or there will be none.
        cause: What is wrong, as one sentence with the figure.
        evidence: What it rests on.
        confidence: How often such a finding is right, in [0, 1].
        advice: What to do, one sentence each.
        prescription: The same as changes of the recipe, where that is possible.
        cases: The images or classes concerned, strongest first.
        consequences: Other findings that follow from this one, by name of their rule.
    """

    rule: str
    code: str
    severity: Severity
    cause: str
    evidence: tuple[Evidence, ...] = ()
    confidence: float = 1.0
    advice: tuple[str, ...] = ()
    prescription: tuple[Edit, ...] = ()
    cases: tuple[Case, ...] = ()
    consequences: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values; numbers that JSON does not know become words."""
        record: dict[str, Any] = _plain(asdict(self))
        return record


@dataclass(frozen=True)
class Skipped:
    """A rule that could not judge, and why."""

    rule: str
    reason: str


@dataclass(frozen=True)
class Report:
    """What all rules said: each is in exactly one of the three.

    Attributes:
        findings: What fired, the most upstream and most severe first.
        clear: Rules that looked and found things in order.
        skipped: Rules that could not judge, each with its reason.
        notes: What a person should know of how the subject was read.
    """

    findings: tuple[Finding, ...]
    clear: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """``error``, ``warning`` or ``info`` by the worst finding; ``clear`` without any."""
        worst = max((SEVERITIES.index(f.severity) for f in self.findings), default=-1)
        return "clear" if worst < 0 else SEVERITIES[worst]

    def to_json(self) -> dict[str, Any]:
        """The object of ``findings.json`` and ``--json``."""
        return {
            "verdict": self.verdict,
            "findings": [finding.to_json() for finding in self.findings],
            "clear": list(self.clear),
            "skipped": [asdict(skipped) for skipped in self.skipped],
            "notes": list(self.notes),
        }


def listed(names: Sequence[str], limit: int = 5) -> str:
    """``a, b, c and 4 more``."""
    shown = ", ".join(names[:limit])
    return f"{shown} and {len(names) - limit:,} more" if len(names) > limit else shown


def percent(share: float) -> str:
    """A share in words, one decimal at most from 1 % on: ``0.071 %``, ``3.1 %``, ``88 %``."""
    value = 100 * share
    return f"{value:.{3 if abs(value) >= 10 else 2}g} %"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
