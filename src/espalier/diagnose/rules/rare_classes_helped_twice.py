"""Rare classes are drawn more often and weigh more as well.

What it looks at: a sampler that balances classes together with unequal class weights; where the
    counts are known, how much the rarest class counts beside the largest in the end.
Why it matters: balanced draws make classes equal; weights on top of that turn the imbalance
    around, and the rare class is named everywhere.
When it is wrong: a square-root sampler with square-root weights comes out even; at most a note.
What to do: keep one of the two.
Source: fault E3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from espalier.diagnose.facts import class_name
from espalier.findings import Edit, Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN018"
_NOT_BALANCING = ("", "none", "random", "randomsampler", "sequential", "shuffle", "distributed")
_ROOTS = ("sqrt", "square")


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    weights: float = threshold(1.5, "largest : smallest weight", "above which weights are at work")
    twice: float = threshold(2.0, "rarest : largest class", "in the loss as drawn and weighted")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A warning where both together overshoot, a note where both are at work and come out even."""
    sampler = str(subject.require_fact("sampler")).lower()
    if sampler in _NOT_BALANCING:
        return None
    weights = [weight for weight in subject.require_fact("class_weights") if weight > 0]
    if len(weights) < 2:
        raise CannotJudge("needs weights of two classes")
    if max(weights) <= thresholds.weights * min(weights):
        return None
    favour = _favour(subject, sampler)
    if favour is None:
        over, confidence, text = True, 0.8, ""
    else:
        rare, times = favour
        over, confidence = times > thresholds.twice, 0.95
        text = f": {class_name(subject, rare)}, the rarest, counts {times:.1f} times as much as "
        text += "the largest"
    return Finding(
        rule="",
        code="",
        severity="warning" if over else "info",
        cause=f"rare classes are helped twice, by the sampler ({sampler}) and by weights of "
        f"{max(weights) / min(weights):.1f} : 1{text}",
        evidence=(
            Evidence("sampler", sampler),
            Evidence("weights", max(weights) / min(weights), thresholds.weights, "to 1"),
            *(() if favour is None else (_favoured(subject, favour, thresholds),)),
        ),
        confidence=confidence,
        advice=("Keep one of the two: weights without the sampler, or the sampler alone.",),
        prescription=(
            Edit("class_weighting.sampler", "set", "none", "the weights remain", safe=over),
            Edit("class_weighting.strategy", "set", "sqrt", "moderate weights", safe=over),
        ),
        consequences=_CONSEQUENCES if over else (),
    )


_CONSEQUENCES = (
    "collapsed_to_major_classes",
    "metric_hides_failure",
    "few_images_drawn",
    "learning_rate_noisy",
    "overfitting",
    "underfitting",
)


def _favour(subject: RunRecord, sampler: str) -> tuple[int, float] | None:
    """The rarest class, and how much it counts as drawn and weighted, the largest class being 1."""
    counts: Sequence[int] | None = subject.facts.train_counts
    weights = subject.facts.class_weights or ()
    if counts is None or len(counts) != len(weights) or not any(counts):
        return None
    known = [i for i, n in enumerate(counts) if n and weights[i] > 0]
    if len(known) < 2:
        return None
    rare = min(known, key=lambda i: counts[i])
    large = max(known, key=lambda i: counts[i])
    left = 0.5 if any(word in sampler for word in _ROOTS) else 0.0
    drawn = (counts[rare] / counts[large]) ** left
    return rare, drawn * weights[rare] / weights[large]


def _favoured(subject: RunRecord, favour: tuple[int, float], thresholds: Thresholds) -> Evidence:
    where = f"class {class_name(subject, favour[0]).removeprefix('class ')}"
    return Evidence("rarest class beside the largest", favour[1], thresholds.twice, "times", where)
