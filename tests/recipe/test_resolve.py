"""Resolving a recipe: every choice made, each with its reason, from the facts it is given."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest

from espalier.errors import ModelError, RecipeError
from espalier.recipe.load import dump_yaml, load_recipe, presets, read_recipe
from espalier.recipe.policies import resolve_steps
from espalier.recipe.resolve import resolve
from espalier.recipe.schema import Recipe
from espalier.records import Machine, ModelFacts

GIB = 2**30
CPU = Machine("cpu", "a processor", cores=2, memory=8 * GIB)
CUDA = Machine("cuda", "a GPU", cores=16, memory=64 * GIB, device_memory=16 * GIB, devices=1)
MPS = Machine("mps", "Apple GPU", cores=8, memory=16 * GIB, device_memory=16 * GIB, devices=1)
COUNTS = {"healthy": 300, "rust": 200, "blight": 12}
FP32 = {"fp32": 0.030, "fp32-channels-last": 0.020}


def facts_of(name: str) -> ModelFacts:
    facts = ModelFacts(name, 224, 32, 1, (0.5, 0.4, 0.3), (0.2, 0.2, 0.1), 8, 9, True, False)
    if name == "small-cnn":
        return dataclasses.replace(facts, imgsz=64, has_pretrained=False)
    if name == "vit":
        return dataclasses.replace(facts, multiple_of=14, min_imgsz=30)
    if name == "bare":
        return dataclasses.replace(facts, has_pretrained=False)
    return facts


def settled(
    *words: str,
    preset: str | None = None,
    file: Path | None = None,
    machine: Machine = CPU,
    counts: Mapping[str, int] = COUNTS,
    seconds: Mapping[str, float] | None = None,
) -> Recipe:
    return resolve(
        load_recipe(preset, file, words=words),
        machine=machine,
        catalog_counts=counts,
        facts_of=facts_of,
        measure=None if seconds is None else lambda recipe: seconds,
    )


def leaves(tree: object, path: str = "") -> list[tuple[str, object]]:
    if isinstance(tree, dict):
        return [leaf for key, value in tree.items() for leaf in leaves(value, f"{path}.{key}")]
    if isinstance(tree, (list, tuple)):
        return [
            leaf for index, value in enumerate(tree) for leaf in leaves(value, f"{path}.{index}")
        ]
    return [(path, tree)]


MAY_BE_NONE = {
    ".data.source", ".data.root", ".data.group_by", ".data.split_from", ".training.max_batches",
    ".training.time_limit", ".class_weighting.cap", ".early_stopping.patience",
}  # fmt: skip


@pytest.mark.parametrize("machine", [CPU, CUDA, MPS], ids=lambda machine: machine.device)
@pytest.mark.parametrize("preset", sorted(presets()))
def test_nothing_is_left_open(preset: str, machine: Machine) -> None:
    recipe = settled(preset=preset, machine=machine, counts={"a": 900, "b": 900})
    off = recipe.early_stopping.patience is None
    for path, value in leaves(recipe.model_dump(exclude={"why"})):
        assert value != "auto", path
        may_be_off = off and path.startswith(".stages.") and path.endswith(".patience")
        assert value is not None or may_be_off or path in MAY_BE_NONE, path


@pytest.mark.parametrize("machine", [CPU, CUDA, MPS], ids=lambda machine: machine.device)
@pytest.mark.parametrize("preset", sorted(presets()))
def test_a_recipe_file_of_a_run_makes_the_same_run(
    tmp_path: Path, preset: str, machine: Machine
) -> None:
    recipe = settled("seed=3", preset=preset, machine=machine)
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_yaml(recipe), encoding="utf-8")
    assert read_recipe(path) == recipe
    assert load_recipe(file=path) == recipe
    assert settled(file=path, machine=machine) == recipe


def test_every_choice_has_its_reason() -> None:
    why = settled().why
    assert why["training.device"] == "auto cpu: the best device here (a processor)"
    assert why["training.threads"] == "auto 2: 2 cores"
    assert why["stages.head.imgsz"] == "auto 224: as training.imgsz"
    assert why["augment.steps"] == "auto policy light"
    assert why["data.mean"].startswith("auto [0.5, 0.4, 0.3]: ")


def test_model_and_normalisation_follow_the_machine() -> None:
    assert settled().model.name == "mobilenetv3_small_100"
    assert settled(machine=CUDA).model.name == "resnet50"
    assert settled("device=cpu", machine=CUDA).model.name == "mobilenetv3_small_100"
    recipe = settled("data.std=[1,1,1]")
    assert (recipe.data.mean, recipe.data.std) == ((0.5, 0.4, 0.3), (1, 1, 1))
    assert settled().data.classes == tuple(COUNTS)


@pytest.mark.parametrize(
    ("words", "machine", "part"),
    [
        ("device=cuda", CPU, "this machine has no cuda"),
        ("device=mps", CUDA, "this machine has no mps"),
        ("device=cuda:1", CUDA, "the last device here is cuda:0"),
        ("precision=fp16", CPU, "15 to 20 times slower"),
        ("precision=bf16", MPS, "off on Apple GPUs"),
        ("precision=fp16", MPS, "off on Apple GPUs"),
        ("batch=600", CPU, "larger than the 512 training images; allowed: 1 to 512"),
        ("data.num_classes=4", CPU, "the data have 3 classes"),
        ("model=bare", CPU, "there are none for bare"),
        ("model=small-cnn weights=pretrained", CPU, "there are none for small-cnn"),
    ],
)
def test_what_cannot_hold_here(words: str, machine: Machine, part: str) -> None:
    with pytest.raises(RecipeError) as caught:
        settled(*words.split(), machine=machine)
    assert part in caught.value.message
    assert caught.value.hint


def test_all_problems_come_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        settled("batch=600", "precision=fp16", "device=cuda:1", "data.num_classes=2")
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        ("imgsz=100 model=vit", "98 or 112"),
        ("imgsz=16 model=vit", "near it: 42"),
        ("imgsz=16", "near it: 32"),
        ("stages.top.imgsz=99 model=vit", "98 or 112"),
    ],
)
def test_sizes_that_a_model_cannot_take(words: str, allowed: str) -> None:
    with pytest.raises(ModelError) as caught:
        settled(*words.split())
    assert allowed in str(caught.value)
    assert caught.value.hint.startswith("--imgsz ")


def test_a_size_nobody_asked_for_moves_to_the_next_that_fits() -> None:
    recipe = settled("model=vit", preset="two-stage")
    assert recipe.training.imgsz == 322
    assert {stage.imgsz for stage in recipe.stages} == {322}


def test_stages_are_filled_in_from_the_recipe_as_a_whole() -> None:
    recipe = settled("stages.top.imgsz=96", "stages.top.schedule=step", "imgsz=128")
    head, top, last = recipe.stages
    assert (head.imgsz, top.imgsz, last.imgsz) == (128, 96, 128)
    assert (head.schedule, top.schedule) == ("warmup-cosine", "step")
    assert (head.patience, head.backbone_lr) == (5, head.lr)
    assert [stage.batch_norm for stage in recipe.stages] == ["eval", "thawed", "train"]


def test_a_warmup_nobody_asked_for_never_fills_a_stage() -> None:
    recipe = settled("stages=[{name: all, epochs: 50, lr: 1e-3}]", preset="improved")
    assert recipe.stages[0].warmup_epochs == 5
    short = settled("stages.all.epochs=5", preset="improved")
    assert 0 < (short.stages[0].warmup_epochs or 0) < 5


@pytest.mark.parametrize(
    ("words", "machine", "images", "batch"),
    [
        ("", CPU, 5000, 32),
        ("", CPU, 100, 8),
        ("", CPU, 32, 4),
        ("", CPU, 3, 2),
        ("", MPS, 5000, 32),
        ("", CUDA, 5000, 64),
        ("", dataclasses.replace(CUDA, device_memory=8 * GIB), 5000, 32),
        ("imgsz=448", dataclasses.replace(CUDA, device_memory=8 * GIB), 5000, 8),
        ("batch=24", CPU, 24, 24),
    ],
)
def test_batch(words: str, machine: Machine, images: int, batch: int) -> None:
    recipe = settled(*words.split(), machine=machine, counts={"a": images})
    assert recipe.training.batch == batch


def test_a_batch_nobody_asked_for_gives_way_to_small_data() -> None:
    recipe = settled(preset="baseline", counts={"a": 20, "b": 12})
    assert recipe.training.batch == 32
    assert "more than the 32 training images" in recipe.why["training.batch"]


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 1), (3, 3), (4, 4), (64, 4)])
def test_workers_and_threads(cores: int, workers: int) -> None:
    recipe = settled(machine=dataclasses.replace(CPU, cores=cores))
    assert (recipe.data.workers, recipe.training.threads) == (workers, cores)


@pytest.mark.parametrize(
    ("words", "seconds", "chosen"),
    [
        ("", {**FP32, "bf16-channels-last": 0.010}, ("bf16", True)),
        ("", {**FP32, "bf16-channels-last": 0.0161}, ("fp32", True)),
        ("", {**FP32, "bf16-channels-last": 0.016}, ("bf16", True)),
        ("", {**FP32, "bf16-channels-last": 0.040}, ("fp32", True)),
        ("", {"fp32": 0.01, "fp32-channels-last": 0.02, "bf16-channels-last": 1}, ("fp32", False)),
        ("", {"fp32": 0.0199, "fp32-channels-last": 0.02}, ("fp32", True)),
        ("precision=fp32", {**FP32, "bf16-channels-last": 0.001}, ("fp32", True)),
        ("precision=bf16", {**FP32, "bf16-channels-last": 9.0}, ("bf16", True)),
        ("training.channels_last=false", {**FP32, "bf16-channels-last": 0.001}, ("fp32", False)),
        ("", None, ("fp32", True)),
        ("precision=bf16", None, ("bf16", True)),
    ],
)
def test_precision_on_a_cpu_is_measured(
    words: str, seconds: Mapping[str, float] | None, chosen: tuple[str, bool]
) -> None:
    recipe = settled(*words.split(), seconds=seconds)
    assert (recipe.training.precision, recipe.training.channels_last) == chosen


def test_the_reason_holds_what_was_measured() -> None:
    why = settled(seconds={**FP32, "bf16-channels-last": 0.01}).why["training.precision"]
    assert why.startswith("auto bf16: measured per image: ")
    assert "fp32 30 ms" in why
    assert "bf16-channels-last 10 ms" in why


def test_nothing_is_measured_without_need() -> None:
    def measure(recipe: Recipe) -> Mapping[str, float]:
        raise AssertionError("measured")

    for words, machine in (
        (("precision=fp32", "training.channels_last=true"), CPU),
        ((), CUDA),
        ((), MPS),
    ):
        resolve(
            load_recipe(words=words),
            machine=machine,
            catalog_counts=COUNTS,
            facts_of=facts_of,
            measure=measure,
        )


def test_measuring_gets_a_recipe_it_can_build() -> None:
    seen: list[Recipe] = []

    def measure(recipe: Recipe) -> Mapping[str, float]:
        seen.append(recipe)
        return FP32

    resolve(load_recipe(), machine=CPU, catalog_counts=COUNTS, facts_of=facts_of, measure=measure)
    training = seen[0].training
    assert (training.imgsz, training.batch, training.threads) == (224, 32, 2)
    assert seen[0].model.name == "mobilenetv3_small_100"


def test_precision_elsewhere() -> None:
    cuda = settled(machine=CUDA).training
    assert (cuda.precision, cuda.channels_last) == ("bf16", True)
    old = settled(machine=dataclasses.replace(CUDA, bf16=False)).training
    assert (old.precision, old.channels_last) == ("fp16", True)
    mps = settled(machine=MPS).training
    assert (mps.precision, mps.channels_last) == ("fp32", False)


def test_augmentation_is_a_whole_table() -> None:
    recipe = settled("augment.steps.rotation.degrees=30", "augment.steps.noise.p=1")
    assert recipe.augment.steps == resolve_steps(
        "light", {"rotation": {"degrees": 30}, "noise": {"p": 1}}
    )
    assert settled("policy=none").augment.steps == {}


def test_weights_of_a_network_from_scratch() -> None:
    recipe = settled("model=small-cnn")
    assert (recipe.model.weights, recipe.training.imgsz) == ("none", 64)


class TestAnEarlierRunAsTheStart:
    """A resolved recipe with other values beside it: what depended on them is chosen anew."""

    @pytest.fixture
    def earlier(self, tmp_path: Path) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(dump_yaml(settled("augment.steps.rotation.degrees=30")), encoding="utf-8")
        return path

    def test_size(self, earlier: Path) -> None:
        recipe = settled("imgsz=96", file=earlier)
        assert {stage.imgsz for stage in recipe.stages} == {96}

    def test_model(self, earlier: Path) -> None:
        recipe = settled("model=small-cnn", file=earlier)
        assert (recipe.training.imgsz, recipe.model.weights) == (64, "none")
        assert {stage.imgsz for stage in recipe.stages} == {64}

    def test_policy(self, earlier: Path) -> None:
        recipe = settled("policy=none", file=earlier)
        assert list(recipe.augment.steps or {}) == ["rotation"]

    def test_device(self, earlier: Path) -> None:
        recipe = settled("device=cuda", file=earlier, machine=CUDA)
        assert (recipe.model.name, recipe.training.precision) == ("resnet50", "bf16")

    def test_source(self, earlier: Path) -> None:
        recipe = settled("source=others", file=earlier, counts={"x": 60, "y": 60})
        assert (recipe.data.classes, recipe.data.num_classes) == (("x", "y"), 2)
        assert recipe.training.batch == 8

    def test_what_a_stage_trains(self, earlier: Path) -> None:
        recipe = settled("stages.top.train=all", file=earlier)
        assert recipe.stages[1].batch_norm == "train"

    def test_schedule(self, earlier: Path) -> None:
        recipe = settled("schedule=constant", file=earlier)
        assert {stage.schedule for stage in recipe.stages} == {"constant"}

    def test_an_edit_by_hand(self, earlier: Path) -> None:
        text = earlier.read_text(encoding="utf-8")
        assert "\n  imgsz: 224\n" in text
        earlier.write_text(text.replace("\n  imgsz: 224\n", "\n  imgsz: 96\n"), encoding="utf-8")
        recipe = settled(file=earlier)
        assert {stage.imgsz for stage in recipe.stages} == {96}
        assert recipe.why["training.imgsz"] == "file recipe.yaml"


def test_thawed_means_train_where_trainable() -> None:
    from torch import nn

    from espalier.models.build import build_model
    from espalier.models.stages import set_mode, set_trainable
    from espalier.recipe.schema import Model, Stage

    model, _ = build_model(Model(name="small-cnn", weights="none"), 3)
    modes = []
    for mode in ("auto", "thawed"):
        stage = Stage.model_validate(
            {"name": "top", "train": 0.5, "epochs": 1, "lr": 1, "batch_norm": mode}
        )
        set_trainable(model, stage)
        model.train()
        set_mode(model, stage)
        modes.append([m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d)])
    assert modes[0] == modes[1]
    assert set(modes[0]) == {True, False}
