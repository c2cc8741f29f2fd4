"""Images per second in training, from files and from memory: what reading photographs costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.measure import Spread, Timing, short, spread, timed
from benchmarks.settings import Settings, open_stage
from espalier.data.loader import Batch, Loader, batch_bounds
from espalier.train.features import Batches
from espalier.train.interrupts import Interrupts
from espalier.train.job import Job
from espalier.train.loop import train_epoch
from espalier.train.session import Session
from espalier.train.state import State


class SyntheticLoader(Loader):
    """Batches of the same sizes, labels and layout, of pixels drawn once: reading costs nothing."""

    def __init__(self, real: Loader) -> None:
        self.samples, self.labels = real.samples, real.labels
        self.transform, self.batch = real.transform, real.batch
        side = real.transform.imgsz
        # A single image left over makes a batch one larger.
        shape = (real.batch + 1, side, side, 3)
        pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        self.images = torch.from_numpy(pixels).permute(0, 3, 1, 2)

    def epoch(
        self, order: npt.NDArray[np.int64], epoch: int, start_batch: int = 0
    ) -> Iterator[Batch]:
        """As that of the real loader."""
        for start, stop in batch_bounds(len(order), self.batch, join_last=True)[start_batch:]:
            positions = order[start:stop]
            labels = torch.from_numpy(self.labels[positions])
            yield Batch(self.images[: len(labels)], labels, torch.from_numpy(positions))


def synthetic(session: Session) -> Callable[[int], Batches]:
    """What each epoch trains on, with pixels drawn once; kept features are cheap as they are."""
    real = session.train(0)
    loader = SyntheticLoader(real) if isinstance(real, Loader) else real
    return lambda _: loader


def measure_throughput(settings: Settings, job: Job) -> dict[str, Any]:
    """Each stage that reads photographs, and all of them together as the preset plans them."""
    # Kept features are read instead of photographs, and with them there is nothing to compare.
    features = job.recipe.features.model_copy(update={"keep": "off"})
    live = replace(job, recipe=job.recipe.model_copy(update={"features": features}))
    stages = [measure_stage(settings, live, index) for index in settings.stages(live)]
    return {"stages": stages, "run": whole_run(stages)}


def measure_stage(settings: Settings, job: Job, index: int) -> dict[str, Any]:
    """Real and synthetic epochs in turn, each first every other time: A B B A A B."""
    session, state = open_stage(job, index)
    real = replace(session, batches_per_epoch=settings.batches or session.batches_per_epoch)
    made_up = replace(real, train=synthetic(session))
    for warm in (real, made_up):
        one_epoch(job, replace(warm, batches_per_epoch=2), state)
    pairs = [
        pair(job, real, made_up, state, flip=turn % 2 == 1) for turn in range(settings.repeats)
    ]
    images = batch_bounds(len(job.train), cast(int, job.recipe.training.batch), join_last=True)[
        real.batches_per_epoch - 1
    ][1]
    return {
        "stage": session.stage.name,
        "epochs": session.stage.epochs,
        "images": images,
        **compared(images, pairs),
    }


def pair(
    job: Job, real: Session, made_up: Session, state: State, *, flip: bool
) -> tuple[Timing, Timing]:
    """Both timings, real first in the result; a load that grows must not favour one of them."""
    order = (made_up, real) if flip else (real, made_up)
    first, second = (one_epoch(job, session, state) for session in order)
    return (second, first) if flip else (first, second)


def one_epoch(job: Job, session: Session, state: State) -> Timing:
    """The training part of an epoch, exactly as a run does it, from the stage's first step."""
    state.begin_epoch()
    state.stage_step = 0

    def train() -> None:
        train_epoch(job, session, state, Interrupts())
        # A read of the sums waits for a device that is still busy.
        float(state.totals.loss)

    return timed(train)


def compared(images: int, pairs: list[tuple[Timing, Timing]]) -> dict[str, Spread]:
    """Speeds of both, their ratio, and the loader's share of the processor."""
    return {
        "end_to_end": spread([images / real.wall for real, _ in pairs]),
        "synthetic": spread([images / made_up.wall for _, made_up in pairs]),
        "ratio": spread([made_up.wall / real.wall for real, made_up in pairs]),
        "cpu_ratio": spread([made_up.cpu / real.cpu for real, made_up in pairs]),
        "loader_share": spread([1 - made_up.cpu / real.cpu for real, made_up in pairs]),
        "cpu_ms_per_image": spread([1000 * real.cpu / images for real, _ in pairs]),
    }


def whole_run(stages: list[dict[str, Any]]) -> dict[str, float]:
    """End to end against synthetic over all planned epochs, from the medians of the stages."""

    def seconds(kind: str) -> Any:
        return sum(float(stage["epochs"]) / stage[kind]["median"] for stage in stages)

    return {"ratio": short(seconds("synthetic") / seconds("end_to_end"))}
