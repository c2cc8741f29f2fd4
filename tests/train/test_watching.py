import importlib.util

import pytest

from espalier import pipeline
from espalier.errors import RecipeError
from espalier.train.tensorboard import require_tensorboard
from espalier.train.watch import Several, Unwatched
from small_runs import ALL, Seen, small_recipe


def test_several_watchers_are_told_the_same(uneven, tmp_path):
    first, second = Seen(), Seen()
    recipe = small_recipe(uneven, tmp_path, stages=ALL)
    result = pipeline.train(recipe, watch=Several(first, Unwatched(), second))
    assert vars(first) == vars(second)
    assert first.stages == ["all"]
    assert first.rows == list(result.history.rows)
    assert first.steps == [(step, 14) for step in range(1, 15)]
    assert any(str(result.run.path) in note for note in first.notes)


def test_tensorboard_has_a_point_per_epoch_at_its_step(uneven, tmp_path):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    ).EventAccumulator
    recipe = small_recipe(uneven, tmp_path, "logging.tensorboard=true", stages=ALL)
    run = pipeline.train(recipe).run
    events = accumulator(str(run.tensorboard))
    events.Reload()
    rows = run.history().rows
    for tag, column in (
        ("loss/val", "val_loss"), ("macro_f1/val", "val_macro_f1"),
        ("loss/train_clean", "probe_loss"), ("learning_rate/head", "learning_rate"),
    ):  # fmt: skip
        points = events.Scalars(tag)
        assert [point.step for point in points] == [7, 14]
        expected = [getattr(row, column) for row in rows]
        assert [point.value for point in points] == pytest.approx(expected)


def test_tensorboard_that_is_missing_is_said_before_a_run_is_made_or_taken_up(
    uneven, tmp_path, monkeypatch
):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tensorboard" else real(name)
    )
    with pytest.raises(RecipeError, match="not installed"):
        require_tensorboard()
    recipe = small_recipe(uneven, tmp_path / "runs", "logging.tensorboard=true")
    with pytest.raises(RecipeError, match="not installed"):
        pipeline.train(recipe)
    assert not (tmp_path / "runs").exists()
