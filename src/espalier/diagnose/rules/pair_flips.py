"""Images of one class carry the label of another.

What it looks at: the confusion matrix of validation for one pair that stands out: a fifth of a
    class called another, hardly any the other way, and far more than any other confusion; and the
    same of a linear head that counts classes alike, on training images it has not seen.
Why it matters: the network is taught that two classes are one, and scored as wrong where it is
    right.
When it is wrong: classes that look alike are confused both ways, or towards the one with more
    training images; neither is reported. Two classes leave nothing to compare with.
What to do: look at the images of the pair, and correct the labels that are wrong.
Source: fault D3; confident learning (Northcutt et al., JAIR 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

from espalier.diagnose.facts import class_name
from espalier.diagnose.matching import Confused, binomial_noise, confused_pairs, match_classes
from espalier.findings import Case, Evidence, Finding, Severity, percent
from espalier.rules import CannotJudge, threshold
from espalier.run_record import HeadTrial, RunRecord

CODE = "RUN212"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    share: float = threshold(0.2, "share of a class", "called one other class")
    most: float = threshold(0.8, "share of a class", "from which the classes are renamed instead")
    back: float = threshold(0.25, "of that share", "that goes the other way, at most")
    errors: float = threshold(0.6, "share of the class's errors", "that go there")
    next: float = threshold(0.5, "of its one-sidedness", "that any other pair reaches, at most")
    images: float = threshold(10, "images of the class", "at least")
    larger: float = threshold(1.5, "times as many training images", "explain it otherwise")
    renamed: float = threshold(0.3, "accuracy", "gained by renaming classes: another fault")
    tells: float = threshold(0.6, "mean recall", "of a linear head, from which it is asked instead")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A finding where a single pair of classes is confused one way; a warning by a linear head."""
    head = subject.preflight.head
    if head is not None and head.recall >= thresholds.tells and len(head.images) > 2:
        return _by_head(subject, head, thresholds)
    if subject.confusion is None or not any(map(any, subject.confusion)):
        raise CannotJudge("needs the confusion matrix of validation")
    if len(subject.confusion) < 3:
        raise CannotJudge("of two classes there is no other pair to compare with")
    matching = match_classes(subject.confusion)
    if matching is None or matching.gain >= thresholds.renamed:
        return None
    pairs = _large_enough(confused_pairs(subject.confusion), thresholds)
    if not pairs or not _stands_out(pairs, thresholds) or _is_larger(subject, pairs[0], thresholds):
        return None
    # A network, too, can be wrong one way without any wrong label.
    return _finding(subject, pairs[0], thresholds, "images", "info")


def _by_head(subject: RunRecord, head: HeadTrial, thresholds: Thresholds) -> Finding | None:
    """By a head that counts classes alike, so that a larger class does not draw the others in."""
    size = max(max(label, name) for label, name, _ in head.called) + 1
    confusion = [[0] * size for _ in range(size)]
    for label, name, count in head.called:
        confusion[label][name] = count
    pairs = _large_enough(confused_pairs(confusion), thresholds)
    if not pairs or not _stands_out(pairs, thresholds):
        return None
    return _finding(subject, pairs[0], thresholds, "training images", "warning")


def _large_enough(pairs: list[Confused], thresholds: Thresholds) -> list[Confused]:
    return [pair for pair in pairs if pair.images >= thresholds.images]


def _stands_out(pairs: list[Confused], thresholds: Thresholds) -> bool:
    first = pairs[0]
    # What looks alike is confused both ways: what matters is how one-sided the others are.
    others = [pair.share - pair.back for pair in pairs[1:]]
    noise = 3 * binomial_noise(first.share, first.images)
    return (
        max(thresholds.share, noise) <= first.share <= thresholds.most
        and first.back <= thresholds.back * first.share
        and first.errors >= thresholds.errors
        and max(others, default=0.0) <= thresholds.next * (first.share - first.back)
    )


def _is_larger(subject: RunRecord, pair: Confused, thresholds: Thresholds) -> bool:
    """Whether the class that is called has so many images that guessing it pays."""
    counts = subject.facts.train_counts or subject.facts.val_counts
    if not counts or max(pair.true, pair.predicted) >= len(counts):
        return False
    return counts[pair.predicted] >= thresholds.larger * max(1, counts[pair.true])


def _guess(severity: Severity) -> str:
    return "some" if severity == "warning" else "perhaps some"


def _finding(
    subject: RunRecord, pair: Confused, thresholds: Thresholds, what: str, severity: Severity
) -> Finding:
    true, called = class_name(subject, pair.true), class_name(subject, pair.predicted)
    place = f"class {true}"
    by = " by a linear head, before any training" if severity == "warning" else ""
    return Finding(
        rule="",
        code="",
        severity=severity,
        cause=f"{percent(pair.share)} of the {what} labelled {true} are taken for {called}{by}, "
        f"and {percent(pair.back)} the other way: {_guess(severity)} labels of the pair are wrong",
        evidence=(
            Evidence(f"taken for {called}", pair.share, thresholds.share, "share", place),
            Evidence("the other way", pair.back, thresholds.back * pair.share, "share"),
            Evidence("of the errors of the class", pair.errors, thresholds.errors, "share", place),
        ),
        confidence=0.7 if severity == "warning" else 0.5,
        advice=(
            f"Look at the images labelled {true} that are taken for {called}, in training and in "
            "validation, and correct the labels that are wrong.",
            "If the labels are right, the classes differ in something that the pictures do not "
            "show: more pixels, or one class instead of two.",
        ),
        cases=(Case((), f"{percent(pair.share)} taken for {called}", pair.share, label=true),),
        consequences=("label_noise",),
    )
