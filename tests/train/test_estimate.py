import dataclasses
import time

import pytest
import torch

from espalier import pipeline, planning
from espalier.preparation import prepare
from espalier.train import estimate
from espalier.train.estimate import estimate_features, estimate_scores, estimate_stages, typical
from small_runs import HEAD_THEN_ALL, small_recipe

SOLVE_THEN_TOP = (
    "stages=[{name: head, train: head, solve: true, epochs: 1, lr: 1e-2},"
    " {name: top, train: 0.5, epochs: 6, lr: 5e-3}]"
)
KEPT = ("features.keep=memory", "features.views=2")


def job_of(uneven, tmp_path, *given, stages=HEAD_THEN_ALL):
    return planning.imagined_job(prepare(small_recipe(uneven, tmp_path, *given, stages=stages)))


@pytest.fixture
def made_up_times(monkeypatch):
    """Seconds per image of each kind of work, instead of timing it; data cost nothing."""
    times = {
        "_seconds_to_load": 0.0, "_seconds_to_train": 2.0, "_seconds_to_look": 0.5,
        "_seconds_at_rest": 10.0, "_seconds_to_solve": 3.0, "_per_image": 100.0,
    }  # fmt: skip
    for name, seconds in times.items():
        monkeypatch.setattr(estimate, name, lambda *_, seconds=seconds: seconds)


def test_what_each_stage_will_do(uneven, tmp_path):
    job = job_of(uneven, tmp_path, "training.accumulate=2")
    head, whole = estimate_stages(job)
    in_head = sum(p.numel() for p in job.model.head.parameters())
    in_all = sum(p.numel() for p in job.model.parameters())
    assert (head.name, head.epochs, head.steps, head.imgsz) == ("head", 2, 8, 32)
    assert (head.trainable, head.frozen) == (in_head, in_all - in_head)
    assert (whole.trainable, whole.frozen) == (in_all, 0)
    assert (head.lr, head.backbone_lr) == (1e-2, 0)
    assert (whole.lr, whole.backbone_lr) == (5e-3, 5e-3)
    assert "features.keep is off" in head.inputs
    assert head.seconds > 0
    assert whole.seconds > 0


def test_every_epoch_costs_the_same_where_nothing_is_kept(uneven, tmp_path, made_up_times):
    # 28 training images, 4 of validation, 28 of the probe.
    _, whole = estimate_stages(job_of(uneven, tmp_path))
    assert whole.seconds == 2 * (28 * 2.0 + 32 * 0.5)
    _, whole = estimate_stages(job_of(uneven, tmp_path, "training.max_batches=3"))
    assert whole.steps == 6
    assert whole.seconds == 2 * (3 * 4 * 2.0 + 32 * 0.5)
    # The last batch is short: no more images are counted than there are.
    _, whole = estimate_stages(job_of(uneven, tmp_path, "training.batch=8"))
    assert whole.seconds == 2 * (28 * 2.0 + 32 * 0.5)


def test_frozen_layers_are_counted_once_for_each_kept_view(uneven, tmp_path, made_up_times):
    head, top = estimate_stages(job_of(uneven, tmp_path, *KEPT, stages=SOLVE_THEN_TOP))
    # Two views of 28 images, the one of 32 others; then six epochs behind the cut.
    assert top.seconds == (2 * 28 + 32) * 100.0 + 6 * (28 * 2.0 + 32 * 0.5)
    assert top.views == 2
    assert top.inputs.startswith("kept features: 2 views")
    # Solved for once, on one view of everything.
    assert (head.steps, head.lr) == (1, 0)
    assert head.seconds == (28 + 32) * 10.0 + 3.0
    assert "solved" in head.inputs


def test_what_the_baseline_keeps_is_not_made_again(uneven, tmp_path, made_up_times):
    job = job_of(uneven, tmp_path, "features.keep=disk", stages=SOLVE_THEN_TOP)
    section = job.recipe.model.model_copy(update={"weights": "some.safetensors"})
    features = job.recipe.features.model_copy(update={"baseline": True})
    recipe = job.recipe.model_copy(update={"model": section, "features": features})
    head, _ = estimate_stages(dataclasses.replace(job, recipe=recipe))
    assert head.seconds == 32 * 10.0 + 3.0
    assert planning.baseline_seconds(job) == 0
    assert planning.baseline_seconds(dataclasses.replace(job, recipe=recipe)) > 0


def test_rising_resolution_costs_what_its_pixels_cost(uneven, tmp_path, made_up_times):
    # Of 64, 96 and 128 pixels: 1/4, 9/16 and 1 of the work of the last.
    stages = "stages=[{name: all, train: all, epochs: 3, lr: 1e-2, imgsz: 128, imgsz_from: 64}]"
    (whole,) = estimate_stages(job_of(uneven, tmp_path, stages=stages))
    assert whole.seconds == pytest.approx((1 / 4 + 9 / 16 + 1) * 28 * 2.0 + 3 * 32 * 0.5)


@pytest.mark.parametrize(
    ("patience", "may"), [("null", False), ("1", True), ("4", True), ("5", False), ("9", False)]
)
def test_early_stopping_is_named_only_where_it_can_act(
    uneven, tmp_path, made_up_times, patience, may
):
    job = job_of(uneven, tmp_path, f"early_stopping.patience={patience}", stages=SOLVE_THEN_TOP)
    assert [stage.may_stop_early for stage in estimate_stages(job)] == [False, may]


def test_a_model_of_fixed_size_is_timed_at_the_size_of_each_stage(uneven, tmp_path):
    stages = HEAD_THEN_ALL.replace("lr: 5e-3", "lr: 5e-3, imgsz: 64")
    found = estimate_stages(job_of(uneven, tmp_path, "model.name=test_vit", stages=stages))
    assert [stage.imgsz for stage in found] == [32, 64]


def test_the_middle_of_three_timings_counts_and_the_first_does_not(monkeypatch):
    clock = iter([0.0, 0.1, 10.0, 17.0, 20.0, 25.0, 30.0, 39.0])
    monkeypatch.setattr("espalier.train.estimate.time.perf_counter", lambda: next(clock))
    assert typical(lambda: None, torch.device("cpu")) == 7.0


def test_kept_features_are_cheaper_than_live_layers_in_the_plan_and_in_truth(uneven, tmp_path):
    given = ("training.imgsz=64", "training.batch=8")
    stages = "stages=[{name: top, train: head, epochs: 10, lr: 1e-3}]"
    seconds = {}
    for keep in (("features.keep=memory", "features.views=1"), ("features.keep=off",)):
        recipe = small_recipe(uneven, tmp_path / str(len(keep)), *given, *keep, stages=stages)
        (stage,) = estimate_stages(planning.imagined_job(prepare(recipe)))
        true = sum(row.seconds for row in pipeline.train(recipe).history.rows)
        # Wide, because neighbours on the machine come and go within a second.
        assert true / 8 < stage.seconds < 8 * true
        seconds[keep[0]] = (stage.seconds, true)
    kept, live = seconds.values()
    assert kept[0] < live[0] / 2
    assert kept[1] < live[1] / 2


def test_a_plan_trains_nothing_and_makes_no_run(uneven, tmp_path):
    picture = tmp_path / "rates.png"
    recipe = small_recipe(uneven, tmp_path / "runs")
    plan = planning.plan(recipe, picture)
    assert picture.exists()
    assert not (tmp_path / "runs").exists()
    shown = plan.to_json()
    assert shown["counts"]["train"] == {"class_0": 14, "class_1": 10, "class_2": 4}
    assert [stage["steps"] for stage in shown["stages"]] == [14, 14]
    assert shown["seconds"] == pytest.approx(plan.seconds, abs=0.06)
    assert plan.baseline_seconds == 0
    assert plan.scores_seconds > 0


def test_a_solved_stage_has_no_planned_rate(uneven, tmp_path):
    recipe = prepare(small_recipe(uneven, tmp_path, stages=SOLVE_THEN_TOP)).recipe
    plans = [planning.rate_plan(recipe, stage, 1) for stage in recipe.stages]
    assert [plan.head_peak for plan in plans] == [0, 5e-3]


def test_other_work_is_timed_too(uneven, tmp_path):
    job = job_of(uneven, tmp_path)
    started = time.perf_counter()
    assert estimate_features(job) > 0
    assert estimate_scores(job) > 0
    assert planning.probe_seconds(100, 64) > 0
    assert time.perf_counter() - started < 20
