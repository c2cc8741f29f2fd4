import dataclasses
import itertools
import json
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from espalier import pipeline, planning, usage
from espalier.data.balance import read_class_weights
from espalier.data.catalog import read_catalog
from espalier.data.synthetic.tiny import write_tiny
from espalier.errors import DataError, DiskError, EspalierError, TrainingInterrupted
from espalier.recipe.load import change_recipe, load_recipe
from espalier.records import History
from espalier.train import judge
from espalier.train.interrupts import Interrupts
from espalier.train.loop import open_session
from small_runs import ALL, HEAD_THEN_ALL, Seen, open_job, same, small_recipe, weights


@pytest.fixture(scope="module")
def result(uneven, tmp_path_factory):
    return pipeline.train(small_recipe(uneven, tmp_path_factory.mktemp("result")))


def test_a_recipe_names_its_places_from_the_root(uneven, tmp_path, monkeypatch, result):
    monkeypatch.chdir(uneven.parent)
    recipe = small_recipe(
        Path(uneven.name), tmp_path, f"data.split_from={Path(result.run.path)}", "seed=3"
    )
    found = pipeline.prepare(recipe).recipe
    assert found.data.source == str(uneven.resolve())
    assert found.data.split_from == str(result.run.path.resolve())
    assert pipeline.with_full_paths(found) == found
    kept = pipeline.with_full_paths(
        change_recipe(found, ["data.source=torchvision:CIFAR10", "data.root=cifar"])
    )
    assert kept.data.source == "torchvision:CIFAR10"
    assert kept.data.root == str(uneven.parent.resolve() / "cifar")
    assert kept.model.weights == "none"
    named = pipeline.with_full_paths(change_recipe(found, ["model.weights=w.pth"]))
    assert named.model.weights == str(uneven.parent.resolve() / "w.pth")


def test_every_choice_is_on_record_before_the_first_batch(uneven, tmp_path):
    job, _ = open_job(small_recipe(uneven, tmp_path, "class_weighting.strategy=inverse"))
    assert job.run.recipe() == job.recipe
    assert read_catalog(job.run.catalog_file).samples == job.catalog.samples
    classes, counts, held = read_class_weights(job.run.class_weights_file)
    assert classes == job.catalog.classes
    assert list(counts) == list(job.catalog.counts("train").values())
    assert np.array_equal(held, job.class_weights)
    state = open_job(small_recipe(uneven, tmp_path))[1]
    assert open_session(job, state).loss.weights.tolist() == pytest.approx(held.tolist())
    assert job.run.train_batch.exists()
    losses = job.run.environment()["reference_losses"]
    assert losses["chance"] == pytest.approx(np.log(3))
    assert 0 <= losses["floor"] < losses["prior"] <= losses["chance"] + 1e-9


def test_the_answer_is_that_of_the_files(result):
    record = result.to_json()
    rows = result.history.rows
    assert record["epochs"] == len(rows) == 4
    assert record["best_epoch"] == torch.load(result.run.best, weights_only=True)["epoch"]
    again = {e.split: e.to_json() for e in usage.evaluate(result.run)}
    assert record["val"] == again["val"]
    assert record["test"] == again["test"]
    assert json.dumps(record, allow_nan=False)


@pytest.mark.parametrize("monitor", ["macro_f1", "accuracy", "loss"])
def test_the_best_epoch_is_that_of_the_figure_that_is_monitored(
    uneven, tmp_path, monkeypatch, monitor
):
    figures = iter(
        {"macro_f1": f1, "accuracy": accuracy, "loss": loss}
        for f1, accuracy, loss in ((0.5, 0.9, 0.8), (0.7, 0.6, 0.7), (0.6, 0.5, 0.3), (0, 0, 9))
    )
    of_probe = {"loss": 1.0, "accuracy": 0.5}
    turns = itertools.cycle((False, True))  # the probe is summed up first, then validation
    monkeypatch.setattr(
        judge.metrics, "summary", lambda _: next(figures) if next(turns) else of_probe
    )
    recipe = small_recipe(uneven, tmp_path, f"checkpointing.monitor={monitor}")
    result = pipeline.train(recipe)
    expected = {"macro_f1": 2, "accuracy": 1, "loss": 3}[monitor]
    assert result.to_json()["best_epoch"] == expected
    assert torch.load(result.run.best, weights_only=True)["epoch"] == expected


def test_the_best_weights_are_judged_on_the_device_that_trained(uneven, tmp_path, monkeypatch):
    used = []
    real = pipeline.Predictor

    def predictor(run, device="auto"):
        used.append(device)
        return real(run, device)

    monkeypatch.setattr(pipeline, "Predictor", predictor)
    pipeline.train(small_recipe(uneven, tmp_path, stages=ALL))
    assert used == ["cpu"]


def test_one_image_a_class_leaves_nothing_to_judge_and_says_so(tmp_path, capfd):
    photos = write_tiny(tmp_path / "photos", classes=3, per_class=1, imgsz=36, seed=0)
    seen = Seen()
    recipe = small_recipe(photos, tmp_path / "runs", "training.batch=3", stages=ALL)
    result = pipeline.train(recipe, watch=seen)
    assert result.val is None
    assert result.test is None
    assert result.to_json()["best_epoch"] is not None
    assert any("no validation images" in note for note in seen.notes)
    assert not result.run.confusion_matrix.exists()
    with pytest.raises(DataError, match="no validation and no test images") as caught:
        usage.evaluate(result.run)
    assert "--data FOLDER" in caught.value.hint
    from espalier.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(result.run.path)])
    assert ended.value.code == 2
    assert "Traceback" not in capfd.readouterr().err


def test_without_test_images_validation_is_shown(uneven, tmp_path):
    recipe = small_recipe(uneven, tmp_path, "data.test_share=0", stages=ALL)
    result = pipeline.train(recipe)
    assert result.test is None
    assert result.val is not None
    assert result.run.confusion_matrix.exists()
    assert [e.split for e in usage.evaluate(result.run)] == ["val"]


def test_a_vision_transformer_changes_its_size_between_stages(uneven, tmp_path):
    stages = HEAD_THEN_ALL.replace("lr: 5e-3", "lr: 5e-3, imgsz: 48")
    recipe = small_recipe(uneven, tmp_path / "runs", "model.name=test_vit", stages=stages)
    plan = planning.plan(recipe, tmp_path / "rates.png")
    assert [stage.imgsz for stage in plan.stages] == [32, 48]
    unbroken = pipeline.train(recipe).run

    class Cut(Interrupts):
        looks = 0

        def time_is_up(self, reserve=0.0):
            Cut.looks += 1
            return Cut.looks in (3, 17)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pipeline, "Interrupts", Cut)
        limited = change_recipe(recipe, ["training.time_limit=60"])
        run = pipeline.train(limited).run
        pipeline.resume(run, run.recipe())
    assert torch.load(run.last, weights_only=True)["imgsz"] == 48
    pipeline.resume(run, run.recipe())
    assert same(weights(run.last), weights(unbroken.last))
    predictions, _ = usage.predict(run, [str(uneven)])
    assert predictions.logits.shape == (36, 3)
    assert np.isfinite(predictions.logits).all()


def test_photographs_that_went_away_are_named(uneven, tmp_path):
    photos = shutil.copytree(uneven, tmp_path / "photos")
    job, state = open_job(small_recipe(photos, tmp_path / "runs"))
    gone = Path(job.train[0].path)
    gone.unlink()
    with pytest.raises(DataError, match=gone.name):
        pipeline.run_and_judge(job, state)


def test_no_photographs_is_an_error_with_two_ways_on():
    recipe = load_recipe(preset="baseline")
    with pytest.raises(EspalierError, match="no photographs were named"):
        pipeline.prepare(recipe)


# --- the picture that is redrawn


class Clock:
    """Time that passes only where it is told to, and pictures that take some of it."""

    def __init__(self, monkeypatch, drawing=0.4):
        self.now = 100.0
        self.drawn = []
        self.drawing = drawing
        monkeypatch.setattr(pipeline, "draw_curves", self.draw)
        monkeypatch.setattr(pipeline, "context_of", lambda run: SimpleNamespace())
        monkeypatch.setattr(pipeline, "time", SimpleNamespace(monotonic=lambda: self.now))

    def draw(self, history, path, context):
        self.now += self.drawing
        self.drawn.append(len(history.rows))

    def train(self, curves, stages, seconds):
        """Stages of so many epochs, all as long."""
        for index, epochs in enumerate(stages):
            curves.on_stage("stage", index, len(stages), "")
            for _ in range(epochs):
                self.now += seconds
                done = len(getattr(self, "rows", [])) + 1
                self.rows = [SimpleNamespace(stage_index=index)] * done
                curves.on_epoch(self.rows[-1], History(tuple(self.rows), (), "run", {}))
        curves.finish()


@pytest.mark.parametrize(("drawing", "seconds"), [(0.4, 8.1), (0.1, 2.1), (2.0, 10.1)])
def test_curves_of_long_epochs_are_drawn_after_each(monkeypatch, drawing, seconds):
    clock = Clock(monkeypatch, drawing)
    clock.train(pipeline.CurvesWatch(pipeline.RunDir(Path("run"))), (20,), seconds)
    assert clock.drawn == list(range(1, 21))


@pytest.mark.parametrize("seconds", [0.01, 0.3, 1.0, 5.0])
def test_drawing_curves_takes_little_of_the_time_of_short_epochs(monkeypatch, seconds):
    clock = Clock(monkeypatch)
    clock.train(pipeline.CurvesWatch(pipeline.RunDir(Path("run"))), (400,), seconds)
    spent = clock.drawing * (len(clock.drawn) - 2)
    assert spent <= 0.05 * (clock.now - 100.0)
    assert (clock.drawn[0], clock.drawn[-1]) == (1, 400)
    assert len(clock.drawn) == len(set(clock.drawn))


def test_curves_show_the_end_of_each_stage_and_its_first_epoch(monkeypatch):
    clock = Clock(monkeypatch)
    clock.train(pipeline.CurvesWatch(pipeline.RunDir(Path("run"))), (1, 5, 4), 0.1)
    assert clock.drawn == [1, 2, 6, 7, 10]


def drawn_by(monkeypatch):
    """Epochs in each picture that is drawn."""
    found = []
    monkeypatch.setattr(
        pipeline, "draw_curves", lambda history, path, context: found.append(len(history.rows))
    )
    # Any drawing is too dear for epochs as short as these.
    monkeypatch.setattr(pipeline, "DRAWING_SHARE", 1e-9)
    return found


SIX = "stages=[{name: all, train: all, epochs: 6, lr: 5e-3}]"


def test_a_run_that_ends_well_shows_all_its_epochs(uneven, tmp_path, monkeypatch):
    found = drawn_by(monkeypatch)
    pipeline.train(small_recipe(uneven, tmp_path, "logging.curves=true", stages=SIX))
    assert found == [1, 6]


@pytest.mark.parametrize(
    "error", [TrainingInterrupted("stopped"), ZeroDivisionError(), KeyboardInterrupt()]
)
def test_however_a_run_ends_its_picture_shows_what_is_finished(
    uneven, tmp_path, monkeypatch, error
):
    found = drawn_by(monkeypatch)
    stop = Stopping(4, error)
    recipe = small_recipe(uneven, tmp_path, "logging.curves=true", stages=SIX)
    with pytest.raises(type(error)):
        pipeline.train(recipe, watch=stop)
    assert found == [1, 4]


class Stopping(Seen):
    def __init__(self, epoch, error):
        super().__init__()
        self.epoch, self.error = epoch, error

    def on_step(self, done, total, loss):
        if len(self.rows) == self.epoch:
            raise self.error


def test_an_error_is_not_hidden_by_a_picture_that_cannot_be_written(uneven, tmp_path, monkeypatch):
    found = drawn_by(monkeypatch)

    def full(history, path, context):
        if found:
            raise DiskError("the disk is full")
        found.append(len(history.rows))

    monkeypatch.setattr(pipeline, "draw_curves", full)
    recipe = small_recipe(uneven, tmp_path, "logging.curves=true", stages=SIX)
    with pytest.raises(ZeroDivisionError):
        pipeline.train(recipe, watch=Stopping(3, ZeroDivisionError()))
    with pytest.raises(DiskError):
        pipeline.train(recipe)


def test_a_resumed_run_shows_at_once_what_a_killed_one_had_not_drawn(uneven, tmp_path, monkeypatch):
    recipe = small_recipe(uneven, tmp_path, "logging.curves=true", stages=SIX)
    found = drawn_by(monkeypatch)
    with pytest.raises(ZeroDivisionError):
        pipeline.train(recipe, watch=Stopping(3, ZeroDivisionError()))
    found.clear()

    class Interrupted(Seen):
        def on_step(self, done, total, loss):
            signal.raise_signal(signal.SIGINT)

    run = tmp_path / "run"
    with pytest.raises(TrainingInterrupted):
        pipeline.resume(pipeline.RunDir(run), recipe_of(run), watch=Interrupted())
    assert found == [3]
    pipeline.resume(pipeline.RunDir(run), recipe_of(run))
    assert found == [3, 3, 4, 6]


def recipe_of(folder):
    return pipeline.RunDir(folder).recipe()


# --- other data, and the names of what is judged on them


def test_other_data_never_replace_what_the_run_has(uneven, tmp_path, result):
    own = result.run.predictions("test").read_bytes()
    picture = result.run.confusion_matrix.read_bytes()
    for name in ("test", "run"):
        folder = shutil.copytree(uneven, tmp_path / "field" / name)
        (found,) = usage.evaluate(result.run, str(folder))
        assert found.split == f"field-{name}"
        assert found.images == 36
        assert (result.run.path / "predictions" / f"field-{name}.parquet").exists()
        assert (result.run.path / f"confusion_matrix_field-{name}.png").exists()
    assert result.run.predictions("test").read_bytes() == own
    assert result.run.confusion_matrix.read_bytes() == picture


def test_data_named_by_a_dot_are_called_after_their_folder(uneven, monkeypatch, result):
    monkeypatch.chdir(uneven)
    (found,) = usage.evaluate(result.run, ".")
    assert found.split == uneven.name


# --- what old files lack


def test_notes_on_an_old_checkpoint_reach_the_person(uneven, tmp_path, result):
    content = torch.load(result.run.best, weights_only=True)
    old = tmp_path / "old.pt"
    torch.save({k: v for k, v in content.items() if k not in ("history", "state")}, old)
    notes = []
    predictions, _ = usage.predict(old, [str(uneven)], note=notes.append)
    assert len(predictions.paths) == 36
    assert len(notes) == 2
    assert "no history" in notes[0]
    assert "cannot be resumed" in notes[1]
    with pytest.raises(EspalierError) as caught:
        usage.plot(old)
    assert caught.value.problems == tuple(notes)


def test_curves_of_a_run_that_was_stopped_early_and_then_by_time(uneven, tmp_path, monkeypatch):
    recipe = small_recipe(
        uneven, tmp_path / "runs", "early_stopping.patience=1", "early_stopping.min_delta=2",
        "training.time_limit=60", stages=HEAD_THEN_ALL.replace("epochs: 2", "epochs: 5"),
    )  # fmt: skip
    looks = []

    def time_is_up(self, reserve=0.0):
        looks.append(reserve)
        return len(looks) == 17

    monkeypatch.setattr(Interrupts, "time_is_up", time_is_up)
    history = pipeline.train(recipe).history
    # One gain from nothing, one epoch without: over after two; then cut in the third.
    assert [(r.stage, r.batches) for r in history.rows] == [("head", 7), ("head", 7), ("all", 3)]
    assert [(s.first_epoch, s.last_epoch) for s in history.stages] == [(1, 2), (3, 7)]
    picture = usage.plot(tmp_path / "runs" / "run", tmp_path / "curves.png")
    assert picture.stat().st_size > 10_000
    both = usage.compare([tmp_path / "runs" / "run"] * 2, tmp_path / "both.png")
    assert [h.rows for h in both] == [history.rows] * 2


def test_a_catalog_keeps_its_samples_when_a_run_is_judged(result):
    before = read_catalog(result.run.catalog_file)
    usage.evaluate(result.run)
    assert dataclasses.asdict(read_catalog(result.run.catalog_file)) == dataclasses.asdict(before)
