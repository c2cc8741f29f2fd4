"""Numbers leave the range of fp16: gradients overflow, or vanish to zero.

What it looks at: in fp16, how often the loss scaler halved its scale or skipped a step after the
    first ones, and what share of the gradients is exactly zero.
Why it matters: skipped steps teach nothing, and what has become zero cannot be scaled back.
When it is wrong: a scaler that starts high skips its first two or three steps by design.
What to do: compute in bf16, whose range is that of fp32; or keep the loss in fp32.
Source: fault B4; Micikevicius et al. 2018 (arXiv:1710.03740); PyTorch's notes on AMP.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from espalier.diagnose.facts import finite
from espalier.diagnose.signals import middle, part_names
from espalier.findings import Edit, Evidence, Finding, percent
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord, StepSigns, part_values

CODE = "RUN114"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    skipped: float = threshold(0.05, "of the steps", "skipped by the scaler after the start")
    halvings: float = threshold(5, "halvings", "of the scale within 100 steps after the start")
    zeros: float = threshold(0.5, "of the gradients", "exactly zero, over all parts")
    start: float = threshold(20, "steps", "at the start, in which a scaler finds its scale")
    fewest: float = threshold(10, "steps", "beyond the start, to say how often")


def check(record: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A finding in fp16 only."""
    if not _half(record):
        return None
    steps = [step for step in record.steps if step.step > thresholds.start]
    if len(steps) < thresholds.fewest:
        raise CannotJudge(f"needs {thresholds.fewest:.0f} steps beyond the first ones")
    looked = (
        _skips(steps, thresholds),
        _halvings(steps, thresholds),
        _zeros(steps, thresholds),
    )
    if all(sign is None for sign in looked):
        raise CannotJudge("needs the scale of the loss, skipped steps or zero gradients")
    found = [sign for sign in looked if sign is not None and _above(sign)]
    if not found:
        return None
    return Finding(
        rule="",
        code="",
        severity="error" if found[0].value == 1 else "warning",
        cause=f"Numbers leave the range of fp16: {_in_words(found[0])}",
        evidence=tuple(found),
        confidence=0.85,
        advice=("Compute in bf16, or in fp32 where the machine has no bf16.",),
        prescription=(Edit("training.precision", "set", "bf16", "has the range of fp32"),),
        consequences=(
            "exploding_gradients",
            "no_gradient",
            "weights_do_not_move",
            "vanishing_gradients",
            "clip_before_unscale",
            "hidden_nan",
            "underfitting",
            "not_learning",
        ),
    )


def _half(record: RunRecord) -> bool:
    """Whether numbers of fp16 were computed with; who scales the loss does.

    Raises:
        CannotJudge: Nobody said.
    """
    precision = record.facts.precision
    if precision is None:
        if not record.facts.loss_scaled:
            raise CannotJudge("needs precision")
        return True
    return "16" in precision and "bf16" not in precision and "bfloat" not in precision


def _above(evidence: Evidence) -> bool:
    return isinstance(evidence.value, float) and evidence.value > (evidence.threshold or 0.0)


def _skips(steps: Sequence[StepSigns], thresholds: Thresholds) -> Evidence | None:
    known = [step.skipped for step in steps if step.skipped is not None]
    if not known:
        return None
    share = sum(known) / len(known)
    return Evidence("steps skipped", share, thresholds.skipped, "share of the steps")


def _halvings(steps: Sequence[StepSigns], thresholds: Thresholds) -> Evidence | None:
    """Most halvings of the scale in any 100 steps, net of what it grew between two samples."""
    scales = [(step.step, step.scale) for step in steps if math.isfinite(step.scale)]
    scales = [(step, scale) for step, scale in scales if scale > 0]
    falls = [(b, max(0.0, math.log2(x / y))) for (_, x), (b, y) in pairwise(scales)]
    if not falls:
        return None
    worst, where = max(
        (sum(fall for at, fall in falls if 0 <= at - step < 100), step) for step, _ in falls
    )
    return Evidence(
        "halvings of the loss scale", worst, thresholds.halvings, "in 100 steps", f"step {where}"
    )


def _zeros(steps: Sequence[StepSigns], thresholds: Thresholds) -> Evidence | None:
    shares = [
        middle(part_values(steps, name, lambda part: part.zero_share)) for name in part_names(steps)
    ]
    known = finite(shares)
    if not known:
        return None
    return Evidence("gradients that are zero", middle(known), thresholds.zeros, "share")


def _in_words(evidence: Evidence) -> str:
    value = evidence.value if isinstance(evidence.value, float) else 0.0
    if evidence.name.startswith("halvings"):
        return f"the scale of the loss was halved {value:.0f} times in 100 steps"
    if evidence.name.startswith("steps"):
        return f"{percent(value)} of the steps were skipped"
    return f"{percent(value)} of the gradients are zero"
