import json
import math
import multiprocessing
import os

import pytest

from espalier import files, runs
from espalier.errors import DiskError, RunError
from espalier.recipe.load import dump_yaml
from espalier.recipe.schema import Recipe, Stage
from espalier.records import EpochRow


def row(epoch, stage_index=0, **changes):
    values = {
        "stage": f"s{stage_index}",
        "stage_index": stage_index,
        "epoch": epoch,
        "step": epoch * 10,
        "learning_rate": 1e-3,
        "backbone_learning_rate": 0.0,
        "train_loss": 1.0 / 3.0,
        "train_accuracy": 0.5,
        "probe_loss": 0.1,
        "probe_accuracy": 0.6,
        "val_loss": math.nan,
        "val_accuracy": 0.5,
        "val_macro_f1": 0.1 * epoch,
        "mean_grad_norm": 1.0,
        "min_grad_norm": 0.5,
        "max_grad_norm": 2.0,
        "mean_update_norm": 0.01,
        "batches": 10,
        "seconds": 1.5,
        "best": epoch % 2 == 0,
    }
    return EpochRow(**{**values, **changes})


def recipe(*epochs):
    stages = tuple(Stage(name=f"s{i}", epochs=n, lr=1e-3) for i, n in enumerate(epochs))
    return Recipe(stages=stages)


def test_a_taken_name_gets_a_number_and_latest_points_at_the_newest(tmp_path):
    first = runs.create_run(tmp_path / "runs", "a")
    second = runs.create_run(tmp_path / "runs", "a")
    assert (first.name, second.name) == ("a", "a-2")
    assert runs.RunDir(tmp_path / "runs" / "latest").name == "a-2"


@pytest.mark.parametrize("name", ["", "..", "latest", "a/b"])
def test_a_name_that_is_no_folder_name_is_refused(tmp_path, name):
    with pytest.raises(RunError, match="plain folder name"):
        runs.create_run(tmp_path, name)


def test_an_output_folder_that_cannot_be_written_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(RunError, match=str(blocked)):
        runs.create_run(blocked / "runs", "a")


def test_results_come_back_exactly_with_nan(tmp_path):
    path = tmp_path / "results.csv"
    rows = [row(1), row(2)]
    runs.write_results(path, rows)
    back = runs.read_results(path)
    assert [r.train_loss for r in back] == [1.0 / 3.0] * 2
    assert [r.best for r in back] == [False, True]
    assert math.isnan(back[0].val_loss)


def test_json_lines_are_valid_for_other_readers(tmp_path):
    path = tmp_path / "rows.jsonl"
    files.append_row(path, {"step": 1, "loss": math.inf, "parts": {"head": math.nan}})
    assert json.loads(path.read_text()) == {"step": 1, "loss": None, "parts": {"head": None}}


def test_a_half_written_line_is_left_out_and_rewinding_drops_later_steps(tmp_path):
    path = tmp_path / "rows.jsonl"
    for step in (1, 2, 3):
        files.append_row(path, {"step": step})
    with path.open("a") as file:
        file.write('{"step": 4, "lo')
    files.keep_rows_until(path, 2, clock="step")
    assert [r["step"] for r in files.read_rows(path)] == [1, 2]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")

    def fail(partial):
        partial.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(DiskError, match="No space left"):
        files.write_whole(path, fail)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def hold(path, ready, done):
    with runs.RunDir(path).locked():
        ready.set()
        done.wait(20)


def test_two_processes_cannot_train_in_one_run(tmp_path):
    run = runs.create_run(tmp_path, "a")
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=hold, args=(run.path, ready, done))
    other.start()
    try:
        assert ready.wait(20)
        with pytest.raises(RunError, match="in use"), run.locked():
            pass
    finally:
        done.set()
        other.join()
    with run.locked():
        pass


def test_stages_stopped_early_are_shown_as_run_and_later_ones_as_planned():
    rows = [row(1), row(2), row(3, stage_index=1)]
    spans = runs.stage_spans(recipe(5, 4, 3), rows)
    assert [(s.first_epoch, s.last_epoch) for s in spans] == [(1, 2), (3, 6), (7, 9)]


def test_a_missing_run_names_those_that_are_there(tmp_path):
    run = runs.create_run(tmp_path, "here")
    files.write_text(run.recipe_file, dump_yaml(recipe(1)))
    with pytest.raises(RunError) as caught:
        runs.find_run(tmp_path / "gone")
    assert "here" in caught.value.hint


def test_diagnostics_go_where_the_variable_says_but_never_over_another_run(tmp_path, monkeypatch):
    monkeypatch.setenv("DIAGNOSTICS_DIR", str(tmp_path / "elsewhere"))
    run = runs.create_run(tmp_path, "a")
    folder = runs.choose_diagnostics(run)
    assert folder == tmp_path / "elsewhere"
    (folder / "train_diagnostics.jsonl").write_text("{}\n")
    with pytest.raises(RunError, match="another run"):
        runs.choose_diagnostics(run)


def test_a_history_is_read_from_the_folder(tmp_path):
    run = runs.create_run(tmp_path, "a")
    files.write_text(run.recipe_file, dump_yaml(recipe(2)))
    assert run.history().rows == ()
    runs.write_results(run.results_file, [row(1), row(2)])
    history = run.history()
    assert history.best is not None
    assert history.best.epoch == 2
    assert history.name == "a"
