import pytest
import torch

from espalier import pipeline, planning
from espalier.models.build import build_model
from espalier.train.estimate import estimate_stages, fastest
from small_runs import HEAD_THEN_ALL, small_recipe


def estimated(uneven, tmp_path, *given, stages=HEAD_THEN_ALL, images=28):
    prepared = pipeline.prepare(small_recipe(uneven, tmp_path, *given, stages=stages))
    model, _ = build_model(prepared.recipe.model, 3, imgsz=pipeline.largest_imgsz(prepared.recipe))
    return model, estimate_stages(prepared.recipe, model, train_images=images, judged_images=32)


def test_what_each_stage_will_do(uneven, tmp_path):
    model, (head, whole) = estimated(uneven, tmp_path, "training.accumulate=2")
    in_head = sum(p.numel() for p in model.head.parameters())
    in_all = sum(p.numel() for p in model.parameters())
    assert (head.name, head.epochs, head.steps, head.imgsz) == ("head", 2, 8, 32)
    assert (head.trainable, head.frozen) == (in_head, in_all - in_head)
    assert (whole.trainable, whole.frozen) == (in_all, 0)
    assert (head.lr, head.backbone_lr) == (1e-2, 0)
    assert (whole.lr, whole.backbone_lr) == (5e-3, 5e-3)
    assert 0 < head.seconds < whole.seconds


def test_fewer_batches_take_less_time(uneven, tmp_path, monkeypatch):
    monkeypatch.setattr("espalier.train.estimate.seconds_per_image", lambda *_: (2.0, 0.5))
    _, (head, _) = estimated(uneven, tmp_path, "training.max_batches=3")
    assert head.steps == 6
    assert head.seconds == 2 * (3 * 4 * 2.0 + 32 * 0.5)
    # The last batch is short: no more images are counted than there are.
    _, (head, _) = estimated(uneven, tmp_path, "training.batch=8")
    assert head.seconds == 2 * (28 * 2.0 + 32 * 0.5)


def test_a_model_of_fixed_size_is_timed_at_the_size_of_each_stage(uneven, tmp_path):
    stages = HEAD_THEN_ALL.replace("lr: 5e-3", "lr: 5e-3, imgsz: 64")
    _, found = estimated(uneven, tmp_path, "model.name=test_vit", stages=stages)
    assert [stage.imgsz for stage in found] == [32, 64]


def test_the_fastest_of_a_few_counts_and_the_first_does_not(monkeypatch):
    clock = iter([0.0, 0.1, 10.0, 17.0, 20.0, 25.0])
    monkeypatch.setattr("espalier.train.estimate.time.perf_counter", lambda: next(clock))
    assert fastest(lambda: None, torch.device("cpu")) == 5.0


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
