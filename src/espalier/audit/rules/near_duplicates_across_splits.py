"""The same photograph in training and in validation or test, changed a little.

What it looks at: pictures in different splits that were laid over each other and agree in detail:
    another size, compression or light, mirrored, turned, or cropped.
Why it matters: what was trained on is recognised, not understood: the score of validation or test
    is too good, and the wrong model is chosen.
When it is wrong: pictures without detail of their own, such as scans of one empty form.
What to do: leave out the copies in training; where Espalier made the split, give each set of copies
    one group, and it stays together.
Source: ciFAIR (Barz and Denzler 2020); fault D6.
"""

from __future__ import annotations

from dataclasses import dataclass

from espalier.audit.groups import OWN_SPLIT_STAYS, Group, most_leaked, near_groups
from espalier.audit.robust import share_of
from espalier.audited import Audited
from espalier.findings import Case, Correction, Evidence, Finding, Severity
from espalier.rules import CannotJudge, threshold

CODE = "AUD013"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    noticeable: float = threshold(0.01, "share of val or test", "leaked, from which scores suffer")
    wrong: float = threshold(0.05, "share of val or test", "leaked, above which scores are wrong")
    fewest: float = threshold(3, "leaked images", "for an error; of fewer, a share says little")
    lost: float = threshold(
        0.2, "share of the training images", "copies, from which leaving them out costs too much"
    )


def check(subject: Audited, thresholds: Thresholds) -> Finding | None:
    """A finding where a picture lies in several parts."""
    if not any(sample.split in ("val", "test") for sample in subject.readable):
        raise CannotJudge("the data has one part only")
    leaks = [group for group in near_groups(subject) if group.crosses]
    if not leaks:
        return None
    count, split = most_leaked(subject, leaks)
    size = len(subject.catalog.in_split(split))
    return Finding(
        rule="near_duplicates_across_splits",
        code=CODE,
        severity=_severity(count, size, thresholds),
        cause=f"{share_of(count, size, f'{split} images')} are in another part as well, "
        "changed a little",
        evidence=(Evidence("leaked images", count / size, thresholds.noticeable, "share", split),),
        confidence=0.95,
        advice=_advice(subject, leaks, thresholds),
        cases=tuple(
            _case(group, subject.given_split)
            for group in sorted(leaks, key=lambda group: -group.similarity)
        ),
    )


def _severity(count: int, size: int, thresholds: Thresholds) -> Severity:
    share = count / size
    if share > thresholds.wrong and count >= thresholds.fewest:
        return "error"
    return "warning" if share >= thresholds.noticeable else "info"


def _advice(subject: Audited, leaks: list[Group], thresholds: Thresholds) -> tuple[str, ...]:
    if not subject.given_split:
        return ("Accept the groups: the split made anew then keeps copies in one part.",)
    leave_out = "Leave out the copies in training: the images that judge stay as they are."
    copies = sum(len(group.within("train").samples) for group in leaks)
    train = len(subject.catalog.in_split("train"))
    if copies < thresholds.lost * train:
        return (leave_out,)
    return (
        f"{share_of(copies, train, 'training images')} are such copies: better than to leave them "
        "out is a split in which they are not divided.",
        f"{OWN_SPLIT_STAYS} Name what belongs together with --group-by REGEX.",
    )


def _case(group: Group, given_split: bool) -> Case:
    return Case(
        samples=group.names_by_turns(lambda sample: sample.split),
        text=f"{group.how}: agrees to {100 * group.similarity:.0f} %, "
        f"in {' and '.join(group.splits)}",
        score=group.similarity,
        corrections=_dropped(group) if given_split else _grouped(group),
        label=group.samples[0].label or "",
    )


def _dropped(group: Group) -> tuple[Correction, ...]:
    """The copies before the last part go, once it is settled which label holds."""
    if len(group.labels) > 1:
        return ()
    kept = group.judged()
    reason = f"nearly the same in {group.splits[-1]}: {kept[0].sample_id}"
    gone = (sample for sample in group.samples if sample not in kept)
    return tuple(Correction(s.sample_id, "drop", "", reason) for s in gone)


def _grouped(group: Group) -> tuple[Correction, ...]:
    # An image has one group: what a person gave holds, and takes the copies in.
    given = {sample.group for sample in group.samples if sample.group}
    if len(given) > 1:
        return ()
    name = given.pop() if given else f"copies-{group.samples[0].content}"
    free = (sample for sample in group.samples if not sample.group)
    return tuple(
        Correction(s.sample_id, "group", name, "the same photograph, changed") for s in free
    )
