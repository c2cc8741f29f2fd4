"""Slopes, medians, movement and floors, against numpy and scipy, and as rules ask for them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from run_subjects import run_of
from scipy.stats import theilslopes

from espalier.diagnose.loss_curves import loss_broke, loss_curve, plain_floor, trained_floor
from espalier.diagnose.signals import (
    backbone_movement,
    correlation,
    decay_movement,
    detrended_variation,
    low_rate_share,
    middle,
    movements,
    relative_trend,
    rising,
    running_median,
    settled,
    sign_flips,
    spread,
    stepped,
    stretches,
    telling_movements,
    trend,
)


def test_trend_is_the_median_slope_of_scipy() -> None:
    rng = np.random.default_rng(0)
    values = 2.0 - 0.1 * np.arange(15) + rng.normal(0, 0.05, 15)
    values[4] = 40.0
    line = trend(values.tolist())
    assert line is not None
    assert line.slope == pytest.approx(theilslopes(values, np.arange(15)).slope)
    assert line.falls_by(0.05)
    assert not line.rises_by(0.0)


def test_error_of_a_trend_is_that_of_a_straight_line_through_noise() -> None:
    rng = np.random.default_rng(1)
    lines = [trend(rng.normal(0, 1.0, 30).tolist()) for _ in range(200)]
    slopes = [line.slope for line in lines if line]
    errors = [line.error for line in lines if line]
    assert np.median(errors) == pytest.approx(np.std(slopes), rel=0.25)
    assert sum(line.falls_by(0.0) or line.rises_by(0.0) for line in lines if line) < 10


def test_trend_passes_over_what_is_not_finite_and_knows_positions() -> None:
    line = trend([1.0, math.nan, math.inf, 4.0], positions=[0, 1, 2, 6])
    assert line is not None
    assert line.slope == pytest.approx(0.5)
    assert line.level == pytest.approx(4.0)
    assert trend([1.0]) is None
    assert trend([1.0, 2.0], positions=[3, 3]) is None


def test_relative_trend_is_a_rate_of_decay() -> None:
    line = relative_trend([math.exp(-0.03 * i) for i in range(8)])
    assert line is not None
    assert line.slope == pytest.approx(-0.03)


def test_medians_and_spread() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(3.0, 2.0, 4001).tolist()
    assert middle([*values, math.nan]) == pytest.approx(float(np.median(values)))
    assert spread(values) == pytest.approx(2.0, rel=0.05)
    assert math.isnan(middle([]))
    assert math.isnan(spread([math.nan]))
    assert running_median([1, 9, 2, 8, 3], 3) == [5, 2, 8, 3, 5.5]


def test_flips_tell_noise_from_a_slope() -> None:
    noise = np.random.default_rng(3).normal(size=3000).tolist()
    assert sign_flips(noise) == pytest.approx(2 / 3, abs=0.03)
    assert sign_flips(list(range(20))) == 0
    assert math.isnan(sign_flips([1.0, 1.0]))


def test_variation_around_a_slope_is_that_of_the_noise() -> None:
    assert detrended_variation([1.0 - 0.01 * i for i in range(30)]) < 0.01
    noise = np.random.default_rng(5).normal(0, 0.2, 4000)
    assert detrended_variation((2.0 + noise).tolist()) == pytest.approx(0.1, rel=0.05)
    assert detrended_variation([1.0, 2.0] * 10) > 0.3
    assert math.isnan(detrended_variation([1.0, 2.0]))


def test_correlation_is_numpys() -> None:
    values = np.random.default_rng(4).normal(size=20).cumsum()
    expected = np.corrcoef(np.arange(20), values)[0, 1]
    assert correlation(values.tolist()) == pytest.approx(expected)
    assert math.isnan(correlation([1.0, 1.0, 1.0]))


def test_stages_lie_in_time_and_solved_heads_take_no_steps() -> None:
    record = run_of(
        {
            "stages": [{"name": "head", "solved": True}, {"name": "all", "learning_rate": 0.01}],
            "epochs": {"stage": ["head", "all", "all"], "learning_rate": [0.0, 0.008, 0.001]},
            "steps": {"stage": "all", "learning_rate": [0.004, 0.01, 0.01]},
        }
    )
    assert [stretch.name for stretch in stretches(record)] == ["head", "all"]
    (only,) = stepped(record)
    assert only.peak == 0.01
    assert [step.step for step in only.at_speed(0.6)] == [2, 3]


def test_movement_leaves_out_a_head_that_grew_from_zero() -> None:
    ratios = [1.8, 0.6, 0.3, 0.2, 0.1, 0.05, 0.02, 0.02, 0.01, 0.01]
    parts = {"stem": {"update_ratio": 0.002}, "head": {"update_ratio": ratios}}
    record = run_of({"steps": {"parts": parts}})
    assert movements(record.steps) == {"stem": 0.002}
    parts["stem"] = {"update_ratio": ratios}
    assert movements(run_of({"steps": {"parts": parts}}).steps) == {"stem": middle(ratios)}
    assert math.isnan(backbone_movement(run_of({"steps": {"parts": {"fc": {}}}}).steps))


def stage_with(**facts: object) -> dict[str, object]:
    return {
        "facts": {"weight_decay": 5e-4, "momentum": 0.9},
        "stages": [{"name": "all", **facts}],
        "steps": {
            "count": 5,
            "stage": "all",
            "learning_rate": 0.05,
            "parts": {"stem": {"update_ratio": 1e-4}, "head": {"update_ratio": 2e-3}},
        },
    }


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"learning_rate": 0.05, "backbone_learning_rate": 0.05}, ["stem"]),
        ({"learning_rate": 0.05, "backbone_learning_rate": 1e-6}, ["head"]),
        ({"learning_rate": 0.05}, ["stem", "head"]),
    ],
)
def test_a_head_tells_of_the_rate_only_where_the_rest_is_slower_by_plan(
    facts: dict[str, object], told: list[str]
) -> None:
    (stretch,) = stepped(run_of(stage_with(**facts)))
    assert list(telling_movements(stretch)) == told


def test_decay_acts_once_per_step_without_momentum_and_ten_times_with_nine_tenths() -> None:
    words = stage_with(learning_rate=0.05)
    record = run_of(words)
    assert decay_movement(record, stepped(record)[0]) == pytest.approx(2.5e-4)
    record = run_of({**words, "facts": {"weight_decay": 5e-4}})
    assert decay_movement(record, stepped(record)[0]) == pytest.approx(2.5e-5)
    record = run_of({**words, "facts": {}})
    assert math.isnan(decay_movement(record, stepped(record)[0]))


def test_a_rate_of_zero_is_a_rate() -> None:
    record = run_of({"epochs": {"learning_rate": [1e-3, 0.0, 0.0], "clean_loss": 1.0}})
    (stretch,) = stepped(record)
    assert stretch.rates == [1e-3, 0.0, 0.0]
    assert low_rate_share(stretch, 0.01) == pytest.approx(2 / 3)


def test_share_of_low_rates_weighs_steps_by_their_distance() -> None:
    steps = {"step": [1, 2, 3, 4, 5, 25], "learning_rate": [1, 1, 1, 1, 0.001, 0.001]}
    assert low_rate_share(stretches(run_of({"steps": steps}))[0], 0.01) == 20 / 24
    epochs = {"learning_rate": [1, 1, 0.001, 0.001]}
    assert low_rate_share(stretches(run_of({"epochs": epochs}))[0], 0.01) == 0.5
    assert low_rate_share(stretches(run_of({"epochs": {"count": 3}}))[0], 0.01) is None


def test_a_living_stage_is_not_settled_and_may_be_rising() -> None:
    words = {
        "ended": "running",
        "stages": [{"name": "all", "epochs": 4, "learning_rate": 0.1}],
        "epochs": {"stage": "all", "learning_rate": [0.01, 0.02]},
    }
    record = run_of(words)
    assert not settled(record, stretches(record)[0])
    assert rising(record, stretches(record)[0])
    over = run_of({**words, "ended": "died"})
    assert settled(over, stretches(over)[0])
    assert not rising(over, stretches(over)[0])


def test_floors_are_those_of_a_model_that_fits_smoothed_labels() -> None:
    record = run_of({"facts": {"label_smoothing": 0.2, "head_classes": 10}})
    target = np.full(10, 0.02)
    target[0] += 0.8
    assert trained_floor(record) == pytest.approx(float(-(target * np.log(target)).sum()))
    assert plain_floor(record) == pytest.approx(-math.log(0.82))
    assert trained_floor(run_of({"facts": {"floor_loss": 0.7}})) == 0.7


def test_loss_curve_takes_the_first_that_was_measured() -> None:
    facts = {"train_counts": [50, 50], "label_smoothing": 0.1, "chance_loss": 0.9}
    epochs = {"train_loss": [0.8, 0.7], "val_loss": 0.5}
    curve = loss_curve(run_of({"facts": facts, "epochs": epochs}))
    assert curve is not None
    assert (curve.name, curve.values, curve.chance) == ("training loss", (0.8, 0.7), 0.9)
    assert curve.above_floor[1] == pytest.approx(0.7 - curve.floor)
    clean = loss_curve(run_of({"facts": facts, "epochs": {**epochs, "clean_loss": 0.01}}))
    assert clean is not None
    assert clean.chance == pytest.approx(math.log(2))
    assert clean.above_floor == [1e-3, 1e-3]
    assert loss_curve(run_of({"epochs": epochs}), least=3) is None


@pytest.mark.parametrize(
    ("losses", "where"),
    [
        ([1.0, 2.0, math.inf, 3.0], "step 3"),
        ([1.0, math.nan, math.nan, math.nan], "step 2"),
        ([1.0, math.nan, math.nan, 0.9], None),
        ([1.0, 0.9, 0.8, math.nan], None),
        ([math.nan, math.nan, math.nan, math.nan], None),
    ],
)
def test_a_loss_that_stops_being_a_number_stays_so(losses: list[float], where: str | None) -> None:
    assert loss_broke(run_of({"steps": {"loss": losses}})) == where
