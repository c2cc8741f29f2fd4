"""Training climbs the loss instead of descending it.

What it looks at: losses below zero where the loss cannot be; a training loss that rises steadily
    from the start, while accuracy falls below guessing or updates stay small.
Why it matters: with the wrong sign the network learns to be wrong, and each epoch makes it worse.
When it is wrong: a rate that is far too high also makes the loss rise, but in jumps, with large
    updates, and ends at guessing; a loss of one's own may be negative by right.
What to do: minimise the loss, with its sign as it is: `loss.backward()`, not `(-loss).backward()`.
Source: fault A13; AutoTrainer's abnormal loss.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from espalier.diagnose.facts import (
    at_chance,
    finite,
    loss_kind,
    smallest_share,
    uniform_loss,
    update_ratios,
)
from espalier.diagnose.gradient_sums import excess_cosine, first_steps
from espalier.findings import Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord, StepSigns

CODE = "RUN004"
_DENSE = 21


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    rise: float = threshold(0.5, "nats", "by which the loss must have risen, and exceed chance")
    steady: float = threshold(0.8, "share of pairs of steps or epochs", "in which it rises")
    update: float = threshold(3e-2, "update / weight", "above which the rate may be at fault")
    below: float = threshold(0.5, "share of the rarest class", "below which accuracy lies")
    climb: float = threshold(12, "steps", "at the start, small ones, over which the loss climbs")
    uphill: float = threshold(0.1, "nats", "that it climbs over them")
    alike: float = threshold(
        -0.05, "cosine", "of neighbours beyond that of independent sums: gradients add up"
    )
    points: float = threshold(3, "steps or epochs", "with a loss, at least")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """An error where the loss is negative, or rises as if that were the aim."""
    series = _losses(subject)
    if len(series) < thresholds.points:
        raise CannotJudge(f"needs losses of {thresholds.points:.0f} steps or epochs")
    if min(series) < -1e-6:
        return _negative(subject, min(series))
    chance = uniform_loss(subject)
    start, end = _ends(series)
    if end < start + thresholds.rise or end < (chance or 0) + thresholds.rise:
        return None
    if rising_pairs(series) < thresholds.steady:
        return None
    below, gentle = _below_guessing(subject, thresholds), _gentle(subject, thresholds)
    climbs = _climbs_at_once(subject, thresholds)
    if _add_up(subject, thresholds):
        gentle, climbs = False, False
    if below is None and gentle is None and not climbs:
        raise CannotJudge("the loss rises; needs accuracy or update sizes to tell why")
    if not below and not gentle and not climbs:
        return None
    return _rising(start, end, 0.95 if below else 0.75, thresholds)


def rising_pairs(series: Sequence[float]) -> float:
    """Share of all pairs in which the later one is larger: 1 for a steady rise, 0.5 for noise."""
    # A few dozen points say as much as ten thousand, and pairs are many.
    points = series[:: max(1, len(series) // 50)]
    pairs = [(a, b) for i, a in enumerate(points) for b in points[i + 1 :]]
    return sum(b > a for a, b in pairs) / max(1, len(pairs))


def _losses(subject: RunRecord) -> list[float]:
    steps = finite(step.loss for step in subject.steps if not step.skipped)
    return steps if len(steps) >= 10 else finite(subject.column("train_loss"))


def _ends(series: Sequence[float]) -> tuple[float, float]:
    """Median of the first and of the last few."""
    few = max(1, min(10, len(series) // 4))
    return statistics.median(series[:few]), statistics.median(series[-few:])


def _below_guessing(subject: RunRecord, thresholds: Thresholds) -> bool | None:
    """Whether even naming the rarest class every time would have been right more often."""
    rarest = smallest_share(subject)
    # Once weights are no numbers, the first class is named every time.
    sound = [epoch for epoch in subject.epochs if math.isfinite(epoch.train_loss)]
    for name in ("train_accuracy", "clean_accuracy", "val_accuracy"):
        values = finite(getattr(epoch, name) for epoch in sound)
        if values and rarest is not None:
            return statistics.median(values) < thresholds.below * rarest
    return None


def _gentle(subject: RunRecord, thresholds: Thresholds) -> bool | None:
    """Whether updates were too small for the rate to be what drove the loss up."""
    ratios = update_ratios(subject.steps)
    return statistics.median(ratios) < thresholds.update if ratios else None


def _add_up(subject: RunRecord, thresholds: Thresholds) -> bool:
    """Whether gradients add up from step to step: they overshoot, however small each step is."""
    return excess_cosine(first_steps(subject.steps)) > thresholds.alike


def _climbs_at_once(subject: RunRecord, thresholds: Thresholds) -> bool:
    """Whether the loss climbed in the first steps already: in each, or while these were small.

    A rate that is too high makes the loss jump, and most often fall back to that of guessing.
    """
    steps = [step for step in subject.steps[:_DENSE] if not step.skipped]
    first = finite(step.loss for step in steps if step.step <= _DENSE)
    each = all(later > earlier for earlier, later in itertools.pairwise(first))
    if len(first) >= thresholds.climb and each:
        return True
    gentle = itertools.takewhile(lambda step: _small(step, thresholds), steps)
    known = finite(step.loss for step in gentle)
    if len(known) < thresholds.climb:
        return False
    start, end = statistics.median(known[:3]), statistics.median(known[-3:])
    return end - start > thresholds.uphill and rising_pairs(known) >= thresholds.steady


def _small(step: StepSigns, thresholds: Thresholds) -> bool:
    """Whether a step is known to have moved the layers below the head little.

    The head may begin at nothing, and counts where there is nothing else.
    """
    parts = list(step.parts.values())
    ratios = finite(part.update_ratio for part in parts[:-1] or parts)
    return bool(ratios) and statistics.median(ratios) < thresholds.update


def _negative(subject: RunRecord, least: float) -> Finding | None:
    name = subject.facts.loss
    kind = loss_kind(name) if name else None
    if kind == "other":
        raise CannotJudge(f"whether the loss {name} may be negative is not known")
    if kind is None:
        guessing = at_chance(subject)
        if guessing is None:
            raise CannotJudge("the loss is negative; needs its name or an accuracy")
        if not guessing:
            return None
    return _finding(
        f"the training loss falls to {least:.3g}, and no {name or 'classification loss'} is "
        "below zero",
        (Evidence("smallest training loss", least, 0.0, "nats"),),
        0.95 if kind else 0.75,
    )


def _rising(start: float, end: float, confidence: float, thresholds: Thresholds) -> Finding:
    return _finding(
        f"the training loss rises steadily, from {start:.2f} to {end:.3g}: training climbs it",
        (
            Evidence("training loss at the start", start, None, "nats"),
            Evidence("training loss at the end", end, start + thresholds.rise, "nats"),
        ),
        confidence,
    )


def _finding(cause: str, evidence: tuple[Evidence, ...], confidence: float) -> Finding:
    return Finding(
        rule="",
        code="",
        severity="error",
        cause=cause,
        evidence=evidence,
        confidence=confidence,
        advice=(
            "Look for a minus sign before the loss or in the optimizer (maximize=True), and for "
            "probabilities where the loss wants logits or log-probabilities.",
        ),
        consequences=(
            "learning_rate_noisy",
            "backbone_rate_erases",
            "learning_rate_too_high",
            "exploding_gradients",
            "gradients_not_cleared",
            "missing_warmup",
            "dead_units",
            "labels_shuffled",
            "class_order_differs",
            "collapsed_to_major_classes",
            "not_learning",
            "overtrained",
            "wrong_weights_kept",
        ),
    )
