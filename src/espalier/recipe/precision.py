"""How to compute: format, memory layout, threads, engine; measured on a CPU, known elsewhere.

Pure functions from figures to a choice with its reason. ``espalier.train.probing`` takes the
figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from espalier.recipe.schema import Training

# Measured here: the fastest of three interleaved steps in CPU-seconds varies by 1-2 % beside a
# neighbour who uses all cores. Less than this much faster is no reason to leave the plainer way.
GAIN = 1.04
# Two threads beside a busy neighbour take 4-5 times the CPU of one, and a neighbour may come later.
THREADS_GAIN = 1.3
# An estimate of the work must not decide by a hair's breadth about another engine.
ENGINE_GAIN = 1.2

Setting = tuple[str, bool, bool]

WAYS: Mapping[str, Setting] = {
    "fp32-channels-last": ("fp32", True, False),
    "fp32": ("fp32", False, False),
    "bf16-channels-last-grouped-fp32": ("bf16", True, True),
    "bf16-channels-last": ("bf16", True, False),
}
"""Name -> precision, channels-last, grouped convolutions in fp32; the plainest first."""


class Way(NamedTuple):
    """A way to compute, and why this one."""

    precision: str
    channels_last: bool
    grouped_fp32: bool
    reason: str


@dataclass(frozen=True)
class Measured:
    """What was measured of a model on this machine; empty where it was not needed.

    Attributes:
        training: Way -> CPU-seconds per image of a training step on one thread.
        frozen: Precision -> the same of the frozen backbone, channels-last.
        threads: Number of threads -> seconds on the clock of the same work.
        load: Processes that wanted a core while threads were measured; None: unknown.
        date: Day on which ``training`` and ``frozen`` were measured; empty: just now.
    """

    training: Mapping[str, float] = field(default_factory=dict)
    frozen: Mapping[str, float] = field(default_factory=dict)
    threads: Mapping[int, float] = field(default_factory=dict)
    load: float | None = None
    date: str = ""

    def said(self, seconds: Mapping[str, float]) -> str:
        """Figures as a reason holds them."""
        times = ", ".join(f"{name} {milliseconds(value)}" for name, value in seconds.items())
        day = f" {self.date} on this machine," if self.date else ""
        return f"measured{day} per image: {times}"


class EngineSpeeds(NamedTuple):
    """Frozen layers in the ordinary way and compiled: images per second, seconds to compile."""

    eager_rate: float
    openvino_rate: float
    compile_seconds: float


def on_cuda(precision: str, channels_last: bool | str, *, has_bf16: bool) -> Way:
    """What suits an NVIDIA GPU, within what is already fixed (``auto`` is not)."""
    chosen, reason = precision, "the precision is given"
    if precision == "auto":
        chosen = "bf16" if has_bf16 else "fp16"
        reason = (
            "tensor cores, and the range of fp32: needs no loss scaling"
            if has_bf16
            else "tensor cores; this GPU computes no bf16"
        )
    last = chosen != "fp32" if channels_last == "auto" else bool(channels_last)
    return Way(chosen, last, False, reason)


def on_mps(precision: str, channels_last: bool | str) -> Way:
    """What suits an Apple GPU: plain fp32, as mixed precision brings nothing reliable there."""
    return Way(
        "fp32" if precision == "auto" else precision,
        False if channels_last == "auto" else bool(channels_last),
        False,
        "mixed precision is off on Apple GPUs",
    )


def on_cpu(training: Training, measured: Measured | None) -> Way:
    """The fastest way on this CPU by a clear margin, within what is already fixed.

    Args:
        training: ``precision``, ``channels_last`` and ``grouped_fp32``; ``auto`` is not fixed.
        measured: None: nothing was.
    """
    known = measured.training if measured else {}
    seconds = {name: known[name] for name in open_ways(training) if name in known}
    if measured is None or not seconds:
        return _unmeasured(training)
    return Way(*WAYS[fastest(seconds)], measured.said(seconds))


def open_ways(training: Training) -> list[str]:
    """The measurable ways that are still open, the plainest first."""
    fixed = (training.precision, training.channels_last, training.grouped_fp32)
    return [
        name
        for name, way in WAYS.items()
        if all(want in ("auto", have) for want, have in zip(fixed, way, strict=True))
    ]


def needs_ways(training: Training) -> bool:
    """Whether measuring could decide anything."""
    return len(open_ways(training)) > 1


def fastest(seconds: Mapping[str, float]) -> str:
    """The name with the fewest seconds; a later name must be clearly faster than those before.

    The choice takes at most ``GAIN`` times as long as the fastest.
    """
    names = list(seconds)
    best = names[0]
    for name in names[1:]:
        if seconds[name] * GAIN <= seconds[best]:
            best = name
    return best


def _unmeasured(training: Training) -> Way:
    grouped = training.grouped_fp32 is True
    precision: str = training.precision
    if precision == "auto":
        precision = "bf16" if grouped else "fp32"
    last = True if training.channels_last == "auto" else training.channels_last
    if grouped and training.precision == "auto":
        return Way(precision, last, grouped, "training.grouped_fp32 needs it")
    reason = "not measured; right on every CPU, and seldom the slower one"
    return Way(precision, last, grouped, reason)


def frozen_precision(measured: Measured) -> tuple[str, str] | None:
    """Precision of frozen layers and the reason; None where it was not measured."""
    if not measured.frozen:
        return None
    return fastest(measured.frozen), measured.said(measured.frozen)


def choose_threads(cores: int, measured: Measured | None) -> tuple[int, str]:
    """All cores where that is clearly faster on the clock, else one; and the reason."""
    seconds = measured.threads if measured else {}
    if measured is None or cores not in seconds or 1 not in seconds or cores == 1:
        return cores, "1 core" if cores == 1 else f"{cores} cores; not measured"
    gain = seconds[1] / seconds[cores]
    load = "" if measured.load is None else f", load average {measured.load:.2f}"
    times = (
        f"1 takes {milliseconds(seconds[1])} on the clock, {cores} {milliseconds(seconds[cores])}"
    )
    text = f"measured: {times} for the same, {gain:.2f} times as fast{load}"
    if gain >= THREADS_GAIN:
        return cores, text
    return 1, f"{text}; less than {THREADS_GAIN} does not pay for the cores"


def choose_engine(
    images: int, eager_rate: float, openvino_rate: float, compile_seconds: float
) -> tuple[Literal["eager", "openvino"], str]:
    """What runs the frozen layers, and the reason: compiling must clearly pay back.

    Args:
        images: Passes of one image through the frozen layers in this run.
        eager_rate: Images per second in the ordinary way.
        openvino_rate: Images per second when compiled.
        compile_seconds: Once per run.
    """
    eager = images / eager_rate
    compiled = compile_seconds + images / openvino_rate
    reason = (
        f"{images:,} images take {eager:.3g} s at {eager_rate:.3g} img/s, with openvino "
        f"{compiled:.3g} s at {openvino_rate:.3g} img/s, {compile_seconds:.3g} s of them to compile"
    )
    return ("openvino" if compiled * ENGINE_GAIN <= eager else "eager"), reason


def milliseconds(seconds: float) -> str:
    """Milliseconds to three digits, with the unit."""
    return f"{1000 * seconds:.3g} ms"
