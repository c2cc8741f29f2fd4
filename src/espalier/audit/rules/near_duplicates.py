"""The same photograph more than once within one part of the data, changed a little.

What it looks at: pictures of one split and one label that were laid over each other and agree in
    detail: another size, compression or light, mirrored, turned, or cropped.
Why it matters: they add little to training and count double in the scores of validation and test.
When it is wrong: copies made on purpose by augmentation, or bursts without any movement.
What to do: keep one of each, or leave them in training if they were made on purpose.
Source: correlation after alignment (Evangelidis and Psarakis 2008); fault D6 and D18.
"""

from __future__ import annotations

from dataclasses import dataclass

from espalier.audit.groups import Group, near_groups
from espalier.audit.robust import severity_by_share, share_of
from espalier.audited import Audited
from espalier.findings import Case, Correction, Evidence, Finding
from espalier.records import Sample
from espalier.rules import threshold

CODE = "AUD011"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    share: float = threshold(0.05, "share of the images", "superfluous, from which it is a warning")


def check(subject: Audited, thresholds: Thresholds) -> Finding | None:
    """A finding where photographs are there more than once."""
    parts = [group.within(split) for group in near_groups(subject) for split in group.splits]
    parts = [part for part in parts if len(_different(part)) > 1 and len(part.labels) < 2]
    if not parts:
        return None
    surplus = sum(len(_different(part)) - 1 for part in parts)
    total = len(subject.readable)
    return Finding(
        rule="near_duplicates",
        code=CODE,
        severity=severity_by_share(surplus, total, thresholds.share),
        cause=f"{share_of(surplus, total)} are nearly the same as another one in the same part",
        evidence=(Evidence("superfluous copies", surplus / total, thresholds.share, "share"),),
        confidence=0.95,
        advice=(
            "Look at the pairs and leave out all but one of each.",
            "If your own tool made them to enlarge the training data, take the originals alone: "
            "Espalier changes each picture anew in every epoch.",
        ),
        cases=tuple(_case(part) for part in sorted(parts, key=lambda part: -part.similarity)),
    )


def _different(part: Group) -> list[Sample]:
    """The first file of each content; equal ones are the matter of `exact_duplicates`."""
    return list({sample.content: sample for sample in reversed(part.samples)}.values())[::-1]


def _case(part: Group) -> Case:
    first, *others = _different(part)
    return Case(
        samples=part.names,
        text=f"{part.how}: agrees to {100 * part.similarity:.0f} %, in {first.split}",
        score=part.similarity,
        corrections=tuple(
            Correction(s.sample_id, "drop", "", f"nearly {first.sample_id}") for s in others
        ),
        label=first.label or "",
    )
