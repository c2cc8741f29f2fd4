"""The same file in training and in validation or test.

What it looks at: files with equal bytes in different splits.
Why it matters: what was trained on is recognised, not understood: the score of validation or test
    is too good, and the wrong model is chosen.
When it is wrong: never, unless the parts are meant to overlap.
What to do: leave out the copies in training, so that the images that judge stay as they are.
Source: CIFAR-10 and CIFAR-100 have 3.3 % and 10 % of their test images in training (Barz
    and Denzler 2020); fault D5.
"""

from __future__ import annotations

from dataclasses import dataclass

from espalier.audit.groups import Group, exact_groups, most_leaked
from espalier.audit.robust import share_of
from espalier.audited import Audited
from espalier.findings import Case, Correction, Evidence, Finding, Severity
from espalier.rules import CannotJudge, threshold

CODE = "AUD012"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    noticeable: float = threshold(0.005, "share of val or test", "leaked, from which scores suffer")
    wrong: float = threshold(0.05, "share of val or test", "leaked, above which scores are wrong")


def check(subject: Audited, thresholds: Thresholds) -> Finding | None:
    """A finding where a picture lies in several parts."""
    if not any(sample.split in ("val", "test") for sample in subject.readable):
        raise CannotJudge("the data has one part only")
    leaks = [group for group in exact_groups(subject) if len(group.splits) > 1]
    if not leaks:
        return None
    count, split = most_leaked(subject, leaks)
    size = len(subject.catalog.in_split(split))
    return Finding(
        rule="duplicates_across_splits",
        code=CODE,
        severity=_severity(count / size, thresholds),
        cause=f"{share_of(count, size, f'{split} images')} are in another part as well, "
        "byte for byte",
        evidence=(Evidence("leaked images", count / size, thresholds.noticeable, "share", split),),
        confidence=1.0,
        advice=("Leave out the copies in training: the images that judge stay as they are.",),
        cases=tuple(_case(group) for group in leaks),
    )


def _severity(share: float, thresholds: Thresholds) -> Severity:
    if share > thresholds.wrong:
        return "error"
    return "warning" if share >= thresholds.noticeable else "info"


def _case(group: Group) -> Case:
    kept = group.judged()
    # Which label holds must be settled first; `conflicting_labels` says so.
    gone = [s for s in group.samples if s not in kept] if len(group.labels) < 2 else []
    reason = f"also in {group.splits[-1]}: {kept[0].sample_id}"
    return Case(
        samples=group.names_by_turns(lambda sample: sample.split),
        text=f"equal files in {' and '.join(group.splits)}",
        score=float(len(group.samples)),
        corrections=tuple(Correction(s.sample_id, "drop", "", reason) for s in gone),
        label=kept[0].label or "",
    )
