"""What is written after an epoch, in the order that a kill at any moment forgives.

First the logs, then ``best.pt``, then ``last.pt``: a resumed run starts at ``last.pt``, drops the
log rows after it and makes them again, so that nothing is lost and nothing stands twice.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from espalier import files, runs
from espalier.errors import DiskError
from espalier.models.checkpoints import load_checkpoint, restore_weights, save_checkpoint
from espalier.records import EpochRow, History
from espalier.run_record import EpochSigns, to_plain
from espalier.runs import RunDir
from espalier.train.job import Job
from espalier.train.judge import Judgement
from espalier.train.loaders import judged_imgsz
from espalier.train.session import Session
from espalier.train.state import State
from espalier.vitals.folder import SignsFolder

# What of ``EpochSigns`` stands in the lines beside the figures of a row.
TRAIN_SIGNS = (
    "busy_loss", "busy_accuracy", "weight_norm", "loss_quantiles", "dead", "drift", "wait_seconds",
    "drawn_share",
)  # fmt: skip
VAL_SIGNS = ("recall", "predicted", "ema_accuracy")


def keep_epoch(job: Job, session: Session, state: State, judged: Judgement) -> None:
    """Put a finished epoch on record, and tell who watches."""
    row = judged.row
    keep_logs(job, judged)
    runs.write_results(job.run.results_file, state.rows)
    if row.best and job.recipe.checkpointing.save_best:
        save_checkpoint(job.run.best, payload(job, session, state))
    # An epoch that was cut short goes on from the checkpoint that lies in its middle.
    if job.recipe.checkpointing.save_last and row.batches == session.batches_per_epoch:
        if row.best and job.recipe.checkpointing.save_best:
            same_file(job.run.best, job.run.last)
        else:
            save_last(job, session, state)
    job.watch.on_epoch(row, current_history(job, state))


def keep_logs(job: Job, judged: Judgement) -> None:
    """Append the lines of an epoch; the confusion matrix is that of the last one alone."""
    row, folder = judged.row, SignsFolder(job.run.diagnostics)
    files.append_row(job.run.train_diagnostics, train_line(row, judged.signs))
    files.append_row(job.run.val_diagnostics, val_line(row, judged.signs))
    folder.append_losses(row.epoch, list(judged.losses), list(judged.losses.values()))
    if judged.confusion is not None:
        folder.write_confusion(row.epoch, job.catalog.classes, judged.confusion.tolist())


def current_history(job: Job, state: State) -> History:
    """The run so far, as a picture needs it."""
    rows = tuple(state.rows)
    return History(
        rows, runs.stage_spans(job.recipe, rows), job.run.name, runs.run_facts(job.recipe)
    )


def train_line(row: EpochRow, signs: EpochSigns | None = None) -> dict[str, Any]:
    """A line of ``train_diagnostics.jsonl``."""
    return {
        "epoch": row.epoch,
        "step": row.step,
        "stage": row.stage,
        "loss": row.train_loss,
        "accuracy": row.train_accuracy,
        "learning_rate": row.learning_rate,
        "backbone_learning_rate": row.backbone_learning_rate,
        "mean_grad_norm": row.mean_grad_norm,
        "min_grad_norm": row.min_grad_norm,
        "max_grad_norm": row.max_grad_norm,
        "mean_weight_update": row.mean_update_norm,
        "clean_loss": row.probe_loss,
        "clean_accuracy": row.probe_accuracy,
        "batches": row.batches,
        "seconds": row.seconds,
        **named(signs or EpochSigns(row.epoch), TRAIN_SIGNS),
    }


def val_line(row: EpochRow, signs: EpochSigns | None = None) -> dict[str, Any]:
    """A line of ``val_diagnostics.jsonl``."""
    return {
        "epoch": row.epoch,
        "step": row.step,
        "stage": row.stage,
        "loss": row.val_loss,
        "accuracy": row.val_accuracy,
        "macro_f1": row.val_macro_f1,
        "learning_rate": row.learning_rate,
        "best": row.best,
        **named(signs or EpochSigns(row.epoch), VAL_SIGNS),
    }


def named(signs: EpochSigns, names: Sequence[str]) -> dict[str, Any]:
    """Some signs of an epoch as plain values."""
    return {name: to_plain(getattr(signs, name)) for name in names}


def payload(job: Job, session: Session, state: State) -> dict[str, Any]:
    """Everything that rebuilds, explains and continues the run."""
    return {
        "format": runs.FORMAT_VERSION,
        "epoch": state.epoch,
        "step": state.step,
        "stage_index": state.stage_index,
        "model": job.model.state_dict(),
        "optimizer": session.optimizer.state_dict(),
        "scaler": job.fabric.strategy.precision.state_dict(),
        "val_macro_f1": state.rows[-1].val_macro_f1 if state.rows else None,
        "model_name": job.recipe.model.name,
        "num_classes": len(job.catalog.classes),
        "classes": list(job.catalog.classes),
        "imgsz": judged_imgsz(job.recipe, session.stage),
        "recipe": job.recipe.model_dump_json(),
        "history": [history_line(row) for row in state.rows],
        "state": state.to_plain(),
    }


def history_line(row: EpochRow) -> dict[str, Any]:
    """A row of the history inside a checkpoint: losses, accuracies, rate, per epoch."""
    return {
        "epoch": row.epoch,
        "stage": row.stage,
        "train_loss": row.train_loss,
        "val_loss": row.val_loss,
        "train_accuracy": row.train_accuracy,
        "val_accuracy": row.val_accuracy,
        "val_macro_f1": row.val_macro_f1,
        "learning_rate": row.learning_rate,
    }


def save_last(job: Job, session: Session, state: State) -> None:
    """Write ``last.pt`` as things stand, in the middle of an epoch if need be."""
    save_checkpoint(job.run.last, payload(job, session, state))


def same_file(source: Path, target: Path) -> None:
    """Make ``target`` the same bytes as ``source`` without writing them twice.

    A link is safe because checkpoints are only ever replaced, never written into.
    """
    partial = files.partial_of(target)
    with contextlib.suppress(FileNotFoundError):
        partial.unlink()
    try:
        os.link(source, partial)
    except OSError:  # a file system without hard links
        files.write_whole(target, lambda place: shutil.copyfile(source, place))
        return
    os.replace(partial, target)


@contextlib.contextmanager
def explain_disk(run: RunDir) -> Iterator[None]:
    """Name the command that goes on where a disk is full in the middle of training."""
    try:
        yield
    except DiskError as error:
        place = shlex.quote(str(run.path))
        hint = f"free some space there, then: espalier train --resume {place}"
        raise DiskError(error.message, hint=hint) from error


def carry_best_weights(job: Job) -> None:
    """Start the next stage from the best weights so far."""
    if job.run.best.exists():
        restore_weights(job.model, load_checkpoint(job.run.best))
