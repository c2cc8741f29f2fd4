"""What the angles between neighbouring gradients say, against gradients that are really summed."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from espalier.diagnose.gradient_sums import excess_cosine, first_steps, fresh_share
from espalier.run_record import StepSigns


def signs_of(gradients: np.ndarray) -> tuple[StepSigns, ...]:
    """Steps with these gradients [N, D], as vital signs have them."""
    norms = np.linalg.norm(gradients, axis=1)
    cosines = [math.nan] + [
        float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b))) for a, b in pairwise(gradients)
    ]
    return tuple(
        StepSigns(i + 1, grad_norm=float(norm), cosine=cosine)
        for i, (norm, cosine) in enumerate(zip(norms, cosines, strict=True))
    )


@pytest.mark.parametrize("common", [0.0, 1.0, 5.0])
def test_sums_are_as_alike_as_sums_and_grow_by_about_the_first_gradient(common: float) -> None:
    noise = np.random.default_rng(0).normal(size=(20, 4000)) / math.sqrt(4000)
    shared = np.zeros(4000)
    shared[0] = common
    steps = signs_of(np.cumsum(noise + shared, axis=0))
    assert excess_cosine(steps) > -0.02
    assert fresh_share(steps) == pytest.approx(1.0, abs=0.1)


def test_independent_gradients_are_far_less_alike_than_sums() -> None:
    steps = signs_of(np.random.default_rng(1).normal(size=(20, 4000)))
    assert excess_cosine(steps) < -0.8


def test_gradients_that_change_slowly_are_alike_but_move_little() -> None:
    steady = np.outer(1.1 ** np.arange(20), np.ones(100))
    steps = signs_of(steady + np.random.default_rng(2).normal(scale=1e-3, size=(20, 100)))
    assert excess_cosine(steps) > 0
    assert fresh_share(steps) == pytest.approx(np.median(np.diff(1.1 ** np.arange(20))), rel=0.1)


def test_first_steps_end_at_the_first_gap() -> None:
    steps = tuple(StepSigns(step) for step in (1, 2, 3, 8, 9))
    assert [step.step for step in first_steps(steps)] == [1, 2, 3]
    assert first_steps(()) == ()
    assert math.isnan(excess_cosine(()))
    assert math.isnan(fresh_share(()))
