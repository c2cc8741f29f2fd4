"""Gradients that add up from step to step, as they do where nobody clears them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from espalier.diagnose.signals import middle
from espalier.run_record import StepSigns

_FIRST = 50


def first_steps(steps: Sequence[StepSigns]) -> tuple[StepSigns, ...]:
    """The first steps up to the first gap: one after the other."""
    return tuple(step for i, step in enumerate(steps[:_FIRST]) if step.step - steps[0].step == i)


def excess_cosine(steps: Sequence[StepSigns]) -> float:
    """How much more alike neighbouring gradients are than sums of independent ones; NaN: unknown.

    The sum of t independent gradients of one size has a cosine of sqrt(1 - 1/t) with the sum of
    t - 1 of them: about 0 is what a sum has at least, as gradients that resemble each other give
    more. Gradients of one batch each start far below, whatever they grow to later.
    """
    return middle(
        step.cosine - math.sqrt(1 - 1 / t)
        for t, step in enumerate(steps, start=1)
        if t > 1 and math.isfinite(step.cosine)
    )


def fresh_share(steps: Sequence[StepSigns]) -> float:
    """How far the gradient moves from step to step, as a share of the first one; NaN: unknown.

    Of a sum, this is the size of what each step adds: about 1. Of gradients that merely change
    slowly it is far less, though these resemble each other as well.
    """
    moved = [
        _distance(before, after)
        for before, after in pairwise(steps)
        if math.isfinite(after.cosine) and after.step == before.step + 1
    ]
    first = steps[0].grad_norm if steps else 0.0
    return middle(moved) / first if first > 0 else math.nan


def _distance(one: StepSigns, other: StepSigns) -> float:
    """Norm of the difference of two gradients, from their norms and their cosine."""
    a, b = one.grad_norm, other.grad_norm
    return math.sqrt(max(0.0, a * a + b * b - 2 * a * b * other.cosine))
