import dataclasses
import math
import signal

import pytest
import torch
import yaml

from espalier import files, pipeline, runs, usage
from espalier.errors import DiskError, RecipeError, ResumeError, TrainingInterrupted
from espalier.files import read_rows
from espalier.models.checkpoints import NO_STATE, load_checkpoint, recipe_of
from espalier.recipe.load import change_recipe, dump_yaml
from espalier.records import EpochRow
from espalier.train import judge, keep
from espalier.train.interrupts import Interrupts
from espalier.train.loop import fit
from espalier.train.resume import check_changes, extend, load_state, take_up
from espalier.train.state import State, stopper_for
from small_runs import ALL, HEAD_THEN_ALL, Seen, but_seconds, open_job, same, small_recipe, weights


@pytest.fixture(scope="module")
def finished(uneven, tmp_path_factory):
    """A finished run; tests only read it."""
    folder = tmp_path_factory.mktemp("finished")
    return pipeline.train(small_recipe(uneven, folder)).run


def stopped_after(recipe, step, watch=None):
    """A run that was stopped by a signal after so many steps."""
    job, state = open_job(recipe)
    interrupts = Interrupts()

    class Stop(Seen):
        def on_step(self, done, total, loss):
            if done == step:
                interrupts.signal = signal.SIGINT

    with pytest.raises(TrainingInterrupted):
        fit(dataclasses.replace(job, watch=Stop()), state, interrupts)
    return job.run


def edit(run, change):
    """Change the recipe of a run as a person would, in its file."""
    tree = yaml.safe_load(run.recipe_file.read_text())
    change(tree)
    run.recipe_file.write_text(yaml.safe_dump(tree))


# --- what may change


def test_the_recipe_in_the_checkpoint_is_the_recipe_of_the_run(finished):
    check_changes(recipe_of(load_checkpoint(finished.last)), finished.recipe())


def test_every_value_that_cannot_change_is_named_by_its_key(finished):
    old = finished.recipe()
    new = change_recipe(
        old, ["training.batch=8", "stages.head.lr=0.5", "logging.name=other", "training.threads=2"]
    )
    with pytest.raises(ResumeError) as caught:
        check_changes(old, new)
    assert set(caught.value.problems) == {
        "training.batch: 4 -> 8", "stages.head.lr: 0.01 -> 0.5", "logging.name: run -> other"
    }  # fmt: skip


def test_another_number_of_stages_is_refused(finished):
    old = finished.recipe()
    new = old.model_copy(update={"stages": old.stages[1:]})
    with pytest.raises(ResumeError, match=r"stages\.head\.epochs: 2 -> absent"):
        check_changes(old, new)


def test_time_limit_device_threads_workers_and_what_is_shown_may_change(finished):
    old = finished.recipe()
    sets = ["training.time_limit=60", "training.threads=2", "data.workers=1", "logging.curves=true"]
    check_changes(old, change_recipe(old, sets))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            lambda tree: tree["data"].update(classes=["class_1", "class_0", "class_2"]),
            "data.classes",
        ),
        (lambda tree: tree["model"].update(dropout=0.5), "model.dropout"),
        (lambda tree: tree["stages"].pop(0), "stages.head"),
    ],
    ids=["classes", "dropout", "stages"],
)
def test_a_recipe_file_edited_by_hand_is_held_against_the_checkpoint(
    uneven, tmp_path, change, named
):
    run = stopped_after(small_recipe(uneven, tmp_path), 3)
    before = run.last.read_bytes()
    edit(run, change)
    with pytest.raises(ResumeError, match=named):
        pipeline.resume(run, run.recipe())
    assert run.last.read_bytes() == before


def test_a_longer_last_stage_in_the_file_extends_the_run_and_a_limit_holds(uneven, tmp_path):
    run = stopped_after(small_recipe(uneven, tmp_path), 3)
    edit(run, lambda tree: tree["stages"][1].update(epochs=3))
    result = pipeline.resume(run, run.recipe())
    assert [row.stage for row in result.history.rows] == ["head"] * 2 + ["all"] * 3


def test_the_same_photographs_by_another_path_are_no_change(uneven, tmp_path, monkeypatch):
    run = stopped_after(small_recipe(uneven, tmp_path), 3)
    monkeypatch.chdir(uneven.parent)
    recipe = change_recipe(run.recipe(), flags={"source": uneven.name})
    assert pipeline.resume(run, recipe).ended == "all stages are done"


def test_threads_are_those_of_the_run_and_open_values_are_decided_anew(
    uneven, tmp_path, monkeypatch
):
    run = stopped_after(small_recipe(uneven, tmp_path), 3)
    used = []
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    sets = ["training.device=auto", "data.workers=auto"]
    result = pipeline.resume(run, change_recipe(run.recipe(), sets))
    assert used == [1]
    settled = result.run.recipe()
    assert settled.training.device in ("cpu", "cuda", "mps")
    assert isinstance(settled.data.workers, int)


@pytest.mark.skipif(torch.cuda.device_count() > 9, reason="the device is here")
def test_a_device_that_is_not_here_is_refused_before_anything_is_touched(uneven, tmp_path):
    run = stopped_after(small_recipe(uneven, tmp_path), 3)
    with pytest.raises(RecipeError, match="cuda"):
        pipeline.resume(run, change_recipe(run.recipe(), ["training.device=cuda:9"]))
    assert run.recipe().training.device == "cpu"


# --- finishing and extending


def row(index, epoch):
    return EpochRow("x", index, epoch, epoch, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, False)


def state_at(recipe, stage_index, stage_epoch, epochs_before, stopped=False):
    rows = [row(0, n + 1) for n in range(epochs_before)]
    rows += [row(stage_index, epochs_before + n + 1) for n in range(stage_epoch)]
    return State(
        stopper_for(recipe.stages[stage_index], recipe.early_stopping), stage_index=stage_index,
        stage_epoch=stage_epoch, epoch=len(rows), rows=rows, stopped=stopped,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("at", "epochs", "last"),
    [
        ((1, 2, 2, False), 7, 5),  # finished as planned
        ((1, 1, 2, True), 7, 5),  # the last stage stopped early
        ((1, 1, 2, False), 7, 5),  # in the last stage
        ((1, 1, 1, False), 7, 6),  # the first stage had stopped early
        ((0, 1, 0, False), 7, 5),  # in the first stage
        ((0, 1, 0, True), 7, 6),  # the first stage has just stopped early
        ((1, 0, 1, False), 7, 6),  # at the start of the last stage, after an early stop
    ],
)
def test_extending_gives_the_run_so_many_epochs_in_all(uneven, tmp_path, at, epochs, last):
    recipe = small_recipe(uneven, tmp_path)
    longer = extend(recipe, state_at(recipe, *at), epochs)
    assert [stage.epochs for stage in longer.stages] == [2, last]


@pytest.mark.parametrize("epochs", [1, 3, 4])
def test_what_does_not_extend_is_refused(uneven, tmp_path, epochs):
    recipe = small_recipe(uneven, tmp_path)
    with pytest.raises(ResumeError, match=f"epochs={epochs} does not extend"):
        extend(recipe, state_at(recipe, 1, 1, 2), epochs)
    with pytest.raises(ResumeError, match="has 4 epochs"):
        extend(recipe, state_at(recipe, 1, 2, 2), epochs)


def test_extending_forgets_an_early_stop_of_the_last_stage_only(uneven, tmp_path):
    recipe = small_recipe(uneven, tmp_path, "early_stopping.patience=1")
    run = runs.RunDir(tmp_path)
    stopped = state_at(recipe, 1, 1, 2, stopped=True)
    stopped.stopper.step(0.5)
    take_up(recipe, stopped, run, 9)
    assert not stopped.stopped
    assert stopped.stopper.best_score is None
    first = state_at(recipe, 0, 1, 0, stopped=True)
    take_up(recipe, first, run, 9)
    assert first.stopped
    under_way = state_at(recipe, 1, 1, 2)
    under_way.stopper.step(0.5)
    take_up(recipe, under_way, run, 9)
    assert under_way.stopper.best_score == 0.5


def test_a_finished_run_has_nothing_left_to_do(finished):
    with pytest.raises(ResumeError, match="4 epochs are done") as caught:
        pipeline.resume(finished, finished.recipe())
    assert "epochs=9" in caught.value.hint


def test_an_extended_run_plans_its_last_stage_anew_and_keeps_what_it_has(uneven, tmp_path):
    recipe = small_recipe(uneven, tmp_path, stages=ALL)
    run = pipeline.train(recipe).run
    before = run.history().rows
    assert before[-1].learning_rate == pytest.approx(1e-6)
    result = pipeline.resume(run, run.recipe(), epochs=4)
    rows = result.history.rows
    assert [but_seconds(r) for r in rows[:2]] == [but_seconds(r) for r in before]
    # A cosine over four epochs of seven steps, at step 20 of 0 to 27 and at its end.
    risen = 1e-6 + (5e-3 - 1e-6) * 0.5 * (1 + math.cos(math.pi * 20 / 27))
    assert rows[2].learning_rate == pytest.approx(risen)
    assert rows[3].learning_rate == pytest.approx(1e-6)
    assert [(s.first_epoch, s.last_epoch) for s in result.history.stages] == [(1, 4)]
    assert run.recipe().stages[0].epochs == 4
    usage.plot(run.path, tmp_path / "extended.png")
    assert (tmp_path / "extended.png").exists()


def test_a_run_that_was_extended_and_killed_at_once_goes_on(uneven, tmp_path, monkeypatch):
    run = pipeline.train(small_recipe(uneven, tmp_path, stages=ALL)).run

    def killed(*_):
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "run_and_judge", killed)
        with pytest.raises(SystemExit):
            pipeline.resume(run, run.recipe(), epochs=3)
    assert len(pipeline.resume(run, run.recipe()).history.rows) == 3


# --- kills


def killed_writing(monkeypatch, what, times):
    """The process dies at the call number ``times`` of a function of ``keep``."""
    real, calls = getattr(keep, what), []

    def dying(*arguments):
        calls.append(arguments)
        if len(calls) == times:
            raise SystemExit
        return real(*arguments)

    monkeypatch.setattr(keep, what, dying)


@pytest.fixture
def best_in(monkeypatch):
    """Says in which epochs the score is the best so far."""

    def choose(*epochs):
        def is_best(monitor, scores, state):
            return state.epoch + 1 in epochs

        monkeypatch.setattr(judge, "is_best", is_best)

    return choose


@pytest.mark.parametrize("times", [1, 2], ids=["first-epoch", "first-epoch-of-the-next-stage"])
def test_a_kill_between_best_and_last_is_forgiven(uneven, tmp_path, monkeypatch, best_in, times):
    best_in(1, 3)
    unbroken = pipeline.train(small_recipe(uneven, tmp_path / "unbroken")).run
    job, state = open_job(small_recipe(uneven, tmp_path / "killed"))
    with monkeypatch.context() as patched:
        killed_writing(patched, "same_file", times)
        with pytest.raises(SystemExit):
            fit(job, state, Interrupts())
    run = job.run
    newer, older = (torch.load(path, weights_only=True)["step"] for path in (run.best, run.last))
    assert newer > older
    pipeline.resume(run, run.recipe())
    assert same(weights(run.last), weights(unbroken.last))
    assert same(weights(run.best), weights(unbroken.best))


def test_half_written_files_of_a_killed_process_are_swept_up(uneven, tmp_path):
    run = stopped_after(small_recipe(uneven, tmp_path), 3)
    left = [
        files.partial_of(run.last).with_name(".last.partial-99999999.pt"),
        run.path / ".curves.partial-99999999.png",
    ]
    for path in left:
        path.write_bytes(b"half")
    pipeline.resume(run, run.recipe())
    assert not any(path.exists() for path in left)


# --- the time limit


def out_of_time_after(monkeypatch, step):
    """The time is up after so many steps of this process."""
    looks = []

    def time_is_up(self, reserve=0.0):
        looks.append(reserve)
        return len(looks) >= step

    monkeypatch.setattr(Interrupts, "time_is_up", time_is_up)


@pytest.mark.parametrize("step", [3, 7, 10, 14, 20])
def test_a_time_limit_ends_in_good_order_and_the_run_goes_on_exactly(
    uneven, tmp_path, monkeypatch, finished, step
):
    recipe = small_recipe(uneven, tmp_path, "training.time_limit=60")
    with monkeypatch.context() as patched:
        out_of_time_after(patched, step)
        first = pipeline.train(recipe)
    assert first.ended == "the time limit of 60 s is reached"
    # The epoch that was cut is judged, so that its weights can be the best; the file says so.
    assert first.history.rows[-1].step == step
    assert first.history.rows[-1].batches == (step % 7 or 7)
    assert first.test is not None
    checkpoint, state = load_state(first.run)
    assert (checkpoint["step"], state.batch) == (step, step % 7)
    last = pipeline.resume(first.run, first.run.recipe())
    assert last.ended == "all stages are done"
    mine, other = (run.history().rows for run in (first.run, finished))
    assert [but_seconds(r) for r in mine] == [but_seconds(r) for r in other]
    assert same(weights(first.run.last), weights(finished.last))
    for name in ("train_diagnostics", "val_diagnostics", "steps_file"):
        ours, theirs = (read_rows(getattr(run, name)) for run in (first.run, finished))
        assert [line["step"] for line in ours] == [line["step"] for line in theirs]


def test_slices_of_time_shorter_than_an_epoch_lose_nothing(uneven, tmp_path, monkeypatch, finished):
    run = None
    recipe = small_recipe(uneven, tmp_path, "training.time_limit=60")
    with monkeypatch.context() as patched:
        out_of_time_after(patched, 2)
        run = pipeline.train(recipe).run
    for _ in range(3):
        with monkeypatch.context() as patched:
            out_of_time_after(patched, 2)
            pipeline.resume(run, run.recipe())
    assert load_state(run)[1].step == 8
    pipeline.resume(run, run.recipe())
    assert same(weights(run.last), weights(finished.last))


# --- what is kept


def test_a_run_that_keeps_no_last_checkpoint_says_so(uneven, tmp_path):
    recipe = small_recipe(uneven, tmp_path, "checkpointing.save_last=false")
    run = pipeline.train(recipe).run
    assert not run.last.exists()
    assert run.best.exists()
    with pytest.raises(ResumeError, match="save_last"):
        pipeline.resume(run, run.recipe())


def test_a_run_that_would_keep_no_weights_at_all_is_refused(uneven, tmp_path):
    with pytest.raises(RecipeError, match="no weights would be kept"):
        small_recipe(
            uneven, tmp_path, "checkpointing.save_last=false", "checkpointing.save_best=false"
        )


def test_without_a_best_checkpoint_the_last_is_judged(uneven, tmp_path):
    recipe = small_recipe(uneven, tmp_path, "checkpointing.save_best=false", stages=ALL)
    result = pipeline.train(recipe)
    assert not result.run.best.exists()
    assert torch.load(result.run.last, weights_only=True)["epoch"] == 2
    assert result.val is not None
    assert result.val.scores["macro_f1"].value == result.history.rows[-1].val_macro_f1


def test_best_and_last_are_one_file_where_the_disk_allows_it_else_two_equal_ones(
    tmp_path, monkeypatch
):
    best, last = tmp_path / "best.pt", tmp_path / "last.pt"
    best.write_bytes(b"new")
    last.write_bytes(b"old")
    keep.same_file(best, last)
    assert best.samefile(last)
    best.unlink()
    best.write_bytes(b"newer")

    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(keep.os, "link", refuse)
    keep.same_file(best, last)
    assert last.read_bytes() == b"newer"
    assert not best.samefile(last)
    assert len(list(tmp_path.iterdir())) == 2


def test_an_old_checkpoint_without_a_position_is_explained(finished, tmp_path):
    old = runs.RunDir(tmp_path)
    files.write_text(old.recipe_file, dump_yaml(finished.recipe()))
    content = torch.load(finished.last, weights_only=True)
    del content["state"]
    old.last.parent.mkdir()
    torch.save(content, old.last)
    with pytest.raises(ResumeError, match="holds no position") as caught:
        load_state(old)
    assert caught.value.problems == (NO_STATE,)


def test_a_full_disk_names_the_command_that_goes_on(uneven, tmp_path, monkeypatch):
    def full(path, payload):
        raise DiskError(f"cannot write {path}: No space left on device", hint="free some space")

    recipe = small_recipe(uneven, tmp_path / "my runs")
    with monkeypatch.context() as patched:
        patched.setattr(keep, "save_checkpoint", full)
        with pytest.raises(DiskError) as caught:
            pipeline.train(recipe)
    assert "No space left" in caught.value.message
    assert f"espalier train --resume '{tmp_path / 'my runs' / 'run'}'" in caught.value.hint


def test_stages_are_named_once_when_a_finished_stage_is_taken_up(uneven, tmp_path):
    run = stopped_after(small_recipe(uneven, tmp_path, stages=HEAD_THEN_ALL), 14)
    seen = Seen()
    pipeline.resume(run, run.recipe(), watch=seen)
    assert seen.stages == ["head", "all"]
    assert [r.epoch for r in seen.rows] == [2, 3, 4]
    assert seen.notes == ["resumed at step 14 (epoch 2)"]
