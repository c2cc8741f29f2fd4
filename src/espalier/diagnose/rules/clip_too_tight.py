"""Clipping cuts nearly every gradient so short that steps are too small to learn from.

What it looks at: gradient norms before clipping against the clip, after the first steps; how steady
    they are; and how far steps move the weights.
Why it matters: a clip is meant for rare outliers; below usual gradients it is a hidden, far lower
    learning rate.
When it is wrong: with Adam the length of the gradient hardly matters, so clipping every step is
    harmless; and training that moves well is not held back.
What to do: clip at about the 90 % quantile of the norms, or leave it out and lower the rate.
Source: fault B6; Deep Learning Tuning Playbook (more than half of the steps clipped).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from espalier.diagnose.facts import finite
from espalier.diagnose.loss_curves import loss_curve
from espalier.diagnose.signals import middle, movements, spread, stepped, telling_movements
from espalier.findings import Edit, Evidence, Finding, percent
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord, StepSigns

CODE = "RUN116"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    clipped: float = threshold(0.5, "of the steps", "that were clipped, after the first ones")
    shorter: float = threshold(5.0, "x clip", "median gradient norm")
    steady: float = threshold(1.0, "standard deviation / median", "of the norms")
    moves: float = threshold(5e-4, "change / weight", "of the fastest part in a median step")
    eps: float = threshold(10.0, "x eps of Adam", "root mean square that a gradient needs")
    gained: float = threshold(0.7, "of the loss of guessing", "from which training works anyway")


def check(record: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A finding where short steps come from the clip."""
    clip = float(record.require_fact("clip_norm"))
    if not clip:
        return None
    steps = [s for s in record.steps[10:] if not s.skipped and math.isfinite(s.grad_norm)]
    if len(steps) < 10:
        raise CannotJudge("needs gradient norms of 10 steps beyond the first ones")
    norms = [step.grad_norm for step in steps]
    clipped = sum(norm > clip for norm in norms) / len(norms)
    norm = middle(norms)
    if clipped <= thresholds.clipped or norm <= thresholds.shorter * clip:
        return None
    if spread(norms) > thresholds.steady * norm:
        return None
    if _divided(record, clip, thresholds):
        return None
    ratio = _fastest(record, steps)
    if ratio >= thresholds.moves or _works(record, thresholds):
        return None
    usual = float(f"{sorted(norms)[int(0.9 * (len(norms) - 1))]:.1g}")
    return Finding(
        rule="",
        code="",
        severity="warning",
        cause=f"Clipping is too tight: {percent(clipped)} of the steps are clipped to {clip:g}, "
        f"the usual gradient is {norm:.2g}",
        evidence=(
            Evidence("steps clipped", clipped, thresholds.clipped, "share of the steps"),
            Evidence("median gradient norm", norm, thresholds.shorter * clip, ""),
            Evidence(
                "change of the fastest part in a median step",
                ratio,
                thresholds.moves,
                "change / weight",
            ),
        ),
        confidence=0.8,
        advice=(f"Clip gradients to a norm of {usual:g}, or not at all.",),
        prescription=(Edit("optimizer.clip_norm", "set", usual, "the clip cuts usual gradients"),),
        consequences=(
            "learning_rate_too_low",
            "weights_do_not_move",
            "underfitting",
            "not_learning",
        ),
    )


def _divided(record: RunRecord, clip: float, thresholds: Thresholds) -> bool:
    """Whether the optimizer divides by the size of the gradients, so that their length is nothing.

    Adam does as long as gradients are well above its eps.
    """
    facts = record.facts
    if "adam" not in (facts.optimizer or "").lower():
        return False
    size = clip / math.sqrt(facts.parameters or 1e6)
    return size > thresholds.eps * (facts.eps or 1e-8)


def _fastest(record: RunRecord, steps: Sequence[StepSigns]) -> float:
    """Median update ratio of the fastest part.

    Raises:
        CannotJudge: It was not measured.
    """
    told = [r for stretch in stepped(record) for r in telling_movements(stretch).values()]
    ratios = finite(told or movements(steps).values())
    if not ratios:
        raise CannotJudge("needs update ratios")
    return max(ratios)


def _works(record: RunRecord, thresholds: Thresholds) -> bool:
    # What a head that was solved for has gained says nothing of the steps.
    curve = loss_curve(record, [e for stretch in stepped(record) for e in stretch.epochs])
    if curve is None or curve.chance is None:
        return False
    return curve.chance - min(finite(curve.values)) > thresholds.gained * curve.chance
