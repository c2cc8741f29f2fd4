"""Resolving a recipe: every choice made, each with its reason, from the facts it is given."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from espalier.errors import ModelError, RecipeError
from espalier.recipe.load import dump_yaml, load_recipe, presets, read_recipe
from espalier.recipe.policies import resolve_steps
from espalier.recipe.precision import (
    GAIN,
    EngineSpeeds,
    Measured,
    choose_engine,
    fastest,
    on_cpu,
    open_ways,
)
from espalier.recipe.resolve import resolve
from espalier.recipe.schema import Recipe, Training
from espalier.records import Machine, ModelFacts

GIB = 2**30
CPU = Machine("cpu", "a processor", cores=2, memory=8 * GIB)
CUDA = Machine("cuda", "a GPU", cores=16, memory=64 * GIB, device_memory=16 * GIB, devices=1)
MPS = Machine("mps", "Apple GPU", cores=8, memory=16 * GIB, device_memory=16 * GIB, devices=1)
COUNTS = {"healthy": 300, "rust": 200, "blight": 12}
FP32 = {"fp32": 0.030, "fp32-channels-last": 0.020}
GROUPED = "bf16-channels-last-grouped-fp32"


@dataclasses.dataclass(frozen=True)
class FixedFacts(ModelFacts):
    """Of a backbone that is built for one size."""

    fixed_size: bool = True


def facts_of(name: str) -> ModelFacts:
    facts = ModelFacts(name, 224, 32, 1, (0.5, 0.4, 0.3), (0.2, 0.2, 0.1), 8, 9, True, False)
    if name == "small-cnn":
        return dataclasses.replace(facts, imgsz=64, has_pretrained=False)
    if name == "vit":
        return dataclasses.replace(facts, multiple_of=14, min_imgsz=30)
    if name == "bare":
        return dataclasses.replace(facts, has_pretrained=False)
    if name == "fixed":
        return FixedFacts(name, 224, 32, 16, (0.5, 0.4, 0.3), (0.2, 0.2, 0.1), 8, 9, True, False)
    return facts


def settled(
    *words: str,
    preset: str | None = None,
    file: Path | None = None,
    machine: Machine = CPU,
    counts: Mapping[str, int] = COUNTS,
    seconds: Mapping[str, float] | None = None,
    measured: Measured | None = None,
    engine: EngineSpeeds | None = None,
) -> Recipe:
    if seconds is not None:
        measured = Measured(seconds)
    return resolve(
        load_recipe(preset, file, words=words),
        machine=machine,
        catalog_counts=counts,
        facts_of=facts_of,
        measure=None if measured is None else lambda recipe: measured,
        measure_engine=None if engine is None else lambda recipe: engine,
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
    ".data.source", ".data.root", ".data.group_by", ".data.split_from", ".data.corrections",
    ".data.synthetic",
    ".training.max_batches",
    ".training.time_limit", ".training.test_imgsz", ".class_weighting.cap",
    ".early_stopping.patience",
}  # fmt: skip
# What only the photographs or the trained model can say is decided where they are known.
LATER = {".data.store", ".features.keep", ".features.views", ".adjustment.method"}


@pytest.mark.parametrize("machine", [CPU, CUDA, MPS], ids=lambda machine: machine.device)
@pytest.mark.parametrize("preset", sorted(presets()))
def test_nothing_is_left_open(preset: str, machine: Machine) -> None:
    recipe = settled(preset=preset, machine=machine, counts={"a": 900, "b": 900})
    off = recipe.early_stopping.patience is None
    for path, value in leaves(recipe.model_dump(exclude={"why"})):
        assert value != "auto" or path in LATER, path
        is_stage = path.startswith(".stages.")
        ends = (".imgsz_from", ".patience") if off else ".imgsz_from"
        may_be_off = is_stage and path.endswith(ends)
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
    assert why["training.threads"] == "auto 2: 2 cores; not measured"
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
        ("stages.1.imgsz=99 model=vit", "98 or 112"),
    ],
)
def test_sizes_that_a_model_cannot_take(words: str, allowed: str) -> None:
    with pytest.raises(ModelError) as caught:
        settled(*words.split())
    assert allowed in str(caught.value)
    assert caught.value.hint.startswith("--imgsz ")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("training.test_imgsz=100 model=vit", "--set training.test_imgsz=112"),
        ("stages.most.imgsz_from=99 model=vit", "--set stages.most.imgsz_from=112"),
    ],
)
def test_sizes_beside_that_of_training_must_fit_the_model_too(words: str, hint: str) -> None:
    with pytest.raises(ModelError) as caught:
        settled(*words.split())
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("words", "part", "hint"),
    [
        (
            "stages.most.imgsz_from=256",
            "but the stage ends at 224 px; allowed: 224",
            "--set stages.most.imgsz_from=224",
        ),
        (
            "stages.most.imgsz_from=128 model=fixed",
            "but fixed trains at one size; allowed: none",
            "--set stages.most.imgsz_from=null",
        ),
        (
            "training.test_imgsz=256 model=fixed",
            "but fixed keeps the size at which it trains; allowed: 224 px",
            "--set training.test_imgsz=null",
        ),
    ],
)
def test_resolutions_that_cannot_change(words: str, part: str, hint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        settled(*words.split())
    assert part in caught.value.message
    assert caught.value.hint == hint


def test_resolutions_that_can_change() -> None:
    recipe = settled("stages.most.imgsz_from=128", "training.test_imgsz=256")
    assert (recipe.stages[1].imgsz_from, recipe.training.test_imgsz) == (128, 256)
    same = settled("stages.most.imgsz_from=224", "training.test_imgsz=224", "model=fixed")
    assert same.training.test_imgsz == 224


def test_a_size_nobody_asked_for_moves_to_the_next_that_fits() -> None:
    recipe = settled("model=vit", preset="two-stage")
    assert recipe.training.imgsz == 322
    assert {stage.imgsz for stage in recipe.stages} == {322}


def test_stages_are_filled_in_from_the_recipe_as_a_whole() -> None:
    words = ("stages.top.imgsz=96", "stages.top.schedule=step", "imgsz=128")
    recipe = settled(*words, preset="three-stage")
    head, top, last = recipe.stages
    assert (head.imgsz, top.imgsz, last.imgsz) == (128, 96, 128)
    assert (head.schedule, top.schedule) == ("cosine", "step")
    assert (head.patience, head.backbone_lr) == (5, head.lr)
    assert [stage.batch_norm for stage in recipe.stages] == ["eval", "thawed", "train"]


@pytest.mark.parametrize("model", ["small-cnn", "resnet18"])
def test_without_trained_weights_nothing_rests(model: str) -> None:
    words = (f"model={model}",) if model == "small-cnn" else (f"model={model}", "weights=none")
    recipe = settled(*words)
    assert [(stage.train, stage.solve, stage.batch_norm) for stage in recipe.stages] == [
        ("all", False, "train")
    ] * 2
    reason = "there are no trained weights to keep"
    assert recipe.why["stages.head.train"] == f"auto all: {reason}"
    assert recipe.why["stages.head.solve"] == f"auto false: {reason}"
    assert recipe.why["stages.most.train"] == f"auto all: {reason}"
    assert "stages.most.solve" not in recipe.why


def test_what_a_person_wants_frozen_rests_without_trained_weights_too() -> None:
    given = settled("weights=none", "stages.most.train=0.5")
    assert [stage.train for stage in given.stages] == ["all", 0.5]
    for word in ("stages.head.solve=true", "stages.head.penalty=0.1"):
        head = settled("weights=none", word).stages[0]
        assert (head.train, head.solve, head.batch_norm) == ("head", True, "eval")
    listed = "stages=[{name: a, train: head, epochs: 1, lr: 1e-3}]"
    assert settled("weights=none", listed).stages[0].train == "head"
    unsolved = settled("weights=none", "stages.head.solve=false").stages[0]
    assert (unsolved.train, unsolved.solve) == ("all", False)


def test_a_recipe_without_trained_weights_is_read_back_the_same(tmp_path: Path) -> None:
    recipe = settled("weights=none", "model=resnet18")
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_yaml(recipe), encoding="utf-8")
    assert load_recipe(file=path) == recipe
    assert settled(file=path) == recipe


def test_what_is_solved_has_no_warmup() -> None:
    recipe = settled("schedule.warmup_epochs=1")
    assert [stage.warmup_epochs for stage in recipe.stages] == [0, 1]


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
        ("", {**FP32, "bf16-channels-last": 0.010}, ("bf16", True, False)),
        ("", {**FP32, "bf16-channels-last": 0.0193}, ("fp32", True, False)),
        ("", {**FP32, "bf16-channels-last": 0.0192}, ("bf16", True, False)),
        ("", {**FP32, "bf16-channels-last": 0.040}, ("fp32", True, False)),
        ("", {**FP32, "bf16-channels-last": 0.04, GROUPED: 0.015}, ("bf16", True, True)),
        ("", {**FP32, "bf16-channels-last": 0.0149, GROUPED: 0.015}, ("bf16", True, True)),
        ("", {**FP32, "bf16-channels-last": 0.014, GROUPED: 0.015}, ("bf16", True, False)),
        ("", {**FP32, "fp32": 0.010, GROUPED: 0.0098}, ("fp32", False, False)),
        ("", {"fp32": 0.0199, "fp32-channels-last": 0.02}, ("fp32", True, False)),
        ("precision=fp32", {**FP32, "bf16-channels-last": 0.001}, ("fp32", True, False)),
        ("precision=bf16", {**FP32, "bf16-channels-last": 9.0}, ("bf16", True, False)),
        ("precision=bf16", {**FP32, "bf16-channels-last": 9, GROUPED: 2}, ("bf16", True, True)),
        ("training.channels_last=false", {**FP32, GROUPED: 0.001}, ("fp32", False, False)),
        ("training.grouped_fp32=true", {**FP32, GROUPED: 9}, ("bf16", True, True)),
        ("training.grouped_fp32=false", {**FP32, GROUPED: 0.001}, ("fp32", True, False)),
        ("", None, ("fp32", True, False)),
        ("precision=bf16", None, ("bf16", True, False)),
        ("training.grouped_fp32=true", None, ("bf16", True, True)),
        (
            "precision=bf16 training.channels_last=false training.grouped_fp32=true",
            {**FP32, GROUPED: 0.001},
            ("bf16", False, True),
        ),
    ],
)
def test_precision_on_a_cpu_is_measured(
    words: str, seconds: Mapping[str, float] | None, chosen: tuple[str, bool, bool]
) -> None:
    training = settled(*words.split(), seconds=seconds).training
    assert (training.precision, training.channels_last, training.grouped_fp32) == chosen


@pytest.mark.parametrize("seed", range(20))
def test_the_choice_is_never_much_slower_than_the_fastest(seed: int) -> None:
    draw = random.Random(seed)
    seconds = {name: draw.uniform(1, 1.2) for name in open_ways(Training())}
    assert seconds[fastest(seconds)] <= GAIN * min(seconds.values())


@pytest.mark.parametrize("noise", [0.99, 1.01])
def test_noise_does_not_move_the_choice_between_equals(noise: float) -> None:
    equal = dict.fromkeys(open_ways(Training()), 0.02)
    for name in equal:
        way = on_cpu(Training(), Measured({**equal, name: 0.02 * noise}))
        assert way[:3] == ("fp32", True, False)


def test_the_reason_holds_what_was_measured_and_when() -> None:
    figures = {**FP32, "bf16-channels-last": 0.01}
    why = settled(seconds=figures).why
    assert why["training.precision"] == (
        "auto bf16: measured per image: "
        "fp32-channels-last 20 ms, fp32 30 ms, bf16-channels-last 10 ms"
    )
    assert why["training.grouped_fp32"] == "auto false: goes with bf16"
    kept = settled(measured=Measured(figures, date="2026-11-21")).why
    assert "bf16: measured 2026-11-21 on this machine, per image: " in kept["training.precision"]


def test_nothing_is_measured_without_need() -> None:
    def measure(recipe: Recipe) -> Measured:
        raise AssertionError("measured")

    fixed = ("precision=fp32", "training.channels_last=true")
    for words, machine in (
        ((*fixed, "training.threads=2"), CPU),
        (fixed, dataclasses.replace(CPU, cores=1)),
        (("training.grouped_fp32=true", "training.threads=1"), CPU),
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


@pytest.mark.parametrize(
    ("words", "machine", "part"),
    [
        ("precision=fp32 training.grouped_fp32=true", CPU, "needs bf16, and training.precision"),
        ("training.grouped_fp32=true", CUDA, "holds for a CPU, and this is cuda"),
        ("training.grouped_fp32=true", MPS, "holds for a CPU, and this is mps"),
        ("features.precision=bf16", MPS, "off on Apple GPUs"),
        ("features.engine=openvino", CPU, "which is not installed"),
        ("features.engine=openvino", CUDA, "runs on a CPU, and this is cuda"),
    ],
)
def test_ways_to_compute_that_cannot_hold(words: str, machine: Machine, part: str) -> None:
    with pytest.raises(RecipeError) as caught:
        settled(*words.split(), machine=machine)
    assert part in caught.value.message
    assert "allowed" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("words", "seconds", "threads"),
    [
        ("", {1: 0.020, 2: 0.012}, 2),
        ("", {1: 0.020, 2: 0.016}, 1),
        ("", {1: 0.020, 2: 0.090}, 1),
        ("training.threads=2", {1: 0.020, 2: 0.090}, 2),
        ("training.threads=1", {1: 0.020, 2: 0.010}, 1),
    ],
)
def test_threads_are_those_that_clearly_pay(
    words: str, seconds: Mapping[int, float], threads: int
) -> None:
    recipe = settled(*words.split(), measured=Measured(threads=seconds, load=1.25))
    assert recipe.training.threads == threads
    if not words:
        why = recipe.why["training.threads"]
        assert "1 takes 20 ms on the clock" in why
        assert "load average 1.25" in why


def test_frozen_layers_have_a_precision_of_their_own() -> None:
    figures = Measured(FP32, {"fp32": 0.004, "bf16": 0.002})
    recipe = settled(measured=figures)
    assert (recipe.training.precision, recipe.features.precision) == ("fp32", "bf16")
    assert "fp32 4 ms, bf16 2 ms" in recipe.why["features.precision"]
    close = Measured({**FP32, "bf16-channels-last": 0.001}, {"fp32": 0.004, "bf16": 0.0039})
    assert settled(measured=close).features.precision == "fp32"


def test_a_precision_that_was_given_holds_for_all_layers() -> None:
    figures = Measured(FP32, {"fp32": 0.004, "bf16": 0.002})
    recipe = settled("precision=fp32", measured=figures)
    assert recipe.features.precision == "fp32"
    assert recipe.why["features.precision"] == "auto fp32: as training.precision"
    given = settled("precision=fp32", "features.precision=bf16", measured=figures)
    assert given.features.precision == "bf16"
    assert settled(machine=CUDA).features.precision == "bf16"
    old = dataclasses.replace(CUDA, bf16=False)
    assert settled(machine=old).features.precision == "fp32"


@pytest.mark.parametrize(
    ("images", "engine"), [(100, "eager"), (1000, "eager"), (2000, "openvino"), (10**6, "openvino")]
)
def test_an_engine_must_pay_back_its_compilation(images: int, engine: str) -> None:
    """Eager takes 1 s per 100 images, openvino 0.25 s, and 10 s before the first."""
    chosen, reason = choose_engine(images, 100, 400, 10)
    assert chosen == engine
    assert f"{images:,} images take {images / 100:.3g} s" in reason
    assert f"with openvino {10 + images / 400:.3g} s" in reason


def test_the_engine_is_measured_where_it_is_installed() -> None:
    assert settled().why["features.engine"] == "auto eager: openvino is not installed"
    fast, slow = EngineSpeeds(10, 100, 5), EngineSpeeds(10, 9, 5)
    assert settled(engine=fast).features.engine == "openvino"
    assert settled(engine=slow).features.engine == "eager"
    assert settled("features.engine=eager", engine=fast).features.engine == "eager"
    assert settled("features.engine=openvino", engine=slow).features.engine == "openvino"
    few = EngineSpeeds(10, 100, 80)
    assert settled("features.views=1", engine=few).features.engine == "eager"
    assert settled("features.views=4", engine=few).features.engine == "openvino"
    assert settled(machine=CUDA, engine=fast).features.engine == "eager"


def test_measuring_gets_a_recipe_it_can_build() -> None:
    seen: list[Recipe] = []

    def measure(recipe: Recipe) -> Measured:
        seen.append(recipe)
        return Measured(FP32)

    resolve(load_recipe(), machine=CPU, catalog_counts=COUNTS, facts_of=facts_of, measure=measure)
    training = seen[0].training
    assert (training.imgsz, training.batch, training.threads) == (224, 32, "auto")
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
        recipe = settled("stages.1.train=all", file=earlier)
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
