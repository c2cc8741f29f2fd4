"""The learning rate is so low that training has hardly begun when it ends.

What it looks at: how far a step moves the weights at the peak rate, in the fastest part and stage
    (a head counts only where the layers below it are slower by plan: it starts so small that
    any step moves it far); whether the loss still falls at the end as it did at the start, per
    unit of rate spent; how much is left to gain.
Why it matters: the same epochs would reach much further at a sensible rate.
When it is wrong: a tiny rate of the backbone beside a healthy head is a choice; a run that has
    converged does not move either, but has gained what there was; a late stage may be gentle.
What to do: take the rate that a trial of rising rates found, else the usual one of the optimizer
    for this batch (AdamW 1e-3, SGD 0.05 from scratch); a cautious factor leaves it too low. What
    the steps of the run show bounds it: they say where a network is out of the ordinary.
Source: fault A3; update ratios near 1e-3 are usual (Karpathy, CS231n). UMLAUT's fixed limit of
    1e-7 fires at the tail of every cosine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from espalier.diagnose.doses import aimed_rate, highest, rates_to, two_digits
from espalier.diagnose.facts import finite, rate_edits
from espalier.diagnose.loss_curves import LossCurve, loss_curve
from espalier.diagnose.signals import (
    Stretch,
    movements,
    part_names,
    rising,
    rounded,
    stepped,
    telling_movements,
    trend,
    usual_rates,
)
from espalier.findings import Edit, Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord, StageFacts

CODE = "RUN103"
_TARGET = 5e-3
# A rate that is to rise at all rises by so much; what is usual and what the steps of the run say
# may lie apart by so much; and so much it rises at most against what is usual.
_LEAST, _APART, _MOST = 3.0, 10.0, 30.0
# Where nothing is known of the optimizer, steps alone must not raise a rate by more.
_BLIND = 1e3


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    ratio: float = threshold(1e-3, "change / weight", "of the fastest part, to be low at all")
    still: float = threshold(2e-5, "change / weight", "of the fastest part, to stand still")
    small: float = threshold(5e-4, "change / weight", "of the fastest part, to be surely low")
    little: float = threshold(0.3, "of what there was to gain", "that such steps gained at most")
    linear: float = threshold(0.5, "pace at the end / at the start", "to have hardly begun")
    moved: float = threshold(0.05, "of what there was to gain", "below which nothing moved")
    left: float = threshold(0.4, "of the loss of guessing", "left to gain, at least")
    learnt: float = threshold(0.95, "accuracy", "on clean training images, from which all is well")


def check(record: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A finding where steps are small and the loss says that it matters."""
    if stepped(record) and rising(record, stepped(record)[-1]):
        raise CannotJudge("needs a rate that has reached its peak")
    ratio, where = _fastest(record)
    peak = max(finite(stretch.peak for stretch in stepped(record)), default=math.nan)
    usual = usual_rates(record)
    if math.isnan(ratio) and (usual is None or math.isnan(peak)):
        raise CannotJudge("needs update ratios, or the rate and the optimizer")
    epochs = [epoch for stretch in stepped(record) for epoch in stretch.epochs]
    curve = loss_curve(record, epochs, least=3)
    if curve is None:
        raise CannotJudge("needs a loss of 3 epochs")
    odd = usual is not None and peak < usual[0]
    if (
        not (ratio < thresholds.ratio or odd)
        or max(finite(e.clean_accuracy for e in epochs), default=0) >= thresholds.learnt
    ):
        return None
    pace = _pace(record, curve)
    gained, left = _gains(curve)
    still = gained < thresholds.moved and (odd or not ratio >= thresholds.still)
    little = ratio < thresholds.small and gained < thresholds.little
    begun = (pace >= thresholds.linear or little) and left >= thresholds.left
    if not still and not begun:
        return None
    edits, advice = _dose(record, ratio, thresholds)
    return Finding(
        rule="",
        code="",
        severity="warning",
        cause=f"The learning rate is too low: {_steps(ratio, peak, thresholds)}, "
        f"and {_what(still, curve)}",
        evidence=(
            Evidence(
                "change of the fastest part in a median step",
                ratio if math.isfinite(ratio) else "not measured",
                thresholds.ratio,
                "change / weight",
                where,
            ),
            Evidence("peak learning rate", peak, usual[0] if usual else None, "", where),
            Evidence("pace at the end / at the start", pace, thresholds.linear),
            Evidence("gained of what there was to gain", gained, thresholds.moved, "share"),
        ),
        confidence=0.9 if still else 0.7,
        advice=(
            advice,
            "Where the rate is low on purpose, train for correspondingly more epochs.",
        ),
        prescription=edits,
        consequences=(
            "underfitting",
            "stopped_too_early",
            "plateau",
            "vanishing_gradients",
            "weights_do_not_move",
            "frozen_by_mistake",
            "under_capacity",
            "collapsed_to_major_classes",
            "not_learning",
        ),
    )


def _fastest(record: RunRecord) -> tuple[float, str]:
    """Largest median update ratio of any part in any stage, and where; NaN if never measured."""
    found = [
        (ratio, f"{name}, {stretch.where}" if stretch.where else name)
        for stretch in stepped(record)
        for name, ratio in telling_movements(stretch).items()
    ]
    return max(found, default=(math.nan, ""))


def _pace(record: RunRecord, curve: LossCurve) -> float:
    """Fall of the loss per rate spent, last half over first half of the longest stage; else 0."""
    longest: Stretch = max(stepped(record), key=lambda stretch: len(stretch.epochs))
    part = loss_curve(record, longest.epochs, least=4)
    rates = longest.rates
    if part is None or part.name != curve.name or not all(rate >= 0 for rate in rates):
        return 0.0
    spent, place = [], 0.0
    for before, rate in zip([rates[0], *rates], rates, strict=False):
        place += (before + rate) / 2
        spent.append(place)
    half = (len(rates) + 1) // 2
    first = trend(part.values[:half], spent[:half])
    last = trend(part.values[-half:], spent[-half:])
    if first is None or last is None or first.slope >= 0 or not last.falls_by(0.0):
        return 0.0
    return last.slope / first.slope


def _gains(curve: LossCurve) -> tuple[float, float]:
    """Share of what there was to gain that was gained, and of guessing that is left at the end."""
    known = finite(curve.above_floor)
    start, end = known[0], known[-1]
    whole = (curve.chance or start) - curve.floor
    return (start - end) / start, end / whole if whole > 0 else 0.0


def _dose(record: RunRecord, ratio: float, thresholds: Thresholds) -> tuple[tuple[Edit, ...], str]:
    """The rates to take, as edits and in words."""
    # A head that starts at zero moves by its own size at any rate, and says little of how much.
    below = _below_head(record)
    told = below if below > 0 else ratio
    seen = _TARGET / told if 0 < told < thresholds.ratio else math.nan
    slow = _slow(record, thresholds)
    peak = max((highest(stage) for stage in record.facts.stages if slow(stage)), default=math.nan)
    if math.isnan(peak):
        peak = max(finite(stretch.peak for stretch in stepped(record)), default=math.nan)
    aim = aimed_rate(record)
    if aim is None or not peak > 0:
        factor = rounded(min(max(seen if math.isfinite(seen) else 10.0, _LEAST), _BLIND))
        edits = rate_edits(record, factor, "steps so small that training hardly began")
        return edits, f"Multiply all peak learning rates by {factor:g}."
    factor = max(aim.rate / peak, _LEAST)
    if math.isfinite(seen):
        factor = max(min(factor, _APART * seen), min(seen / _APART, _MOST))
    rate = two_digits(factor * peak)
    why = aim.why if rate == aim.rate else f"{aim.why}, as far as the steps of this run bear it"
    return rates_to(record, rate, why, slow), f"Set the peak learning rate to {rate:g}: {why}."


def _below_head(record: RunRecord) -> float:
    """Largest median update ratio of the parts that learn as fast as the head; NaN without any."""
    found = []
    for stretch in stepped(record):
        facts, head = stretch.facts, part_names(stretch.steps)[-1:]
        if facts is None or not facts.learning_rate or facts.backbone_learning_rate is None:
            continue
        if facts.backbone_learning_rate >= facts.learning_rate:
            moved = movements(stretch.at_speed())
            found += [ratio for name, ratio in moved.items() if name not in head]
    return max(finite(found), default=math.nan)


def _slow(record: RunRecord, thresholds: Thresholds) -> Callable[[StageFacts], bool]:
    """Which stages are too slow: by their steps, else by a rate that rarely works."""
    usual = usual_rates(record)
    moved = {
        stretch.name: max(telling_movements(stretch).values(), default=math.nan)
        for stretch in stepped(record)
    }

    def slow(stage: StageFacts) -> bool:
        ratio = moved.get(stage.name, math.nan)
        if math.isfinite(ratio):
            return ratio < thresholds.ratio
        return usual is None or highest(stage) < usual[0]

    stages = [stage for stage in record.facts.stages if not stage.solved]
    return slow if len(stages) > 1 and any(map(slow, stages)) else lambda stage: True


def _steps(ratio: float, peak: float, thresholds: Thresholds) -> str:
    if ratio < thresholds.ratio:
        return f"even the fastest part moves by {ratio:.1g} of its weights in a step"
    return f"its peak is {peak:.2g}"


def _what(still: bool, curve: LossCurve) -> str:
    if still:
        return f"the {curve.name} has hardly changed"
    return f"the {curve.name} has only begun to fall"
