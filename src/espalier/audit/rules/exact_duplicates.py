"""The same file more than once within one part of the data.

What it looks at: files with equal bytes in one split and with one label.
Why it matters: a picture that is there three times counts three times; in validation or test it
    makes the scores look surer than they are.
When it is wrong: copies made on purpose, to show a rare class more often.
What to do: keep the first of each; for rare classes prefer class weights to copies.
Source: cleanvision and fastdup report the same; fault D18.
"""

from __future__ import annotations

from dataclasses import dataclass

from espalier.audit.groups import Group, exact_groups
from espalier.audit.robust import severity_by_share, share_of
from espalier.audited import Audited
from espalier.findings import Case, Correction, Evidence, Finding
from espalier.rules import threshold

CODE = "AUD010"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    share: float = threshold(0.05, "share of the images", "superfluous, from which it is a warning")


def check(subject: Audited, thresholds: Thresholds) -> Finding | None:
    """A finding where files are there more than once."""
    parts = [group.within(split) for group in exact_groups(subject) for split in group.splits]
    parts = [part for part in parts if len(part.samples) > 1 and len(part.labels) < 2]
    if not parts:
        return None
    surplus = sum(len(part.samples) - 1 for part in parts)
    total = len(subject.readable)
    return Finding(
        rule="exact_duplicates",
        code=CODE,
        severity=severity_by_share(surplus, total, thresholds.share),
        cause=f"{share_of(surplus, total)} are exact copies of another one in the same part",
        evidence=(Evidence("superfluous copies", surplus / total, thresholds.share, "share"),),
        advice=("Leave out the copies: the first file of each group stays.",),
        cases=tuple(_case(part) for part in sorted(parts, key=lambda part: -len(part.samples))),
    )


def _case(part: Group) -> Case:
    first, *others = part.samples
    return Case(
        samples=part.names,
        text=f"{len(part.samples)} equal files in {first.split}",
        score=float(len(part.samples)),
        corrections=tuple(
            Correction(s.sample_id, "drop", "", f"equal to {first.sample_id}") for s in others
        ),
        label=first.label or "",
    )
