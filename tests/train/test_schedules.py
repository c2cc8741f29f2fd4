from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import SGD, lr_scheduler

from espalier.errors import RecipeError
from espalier.recipe.schema import Recipe, ScheduleSection, Stage
from espalier.train.schedules import (
    StagePlan,
    planned_rates,
    plateau_drops,
    rate,
    stage_plan,
)

PEAK = 0.5


def plan(**changes: Any) -> StagePlan:
    values: dict[str, Any] = {
        "name": "all",
        "epochs": 10,
        "steps_per_epoch": 7,
        "schedule": "warmup-cosine",
        "warmup_steps": 0,
        "warmup_start": 0.02,
        "min_lr": 1e-4,
        "step_epochs": 3,
        "gamma": 0.1,
        "plateau_patience": 2,
        "head_peak": PEAK,
        "backbone_peak": 0.05,
    }
    return StagePlan(**{**values, **changes})


def rates(of: StagePlan, peak: float = PEAK) -> list[float]:
    return [rate(of, peak, step) for step in range(of.steps)]


def of_torch(steps: int, build: Callable[[SGD], Any]) -> list[float]:
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler, found = build(optimizer), []
    for _ in range(steps):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return found


def warmed(optimizer: SGD, warmup: int, then: Any) -> Any:
    linear = lr_scheduler.LinearLR(optimizer, start_factor=0.02, total_iters=warmup)
    return lr_scheduler.SequentialLR(optimizer, [linear, then], milestones=[warmup])


def test_cosine_equals_torch() -> None:
    wanted = of_torch(70, lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=69, eta_min=1e-4))
    assert rates(plan(schedule="cosine")) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.filterwarnings("ignore:The epoch parameter in")
@pytest.mark.parametrize("warmup", [1, 14, 30])
def test_warmup_cosine_equals_torch_linear_then_cosine(warmup: int) -> None:
    wanted = of_torch(
        70,
        lambda o: warmed(
            o, warmup, lr_scheduler.CosineAnnealingLR(o, T_max=69 - warmup, eta_min=1e-4)
        ),
    )
    assert rates(plan(warmup_steps=warmup)) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.filterwarnings("ignore:The epoch parameter in")
@pytest.mark.parametrize("warmup", [0, 14])
def test_step_equals_torch(warmup: int) -> None:
    def build(optimizer: SGD) -> Any:
        drops = lr_scheduler.StepLR(optimizer, step_size=21, gamma=0.1)
        return warmed(optimizer, warmup, drops) if warmup else drops

    assert rates(plan(schedule="step", warmup_steps=warmup)) == pytest.approx(
        of_torch(70, build), rel=1e-6
    )


@pytest.mark.parametrize("warmup", [20, 0])
def test_one_cycle_equals_torch(warmup: int) -> None:
    rise = warmup or int(0.3 * 69)
    wanted = of_torch(
        70,
        lambda o: lr_scheduler.OneCycleLR(
            o,
            PEAK,
            total_steps=70,
            pct_start=(rise + 1) / 70,
            div_factor=50,
            final_div_factor=PEAK * 0.02 / 1e-4,
            cycle_momentum=False,
        ),
    )
    assert rates(plan(schedule="one-cycle", warmup_steps=warmup)) == pytest.approx(wanted, rel=1e-6)


def test_plateau_equals_torch_which_waits_one_epoch_longer_for_the_same_number() -> None:
    scores = [0.1, 0.3, 0.3, 0.2, 0.25, 0.4, math.nan, 0.4, 0.4, 0.1, 0.5, 0.2]
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler = lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.1, patience=1, threshold=0, min_lr=1e-4
    )
    of = plan(schedule="plateau", epochs=13)
    for epoch in range(len(scores) + 1):
        wanted = float(optimizer.param_groups[0]["lr"])
        for step in (0, 6):
            assert rate(of, PEAK, epoch * 7 + step, scores) == pytest.approx(wanted)
        if epoch < len(scores):
            scheduler.step(scores[epoch])
    assert plateau_drops(scores, 2) >= 3


def test_plateau_depends_only_on_epochs_that_are_finished_and_after_the_warmup() -> None:
    of = plan(schedule="plateau", warmup_steps=14)
    flat = [0.5] * 10
    # Two warm epochs do not count; then one is the best so far, and two idle ones make a drop.
    assert rate(of, PEAK, 5 * 7 - 1, flat) == PEAK
    assert rate(of, PEAK, 5 * 7, flat) == pytest.approx(PEAK * 0.1)
    assert rate(of, PEAK, 5 * 7, flat[:5]) == rate(of, PEAK, 5 * 7, flat)


@pytest.mark.parametrize("name", ["warmup-cosine", "cosine", "step", "constant", "plateau"])
def test_every_schedule_honours_the_warmup(name: str) -> None:
    got = rates(plan(schedule=name, warmup_steps=10))
    wanted = [PEAK * (0.02 + 0.98 * step / 10) for step in range(11)]
    assert got[:11] == pytest.approx(wanted)
    assert max(got) == pytest.approx(PEAK)


@pytest.mark.parametrize("name", ["warmup-cosine", "cosine", "one-cycle"])
@pytest.mark.parametrize("warmup", [0, 1, 20, 68])
@pytest.mark.parametrize("peak", [PEAK, 0.01, 1e-4])
def test_the_last_step_is_at_min_lr_exactly(name: str, warmup: int, peak: float) -> None:
    of = plan(schedule=name, warmup_steps=warmup)
    assert rate(of, peak, of.steps - 1) == 1e-4
    assert rate(of, peak, of.steps + 5) == 1e-4
    if warmup:
        assert rate(of, peak, warmup) == pytest.approx(peak)


def test_constant_stays_at_its_peak() -> None:
    assert set(rates(plan(schedule="constant"))) == {PEAK}


def test_min_lr_never_lifts_a_group_above_its_peak() -> None:
    assert set(rates(plan(), peak=1e-6)) == {1e-6}
    assert rate(plan(schedule="step"), PEAK, 69) == PEAK * 0.1**3
    assert rate(plan(schedule="step", min_lr=0.01), PEAK, 69) == 0.01
    assert set(rates(plan(), peak=0.0)) == {0.0}


def test_a_stage_of_one_step_trains_at_its_peak() -> None:
    assert rates(plan(epochs=1, steps_per_epoch=1)) == [PEAK]


def test_facts_of_the_improved_recipe() -> None:
    """Mission A2: 5 epochs from 0.02 x lr to lr, then cosine to 1e-6 over the other 45."""
    of = plan(epochs=50, steps_per_epoch=100, warmup_steps=500, min_lr=1e-6)
    got = rates(of, 5e-4)
    assert got[0] == pytest.approx(1e-5)
    assert got[500] == pytest.approx(5e-4)
    assert got.index(max(got)) == 500
    assert got[-1] == 1e-6
    assert got[500:] == sorted(got[500:], reverse=True)


def test_a_warmup_as_long_as_its_stage_is_an_error() -> None:
    with pytest.raises(RecipeError, match=r"stage all: a warmup of 70 .* 70 steps") as caught:
        plan(warmup_steps=70)
    assert "schedule.warmup_epochs=" in caught.value.hint


def recipe(*stages: Stage, **section: Any) -> Recipe:
    return Recipe(stages=stages, schedule=ScheduleSection(**section))


def test_a_stage_takes_what_it_leaves_open_from_the_schedule() -> None:
    own = Stage(
        name="a",
        train="all",
        epochs=4,
        lr=1e-3,
        backbone_lr=1e-4,
        warmup_epochs=1.5,
        schedule="step",
    )
    open_ = Stage(name="b", train="head", epochs=2, lr=1e-2)
    of = recipe(own, open_, name="cosine", warmup_epochs=0.5, min_lr=1e-5)
    first, second = stage_plan(of, own, 10), stage_plan(of, open_, 10)
    assert (first.schedule, first.warmup_steps, first.backbone_peak) == ("step", 15, 1e-4)
    assert (second.schedule, second.warmup_steps, second.backbone_peak) == ("cosine", 5, 0.0)
    unset = Stage(name="c", train="top", epochs=2, lr=1e-2)
    assert stage_plan(of, unset, 10).backbone_peak == 1e-2


def test_planned_rates_run_through_the_stages_on_one_clock() -> None:
    head = plan(name="head", epochs=2, steps_per_epoch=3, backbone_peak=0.0, schedule="constant")
    full = plan(name="all", epochs=3, steps_per_epoch=2, head_peak=0.2)
    rows = planned_rates([head, full])
    assert [row.step for row in rows] == list(range(12))
    assert [row.epoch for row in rows] == [1, 1, 1, 2, 2, 2, 3, 3, 4, 4, 5, 5]
    assert [row.backbone_rate for row in rows[:6]] == [0.0] * 6
    assert [row.head_rate for row in rows[:6]] == [PEAK] * 6
    assert (rows[6].head_rate, rows[6].backbone_rate) == (0.2, 0.05)
    assert (rows[-1].head_rate, rows[-1].backbone_rate) == (1e-4, 1e-4)
