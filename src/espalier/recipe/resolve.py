"""Decides everything that a recipe leaves open, from measured facts, with a reason for each choice.

A pure function but for ``measure``, which is only called when a CPU's precision is to be chosen.
Afterwards no value is ``auto``, and nothing below this package looks for a default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from espalier.errors import ModelError, RecipeError
from espalier.recipe.documents import short
from espalier.recipe.merge import AUTO, is_given
from espalier.recipe.policies import resolve_steps
from espalier.recipe.precision import Way, on_cpu, on_cuda, on_mps
from espalier.recipe.schema import Recipe, Stage

if TYPE_CHECKING:
    from espalier.records import Machine, ModelFacts

Measure = Callable[[Recipe], Mapping[str, float]]

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


def resolve(
    recipe: Recipe,
    *,
    machine: Machine,
    catalog_counts: Mapping[str, int],
    facts_of: Callable[[str], ModelFacts],
    measure: Measure | None = None,
) -> Recipe:
    """The recipe with nothing left open; ``why`` holds the reason of each choice.

    Args:
        recipe: As ``load_recipe`` gives it.
        machine: What this process may use.
        catalog_counts: Training images per class, in class order, zeros included.
        facts_of: Model name -> what it needs.
        measure: Seconds per image of each way to compute on the CPU; None: not measured.

    Raises:
        RecipeError: A value cannot hold on this machine or with these data.
        ModelError: The model is unknown, or cannot take images of the size that was asked for.
    """
    choices = _Choices(recipe)
    _device(choices, machine)
    facts = _model(choices, machine, facts_of)
    _sizes(choices, facts)
    _normalisation(choices, facts)
    for stage in recipe.stages:
        _stage(choices, stage)
    _classes(choices, catalog_counts)
    _batch(choices, machine, sum(catalog_counts.values()))
    _threads(choices, machine)
    _augment(choices)
    _precision(choices, machine, measure)
    choices.check()
    return choices.recipe()


class _Choices:
    """A recipe in the making: values, reasons, and problems found on the way."""

    def __init__(self, recipe: Recipe) -> None:
        self._tree: dict[str, Any] = recipe.model_dump()
        self._why = dict(recipe.why)
        self.stage_names = [stage.name for stage in recipe.stages]
        self.problems: list[str] = []
        self.hint = ""

    def get(self, key: str) -> Any:
        section, _, name = key.partition(".")
        if section == "stages":
            stage, _, name = name.partition(".")
            return self._tree["stages"][self.stage_names.index(stage)][name]
        return self._tree[section][name]

    def choose(self, key: str, value: object, reason: str) -> None:
        """Put in a value with its reason."""
        section, _, name = key.partition(".")
        place = self._tree[section]
        if section == "stages":
            stage, _, name = name.partition(".")
            place = place[self.stage_names.index(stage)]
        place[name] = value
        shown = list(value) if isinstance(value, tuple) else value
        self._why[key] = f"{AUTO}{short(shown)}: {reason}"

    def note(self, key: str, origin: str) -> None:
        """Record where a value comes from that stays as it is, or that is a whole table."""
        self._why.setdefault(key, origin)

    def place(self, key: str, value: object) -> None:
        """Put in a value whose origins are already on record."""
        section, _, name = key.partition(".")
        self._tree[section][name] = value

    def is_given(self, key: str) -> bool:
        """Whether a person gave this value."""
        return is_given(self._why.get(key))

    def said(self, key: str) -> str:
        """``training.batch is 64 (--batch 64)``."""
        origin = self._why.get(key, "")
        return f"{key} is {short(self.get(key))}" + (f" ({origin})" if origin else "")

    def problem(self, text: str, hint: str) -> None:
        self.problems.append(text)
        self.hint = self.hint or hint

    def check(self) -> None:
        """Raise what was found, all of it."""
        if len(self.problems) == 1:
            raise RecipeError(self.problems[0], hint=self.hint)
        if self.problems:
            raise RecipeError(
                f"the recipe cannot hold here: {len(self.problems)} problems",
                hint=self.hint,
                problems=self.problems,
            )

    def recipe(self) -> Recipe:
        """The recipe as decided so far."""
        return Recipe.model_validate({**self._tree, "why": self._why})


def _device(choices: _Choices, machine: Machine) -> None:
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


def _kind(choices: _Choices) -> str:
    return str(choices.get("training.device")).partition(":")[0]


def _model(
    choices: _Choices, machine: Machine, facts_of: Callable[[str], ModelFacts]
) -> ModelFacts:
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


def _sizes(choices: _Choices, facts: ModelFacts) -> None:
    """Image sizes of the run and of each stage, such that the model accepts them."""
    if choices.get("training.imgsz") == "auto":
        choices.choose("training.imgsz", facts.imgsz, f"{facts.name} was trained on it")
    stages = [f"stages.{stage}.imgsz" for stage in choices.stage_names]
    unfit = []
    for key in ["training.imgsz", *(k for k in stages if choices.get(k) is not None)]:
        size = int(choices.get(key))
        near = nearest_sizes(size, facts)
        if size in near:
            continue
        if choices.is_given(key):
            unfit.append(f"{choices.said(key)}; allowed near it: {' or '.join(map(str, near))}")
        else:
            choices.choose(key, near[-1], f"the next size to {size} that {facts.name} accepts")
    if unfit:
        needs = f"{facts.name} needs at least {facts.min_imgsz} px"
        if facts.multiple_of > 1:
            needs += f" and a multiple of {facts.multiple_of}"
        raise ModelError(
            f"{needs}: {unfit[0]}" if len(unfit) == 1 else needs,
            hint=f"--imgsz {unfit[0].rpartition(' ')[2]}",
            problems=unfit if len(unfit) > 1 else (),
        )
    for key in stages:
        if choices.get(key) is None:
            choices.choose(key, choices.get("training.imgsz"), "as training.imgsz")


def nearest_sizes(size: int, facts: ModelFacts) -> list[int]:
    """The sizes just below and above (or the one exactly at) ``size`` that a model accepts."""
    step = facts.multiple_of
    smallest = -(-facts.min_imgsz // step) * step
    if size <= smallest:
        return [smallest]
    below = size // step * step
    return [below] if below == size else [below, below + step]


def _normalisation(choices: _Choices, facts: ModelFacts) -> None:
    for key, value in (("data.mean", facts.mean), ("data.std", facts.std)):
        if choices.get(key) is None:
            choices.choose(key, value, f"that of {facts.name}")


def _stage(choices: _Choices, stage: Stage) -> None:
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
    _warmup(choices, f"{prefix}.warmup_epochs", stage)


def _batch_norm(choices: _Choices, key: str, stage: Stage) -> None:
    """The mode that is train where trainable and eval where frozen."""
    if stage.train == "head":
        choices.choose(key, "eval", "all of the backbone is frozen")
    elif stage.train in ("all", 1.0):
        choices.choose(key, "train", "everything is trainable")
    else:
        choices.choose(key, "thawed", "frozen blocks must keep their statistics")


def _warmup(choices: _Choices, key: str, stage: Stage) -> None:
    warmup = choices.get(key)
    is_asked = choices.is_given(key) or (
        stage.warmup_epochs is None and choices.is_given("schedule.warmup_epochs")
    )
    if warmup >= stage.epochs and not is_asked:
        reason = f"{warmup:g} epochs of warmup would leave nothing of {stage.epochs}"
        choices.choose(key, round(WARMUP_SHARE * stage.epochs, 3), reason)


def _classes(choices: _Choices, counts: Mapping[str, int]) -> None:
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


def _batch(choices: _Choices, machine: Machine, images: int) -> None:
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


def _largest(choices: _Choices) -> int:
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


def _threads(choices: _Choices, machine: Machine) -> None:
    cores = machine.cores
    if choices.get("data.workers") == "auto":
        workers = 1 if cores <= 2 else min(cores, MOST_WORKERS)
        choices.choose("data.workers", workers, f"{cores} cores")
    if choices.get("training.threads") == "auto":
        choices.choose("training.threads", cores, f"{cores} cores")


def _augment(choices: _Choices) -> None:
    policy = choices.get("augment.policy")
    choices.place("augment.steps", resolve_steps(policy, choices.get("augment.steps")))
    choices.note("augment.steps", f"{AUTO}policy {policy}")


def _precision(choices: _Choices, machine: Machine, measure: Measure | None) -> None:
    kind = _kind(choices)
    precision, last = choices.get("training.precision"), choices.get("training.channels_last")
    _refuse_precision(choices, kind, precision)
    if choices.problems or "auto" not in (precision, last):
        return
    way = _way(choices, kind, precision, last, machine, measure)
    if precision == "auto":
        choices.choose("training.precision", way.precision, way.reason)
    if last == "auto":
        choices.choose("training.channels_last", way.channels_last, f"goes with {way.precision}")


def _way(
    choices: _Choices,
    kind: str,
    precision: str,
    last: bool | str,
    machine: Machine,
    measure: Measure | None,
) -> Way:
    if kind == "cuda":
        return on_cuda(precision, last, has_bf16=machine.bf16)
    if kind == "mps":
        return on_mps(precision, last)
    return on_cpu(precision, last, measure(choices.recipe()) if measure else None)


def _refuse_precision(choices: _Choices, kind: str, precision: str) -> None:
    if kind == "cpu" and precision == "fp16":
        choices.problem(
            f"{choices.said('training.precision')}, which is 15 to 20 times slower on a CPU; "
            "allowed: auto, fp32, bf16",
            "--precision auto",
        )
    if kind == "mps" and precision in ("fp16", "bf16"):
        choices.problem(
            f"{choices.said('training.precision')}, which is off on Apple GPUs; "
            "allowed: auto, fp32",
            "--precision auto",
        )
