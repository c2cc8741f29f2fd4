import csv
import json

import pytest
import torch
import yaml

from espalier.data.balance import read_class_weights
from espalier.evaluate.evaluation import read_predictions
from espalier.files import read_rows
from espalier.runs import RunDir

RUN_FILES = (
    "recipe.yaml",
    "environment.json",
    "catalog.csv",
    "class_weights.csv",
    "diagnostics/train_diagnostics.jsonl",
    "diagnostics/val_diagnostics.jsonl",
    "diagnostics/steps.jsonl",
    "results.csv",
    "curves.png",
    "confusion_matrix.png",
    "train_batch.jpg",
    "checkpoints/best.pt",
    "checkpoints/last.pt",
    "predictions/val.parquet",
    "predictions/test.parquet",
)


# Decided where the photographs or the trained model are known: in each stage, or at the end.
DECIDED_LATER = {"data.store", "features.keep", "features.views", "adjustment.method"}


@pytest.fixture(scope="module")
def staged(tiny, start, quick, tmp_path_factory):
    """A finished run whose backbone rests in the first stage because a person wants it to."""
    folder = tmp_path_factory.mktemp("staged")
    # The total would be another word on epochs than the stages' own.
    words = [word for word in quick if word not in ("--epochs", "4")]
    stages = (
        "stages=[{name: head, train: head, epochs: 1, lr: 1e-3},"
        " {name: all, train: all, epochs: 2, lr: 1e-3}]"
    )
    process = start("train", tiny, *words, "--set", stages, "--out", "r", cwd=folder)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return folder / "r" / "run"


def test_the_run_folder_is_complete_and_latest_points_at_it(trained):
    folder, _ = trained
    assert [name for name in RUN_FILES if not (folder / name).exists()] == []
    assert (folder.parent / "latest").resolve() == folder.resolve()
    assert not list(folder.rglob("*.partial*"))


def test_the_answer_has_scores_with_intervals_and_learned_something(trained):
    folder, answer = trained
    assert answer["run"] == str(folder.relative_to(folder.parents[2]))
    assert answer["seconds"] > 0
    assert answer["cpu_seconds"] > 0
    for split in ("val", "test"):
        for score in ("accuracy", "macro_f1", "balanced_accuracy"):
            low, high = answer[split][f"{score}_interval"]
            assert low <= answer[split][score] <= high
            assert low < high
    assert answer["val"]["macro_f1"] > 0.5  # a guess gets 0.33


def test_a_row_per_epoch_and_lines_of_json_agree(trained):
    folder, _ = trained
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    train = read_rows(folder / "diagnostics" / "train_diagnostics.jsonl")
    val = read_rows(folder / "diagnostics" / "val_diagnostics.jsonl")
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    assert [line["epoch"] for line in train] == [line["epoch"] for line in val] == [1, 2, 3, 4]
    for row, line, other in zip(rows, train, val, strict=True):
        assert float(row["train_loss"]) == line["loss"]
        assert float(row["val_macro_f1"]) == other["macro_f1"]
        assert line["min_grad_norm"] <= line["mean_grad_norm"] <= line["max_grad_norm"]
        assert line["mean_weight_update"] > 0
        assert line["batches"] == 5
        assert line["learning_rate"] > 0


def test_without_trained_weights_nothing_is_frozen(trained):
    folder, _ = trained
    first = read_rows(folder / "diagnostics" / "steps.jsonl")[0]
    assert len(first["parts"]) > 1
    rows = RunDir(folder).history().rows
    assert [row.stage for row in rows] == ["head", "most", "most", "most"]
    assert all(row.backbone_learning_rate > 0 for row in rows)
    why = yaml.safe_load((folder / "recipe.yaml").read_text())["why"]
    assert why["stages.head.train"] == "auto all: there are no trained weights to keep"


def test_vital_signs_follow_what_trains(staged):
    steps = read_rows(staged / "diagnostics" / "steps.jsonl")
    first, last = steps[0], steps[-1]
    assert list(first["parts"]) == ["head"]
    assert len(last["parts"]) > 1
    assert all(part["update_ratio"] > 0 for part in last["parts"].values())
    assert first["loss"] == pytest.approx(1.0986, abs=0.1)


def test_the_first_stage_leaves_the_backbone_alone(staged):
    rows = RunDir(staged).history().rows
    assert rows[0].backbone_learning_rate == 0
    assert rows[-1].backbone_learning_rate > 0
    assert [row.stage for row in rows] == ["head", "all", "all"]


def test_checkpoints_hold_what_rebuilds_and_resumes(trained):
    folder, _ = trained
    best = torch.load(folder / "checkpoints" / "best.pt", weights_only=True)
    assert best["model_name"] == "small-cnn"
    assert best["num_classes"] == 3
    assert {"epoch", "model", "optimizer", "val_macro_f1", "classes", "recipe"} <= set(best)
    row = best["history"][-1]
    assert {"train_loss", "val_loss", "train_accuracy", "val_accuracy", "learning_rate"} <= set(row)
    assert best["val_macro_f1"] == max(r["val_macro_f1"] for r in best["history"])


def test_predictions_cover_each_image_once_and_give_the_reported_score(trained):
    folder, answer = trained
    predictions = read_predictions(folder / "predictions" / "test.parquet")
    assert len(set(predictions.sample_ids)) == len(predictions.sample_ids)
    accuracy = (predictions.predicted == predictions.labels).mean()
    assert accuracy == pytest.approx(answer["test"]["accuracy"])


def test_the_recipe_of_the_run_says_why_and_has_nothing_open(trained):
    folder, _ = trained
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    sections = {name: part for name, part in recipe.items() if isinstance(part, dict)}
    open_keys = {
        f"{name}.{key}"
        for name, part in sections.items()
        for key, value in part.items()
        if value == "auto"
    }
    assert open_keys <= DECIDED_LATER
    assert "auto" not in [value for stage in recipe["stages"] for value in stage.values()]
    assert recipe["why"]


def test_the_same_seed_gives_the_same_weights_from_the_recipe_of_the_run(trained, start, tmp_path):
    folder, _ = trained
    process = start(
        "train", "--config", folder / "recipe.yaml", "--name", "again", "--out", "r", cwd=tmp_path
    )
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    first = torch.load(folder / "checkpoints" / "best.pt", weights_only=True)["model"]
    again = torch.load(tmp_path / "r" / "again" / "checkpoints" / "best.pt", weights_only=True)
    assert all(torch.equal(first[key], again["model"][key]) for key in first)


def test_class_weights_on_file_are_those_the_loss_uses(tiny, espalier, quick, tmp_path):
    answer = espalier("train", tiny, *quick, "--set", "class_weighting.strategy=inverse")
    assert answer.code == 0, answer.err
    _, counts, weights = read_class_weights(
        tmp_path / "runs" / "train" / "run" / "class_weights.csv"
    )
    total = sum(counts)
    expected = [total / (len(counts) * count) for count in counts]
    assert list(weights) == pytest.approx(expected)


def test_nothing_but_the_object_is_on_standard_output(trained, espalier):
    folder, _ = trained
    for words in (
        ("evaluate", folder, "--json"),
        ("plot", folder, "-o", "a.png", "--json"),
        ("compare", folder, folder, "-o", "b.png", "--json"),
        ("demo", "curves", "--json"),
        ("models", "--json"),
    ):
        answer = espalier(*words)
        assert answer.code == 0, answer.err
        assert isinstance(json.loads(answer.out), dict)


def test_dry_run_prints_the_plan_and_trains_nothing(tiny, espalier, quick, tmp_path):
    answer = espalier("train", tiny, *quick, "--dry-run")
    assert answer.code == 0, answer.err
    for word in ("head", "most", "pixels", "train"):
        assert word in answer.out
    assert not (tmp_path / "runs").exists()
    assert (tmp_path / "planned-learning-rates.png").exists()


def test_print_config_is_read_again(tiny, espalier, quick, tmp_path):
    printed = espalier("train", tiny, *quick, "--print-config")
    (tmp_path / "mine.yaml").write_text(printed.out)
    again = espalier("train", "--config", "mine.yaml", "--print-config")
    first, second = yaml.safe_load(printed.out), yaml.safe_load(again.out)
    first.pop("why")
    second.pop("why")
    assert first == second


def test_a_time_limit_ends_in_good_order(tiny, espalier, quick):
    answer = espalier("train", tiny, *quick, "--time", "0.01s", "--json")
    assert answer.code == 0, answer.err
    assert "time limit" in answer.json["ended"]
    assert answer.json["test"]["accuracy"] >= 0


def test_tensorboard_writes_events(tiny, espalier, quick, tmp_path):
    answer = espalier("train", tiny, *quick, "--set", "logging.tensorboard=true")
    assert answer.code == 0, answer.err
    assert list((tmp_path / "runs/train/run/tensorboard").glob("events*"))


def test_diagnostics_go_where_the_variable_says(tiny, start, quick, tmp_path):
    process = start("train", tiny, *quick, cwd=tmp_path, DIAGNOSTICS_DIR=str(tmp_path / "d"))
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert len(read_rows(tmp_path / "d" / "val_diagnostics.jsonl")) == 4
    assert RunDir(tmp_path / "runs/train/run").steps_file.parent == tmp_path / "d"


@pytest.mark.parametrize(
    "extra",
    [
        ("--set", "augment.mixup=0.4", "--set", "augment.cutmix=1.0"),
        ("--set", "loss.name=focal", "--set", "class_weighting.sampler=balanced"),
        ("--set", "loss.name=balanced-softmax", "--optimizer", "sgd", "--schedule", "one-cycle"),
        ("--schedule", "plateau", "--accumulate", "2", "--max-batches", "3"),
        ("--set", "model.head=linear", "--fit", "pad", "--schedule", "step"),
        ("--set", "optimizer.clip_norm=null", "--fit", "squash"),
    ],
)
def test_the_choices_of_the_recipe_train(tiny, espalier, quick, extra):
    answer = espalier("train", tiny, *quick, *extra, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["test"]["macro_f1"] >= 0
