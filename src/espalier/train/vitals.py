"""Vital signs of our own training: the probe in both modes, and what they are compared with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from espalier.data.loader import Batch
from espalier.files import write_whole
from espalier.models.inference import autocast, laid_out, memory_format
from espalier.models.stages import model_parts
from espalier.records import Predictions, Sample
from espalier.run_record import EpochSigns
from espalier.train.features import Batches
from espalier.train.job import Job
from espalier.train.session import Session, batch_order, enter_training_mode
from espalier.train.state import State
from espalier.vitals.activity import ActivityWatch
from espalier.vitals.folder import MOST_CLASSES
from espalier.vitals.judged import Counts, confusion_counts, per_class
from espalier.vitals.network import weight_norm
from espalier.vitals.parts import NormStatistics, drift, norm_statistics
from espalier.vitals.probing import BUSY_IMAGES, busy_figures, image_losses, loss_quantiles
from espalier.vitals.steps import EVERY_STEP_UNTIL, step_row, total_norm

__all__ = [
    "EVERY_STEP_UNTIL",
    "FirstKept",
    "busy",
    "epoch_signs",
    "step_row",
    "total_norm",
    "val_confusion",
]

Floats = npt.NDArray[np.float32]
# What is random in training mode must not repeat the numbers of training itself.
_BUSY_STREAM = 0xB05E


class FirstKept:
    """Batches of a loader, of which the first is kept: it is needed once more."""

    def __init__(self, loader: Batches) -> None:
        self.loader = loader
        self.first: Batch | None = None

    @property
    def samples(self) -> tuple[Sample, ...]:
        """What positions refer to."""
        return self.loader.samples

    def epoch(
        self, order: npt.NDArray[np.int64], epoch: int, start_batch: int = 0
    ) -> Iterator[Batch]:
        """Training batches in the given order."""
        return self.loader.epoch(order, epoch, start_batch)

    def in_order(self) -> Iterator[Batch]:
        """Every sample once, in its own order."""
        for batch in self.loader.in_order():
            self.first = self.first or batch
            yield batch


def busy(job: Job, session: Session, state: State, batch: Batch | None) -> tuple[float, float]:
    """Plain loss and accuracy of up to 64 images of the probe in training mode; leaves no trace."""
    if batch is None:
        return math.nan, math.nan
    recipe, device = job.recipe, job.fabric.device
    labels = batch.labels[:BUSY_IMAGES].to(device)
    layout = memory_format(cast(bool, recipe.training.channels_last))
    place = (recipe.training.seed, state.epoch, _BUSY_STREAM)

    def train() -> None:
        enter_training_mode(job, session)
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))

    def forward() -> Tensor:
        images = session.normalizer(batch.images[:BUSY_IMAGES].to(device))
        with autocast(device, cast(str, recipe.training.precision)):
            logits: Tensor = session.judged(laid_out(images, layout))
        return logits

    # The whole model: it holds frozen parts whose modes are those of its stage.
    return busy_figures(job.model, train, forward, labels)


def epoch_signs(
    job: Job,
    session: Session,
    state: State,
    *,
    probe: Predictions,
    val: Predictions,
    watch: ActivityWatch,
    first: Batch | None,
) -> EpochSigns:
    """Signs of the epoch that has just been judged, beside those of its row."""
    parts = model_parts(job.model)
    busy_loss, busy_accuracy = busy(job, session, state, first)
    confusion = val_confusion(val)
    recall, predicted = (None, None) if confusion is None else per_class(confusion)
    return EpochSigns(
        epoch=state.epoch + 1,
        busy_loss=busy_loss,
        busy_accuracy=busy_accuracy,
        weight_norm=weight_norm([p for tensors in parts.values() for p in tensors]),
        recall=recall,
        predicted=predicted,
        loss_quantiles=loss_quantiles(image_losses(probe.logits, probe.labels)),
        dead=watch.dead(),
        drift=drift(state.norms, norm_statistics(job.model, parts)),
        wait_seconds=state.totals.wait,
        drawn_share=drawn_share(job, session, state),
    )


def val_confusion(val: Predictions) -> Counts | None:
    """The confusion matrix of a validation; None for more classes than anybody reads."""
    if len(val.classes) > MOST_CLASSES:
        return None
    return confusion_counts(val.labels, val.predicted, len(val.classes))


def drawn_share(job: Job, session: Session, state: State) -> float:
    """Share of the training images that the epoch under way has drawn so far."""
    if session.stage.solve:
        return 1.0
    drawn = batch_order(job, session, state.epoch)[: state.totals.images]
    return len(np.unique(drawn)) / len(job.train)


def starting_norms(job: Job, state: State) -> Mapping[str, NormStatistics]:
    """Running statistics of BatchNorm as they were when the stage began.

    They are kept in a file beside the logs, so that a resumed run measures from the same point.
    """
    now = norm_statistics(job.model, model_parts(job.model))
    path = job.run.diagnostics / "stage_norms.npz"
    if state.stage_step > 0:
        try:
            with np.load(path) as held:
                if int(held["stage"]) == state.stage_index:
                    return {name: _held(held, name, norm) for name, norm in now.items()}
        except (OSError, ValueError, KeyError):
            pass
        return now
    arrays = {
        f"{name}.{part}": getattr(norm, part).numpy()
        for name, norm in now.items()
        for part in ("mean", "std")
    }
    write_whole(path, lambda place: np.savez(place, stage=state.stage_index, **arrays))
    return now


def _held(
    held: Mapping[str, np.typing.NDArray[np.float32]], name: str, now: NormStatistics
) -> NormStatistics:
    mean, std = (torch.from_numpy(held[f"{name}.{part}"]) for part in ("mean", "std"))
    return NormStatistics(now.part, mean, std)
