"""Decides everything that a recipe leaves open, from measured facts, with a reason for each choice.

A pure function but for ``measure``, which is only called when it can decide how a CPU computes.
Afterwards no value is ``auto`` but for what only the photographs or the trained model can say
(what is kept in the store, kept features, the adjustment); nothing below looks for a default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from espalier.errors import ModelError
from espalier.recipe.arithmetic import Measure, MeasureEngine, decide_arithmetic
from espalier.recipe.choices import Choices
from espalier.recipe.documents import short
from espalier.recipe.merge import AUTO
from espalier.recipe.policies import resolve_steps
from espalier.recipe.schema import Recipe, Stage

if TYPE_CHECKING:
    from espalier.records import Machine, ModelFacts

MODEL_ON_CUDA = "resnet50"
MODEL_ELSEWHERE = "mobilenetv3_small_100"
FROM_SCRATCH = "small-cnn"
CPU_BATCH = 32
CUDA_IMAGES_PER_GIB = 4
CUDA_BATCHES = (8, 64)
STEPS_PER_EPOCH = 8
MOST_WORKERS = 4
# A warmup that nobody asked for and that would fill its stage is cut to this share of it.
WARMUP_SHARE = 0.1
RISING = "imgsz_from"


def resolve(
    recipe: Recipe,
    *,
    machine: Machine,
    catalog_counts: Mapping[str, int],
    facts_of: Callable[[str], ModelFacts],
    measure: Measure | None = None,
    measure_engine: MeasureEngine | None = None,
) -> Recipe:
    """The recipe with nothing left open; ``why`` holds the reason of each choice.

    Args:
        recipe: As ``load_recipe`` gives it.
        machine: What this process may use.
        catalog_counts: Training images per class, in class order, zeros included.
        facts_of: Model name -> what it needs.
        measure: Speed of the ways to compute on the CPU and of its threads, as far as they are
            open; None: not measured.
        measure_engine: Speed of frozen layers with and without OpenVINO; None: not installed. It
            may raise ModelError where OpenVINO cannot compile the model.

    Raises:
        RecipeError: A value cannot hold on this machine or with these data.
        ModelError: The model is unknown, or cannot take images of the size that was asked for.
    """
    choices = Choices(recipe)
    _device(choices, machine)
    facts = _model(choices, machine, facts_of)
    _sizes(choices, facts)
    _normalisation(choices, facts)
    for stage in recipe.stages:
        _thaw_from_scratch(choices, stage)
    for stage in choices.recipe().stages:
        _stage(choices, stage)
    _classes(choices, catalog_counts)
    images = sum(catalog_counts.values())
    _batch(choices, machine, images)
    _workers(choices, machine)
    _augment(choices)
    decide_arithmetic(choices, _kind(choices), machine, images, measure, measure_engine)
    choices.check()
    return choices.recipe()


def resolve_sizes(
    recipe: Recipe, *, machine: Machine, facts_of: Callable[[str], ModelFacts]
) -> Recipe:
    """The recipe with model and image sizes decided: what must be known to decode photographs.

    Raises:
        ModelError: The model is unknown, or cannot take images of the size that was asked for.
    """
    choices = Choices(recipe)
    _device(choices, machine)
    _sizes(choices, _model(choices, machine, facts_of))
    # Problems found so far are told with all others, by ``resolve``.
    return choices.recipe()


def _device(choices: Choices, machine: Machine) -> None:
    wanted = choices.get("training.device")
    if wanted == "auto":
        reason = f"the best device here ({machine.device_name})"
        choices.choose("training.device", machine.device, reason)
        return
    kind, _, number = wanted.partition(":")
    if kind != "cpu" and kind != machine.device:
        choices.problem(
            f"{choices.said('training.device')}, but this machine has no {kind}: "
            f"allowed: cpu{'' if machine.device == 'cpu' else f', {machine.device}'}, auto",
            "--device auto",
        )
    elif number and int(number) >= max(1, machine.devices):
        last = f"{kind}:{max(1, machine.devices) - 1}"
        choices.problem(
            f"{choices.said('training.device')}, but the last device here is {last}",
            f"--device {last}",
        )


def _kind(choices: Choices) -> str:
    return str(choices.get("training.device")).partition(":")[0]


def _model(choices: Choices, machine: Machine, facts_of: Callable[[str], ModelFacts]) -> ModelFacts:
    if choices.get("model.name") == "auto":
        if _kind(choices) == "cuda":
            choices.choose("model.name", MODEL_ON_CUDA, "accurate, and quick on a GPU")
        else:
            reason = f"small enough to fine-tune on {machine.device_name} in minutes"
            choices.choose("model.name", MODEL_ELSEWHERE, reason)
    facts = facts_of(choices.get("model.name"))
    if choices.get("model.weights") == "pretrained" and not facts.has_pretrained:
        if facts.name == FROM_SCRATCH and not choices.is_given("model.weights"):
            choices.choose("model.weights", "none", f"{facts.name} is trained from scratch")
        else:
            choices.problem(
                f"{choices.said('model.weights')}, but there are none for {facts.name}; allowed: "
                "a .safetensors or .pth file, or none",
                "--weights none",
            )
    return facts


def _sizes(choices: Choices, facts: ModelFacts) -> None:
    """Image sizes of the run and of each stage, such that the model accepts them."""
    if choices.get("training.imgsz") == "auto":
        choices.choose("training.imgsz", facts.imgsz, f"{facts.name} was trained on it")
    _fit_sizes(choices, facts)
    for stage in choices.stage_names:
        if choices.get(f"stages.{stage}.imgsz") is None:
            size = choices.get("training.imgsz")
            choices.choose(f"stages.{stage}.imgsz", size, "as training.imgsz")
    for stage in choices.stage_names:
        _rising_size(choices, stage, facts)
    _test_size(choices, facts)


def _fit_sizes(choices: Choices, facts: ModelFacts) -> None:
    """Every size as the model accepts it: moved to the next one where nobody asked for it."""
    stages = [f"stages.{stage}.{k}" for stage in choices.stage_names for k in ("imgsz", RISING)]
    unfit = {}
    for key in ["training.imgsz", "training.test_imgsz", *stages]:
        if choices.get(key) is None:
            continue
        size = int(choices.get(key))
        near = nearest_sizes(size, facts)
        if size in near:
            continue
        if choices.is_given(key):
            allowed = " or ".join(map(str, near))
            unfit[key] = f"{choices.said(key)}; allowed near it: {allowed}"
        else:
            choices.choose(key, near[-1], f"the next size to {size} that {facts.name} accepts")
    if unfit:
        raise _unfit_sizes(unfit, facts)


def _unfit_sizes(unfit: Mapping[str, str], facts: ModelFacts) -> ModelError:
    needs = f"{facts.name} needs at least {facts.min_imgsz} px"
    if facts.multiple_of > 1:
        needs += f" and a multiple of {facts.multiple_of}"
    key, first = next(iter(unfit.items()))
    flag = "--imgsz " if key.endswith(".imgsz") else f"--set {key}="
    return ModelError(
        f"{needs}: {first}" if len(unfit) == 1 else needs,
        hint=f"{flag}{first.rpartition(' ')[2]}",
        problems=list(unfit.values()) if len(unfit) > 1 else (),
    )


def _rising_size(choices: Choices, stage: str, facts: ModelFacts) -> None:
    """A resolution that rises within a stage: refused or left out where it cannot."""
    key, last = f"stages.{stage}.{RISING}", choices.get(f"stages.{stage}.imgsz")
    size = choices.get(key)
    if size is None:
        return
    reason = ""
    if facts.fixed_size and size != last:
        reason = f"{facts.name} trains at one size"
    elif size > last:
        reason = f"the stage ends at {last} px"
    if reason and choices.is_given(key):
        choices.problem(
            f"{choices.said(key)}, but {reason}; allowed: {'none' if facts.fixed_size else last}",
            f"--set {key}=null" if facts.fixed_size else f"--set {key}={last}",
        )
    elif reason:
        choices.choose(key, None, reason)


def _test_size(choices: Choices, facts: ModelFacts) -> None:
    """A model of fixed size is judged at the size at which it trains."""
    size, key = choices.get("training.test_imgsz"), "training.test_imgsz"
    sizes = {choices.get(f"stages.{stage}.imgsz") for stage in choices.stage_names}
    others = sorted(sizes - {size})
    if size is None or not facts.fixed_size or not others:
        return
    if choices.is_given(key):
        choices.problem(
            f"{choices.said(key)}, but {facts.name} keeps the size at which it trains; allowed: "
            f"{' or '.join(map(str, others))} px, as in its stages, or null",
            f"--set {key}=null",
        )
    else:
        choices.choose(key, None, f"{facts.name} keeps the size at which it trains")


def nearest_sizes(size: int, facts: ModelFacts) -> list[int]:
    """The sizes just below and above (or the one exactly at) ``size`` that a model accepts."""
    step = facts.multiple_of
    smallest = -(-facts.min_imgsz // step) * step
    if size <= smallest:
        return [smallest]
    below = size // step * step
    return [below] if below == size else [below, below + step]


def _normalisation(choices: Choices, facts: ModelFacts) -> None:
    for key, value in (("data.mean", facts.mean), ("data.std", facts.std)):
        if choices.get(key) is None:
            choices.choose(key, value, f"that of {facts.name}")


def _thaw_from_scratch(choices: Choices, stage: Stage) -> None:
    """Without trained weights everything learns, in stages for which nobody asked otherwise."""
    prefix = f"stages.{stage.name}"
    asked = choices.is_given(f"{prefix}.train") or (
        stage.solve and any(choices.is_given(f"{prefix}.{key}") for key in ("solve", "penalty"))
    )
    if asked or choices.get("model.weights") != "none":
        return
    reason = "there are no trained weights to keep"
    if stage.train != "all":
        choices.choose(f"{prefix}.train", "all", reason)
    if stage.solve:
        choices.choose(f"{prefix}.solve", False, reason)


def _stage(choices: Choices, stage: Stage) -> None:
    """Fill in what one stage takes from the recipe as a whole."""
    prefix = f"stages.{stage.name}"
    general = {
        "schedule": "schedule.name",
        "warmup_epochs": "schedule.warmup_epochs",
        "patience": "early_stopping.patience",
    }
    for name, source in general.items():
        if choices.get(f"{prefix}.{name}") is None and choices.get(source) is not None:
            choices.choose(f"{prefix}.{name}", choices.get(source), f"as {source}")
    if stage.backbone_lr is None:
        choices.choose(f"{prefix}.backbone_lr", stage.lr, "as lr of the stage")
    if stage.batch_norm == "auto":
        _batch_norm(choices, f"{prefix}.batch_norm", stage)
    if stage.solve:
        choices.choose(f"{prefix}.warmup_epochs", 0.0, "what is solved for has one step")
    else:
        _warmup(choices, f"{prefix}.warmup_epochs", stage)


def _batch_norm(choices: Choices, key: str, stage: Stage) -> None:
    """The mode that is train where trainable and eval where frozen."""
    if stage.train == "head":
        choices.choose(key, "eval", "all of the backbone is frozen")
    elif stage.train in ("all", 1.0):
        choices.choose(key, "train", "everything is trainable")
    else:
        choices.choose(key, "thawed", "frozen blocks must keep their statistics")


def _warmup(choices: Choices, key: str, stage: Stage) -> None:
    warmup = choices.get(key)
    is_asked = choices.is_given(key) or (
        stage.warmup_epochs is None and choices.is_given("schedule.warmup_epochs")
    )
    if warmup >= stage.epochs and not is_asked:
        reason = f"{warmup:g} epochs of warmup would leave nothing of {stage.epochs}"
        choices.choose(key, round(WARMUP_SHARE * stage.epochs, 3), reason)


def _classes(choices: Choices, counts: Mapping[str, int]) -> None:
    wanted = choices.get("data.num_classes")
    if wanted is None:
        choices.choose("data.num_classes", len(counts), "as found")
    elif wanted != len(counts):
        choices.problem(
            f"{choices.said('data.num_classes')}, but the data have {len(counts)} classes: "
            f"{short(list(counts))}",
            f"--set data.num_classes={len(counts)}",
        )
    if choices.get("data.classes") is None:
        choices.choose("data.classes", tuple(counts), "as found")


def _batch(choices: Choices, machine: Machine, images: int) -> None:
    batch = choices.get("training.batch")
    if batch == "auto":
        size, reason = automatic_batch(_kind(choices), machine, _largest(choices), images)
        choices.choose("training.batch", size, reason)
    elif batch > images and choices.is_given("training.batch"):
        choices.problem(
            f"{choices.said('training.batch')}, larger than the {images} training images; "
            f"allowed: 1 to {images}",
            f"--batch {_power_of_two(images)}",
        )
    elif batch > images:
        reason = f"{batch} is more than the {images} training images"
        choices.choose("training.batch", _power_of_two(images), reason)


def _largest(choices: Choices) -> int:
    return max(
        [int(choices.get(f"stages.{stage}.imgsz")) for stage in choices.stage_names],
        default=int(choices.get("training.imgsz")),
    )


def automatic_batch(kind: str, machine: Machine, imgsz: int, images: int) -> tuple[int, str]:
    """Images per micro-batch, a power of two, and why.

    32 on a CPU or an Apple GPU: throughput is flat there from 4 on. On an NVIDIA GPU 4 images per
    GiB at 224 px, in proportion to the pixels, from 8 to 64. Never so many that an epoch has fewer
    than 8 steps, as far as batches of 4 allow.
    """
    if kind == "cuda":
        gib = machine.device_memory / 2**30
        fitting = _power_of_two(int(gib * CUDA_IMAGES_PER_GIB * (224 / imgsz) ** 2))
        low, high = CUDA_BATCHES
        size, reason = min(max(fitting, low), high), f"{gib:.0f} GiB of memory at {imgsz} px"
    else:
        size, reason = CPU_BATCH, f"larger is no faster on {machine.device_name}"
    most = min(_power_of_two(images), max(4, _power_of_two(images // STEPS_PER_EPOCH)))
    if size > most:
        return most, f"{images} training images make at least {images // most} steps an epoch"
    return size, reason


def _power_of_two(number: int) -> int:
    """The largest power of two that is not above ``number``; 1 for less."""
    return 1 << max(0, int(number).bit_length() - 1)


def _workers(choices: Choices, machine: Machine) -> None:
    cores = machine.cores
    if choices.get("data.workers") == "auto":
        workers = 1 if cores <= 2 else min(cores, MOST_WORKERS)
        choices.choose("data.workers", workers, f"{cores} cores")


def _augment(choices: Choices) -> None:
    policy = choices.get("augment.policy")
    choices.place("augment.steps", resolve_steps(policy, choices.get("augment.steps")))
    choices.note("augment.steps", f"{AUTO}policy {policy}")
