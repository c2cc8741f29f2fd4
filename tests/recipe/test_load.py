"""Loading a recipe: precedence, spellings, totals over stages, plain errors, round trip."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from espalier.errors import RecipeError
from espalier.recipe.load import (
    change_recipe,
    dump_yaml,
    load_recipe,
    parse_duration,
    presets,
    read_recipe,
)
from espalier.recipe.schema import Recipe
from espalier.recipe.totals import shares

Write = Callable[[str, object], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(name: str, content: object) -> Path:
        path = tmp_path / name
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding="utf-8")
        return path

    return written


def load(
    *words: str,
    preset: str | None = None,
    file: Path | None = None,
    sets: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
) -> Recipe:
    return load_recipe(preset, file, sets, flags or {}, words)


def problems(*words: str, **keywords: object) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load(*words, **keywords)  # type: ignore[arg-type]
    return list(caught.value.problems) or [caught.value.message]


def epochs(recipe: Recipe) -> list[int]:
    return [stage.epochs for stage in recipe.stages]


E4 = {
    "_comment": "clean and dirty dishes",
    "model": {
        "architecture": "MobileNetV3",
        "pretrained": True,
        "num_classes": 2,
        "dropout_rate": 0.2,
    },
    "training": {
        "batch_size": 8,
        "num_epochs": 15,
        "learning_rate": 0.001,
        "image_size": [224, 224],
        "num_workers": 2,
        "weight_decay": 1e-4,
        "optimizer": "AdamW",
        "scheduler": "cosine",
        "label_smoothing": 0.1,
        "accumulation_steps": 4,
    },
    "data": {"data_dir": "dishes", "train_split": 0.8, "val_split": 0.1, "test_split": 0.1},
    "class weighting": {"enabled": True, "method": "inverse_frequency"},
    "earlyStopping": {"enabled": True, "patience": 3, "monitor": "val_loss", "mode": "min"},
    "checkpointing": {
        "monitor": "val_accuracy",
        "mode": "max",
        "save_best_only": True,
        "save_last": True,
    },
}


def test_a_json_file_of_another_trainer_is_read_as_it_is(write: Write) -> None:
    recipe = load(preset="low", file=write("e4.json", E4))
    assert recipe.model.name == "mobilenetv3_small_100"
    assert (recipe.model.weights, recipe.model.dropout) == ("pretrained", 0.2)
    assert recipe.data.num_classes == 2
    assert (recipe.data.source, recipe.data.workers, recipe.data.val_share) == ("dishes", 2, 0.1)
    assert (recipe.training.batch, recipe.training.imgsz, recipe.training.accumulate) == (8, 224, 4)
    assert (epochs(recipe), recipe.stages[0].lr) == ([15], 0.001)
    assert (recipe.optimizer.name, recipe.optimizer.weight_decay) == ("adamw", 1e-4)
    assert recipe.schedule.name == "cosine"
    assert recipe.class_weighting.strategy == "inverse"
    assert (recipe.early_stopping.patience, recipe.early_stopping.monitor) == (3, "loss")
    assert (recipe.checkpointing.monitor, recipe.checkpointing.save_last) == ("accuracy", True)


def test_why_keeps_how_a_value_was_spelled(write: Write) -> None:
    why = load(preset="low", file=write("e4.json", E4)).why
    assert why["training.batch"] == "file e4.json (training.batch_size)"
    assert why["model.name"] == "file e4.json (model.architecture: MobileNetV3)"
    assert "class weighting.method" in why["class_weighting.strategy"]
    assert why["stages.all.epochs"].startswith("file e4.json (training.num_epochs)")


@pytest.mark.parametrize("spelling", ["class weighting", "class_weighting", "classWeighting"])
def test_spellings_of_a_section(write: Write, spelling: str) -> None:
    recipe = load(file=write("a.json", {spelling: {"strategy": "sqrt"}}))
    assert recipe.class_weighting.strategy == "sqrt"


@pytest.mark.parametrize(
    ("tree", "key", "value"),
    [
        ({"optimizer": "SGD"}, "optimizer.name", "sgd"),
        ({"loss": "focal_loss"}, "loss.name", "focal"),
        ({"lr_scheduler": {"type": "StepLR", "step_size": 3}}, "schedule.step_epochs", 3),
        ({"early_stopping": False}, "early_stopping.patience", None),
        ({"early_stopping": {"enabled": True}}, "early_stopping.patience", 5),
        ({"augmentation": False}, "augment.policy", "none"),
        ({"class_weights": True}, "class_weighting.strategy", "inverse"),
        ({"model": {"model_name": "mobilenet_v2"}}, "model.name", "mobilenetv2_100"),
        ({"model": {"pretrained": False}}, "model.weights", "none"),
        ({"checkpoint": {"save_best_only": True}}, "checkpointing.save_last", False),
        ({"training": {"use_amp": False}}, "training.precision", "fp32"),
        ({"data": {"train_dir": "d/train", "val_dir": "d/val"}}, "data.source", "d"),
        ({"seed": 7}, "training.seed", 7),
        ({"batch_size": 4}, "training.batch", 4),
    ],
)
def test_meanings(write: Write, tree: object, key: str, value: object) -> None:
    section, name = key.split(".")
    assert getattr(getattr(load(file=write("a.json", tree)), section), name) == value


@pytest.mark.parametrize(
    ("tree", "part"),
    [
        ({"early_stopping": {"enabled": False, "patience": 3}}, "patience cannot hold"),
        ({"early_stopping": {"monitor": "val_loss", "mode": "max"}}, "is better min"),
        ({"data": {"train_split": 0.9, "val_split": 0.2}}, "leave 0.7"),
        ({"data": {"train_dir": "a/train", "val_dir": "b/val"}}, "one folder"),
        ({"data": {"shuffle": False}}, "shuffled in every epoch"),
        ({"training": {"batch": 8, "batch_size": 16}}, "given twice: 8"),
        ({"training": 3}, "a mapping of keys"),
        ({"trainning": {"batch": 3}}, "did you mean training?"),
        ({"stages": []}, "at least one stage"),
        ({"stages": [{"name": "a", "lr": 1e-3}]}, "stages.a.epochs is missing"),
        ({"stages": {"heat": {"epochs": 3}}}, "0 head, 1 most"),
    ],
)
def test_what_cannot_be_read(write: Write, tree: object, part: str) -> None:
    assert any(part in problem for problem in problems(file=write("a.json", tree)))


def test_precedence_is_default_preset_file_command_line(write: Write) -> None:
    file = write("mine.yaml", "preset: low\ntraining:\n  batch: 4\ndata: {workers: 3}\n")
    recipe = load(file=file, sets=["data.workers=5"])
    assert recipe.preset == "low"
    assert recipe.training.seed == 0
    assert (recipe.training.accumulate, recipe.why["training.accumulate"]) == (4, "preset low")
    assert (recipe.training.batch, recipe.why["training.batch"]) == (4, "file mine.yaml")
    assert (recipe.data.workers, recipe.why["data.workers"]) == (5, "--set data.workers=5")
    assert "training.seed" not in recipe.why


def test_yaml_means_what_people_mean(write: Write) -> None:
    text = (
        "optimizer: {weight_decay: 1e-3}\nschedule: {min_lr: 1E-8}\nlogging: {tensorboard: yes}\n"
    )
    recipe = load(file=write("a.yaml", text))
    assert (recipe.optimizer.weight_decay, recipe.schedule.min_lr) == (1e-3, 1e-8)
    assert recipe.logging.tensorboard is True


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("a.yaml", "training:\n  batch: 3\n  batch: 4\n", "batch is given twice"),
        ("a.json", '{"training": {"batch": 3, "batch": 4}}', "given twice: batch"),
        ("a.json", '{"training": ', "line 1, column"),
        ("a.yaml", "training: [", "is not YAML"),
        ("a.yaml", "- 3\n", "must be a mapping"),
        ("a.yaml", "preset: lwo\n", "there is no preset lwo"),
    ],
)
def test_files_that_are_no_recipe(write: Write, name: str, text: str, part: str) -> None:
    assert part in problems(file=write(name, text))[0]


def test_a_missing_file_and_two_presets(write: Write, tmp_path: Path) -> None:
    assert "no recipe file" in problems(file=tmp_path / "none.yaml")[0]
    assert "contradict" in problems(preset="high", file=write("a.yaml", "preset: low"))[0]
    with pytest.raises(RecipeError) as caught:
        load(preset="three_stage")
    assert caught.value.hint == "--preset three-stage"


def test_every_daily_word() -> None:
    recipe = load(
        "epochs=15", "lr=1e-4", "batch=16", "imgsz=160", "model=resnet18", "weights=none",
        "device=cpu", "precision=bf16", "seed=3", "name=2024", "optimizer=sgd", "schedule=step",
        "time=20m", "workers=0", "accumulate=2", "max_batches=7", "patience=2", "fit=pad",
        "policy=strong", "out=elsewhere",
    )  # fmt: skip
    training = recipe.training
    assert sum(epochs(recipe)) == 15
    assert (training.batch, training.imgsz, training.seed, training.time_limit) == (
        16,
        160,
        3,
        1200,
    )
    assert (training.device, training.precision) == ("cpu", "bf16")
    assert (training.accumulate, training.max_batches) == (2, 7)
    assert (recipe.model.name, recipe.model.weights) == ("resnet18", "none")
    assert (recipe.logging.name, recipe.logging.out) == ("2024", "elsewhere")
    assert (recipe.optimizer.name, recipe.schedule.name) == ("sgd", "step")
    assert (recipe.data.workers, recipe.data.fit) == (0, "pad")
    assert (recipe.early_stopping.patience, recipe.augment.policy) == (2, "strong")


def test_flags_words_and_set_are_one_source() -> None:
    same = load("batch=8", flags={"batch": 8, "seed": None}, sets=["training.batch_size=8"])
    assert (same.training.batch, same.why["training.batch"]) == (8, "--batch 8")
    found = problems("batch=16", flags={"batch": 8})
    assert found == ["training.batch is given twice: 8 by --batch 8, 16 by batch=16; keep one"]


def test_nested_keys() -> None:
    recipe = load(
        preset="three-stage",
        sets=["augment.steps.rotation.degrees=30", "stages.0.epochs=3", "stages.top.lr=2e-3"],
    )
    assert recipe.augment.steps == {"rotation": {"degrees": 30}}
    assert (recipe.stages[0].epochs, recipe.stages[1].lr) == (3, 2e-3)
    assert recipe.why["stages.head.epochs"] == "--set stages.0.epochs=3"
    whole = load(sets=["stages=[{name: one, epochs: 2, lr: 1e-3}]", "optimizer={name: sgd}"])
    assert (epochs(whole), whole.optimizer.name) == ([2], "sgd")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("training.bacth=3", "unknown key training.bacth: did you mean training.batch?"),
        ("trainig.batch=3", "unknown key trainig.batch: did you mean training.batch?"),
        ("epoch=3", "unknown key epoch: did you mean epochs?"),
        ("stages.head.epoch=3", "unknown key stages.head.epoch: did you mean stages.head.epochs?"),
        ("batch=0", "a whole number of at least 1, or auto"),
        ("batch=2.5", "a whole number of at least 1, or auto"),
        ("batch=true", "a whole number of at least 1, or auto"),
        ("lr=0", "lr is 0 (lr=0); allowed: a number above 0"),
        ("lr=-1e-3", "a number above 0"),
        ("lr=fast", "a number above 0"),
        ("epochs=0", "epochs is 0 (epochs=0); allowed: a whole number of at least 1"),
        ("epochs=1", "epochs=1 is fewer than the 2 stages (head, most): give at least"),
        ("schedule=cosin", "did you mean cosine?"),
        ("device=tpu", "auto, cpu, cuda, cuda:1, mps"),
        ("time=soon", "no duration"),
        ("stages.5.epochs=3", "0 head, 1 most"),
        ("optimizer.weight_decay=.inf", "a number of at least 0"),
        ("nonsense", "is not key=value"),
        ("batch=", "is not key=value"),
        ("policy=strng", "augment.policy is 'strng'"),
        ("augment.steps.rotatoin.degrees=3", "did you mean 'rotation'"),
        ("augment.steps.rotation.degree=3", "did you mean 'degrees'"),
        ("data.val_share=0.6 data.test_share=0.5", "must leave something to train on"),
    ],
)
def test_a_wrong_word_gets_a_plain_sentence(words: str, message: str) -> None:
    assert any(message in problem for problem in problems(*words.split()))


def test_all_problems_come_at_once() -> None:
    found = problems(
        "foo", "lr=0", "schedule=cosin",
        sets=["training.bacth=3", "training.batch=0", "stages.0.epochs=0", "loss.focal_gamma=3"],
    )  # fmt: skip
    assert len(found) == 7
    assert sum("focal" in problem for problem in found) == 1


@pytest.mark.parametrize(
    "words",
    [
        "loss.focal_gamma=2",
        "loss.tau=0.5",
        "schedule=cosine schedule.step_epochs=3",
        "schedule=cosine schedule.gamma=0.5",
        "schedule=cosine schedule.plateau_patience=2",
        "class_weighting.beta=0.99",
        "class_weighting.cap=10",
        "model.head=linear model.hidden=64",
        "patience=null early_stopping.min_delta=0.1",
        "patience=null stages.most.patience=3",
        "schedule.warmup_epochs=7",
        "stages.most.warmup_epochs=7",
        "optimizer.momentum=0.8",
        "optimizer=sgd optimizer.betas=[0.8,0.9]",
        "fit=pad data.crop_share=0.9",
        "stages.head.backbone_lr=1e-4",
        "lr=1e-7",
        "split_from=runs/a data.val_share=0.2",
        "checkpointing.save_best=false checkpointing.monitor=loss",
        "data.num_classes=3 data.classes=[a,b]",
        "stages.most.solve=true",
        "stages.head.solve=true augment.cutmix=1",
        "stages.most.penalty=0.1",
        "stages.head.epochs=2",
        "stages.head.lr=1e-2",
        "stages.head.schedule=step",
        "stages.head.imgsz_from=96",
        "imgsz=128 stages.most.imgsz_from=160",
        "stages.most.epochs=1 stages.most.imgsz_from=96",
        "features.keep=off features.views=2",
        "features.keep=off features.budget_gib=1",
        "features.keep=off stages.head.solve=false features.stored=fp32",
        "data.store=off data.store_gib=5",
    ],
)
def test_a_value_that_cannot_hold_is_never_ignored(words: str) -> None:
    (found,) = problems(*words.split())
    assert "unknown key" not in found
    *_, last = words.split()
    key = {"lr=1e-7": "stage most", "augment.cutmix=1": "stages.head.solve"}.get(last)
    assert (key or last.partition("=")[0]) in found


def test_a_contradiction_says_what_would_hold() -> None:
    (found,) = problems("stages.head.epochs=2")
    assert "allowed: 1, or more with stages.head.solve=false" in found
    (found,) = problems("imgsz=128", "stages.most.imgsz_from=160")
    assert "above the 128 px of stage most; allowed: at most 128" in found


@pytest.mark.parametrize(
    "words",
    [
        "loss=focal loss.focal_gamma=1",
        "schedule=step schedule.step_epochs=2",
        "schedule=plateau schedule.gamma=0.5",
        "class_weighting.strategy=effective-number class_weighting.beta=0.99",
        "schedule.warmup_epochs=0.5",
        "optimizer=sgd",
        "patience=null",
        "patience=none",
        "model.head=linear",
        "features.keep=off",
        "features.keep=off features.views=auto",
        "features.keep=off features.stored=fp32",
        "data.store=off",
        "augment.cutmix=1",
        "schedule.warmup_epochs=1",
        "schedule.min_lr=4e-4",
        "stages.head.penalty=0.1",
        "stages.head.solve=false stages.head.epochs=3 stages.head.lr=1e-2",
        "imgsz=160 stages.most.imgsz_from=96",
        "stages.most.imgsz_from=96",
    ],
)
def test_values_that_can_hold(words: str) -> None:
    load(*words.split())


@pytest.mark.parametrize("parts", list(itertools.product([1, 2, 4, 10, 40], repeat=3)))
def test_shares_sum_up_and_leave_no_stage_out(parts: tuple[int, ...]) -> None:
    for total in (3, 4, 7, 16, 50):
        found = shares(total, list(parts))
        assert sum(found) == total
        assert min(found) >= 1
    assert shares(sum(parts), list(parts)) == list(parts)


def test_epochs_and_lr_keep_the_proportions_of_the_stages(write: Write) -> None:
    recipe = load("epochs=50", "lr=1e-4", preset="three-stage")
    assert epochs(recipe) == [10, 20, 20]
    assert [stage.lr for stage in recipe.stages] == [1e-4, 1e-5, 5e-6]
    assert recipe.stages[2].backbone_lr == 1e-6
    inside = load(preset="three-stage", file=write("a.json", {"training": {"num_epochs": 3}}))
    assert epochs(inside) == [1, 1, 1]


def test_a_solved_stage_has_one_epoch_of_the_total_and_no_part_in_the_rates() -> None:
    recipe = load("epochs=30", "lr=4e-3")
    assert epochs(recipe) == [1, 29]
    assert [stage.lr for stage in recipe.stages] == [1e-3, 4e-3]
    assert recipe.why["stages.head.lr"] == "preset standard"
    assert epochs(load("epochs=2")) == [1, 1]
    solved = "{train: head, solve: true, epochs: 1, lr: 1e-3}"
    both = f"stages=[{solved.replace('{', '{name: a, ')}, {solved.replace('{', '{name: b, ')}]"
    assert epochs(load("epochs=2", sets=[both])) == [1, 1]


def test_more_epochs_than_solved_stages_can_take(write: Write) -> None:
    file = write("a.yaml", "stages: [{name: a, train: head, solve: true, epochs: 1, lr: 1e-3}]")
    assert epochs(load(file=file)) == [1]
    (found,) = problems("epochs=3", file=file)
    assert "epochs=3 is more than stages can take that are solved (a)" in found
    assert "give epochs=1, or stages.a.solve=false" in found


def test_solving_shortens_a_stage_of_a_preset_to_one_epoch() -> None:
    recipe = load("stages.head.solve=true", preset="three-stage")
    assert epochs(recipe) == [1, 10, 10]
    assert recipe.why["stages.head.epochs"] == "preset three-stage, one as it is solved"
    assert epochs(load("stages.head.solve=true", "epochs=21", preset="three-stage")) == [1, 10, 10]


def test_a_stage_of_a_preset_is_not_solved_where_more_than_the_head_shall_learn() -> None:
    recipe = load("stages.head.train=all", "epochs=16")
    assert [stage.solve for stage in recipe.stages] == [False, False]
    assert epochs(recipe) == [2, 14]
    assert recipe.why["stages.head.solve"] == "preset standard, off with stages.head.train=all"


def test_totals_and_stages_may_agree_but_not_contradict(write: Write) -> None:
    stage = {"name": "one", "epochs": 4, "lr": 0.01}
    agreeing = {"stages": [stage], "training": {"epochs": 4, "lr": 0.01}}
    assert epochs(load(file=write("a.json", agreeing))) == [4]
    differing = {"stages": [stage], "training": {"epochs": 5, "lr": 0.1}}
    assert len(problems(file=write("b.json", differing))) == 2
    assert "contradict" in problems("epochs=20", "stages.head.epochs=5")[0]


def test_warmups_of_a_preset_shorten_with_its_epochs() -> None:
    assert load("epochs=10", preset="improved").schedule.warmup_epochs == 1
    assert load("epochs=100", preset="improved").schedule.warmup_epochs == 5
    asked = load("epochs=10", "schedule.warmup_epochs=3", preset="improved")
    assert asked.schedule.warmup_epochs == 3


def test_a_value_for_all_stages_replaces_that_of_single_ones(write: Write) -> None:
    file = write("a.yaml", "stages:\n  head: {imgsz: 96, patience: 2, schedule: step}\n")
    kept = load(preset="three-stage", file=file)
    assert (kept.stages[0].imgsz, kept.stages[0].patience) == (96, 2)
    words = ("imgsz=128", "patience=4", "schedule=cosine")
    recipe = load(*words, preset="three-stage", file=file)
    assert recipe.stages[0].imgsz is None
    assert recipe.stages[0].patience is None
    assert recipe.stages[0].schedule is None


def test_a_new_policy_drops_the_steps_of_the_old_one(write: Write) -> None:
    file = write("a.yaml", "augment: {policy: light, steps: {rotation: {degrees: 9}}}")
    assert load("policy=none", file=file).augment.steps is None
    assert load(file=file).augment.steps == {"rotation": {"degrees": 9}}


@pytest.mark.parametrize("name", sorted(presets()))
def test_what_is_printed_is_read_back_exactly(tmp_path: Path, name: str) -> None:
    recipe = load("name=1e3", "data.classes=[no, '1', 'Ä b']", "lr=3.3e-5", preset=name)
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_yaml(recipe), encoding="utf-8")
    assert read_recipe(path) == recipe
    assert load(file=path) == recipe
    assert dump_yaml(recipe).index("\nwhy:") > dump_yaml(recipe).index("\nlogging:")


def test_an_edit_of_a_printed_recipe_counts_as_given(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    printed = dump_yaml(load())
    path.write_text(printed.replace("focal_gamma: 2.0", "focal_gamma: 3.0"), encoding="utf-8")
    assert "loss.focal_gamma=3" in problems(file=path)[0]
    path.write_text(printed.replace("dropout: 0.2", "dropout: 0.4"), encoding="utf-8")
    assert load(file=path).why["model.dropout"] == "file mine.yaml"


def test_read_recipe_names_what_is_wrong(write: Write) -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe(write("a.yaml", "training: {bacth: 3, seed: -1}"))
    assert any("did you mean training.batch?" in text for text in caught.value.problems)
    assert any("training.seed is -1" in text for text in caught.value.problems)


def test_change_recipe_changes_only_what_is_named() -> None:
    recipe = load("batch=8")
    changed = change_recipe(recipe, words=["workers=0"])
    assert changed.data.workers == 0
    assert changed.model_copy(update={"data": recipe.data, "why": recipe.why}) == recipe


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("20m", 1200), ("1.5h", 5400), (" 2 H", 7200)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0m", "-3s", "20 minutes", "1h30m", "m"])
def test_no_durations(text: str) -> None:
    with pytest.raises(RecipeError, match="allowed"):
        parse_duration(text)


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, espalier.recipe; "
        "print([m for m in ('torch', 'numpy', 'pandas', 'rich') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
