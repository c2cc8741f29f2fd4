"""What an epoch was worth: validation, the clean-train probe, and the row that says so."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from espalier import metrics
from espalier.models.inference import predict_logits, return_freed_memory
from espalier.models.stages import model_parts
from espalier.records import EpochRow, Predictions
from espalier.run_record import EpochSigns
from espalier.train.features import Batches
from espalier.train.finite import check_judged
from espalier.train.job import Job
from espalier.train.session import Session
from espalier.train.state import State
from espalier.train.vitals import FirstKept, epoch_signs, val_confusion
from espalier.vitals.activity import ActivityWatch, FirstBatchWatched
from espalier.vitals.judged import Counts
from espalier.vitals.probing import image_losses


@dataclass(frozen=True)
class Judgement:
    """What an epoch was worth.

    Attributes:
        row: Of ``results.csv``.
        signs: What else rules want to know of it.
        confusion: Of validation [K, K]; None for very many classes.
        losses: Plain cross-entropy of each image of the probe, by its sample id.
    """

    row: EpochRow
    signs: EpochSigns
    confusion: Counts | None
    losses: dict[str, float]


def judge_epoch(job: Job, session: Session, state: State) -> Judgement:
    """Validate, measure the probe, move ``state`` past the epoch, and sum it up."""
    started = time.perf_counter()
    return_freed_memory()
    watch, kept = ActivityWatch(session.judged, model_parts(job.model)), FirstKept(session.probe)
    watched = replace(session, judged=FirstBatchWatched(session.judged, watch))
    seen = predict(job, watched, kept)
    probe = metrics.summary(seen)
    check_judged(job, session, state, probe["loss"])
    judged = predict(job, session, session.val)
    val = metrics.summary(judged)
    signs = epoch_signs(job, session, state, probe=seen, val=judged, watch=watch, first=kept.first)
    return_freed_memory()
    best = is_best(job.recipe.checkpointing.monitor, val, state)
    advance(job, state, val)
    totals = state.totals
    norms = stacked(totals.grad_norms)
    updates = totals.update_norms
    row = EpochRow(
        stage=session.stage.name,
        stage_index=state.stage_index,
        epoch=state.epoch,
        step=state.step,
        learning_rate=0.0 if session.stage.solve else group_rate(session, head=True),
        backbone_learning_rate=group_rate(session, head=False),
        train_loss=float(totals.loss) / max(1, totals.images),
        train_accuracy=float(totals.correct) / max(1, totals.images),
        probe_loss=probe["loss"],
        probe_accuracy=probe["accuracy"],
        val_loss=val["loss"],
        val_accuracy=val["accuracy"],
        val_macro_f1=val["macro_f1"],
        mean_grad_norm=float(norms.mean()),
        min_grad_norm=float(norms.min()),
        max_grad_norm=float(norms.max()),
        mean_update_norm=float(np.mean(updates)) if updates else 0.0,
        batches=totals.batches,
        seconds=totals.seconds + time.perf_counter() - started,
        best=best,
        cpu_seconds=time.process_time(),
    )
    state.rows.append(row)
    state.begin_epoch()
    losses = dict(zip(seen.sample_ids, image_losses(seen.logits, seen.labels), strict=True))
    return Judgement(row, signs, val_confusion(judged), losses)


def stacked(norms: Sequence[Tensor]) -> Tensor:
    """All gradient norms of the epoch in one tensor on the CPU, by one read from the device."""
    if not norms:
        return torch.zeros(1)
    # Those from before the run was resumed lie on the CPU.
    return torch.stack([norm.float().to(norms[-1].device) for norm in norms]).cpu()


def predict(job: Job, session: Session, loader: Batches) -> Predictions:
    """Predictions of the model as it stands for all samples of a loader."""
    samples = loader.samples
    logits = predict_logits(
        session.judged,
        loader.in_order(),
        len(samples),
        normalizer=session.normalizer,
        device=job.fabric.device,
        precision=job.recipe.training.precision,
        channels_last=cast(bool, job.recipe.training.channels_last),
    )
    return Predictions(
        tuple(sample.sample_id for sample in samples),
        tuple(sample.path for sample in samples),
        np.array([job.class_index[cast(str, s.label)] for s in samples], dtype=np.int64),
        logits,
        job.catalog.classes,
    )


def signed(monitor: str, scores: dict[str, float]) -> float:
    """The monitored score so that higher is better."""
    return -scores["loss"] if monitor == "loss" else scores[monitor]


def is_best(monitor: str, scores: dict[str, float], state: State) -> bool:
    """Whether this is the best epoch so far; keeps the score if it is. NaN never is."""
    score = signed(monitor, scores)
    if np.isnan(score) or (state.best_score is not None and score <= state.best_score):
        return False
    state.best_score = score
    return True


def advance(job: Job, state: State, scores: dict[str, float]) -> None:
    """Count the epoch, and let early stopping see its score."""
    state.epoch += 1
    state.stage_epoch += 1
    monitor = job.recipe.early_stopping.monitor
    # The plateau schedule looks for the same gain as early stopping.
    state.scores.append(signed(monitor, scores))
    state.stopped = state.stopper.step(scores[monitor])


def group_rate(session: Session, *, head: bool) -> float:
    """The fastest rate among the head's or the backbone's groups; 0 where none trains."""
    rates = [
        float(group["lr"])
        for group in session.optimizer.param_groups
        if str(group["name"]).startswith("head") is head
    ]
    return max(rates, default=0.0)
