"""Gradients are not cleared between steps: each is the sum of all before.

What it looks at: gradient norms of the first steps, whether they climb with the number of steps;
    the angle between a gradient and the one before it, against that of sums of independent
    gradients, which draw ever closer; and what each step adds. Without angles: whether the loss
    falls.
Why it matters: a step then follows the whole past instead of the present batch, ever faster.
When it is wrong: in warmup, gradients of consecutive batches can resemble each other, but do not
    grow with every step; a diverging run grows by leaps, and its gradients disagree; a network
    that leaves a plateau has gradients that grow evenly, each nearly equal to the last.
What to do: call ``optimizer.zero_grad()`` once per step, before ``backward`` or after the step.
Source: fault A9; a sum of t similar gradients is t times as long as one, one of t independent
    gradients sqrt(t) times, with a cosine of sqrt(1 - 1/t) to the sum before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from espalier.diagnose.facts import finite
from espalier.diagnose.gradient_sums import excess_cosine, first_steps, fresh_share
from espalier.diagnose.signals import correlation, middle, sign_flips
from espalier.findings import Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord, StepSigns

CODE = "RUN107"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    correlation: float = threshold(0.8, "correlation", "of gradient norm and step, at the start")
    growth: float = threshold(2.5, "times", "by which gradients grow over the first steps")
    alike: float = threshold(
        -0.05, "cosine", "between neighbours beyond that of sums of independent gradients"
    )
    fresh: float = threshold(0.3, "x first gradient", "that each step adds, at least")
    blind: float = threshold(8.0, "times", "growth that is needed if no angle was measured")
    flips: float = threshold(0.4, "of neighbouring changes", "that may turn; noise turns 2 of 3")
    falls: float = threshold(0.7, "x first loss", "below which training evidently works")


def check(record: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A finding where gradients add up from the first step on."""
    steps = _first(record)
    norms = [step.grad_norm for step in steps]
    early, late = middle(norms[:3]), middle(norms[-5:])
    growth = late / early if early > 0 else math.nan
    rise = correlation(norms)
    excess = excess_cosine(steps)
    blind = math.isnan(excess)
    least = thresholds.blind if blind else thresholds.growth
    steady = not sign_flips(norms) > thresholds.flips
    if not (rise > thresholds.correlation and growth > least and steady):
        return None
    if _learns(steps, thresholds) if blind else not _is_sum(steps, excess, thresholds):
        return None
    span = f"steps {steps[0].step} to {steps[-1].step}"
    return Finding(
        rule="",
        code="",
        severity="error",
        cause=f"Gradients are not cleared between steps: their norm grew {growth:.0f} times in the "
        f"first {len(steps)} steps{_alike(steps)}",
        evidence=(
            Evidence("growth of the gradient norm", growth, least, "times", span),
            Evidence(
                "correlation of gradient norm and step", rise, thresholds.correlation, "", span
            ),
            Evidence(
                "cosine between neighbours, beyond that of independent sums",
                "not measured" if blind else excess,
                thresholds.alike,
                "",
                span,
            ),
        ),
        confidence=0.6 if blind else 0.9,
        advice=(
            "Call optimizer.zero_grad() in every step, before loss.backward().",
            "If gradients are added up on purpose, divide the loss by the number of batches and "
            "clear them after each step.",
        ),
        consequences=(
            "exploding_gradients",
            "learning_rate_too_high",
            "learning_rate_noisy",
            "missing_warmup",
            "backbone_rate_erases",
            "clip_too_tight",
            "dead_units",
            "labels_shuffled",
            "collapsed_to_major_classes",
            "overtrained",
            "underfitting",
            "not_learning",
        ),
    )


def _first(record: RunRecord) -> tuple[StepSigns, ...]:
    """The first measured steps, those without a gap; a sample further on says nothing of a sum.

    Raises:
        CannotJudge: There are fewer than ten.
    """
    dense = tuple(step for step in first_steps(record.steps) if math.isfinite(step.grad_norm))
    if len(dense) < 10:
        raise CannotJudge("needs gradient norms of the first 10 steps, one after the other")
    return dense


def _is_sum(steps: tuple[StepSigns, ...], excess: float, thresholds: Thresholds) -> bool:
    return excess > thresholds.alike and fresh_share(steps) > thresholds.fresh


def _learns(steps: tuple[StepSigns, ...], thresholds: Thresholds) -> bool:
    losses = finite(step.loss for step in steps)
    if len(losses) < 10:
        return False
    return middle(losses[-5:]) < thresholds.falls * middle(losses[:3])


def _alike(steps: tuple[StepSigns, ...]) -> str:
    late = middle(step.cosine for step in steps[len(steps) // 2 :])
    if math.isnan(late):
        return ""
    return f", and each is nearly parallel to the one before (cosine {late:.2f})"
