"""Decides what computes and how: threads, precision, memory layout, and what runs frozen layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from espalier.errors import ModelError
from espalier.recipe.choices import Choices
from espalier.recipe.precision import (
    EngineSpeeds,
    Measured,
    Way,
    choose_engine,
    choose_threads,
    frozen_precision,
    needs_ways,
    on_cpu,
    on_cuda,
    on_mps,
)
from espalier.recipe.schema import Recipe

if TYPE_CHECKING:
    from espalier.records import Machine

Measure = Callable[[Recipe], Measured]
MeasureEngine = Callable[[Recipe], EngineSpeeds]

FROZEN = "features.precision"
GROUPED = "training.grouped_fp32"


def decide_arithmetic(
    choices: Choices,
    kind: str,
    machine: Machine,
    images: int,
    measure: Measure | None,
    measure_engine: MeasureEngine | None,
) -> None:
    """Choose all of it within what is given, or note why that cannot hold.

    Args:
        choices: Model, sizes and batch are decided.
        kind: ``cpu``, ``cuda`` or ``mps``.
        machine: What this process may use.
        images: For training.
        measure: As for ``resolve``.
        measure_engine: As for ``resolve``.
    """
    _refuse(choices, kind)
    _refuse_engine(choices, kind, measure_engine)
    if choices.problems:
        return
    measured = _measured(choices, kind, machine, measure)
    _threads(choices, kind, machine, measured)
    is_open = choices.get("training.precision") == "auto"
    _precision(choices, _way(choices, kind, machine, measured))
    if choices.get(FROZEN) == "auto":
        _frozen_precision(choices, measured if is_open else None)
    if choices.get("features.engine") == "auto":
        _engine(choices, kind, images, measure_engine)


def _refuse(choices: Choices, kind: str) -> None:
    """Formats that are slow or missing on the device, and values without effect."""
    precision = choices.get("training.precision")
    if kind == "cpu" and precision == "fp16":
        choices.problem(
            f"{choices.said('training.precision')}, which is 15 to 20 times slower on a CPU; "
            "allowed: auto, fp32, bf16",
            "--precision auto",
        )
    if kind == "mps":
        _refuse_half(choices, "training.precision", "--precision auto")
        _refuse_half(choices, FROZEN, f"--set {FROZEN}=auto")
    if choices.get(GROUPED) is True and choices.is_given(GROUPED):
        _refuse_grouped(choices, kind, precision)


def _refuse_half(choices: Choices, key: str, hint: str) -> None:
    if choices.get(key) in ("fp16", "bf16"):
        text = f"{choices.said(key)}, which is off on Apple GPUs; allowed: auto, fp32"
        choices.problem(text, hint)


def _refuse_grouped(choices: Choices, kind: str, precision: str) -> None:
    if kind != "cpu":
        reason = f"it holds for a CPU, and this is {kind}"
    elif precision == "fp32":
        reason = f"it needs bf16, and {choices.said('training.precision')}"
    else:
        return
    text = f"{choices.said(GROUPED)} has no effect: {reason}; allowed: auto, false"
    choices.problem(text, f"--set {GROUPED}=auto")


def _refuse_engine(choices: Choices, kind: str, measure_engine: MeasureEngine | None) -> None:
    if choices.get("features.engine") != "openvino":
        return
    said = choices.said("features.engine")
    if kind != "cpu":
        text = f"{said}, which runs on a CPU, and this is {kind}; allowed: auto, eager"
        choices.problem(text, "--set features.engine=auto")
    elif measure_engine is None:
        text = f"{said}, which is not installed; allowed here: auto, eager"
        choices.problem(text, "pip install 'espalier[openvino]'")


def _measured(
    choices: Choices, kind: str, machine: Machine, measure: Measure | None
) -> Measured | None:
    """Figures for what is open; None where none are wanted."""
    recipe = choices.recipe()
    are_threads_open = recipe.training.threads == "auto" and machine.cores > 1
    if kind != "cpu" or measure is None or not (are_threads_open or needs_ways(recipe.training)):
        return None
    return measure(recipe)


def _threads(choices: Choices, kind: str, machine: Machine, measured: Measured | None) -> None:
    if choices.get("training.threads") != "auto":
        return
    if kind != "cpu":
        choices.choose("training.threads", machine.cores, f"{machine.cores} cores")
        return
    choices.choose("training.threads", *choose_threads(machine.cores, measured))


def _way(choices: Choices, kind: str, machine: Machine, measured: Measured | None) -> Way:
    training = choices.recipe().training
    if kind == "cuda":
        return on_cuda(training.precision, training.channels_last, has_bf16=machine.bf16)
    if kind == "mps":
        return on_mps(training.precision, training.channels_last)
    return on_cpu(training, measured)


def _precision(choices: Choices, way: Way) -> None:
    is_open = choices.get("training.precision") == "auto"
    follows = f"goes with {way.precision}" if is_open else way.reason
    if is_open:
        choices.choose("training.precision", way.precision, way.reason)
    if choices.get("training.channels_last") == "auto":
        choices.choose("training.channels_last", way.channels_last, follows)
    if choices.get(GROUPED) == "auto":
        reason = follows if way.precision == "bf16" else f"no effect in {way.precision}"
        choices.choose(GROUPED, way.grouped_fp32, reason)


def _frozen_precision(choices: Choices, measured: Measured | None) -> None:
    """Measured where precision was open; a precision that a person gave holds for all layers."""
    found = frozen_precision(measured) if measured else None
    training = choices.get("training.precision")
    if found is None and training == "fp16":
        found = ("fp32", "frozen layers are kept in bf16 or fp32, and this GPU computes no bf16")
    choices.choose(FROZEN, *(found or (training, "as training.precision")))


def _engine(choices: Choices, kind: str, images: int, measure_engine: MeasureEngine | None) -> None:
    if kind != "cpu":
        choices.choose("features.engine", "eager", f"openvino runs on a CPU, and this is {kind}")
    elif measure_engine is None:
        choices.choose("features.engine", "eager", "openvino is not installed")
    else:
        views = choices.get("features.views")
        passes = images * (views if isinstance(views, int) else 1)
        try:
            speeds = measure_engine(choices.recipe())
        except ModelError as error:
            choices.choose("features.engine", "eager", error.message)
            return
        choices.choose("features.engine", *choose_engine(passes, *speeds))
