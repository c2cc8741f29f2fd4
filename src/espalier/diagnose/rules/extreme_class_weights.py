"""Class weights so unequal that one class, or a few images, make the loss.

What it looks at: the largest weight over the median one; a class with most of the weighted loss
    and few of the images.
Why it matters: at 100 : 1 a single rare image moves the network as much as a batch of others,
    and the class is named everywhere.
When it is wrong: hardly ever; moderate weights, such as square roots at 20 : 1, stay far below.
What to do: square-root weights, and a cap of about 10 : 1; none at all where the classes have about
    as many images each: weights that have nothing to do with the counts help nobody.
Source: fault E2; square roots: Mahajan et al. 2018.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from espalier.diagnose.facts import class_name
from espalier.findings import Edit, Evidence, Finding, percent
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN017"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    ratio: float = threshold(20.0, "largest : median weight", "above which one class dominates")
    share: float = threshold(0.55, "share of the weighted loss", "of one class, above which ...")
    images: float = threshold(0.2, "share of the images", "... it must have at least so many")
    even: float = threshold(2.0, "largest : smallest class", "up to which weights help nobody")
    cap: float = threshold(10.0, "largest : smallest weight", "that weights should not exceed")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A warning where the weights are extreme."""
    weights = subject.require_fact("class_weights")
    used = [weight for weight in weights if weight > 0 and math.isfinite(weight)]
    if len(used) < 2:
        raise CannotJudge("needs weights of two classes, finite and above 0")
    top = max(range(len(weights)), key=lambda i: weights[i] if math.isfinite(weights[i]) else 0)
    # Of two classes the median lies between them and hides half of the ratio.
    middle = statistics.median_low(sorted(used))
    ratio = weights[top] / middle
    share, images = _shares(weights, subject.facts.train_counts, top)
    dominates = share > thresholds.share and images < thresholds.images
    if ratio <= thresholds.ratio and not dominates:
        return None
    even = _even(subject.facts.train_counts, thresholds)
    return Finding(
        rule="",
        code="",
        severity="warning",
        cause=_cause(_where(subject, top), ratio, share, images),
        evidence=(
            Evidence("largest weight", ratio, thresholds.ratio, "x median", _where(subject, top)),
            Evidence("its share of the weighted loss", share, thresholds.share, "share"),
        ),
        confidence=0.9,
        advice=(
            "Use no class weights: the classes have about as many images each."
            if even
            else "Use square-root weights with a cap of 10 : 1 "
            "(class_weighting.strategy=sqrt, class_weighting.cap=10), and judge by macro-F1.",
        ),
        prescription=_edits(even, thresholds),
        consequences=_CONSEQUENCES,
    )


_CONSEQUENCES = (
    "collapsed_to_major_classes",
    "metric_hides_failure",
    "learning_rate_noisy",
    "learning_rate_too_high",
    "exploding_gradients",
    "overfitting",
    "underfitting",
    "under_capacity",
    "not_learning",
)


def _edits(even: bool, thresholds: Thresholds) -> tuple[Edit, ...]:
    key = "class_weighting.strategy"
    if even:
        return (Edit(key, "set", "none", "classes of equal size need no weights"),)
    return (
        Edit(key, "set", "sqrt", "moderate weights"),
        Edit("class_weighting.cap", "set", thresholds.cap, "no class counts for ten others"),
    )


def _even(counts: Sequence[int] | None, thresholds: Thresholds) -> bool:
    """Whether the classes are known to be of about equal size."""
    if not counts:
        return False
    return 0 < max(counts) <= thresholds.even * min(counts)


def _shares(
    weights: Sequence[float], counts: Sequence[int] | None, top: int
) -> tuple[float, float]:
    """Share of the weighted loss and of the images that a class has; equal counts if unknown."""
    if counts is None or len(counts) != len(weights) or not sum(counts):
        counts = [1] * len(weights)
    weighed = [n * w if math.isfinite(w) else 0.0 for n, w in zip(counts, weights, strict=True)]
    return weighed[top] / max(sum(weighed), 1e-12), counts[top] / sum(counts)


def _cause(name: str, ratio: float, share: float, images: float) -> str:
    return (
        f"{name} weighs {ratio:,.0f} times as much as the median class: "
        f"{percent(share)} of the weighted loss for {percent(images)} of the images"
    )


def _where(subject: RunRecord, index: int) -> str:
    return f"class {class_name(subject, index).removeprefix('class ')}"
