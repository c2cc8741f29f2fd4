"""The same picture with different labels.

What it looks at: equal files, and photographs that agree in detail, whose labels differ.
Why it matters: one of the labels is wrong, or the classes overlap; training is told both.
When it is wrong: a picture that shows things of two classes, each copy cropped to one of them.
What to do: look at the picture and give all copies the right label; drop those you cannot decide.
Source: Northcutt, Athalye and Mueller 2021, Pervasive label errors in test sets.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from espalier.audit.groups import Group, same_groups
from espalier.audit.robust import share_of
from espalier.audited import Audited
from espalier.findings import Case, Correction, Evidence, Finding
from espalier.rules import threshold

CODE = "AUD014"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    majority: float = threshold(
        2 / 3, "share of the copies", "with one label, from which the others are taken for wrong"
    )


def check(subject: Audited, thresholds: Thresholds) -> Finding | None:
    """A finding where copies disagree about their label."""
    groups = [group for group in same_groups(subject) if len(group.labels) > 1]
    if not groups:
        return None
    groups.sort(key=lambda group: -group.similarity)
    concerned, total = sum(len(group.samples) for group in groups), len(subject.readable)
    return Finding(
        rule="conflicting_labels",
        code=CODE,
        severity="warning",
        cause=f"{share_of(concerned, total)} show a picture that has another label elsewhere",
        evidence=(Evidence("pictures with several labels", float(len(groups)), 0.0),),
        confidence=0.95,
        advice=(
            "Look at each and write the right label beside all its copies in corrections.csv.",
            "Drop what you cannot decide: no label is better than a coin's.",
        ),
        cases=tuple(_case(group, thresholds.majority) for group in groups),
    )


def _case(group: Group, majority: float) -> Case:
    votes = Counter(sample.label for sample in group.samples if sample.label)
    counts = ", ".join(f"{count} x {label}" for label, count in sorted(votes.items()))
    return Case(
        samples=group.names_by_turns(lambda sample: sample.label),
        text=f"{group.how}: {counts}",
        score=group.similarity,
        corrections=_corrections(group, votes, majority),
    )


def _corrections(group: Group, votes: Counter[str], majority: float) -> tuple[Correction, ...]:
    """Two labels for two copies: nothing says which holds, so neither may teach or judge."""
    label, count = votes.most_common(1)[0]
    labelled = [sample for sample in group.samples if sample.label]
    if count >= majority * len(labelled):
        reason = f"{count} of {len(labelled)} copies say {label}"
        wrong = (s for s in labelled if s.label != label)
        return tuple(Correction(s.sample_id, "relabel", label, reason) for s in wrong)
    reason = f"copies are labelled {' and '.join(group.labels)}"
    return tuple(Correction(s.sample_id, "drop", "", reason) for s in labelled)
