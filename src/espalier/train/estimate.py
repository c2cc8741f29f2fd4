"""How long a recipe will take here: each kind of work in it is timed on a batch or two.

What a stage keeps and what runs live is decided by the code that trains. Weights and most pixels
are made up, because they do not change the speed; the loaders are timed on the photographs.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from espalier.data.loader import Loader
from espalier.models.build import model_facts, set_image_size
from espalier.models.cut import cut_model
from espalier.models.inference import autocast, judging_batch, laid_out, memory_format
from espalier.models.stages import Trainable, set_mode, set_trainable
from espalier.recipe.schema import Stage
from espalier.records import Sample, Split
from espalier.train.devices import usable_cores
from espalier.train.inputs import Inputs, open_inputs
from espalier.train.job import Job
from espalier.train.kept import frozen_layers, keep_backbone
from espalier.train.loaders import build_loader, epoch_imgsz, judged_imgsz
from espalier.train.session import batches_of, go_on
from espalier.train.solve import ITERATIONS
from espalier.train.state import stopper_for

REPEATS = 3
# Photographs on which a loader is timed.
LOADED = 64
# Rows of features on which a step of a solution is timed.
SOLVED_ROWS = 1024


@dataclass(frozen=True)
class StageEstimate:
    """What one stage will do and how long that should take.

    Attributes:
        name: Of the stage.
        epochs: As planned; early stopping may make them fewer.
        steps: Optimizer steps in all.
        imgsz: Pixels across and down.
        trainable: Parameters that learn.
        frozen: Parameters that do not.
        lr: Peak rate of the head; 0 where it is solved for.
        backbone_lr: Peak rate of the backbone.
        inputs: What it trains on, and why, as a sentence.
        views: Augmented views of each image that frozen layers see once; 0: they run live.
        may_stop_early: Whether it has more epochs than early stopping waits for.
        seconds: Wall time of training, validation and probe.
    """

    name: str
    epochs: int
    steps: int
    imgsz: int
    trainable: int
    frozen: int
    lr: float
    backbone_lr: float
    inputs: str
    views: int
    may_stop_early: bool
    seconds: float


def estimate_stages(job: Job) -> list[StageEstimate]:
    """One estimate per stage; the BatchNorm statistics of the job's model are spoiled."""
    return [_estimate(job, stage) for stage in job.stages]


def estimate_features(job: Job) -> float:
    """Seconds for the frozen backbone to see every training image in its one fixed view."""
    return len(job.train) * _seconds_at_rest(job, job.stages[0])


def estimate_scores(job: Job) -> float:
    """Seconds to judge the best weights on validation and test, after training."""
    imgsz = judged_imgsz(job.recipe, job.stages[-1])
    images = len(job.catalog.in_split("val")) + len(job.catalog.in_split("test"))
    set_image_size(job.model, imgsz)
    computing = _seconds_to_look(job, job.model, _pixels(job, imgsz, judging_batch(imgsz)))
    return images * _together(job, _seconds_to_load(job, "val", imgsz), computing)


def _estimate(job: Job, stage: Stage) -> StageEstimate:
    # As in training, before anything is thawed: other sizes can mean other parameters.
    set_image_size(job.model, cast(int, stage.imgsz))
    counts = set_trainable(job.model, stage)
    layout = memory_format(cast(bool, job.recipe.training.channels_last))
    job.model.to(job.fabric.device, memory_format=layout)  # type: ignore[call-overload]
    job.model.train()
    set_mode(job.model, stage)
    inputs = open_inputs(job, stage, views=None, pause=go_on)
    patience = stopper_for(stage, job.recipe.early_stopping).patience
    return StageEstimate(
        name=stage.name,
        epochs=stage.epochs,
        steps=math.ceil(batches_of(job, stage) / job.recipe.training.accumulate) * stage.epochs,
        imgsz=cast(int, stage.imgsz),
        trainable=counts.trainable,
        frozen=counts.frozen,
        lr=0.0 if stage.solve else stage.lr,
        backbone_lr=cast(float, stage.backbone_lr) if counts.blocks else 0.0,
        inputs=_in_words(stage, inputs, counts),
        views=inputs.keeping.views,
        # The first epoch is always a gain.
        may_stop_early=patience is not None and stage.epochs > patience + 1,
        seconds=_seconds(job, stage, inputs),
    )


def _in_words(stage: Stage, inputs: Inputs, counts: Trainable) -> str:
    if stage.solve:
        return f"head solved for on kept features: {inputs.keeping.reason}"
    if inputs.keeping.views:
        return f"kept features: {inputs.keeping.reason}"
    if not counts.frozen:
        return "photographs in every epoch, because every layer learns"
    return f"photographs in every epoch, nothing is kept ({inputs.keeping.reason})"


def _seconds(job: Job, stage: Stage, inputs: Inputs) -> float:
    """Wall time of a stage, by what it does with its images."""
    others = len(inputs.val.samples) + len(inputs.probe.samples)
    if stage.solve:
        new = others if _baseline_has_kept(job, stage) else others + len(job.train)
        return new * _seconds_at_rest(job, stage) + _seconds_to_solve(job)
    draws = min(len(job.train), batches_of(job, stage) * cast(int, job.recipe.training.batch))
    if inputs.keeping.views == 0:
        return _seconds_live(job, stage, inputs, draws, others)
    return _seconds_kept(job, stage, inputs, draws, others)


def _baseline_has_kept(job: Job, stage: Stage) -> bool:
    """Whether the head is solved for on features that the instant baseline put on disk before."""
    features = job.recipe.features
    same = judged_imgsz(job.recipe, stage) == judged_imgsz(job.recipe, job.stages[0])
    is_made = features.baseline and job.recipe.model.weights != "none"
    return is_made and same and features.keep in ("auto", "disk")


def _seconds_live(job: Job, stage: Stage, inputs: Inputs, draws: int, others: int) -> float:
    judged, last = judged_imgsz(job.recipe, stage), cast(int, stage.imgsz)
    images = _pixels(job, last, _batch(job))
    training = _together(
        job, _seconds_to_load(job, "train", last), _seconds_to_train(job, stage, inputs, images)
    )
    looking = _together(
        job,
        _seconds_to_load(job, "val", judged),
        _seconds_to_look(job, inputs.model, _pixels(job, judged, judging_batch(judged))),
    )
    # Work grows with the pixels, where their number grows within the stage.
    sizes = sum((epoch_imgsz(stage, epoch) / last) ** 2 for epoch in range(stage.epochs))
    return sizes * draws * training + stage.epochs * others * looking


def _seconds_kept(job: Job, stage: Stage, inputs: Inputs, draws: int, others: int) -> float:
    """Frozen layers see each view once; then every epoch trains the layers behind them."""
    cut = cut_model(job.model)
    assert cut is not None, "features were to be kept of a model that cannot be cut"
    frozen = frozen_layers(job, cut.frozen)
    imgsz, judged = cast(int, stage.imgsz), judged_imgsz(job.recipe, stage)
    images = _pixels(job, imgsz, _batch(job))
    fixed = _pixels(job, judged, judging_batch(judged))
    views = min(stage.epochs, inputs.keeping.views) * len(job.train)
    making = _together(job, _seconds_to_load(job, "train", imgsz), _per_image(frozen, images, job))
    judging = _together(job, _seconds_to_load(job, "val", judged), _per_image(frozen, fixed, job))
    training = _seconds_to_train(job, stage, inputs, frozen(images))
    looking = _seconds_to_look(job, inputs.model, frozen(fixed))
    once = views * making + others * judging
    return once + stage.epochs * (draws * training + others * looking)


def _seconds_at_rest(job: Job, stage: Stage) -> float:
    """Per image: one fixed view through the whole frozen backbone."""
    imgsz = judged_imgsz(job.recipe, stage)
    set_image_size(job.model, imgsz)
    frozen = keep_backbone(job, go_on, on_disk=False).frozen
    computing = _per_image(frozen, _pixels(job, imgsz, judging_batch(imgsz)), job)
    return _together(job, _seconds_to_load(job, "val", imgsz), computing)


def _seconds_to_solve(job: Job) -> float:
    """Of a head on all training images, with as many steps as it may take."""
    rows = min(SOLVED_ROWS, len(job.train))
    features = torch.randn(rows, model_facts(job.model.name).features, device=job.fabric.device)
    head = job.model.head.eval()

    def step() -> None:
        head(features).square().mean().backward()
        head.zero_grad(set_to_none=True)

    return ITERATIONS * typical(step, job.fabric.device) * len(job.train) / rows


def _seconds_to_train(job: Job, stage: Stage, inputs: Inputs, images: Tensor) -> float:
    """Per image: a step forwards and backwards, through the layers that learn."""
    inputs.model.train()
    set_mode(job.model, stage)

    def step() -> None:
        with autocast(job.fabric.device, job.recipe.training.precision):
            loss = inputs.model(_laid_out(job, images)).float().square().mean()
        loss.backward()
        inputs.model.zero_grad(set_to_none=True)

    return typical(step, job.fabric.device) / len(images)


def _seconds_to_look(job: Job, model: nn.Module, images: Tensor) -> float:
    """Per image: through the model in evaluation mode."""
    model.eval()

    def look() -> None:
        with torch.inference_mode(), autocast(job.fabric.device, job.recipe.training.precision):
            model(_laid_out(job, images))

    return typical(look, job.fabric.device) / len(images)


def _per_image(work: Callable[[Tensor], object], images: Tensor, job: Job) -> float:
    return typical(lambda: work(images), job.fabric.device) / len(images)


def _seconds_to_load(job: Job, split: Split, imgsz: int) -> float:
    """Per image: from the store or the file to the pixels of a batch."""
    some = _spread(job.train, LOADED)
    loader = build_loader(job, some, split, imgsz, min(_batch(job), len(some)))
    device = loader.augment.device if loader.augment else torch.device("cpu")
    return typical(lambda: _read(loader), device) / len(some)


def _read(loader: Loader) -> None:
    for _ in loader.in_order():
        pass


def _spread(samples: Sequence[Sample], count: int) -> Sequence[Sample]:
    """So many samples from all over the list: neighbours are of one class and often one camera."""
    return samples[:: max(1, len(samples) // count)][:count]


def _together(job: Job, loading: float, computing: float) -> float:
    """Per image: readers work beside the arithmetic where there is a core for them."""
    spare = usable_cores() > cast(int, job.recipe.training.threads)
    if job.fabric.device.type == "cpu" and not spare:
        return loading + computing
    return max(loading, computing) if job.recipe.data.workers else loading + computing


def _batch(job: Job) -> int:
    return min(cast(int, job.recipe.training.batch), len(job.train))


def _pixels(job: Job, imgsz: int, batch: int) -> Tensor:
    """Made-up normalised images [B, 3, H, W]."""
    count = min(batch, len(job.train))
    return _laid_out(job, torch.randn(count, 3, imgsz, imgsz, device=job.fabric.device))


def _laid_out(job: Job, images: Tensor) -> Tensor:
    return laid_out(images, memory_format(cast(bool, job.recipe.training.channels_last)))


def typical(work: Callable[[], object], device: torch.device) -> float:
    """The middle of a few timings, after one that does not count.

    Not the shortest: neighbours that are on the machine now will be there while it trains.
    """
    timings = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        work()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        timings.append(time.perf_counter() - started)
    return statistics.median(timings[1:])
