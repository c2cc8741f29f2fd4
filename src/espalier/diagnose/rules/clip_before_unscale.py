"""Gradients are clipped while they still carry the scale of the loss.

What it looks at: with a loss scaler, whether the gradients that the optimizer used are as long as
    the clip divided by the scale; or, where those are not known, gradient norms at clipping
    against the clip and the scale, and how far steps move the weights.
Why it matters: a gradient 65,536 times too long is clipped to almost nothing after unscaling.
When it is wrong: a clip that is tight on purpose also clips every step, but the norms it sees are
    those of usual gradients. Adam hides the fault, as it divides by the size of the gradients.
What to do: call ``scaler.unscale_(optimizer)`` before clipping.
Source: fault B5; Pytorch-UNet #468, EveryDream2 #175; PyTorch's notes on AMP.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from espalier.diagnose.facts import finite
from espalier.diagnose.signals import middle, movement
from espalier.findings import Evidence, Finding, Severity, percent
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord, StepSigns

CODE = "RUN115"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    clipped: float = threshold(0.95, "of the steps", "that were clipped")
    factor: float = threshold(500.0, "x clip", "median gradient norm at clipping")
    usual: float = threshold(100.0, "norm", "after division by the scale, still a usual gradient")
    moves: float = threshold(1e-4, "change / weight", "of a median step, below which it hurts")
    same: float = threshold(0.05, "share", "by which used norms may differ from clip / scale")


def check(record: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A finding where clipped norms are usual ones times the scale of the loss."""
    clip = float(record.require_fact("clip_norm"))
    if not clip:
        return None
    if record.facts.loss_scaled is False:
        return None
    steps = [step for step in record.steps if not step.skipped and math.isfinite(step.grad_norm)]
    scale = middle(step.scale for step in steps)
    if len(steps) < 10 or math.isnan(scale):
        raise CannotJudge("needs gradient norms and the scale of the loss in 10 steps")
    used = _used(steps, clip, scale, thresholds)
    if used is not None:
        return _finding("warning", used, (_of_scale(scale, thresholds),))
    norm = middle(step.grad_norm for step in steps)
    clipped = sum(step.grad_norm > clip for step in steps) / len(steps)
    if scale <= thresholds.factor or norm <= thresholds.factor * clip:
        return None
    if clipped < thresholds.clipped or norm / scale > thresholds.usual:
        return None
    ratio = movement(steps)
    severity: Severity = "info" if ratio >= thresholds.moves else "warning"
    what = (
        f"{percent(clipped)} of the steps, at a norm of {norm:.2g}, which is {norm / scale:.2g} "
        "times the scale of the loss"
    )
    evidence = (
        Evidence("steps clipped", clipped, thresholds.clipped, "share of the steps"),
        Evidence("gradient norm at clipping", norm, thresholds.factor * clip, ""),
        _of_scale(scale, thresholds),
    )
    return _finding(severity, what, evidence)


def _used(
    steps: Sequence[StepSigns], clip: float, scale: float, thresholds: Thresholds
) -> str | None:
    """What the optimizer was left with, where that is the clip divided by the scale."""
    shares = finite(step.stepped_norm * step.scale / clip for step in steps)
    if scale <= thresholds.factor or len(shares) < 10:
        return None
    hit = sum(abs(share - 1) <= thresholds.same for share in shares) / len(shares)
    if hit < thresholds.clipped:
        return None
    return (
        f"the optimizer is left with a norm of {middle(s.stepped_norm for s in steps):.2g}, which "
        f"is the clip of {clip:g} divided by the scale of the loss"
    )


def _of_scale(scale: float, thresholds: Thresholds) -> Evidence:
    return Evidence("scale of the loss", scale, thresholds.factor, "")


def _finding(severity: Severity, what: str, evidence: tuple[Evidence, ...]) -> Finding:
    return Finding(
        rule="",
        code="",
        severity=severity,
        cause=f"Gradients are clipped before they are unscaled: {what}",
        evidence=evidence,
        confidence=0.85,
        advice=("Call scaler.unscale_(optimizer) before clipping gradients.",),
        consequences=(
            "clip_too_tight",
            "exploding_gradients",
            "learning_rate_too_low",
            "weights_do_not_move",
            "underfitting",
            "not_learning",
        ),
    )
