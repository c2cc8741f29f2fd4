"""How fast each way of computing is on this CPU, measured in a few seconds with the model itself.

Measured because no rule of thumb holds: with AMX, bf16 makes ResNet-50 2.2 times faster and mobile
nets slower; without AMX it can be twice as slow for all.
"""

from __future__ import annotations

import copy
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from espalier.models.build import Classifier, build_model
from espalier.models.cut import Piece
from espalier.models.frozen import FrozenLayers, fold_batch_norm
from espalier.models.grouped import has_grouped_convolutions, keep_grouped_in_fp32
from espalier.models.inference import (
    autocast,
    keep_freed_memory,
    memory_format,
    return_freed_memory,
)
from espalier.models.openvino_layers import COMPILED_IMAGES, OpenVinoLayers, openvino_version
from espalier.recipe.precision import WAYS, EngineSpeeds, Measured, Setting, needs_ways, on_cpu
from espalier.recipe.schema import Recipe
from espalier.train.devices import usable_cores
from espalier.train.kept_plans import (
    engine_key,
    plan_key,
    read_engine,
    read_plan,
    write_engine,
    write_plan,
)

LARGEST_BATCH = 32
CLASSES = 10
REPEATS = 3
# CPU-seconds of a step of a quick model: as many images as fit.
STEP = 0.25
# CPU-seconds of a step with two images, up to which so many are taken; a quick model is below all.
QUICK_PAIR = 0.15
SLOW_PAIRS = ((0.3, 8), (0.75, 4), (math.inf, 2))
# CPU-seconds of all steps, and of all looks of the frozen backbone.
ALL_STEPS, ALL_LOOKS = 5.0, 0.8
# On the clock, of steps with one thread and with all: no further round after so long.
ALL_THREADS = 1.0
FAR_BEHIND = 1.5
# All threads for one image that take so many times as long as one thread are not tried on a step:
# beside four busy processes, 25 times was seen, and a step of ResNet-50 took 15 s.
HOPELESS = 1.5

# So many that OpenVINO has no batch to fill up.
ENGINE_IMAGES = 2 * COMPILED_IMAGES

Work = Callable[[], object]


def measure_plan(recipe: Recipe) -> Measured:
    """What is open in a recipe, measured: the ways to compute, and whether threads pay.

    Ways are timed in CPU-seconds of one thread, which neighbours on the machine hardly change, in
    turn, so that those who do meet all alike; the fastest of a few counts. Figures are kept for 30
    days. Threads are timed on the clock and anew in each run, because neighbours decide: two
    threads beside a busy one can be slower than one.

    Args:
        recipe: For a CPU; model, image size and batch are decided.
    """
    batch = max(2, min(LARGEST_BATCH, cast(int, recipe.training.batch)))
    measured = Measured()
    subject = None
    with _undisturbed():
        if needs_ways(recipe.training):
            key = plan_key(recipe, batch)
            kept = read_plan(key)
            if kept is None:
                subject = _open_subject(recipe, batch)
                kept = _measure_ways(subject)
                write_plan(key, kept)
            measured = kept
        if recipe.training.threads == "auto" and (cores := usable_cores()) > 1:
            subject = subject or _open_subject(recipe, batch)
            measured = _with_threads(subject, recipe, measured, cores)
    return measured


def measure_engine(recipe: Recipe) -> EngineSpeeds:
    """How fast the frozen backbone is in the ordinary way and with OpenVINO; kept for 30 days.

    In CPU-seconds of one thread. Compiling is everything between the pieces and the first
    features, the comparison of both ways included.

    Args:
        recipe: For a CPU; model, image size, batch and how frozen layers compute are decided.

    Raises:
        ModelError: OpenVINO is not installed, or cannot run this model.
    """
    key = engine_key(recipe, ENGINE_IMAGES, openvino_version() or "")
    speeds = read_engine(key)
    if speeds is None:
        with _undisturbed():
            speeds = _engine_speeds(recipe)
        write_engine(key, speeds)
    return speeds


def _engine_speeds(recipe: Recipe) -> EngineSpeeds:
    pieces = [Piece("backbone", _untrained(recipe).backbone)]
    last = cast(bool, recipe.training.channels_last)
    precision, cpu = recipe.features.precision, torch.device("cpu")
    eager = FrozenLayers(pieces, precision=precision, channels_last=last, device=cpu)
    compiled = OpenVinoLayers(pieces, precision=precision, channels_last=last, threads=1)
    imgsz = cast(int, recipe.training.imgsz)
    images = torch.randn(ENGINE_IMAGES, 3, imgsz, imgsz)
    seconds = _cpu_seconds(partial(compiled, images[:1]))
    looks: dict[str, Work] = {
        "eager": partial(eager, images),
        "openvino": partial(compiled, images),
    }
    found = contest(looks, ALL_LOOKS)
    return EngineSpeeds(ENGINE_IMAGES / found["eager"], ENGINE_IMAGES / found["openvino"], seconds)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """One thread, and random numbers and memory afterwards as if nothing had been."""
    keep_freed_memory()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(before)
        return_freed_memory()


@dataclass(frozen=True)
class _Subject:
    """What is timed: a model in both memory layouts, and images [B, 3, H, W] for it."""

    last: Classifier
    first: Classifier
    images: Tensor

    def work(self, setting: Setting) -> Work:
        """A training step as a way of computing has it."""
        precision, is_last, grouped = setting
        model = self.last if is_last else self.first
        # A copy per layout: a 1x1 weight that was channels-last once looks so ever after, and the
        # convolution would follow it.
        images = self.images.contiguous(memory_format=memory_format(is_last))
        return partial(_step, model, images, precision, grouped)


def _open_subject(recipe: Recipe, batch: int) -> _Subject:
    first, imgsz = _untrained(recipe), cast(int, recipe.training.imgsz)
    last = copy.deepcopy(first)
    last.to(memory_format=torch.channels_last)
    images = torch.randn(batch, 3, imgsz, imgsz)
    return _Subject(last.train(), first.train(), images[: _affordable(last, images)])


def _untrained(recipe: Recipe) -> Classifier:
    """The model with random weights: their values do not change the speed."""
    untrained = recipe.model.model_copy(update={"weights": "none"})
    model, _ = build_model(untrained, CLASSES, imgsz=cast(int, recipe.training.imgsz))
    return model


def _affordable(model: Classifier, images: Tensor) -> int:
    """So many images that a step is short: as many as in training where the model is quick.

    Throughput on a CPU is nearly flat from batch 4 on, but not equally so in all formats: casting
    the weights to bf16 takes the same time for few images. EfficientNet-B0 in bf16 with grouped
    convolutions in fp32 is 1.02 times as fast as fp32 at batch 4, and 1.15 times at 32.
    """

    def seconds(count: int) -> float:
        few = images[:count].contiguous(memory_format=torch.channels_last)
        return _cpu_seconds(partial(_step, model, few, "fp32", False))

    pair = seconds(2)
    if pair > QUICK_PAIR:
        return min(len(images), next(count for limit, count in SLOW_PAIRS if pair <= limit))
    eight = seconds(min(8, len(images)))
    fitting = int(8 * STEP / eight)
    return min(len(images), 1 << max(3, fitting.bit_length() - 1))


def _measure_ways(subject: _Subject) -> Measured:
    works = {
        name: subject.work(setting)
        for name, setting in WAYS.items()
        if not setting[2] or has_grouped_convolutions(subject.last)
    }
    count = len(subject.images)
    # Once for nothing: the first step of this size has to ask the system for its memory.
    next(iter(works.values()))()
    steps = contest(works, ALL_STEPS)
    # A step may have left them in fp32.
    keep_grouped_in_fp32(subject.last, False)
    layers = fold_batch_norm(subject.last.backbone).to(memory_format=torch.channels_last)
    looks = contest(
        {name: partial(_look, layers, subject.images, name) for name in ("fp32", "bf16")},
        ALL_LOOKS,
    )
    return Measured(
        {name: seconds / count for name, seconds in steps.items()},
        {name: seconds / count for name, seconds in looks.items()},
    )


def contest(works: Mapping[str, Work], seconds: float) -> dict[str, float]:
    """The fewest CPU-seconds that each piece of work took, all of them in turn.

    Each is done once, and then up to twice more as far as ``seconds`` allow; but not what is far
    behind the best, and not the best alone. That is judged after the first time only where it took
    most of ``seconds``: quick work takes up to 1.6 times as long at first, to prepare its kernels.
    """
    best = {name: _cpu_seconds(work) for name, work in works.items()}
    spent = sum(best.values())
    for turn in range(1, REPEATS):
        rivals = list(best)
        if turn > 1 or 2 * spent > seconds:
            rivals = [name for name in best if best[name] <= FAR_BEHIND * min(best.values())]
        spent += sum(best[name] for name in rivals)
        if len(rivals) < 2 or spent > seconds:
            break
        for name in rivals:
            best[name] = min(best[name], _cpu_seconds(works[name]))
    return best


def _cpu_seconds(work: Work) -> float:
    started = time.process_time()
    work()
    # A clock of coarse ticks may stand still; a figure of zero would divide what comes after.
    return max(time.process_time() - started, 1e-9)


def _with_threads(subject: _Subject, recipe: Recipe, measured: Measured, cores: int) -> Measured:
    """The figures with those of threads, for the way that will be chosen from the others."""
    way = on_cpu(recipe.training, measured)
    keep_grouped_in_fp32(subject.last, way.grouped_fp32)
    step = subject.work((way.precision, way.channels_last, way.grouped_fp32))
    look = partial(_look, subject.last, subject.images[:1], way.precision)
    return replace(measured, threads=thread_seconds(look, step, cores), load=_load())


def thread_seconds(look: Work, step: Work, cores: int) -> dict[int, float]:
    """Seconds on the clock of a step with one thread and with one per core.

    Of a look instead, which is short, where that says already that one per core is hopeless.
    """
    found = _in_turn(look, cores)
    return found if found[cores] > HOPELESS * found[1] else _in_turn(step, cores)


def _in_turn(work: Work, cores: int) -> dict[int, float]:
    """Number of threads -> median seconds on the clock.

    The median, not the fewest: a neighbour who takes a core is no noise here but the question.
    """
    first = {count: _on_the_clock(work, count) for count in (1, cores)}
    if sum(first.values()) > ALL_THREADS:
        return first
    times: dict[int, list[float]] = {count: [] for count in first}
    started = time.perf_counter()
    for _ in range(REPEATS):
        for count, values in times.items():
            values.append(_on_the_clock(work, count))
        if time.perf_counter() - started > ALL_THREADS:
            break
    return {count: statistics.median(values) for count, values in times.items()}


def _on_the_clock(work: Work, threads: int) -> float:
    torch.set_num_threads(threads)
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _load() -> float | None:
    """Processes that wanted a core over the last minute."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def _step(model: nn.Module, images: Tensor, precision: str, grouped: bool) -> None:
    keep_grouped_in_fp32(model, grouped)
    with autocast(images.device, precision):
        loss = model(images).float().square().mean()
    loss.backward()
    model.zero_grad(set_to_none=True)


@torch.inference_mode()
def _look(layers: nn.Module, images: Tensor, precision: str) -> None:
    was_training = layers.training
    layers.eval()
    with autocast(images.device, precision):
        layers(images.contiguous(memory_format=torch.channels_last))
    layers.train(was_training)
