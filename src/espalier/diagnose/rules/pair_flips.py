"""Images of one class carry the label of another.

What it looks at: the confusion matrix of validation for one pair that stands out: a fifth of a
    class called another, hardly any the other way, and far more than any other confusion.
Why it matters: the network is taught that two classes are one, and scored as wrong where it is
    right.
When it is wrong: classes that look alike are confused both ways, or towards the one with more
    training images; neither is reported. Two classes leave nothing to compare with.
What to do: look at the images of the pair, and correct the labels that are wrong.
Source: fault D3; confident learning (Northcutt et al., JAIR 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

from espalier.diagnose.facts import class_name, percent
from espalier.diagnose.matching import Confused, binomial_noise, confused_pairs, match_classes
from espalier.findings import Case, Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN212"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    share: float = threshold(0.2, "share of a class", "called one other class")
    most: float = threshold(0.8, "share of a class", "from which the classes are renamed instead")
    back: float = threshold(0.25, "of that share", "that goes the other way, at most")
    errors: float = threshold(0.6, "share of the class's errors", "that go there")
    next: float = threshold(0.5, "of that share", "that any other pair reaches, at most")
    images: float = threshold(10, "images of the class", "at least")
    larger: float = threshold(1.5, "times as many training images", "explain it otherwise")
    renamed: float = threshold(0.3, "accuracy", "gained by renaming classes: another fault")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A warning where a single pair of classes is confused one way."""
    if subject.confusion is None or not any(map(any, subject.confusion)):
        raise CannotJudge("needs the confusion matrix of validation")
    if len(subject.confusion) < 3:
        raise CannotJudge("of two classes there is no other pair to compare with")
    matching = match_classes(subject.confusion)
    if matching is None or matching.gain >= thresholds.renamed:
        return None
    pairs = [p for p in confused_pairs(subject.confusion) if p.images >= thresholds.images]
    if not pairs or not _stands_out(subject, pairs, thresholds):
        return None
    return _finding(subject, pairs[0], thresholds)


def _stands_out(subject: RunRecord, pairs: list[Confused], thresholds: Thresholds) -> bool:
    first = pairs[0]
    others = [pair.share for pair in pairs[1:]]
    noise = 3 * binomial_noise(first.share, first.images)
    return (
        max(thresholds.share, noise) <= first.share <= thresholds.most
        and first.back <= thresholds.back * first.share
        and first.errors >= thresholds.errors
        and max(others, default=0.0) <= thresholds.next * first.share
        and not _is_larger(subject, first, thresholds)
    )


def _is_larger(subject: RunRecord, pair: Confused, thresholds: Thresholds) -> bool:
    """Whether the class that is called has so many images that guessing it pays."""
    counts = subject.facts.train_counts or subject.facts.val_counts
    if not counts or max(pair.true, pair.predicted) >= len(counts):
        return False
    return counts[pair.predicted] >= thresholds.larger * max(1, counts[pair.true])


def _finding(subject: RunRecord, pair: Confused, thresholds: Thresholds) -> Finding:
    true, called = class_name(subject, pair.true), class_name(subject, pair.predicted)
    place = f"class {true}"
    return Finding(
        rule="",
        code="",
        severity="warning",
        cause=f"{percent(pair.share)} of the images labelled {true} are taken for {called}, and "
        f"{percent(pair.back)} the other way: some labels of the pair are wrong",
        evidence=(
            Evidence(f"taken for {called}", pair.share, thresholds.share, "share", place),
            Evidence("the other way", pair.back, thresholds.back * pair.share, "share"),
            Evidence("of the errors of the class", pair.errors, thresholds.errors, "share", place),
        ),
        confidence=0.6,
        advice=(
            f"Look at the images labelled {true} that are taken for {called}, in training and in "
            "validation, and correct the labels that are wrong.",
            "If the labels are right, the classes differ in something that the pictures do not "
            "show: more pixels, or one class instead of two.",
        ),
        cases=(Case((), f"{percent(pair.share)} taken for {called}", pair.share, label=true),),
        consequences=("label_noise",),
    )
