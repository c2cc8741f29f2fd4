"""The training loop: stages, epochs, windows. Read ``fit`` first, it is the whole story.

Position alone decides randomness: order, augmentation, mixing and dropout are seeded from (seed,
epoch, batch), so a run that was killed and resumed equals one that never was, bit for bit on a CPU.
"""

from __future__ import annotations

import itertools
import math
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from espalier.data.loader import Batch
from espalier.errors import TrainingInterrupted
from espalier.files import append_row
from espalier.models.inference import laid_out, memory_format
from espalier.train.finite import check_finite, remember
from espalier.train.interrupts import Interrupts
from espalier.train.job import Job
from espalier.train.judge import judge_epoch
from espalier.train.keep import carry_best_weights, keep_epoch, save_last
from espalier.train.live import reason_to_end
from espalier.train.mixing import mix
from espalier.train.optimizers import restore_optimizer, set_rates
from espalier.train.record import begin_stage, note_weight_use
from espalier.train.session import Session, batch_order, enter_training_mode, open_session
from espalier.train.solve import solve_epoch
from espalier.train.state import State, stopper_for
from espalier.vitals.steps import label_entropy, step_row, total_norm


def fit(
    job: Job, state: State, interrupts: Interrupts, checkpoint: Mapping[str, Any] | None = None
) -> None:
    """Train through all stages, from where ``state`` stands, until done, stopped or out of time.

    Args:
        job: What to train, on what, how.
        state: Where the run stands; moved along.
        interrupts: Says when to stop in between.
        checkpoint: That of ``state`` when a run is taken up again; None for a new one.

    Raises:
        TrainingInterrupted: Ctrl-C or SIGTERM; everything up to the last step is saved.
        NonFiniteLossError: A loss is NaN or infinite; the last checkpoint is as it was.
    """
    for index in range(state.stage_index, len(job.stages)):
        if index > state.stage_index:
            state.begin_stage(index, stopper_for(job.stages[index], job.recipe.early_stopping))
            carry_best_weights(job)
        session = open_session(job, state, lambda: stop_if_asked(job, state, interrupts))
        if checkpoint is not None:
            restore(job, session, checkpoint)
            checkpoint = None
        elif job.recipe.checkpointing.save_last:
            # A run can be resumed from the first step of a stage on, also when it is killed between
            # writing best.pt and last.pt: what is best by then is not what was carried over.
            save_last(job, session, state)
        begin_stage(job, session, state)
        while not state.ended and not state.stage_done(session.stage):
            train_epoch(job, session, state, interrupts)
            keep_epoch(job, session, state, judge_epoch(job, session, state))
            note_weight_use(job, state)
            state.ended = state.ended or reason_to_end(job.watch)
        if state.ended:
            break
        note_early_stop(job, session, state)
    state.ended = state.ended or "all stages are done"


def note_early_stop(job: Job, session: Session, state: State) -> None:
    """Say that a stage ended before its planned epochs, and why."""
    if state.stopped and state.stage_epoch < session.stage.epochs:
        job.watch.on_note(
            f"stage {session.stage.name} stopped early, after {state.stage_epoch} of "
            f"{session.stage.epochs} epochs: no gain in {job.recipe.early_stopping.monitor} "
            f"for {state.stopper.patience} epochs"
        )


def restore(job: Job, session: Session, checkpoint: Mapping[str, Any]) -> None:
    """Give the optimizer its moments back, and the loss scaler its scale."""
    restore_optimizer(session.optimizer, checkpoint["optimizer"])
    if checkpoint["scaler"]:
        job.fabric.strategy.precision.load_state_dict(checkpoint["scaler"])


def train_epoch(job: Job, session: Session, state: State, interrupts: Interrupts) -> None:
    """One pass over the training images, or what is left of it; counts into ``state``."""
    enter_training_mode(job, session)
    if session.stage.solve:
        solve(job, session, state, interrupts)
        return
    order = batch_order(job, session, state.epoch)
    left = session.batches_per_epoch - state.batch
    started = time.perf_counter()
    batches = session.train(state.stage_epoch).epoch(order, state.epoch, start_batch=state.batch)
    for window in windows(itertools.islice(batches, left), job.recipe.training.accumulate):
        state.totals.wait += time.perf_counter() - started
        train_step(job, session, state, window)
        now = time.perf_counter()
        state.totals.seconds, started = state.totals.seconds + now - started, now
        obey(job, session, state, interrupts)
        if state.ended:
            break
    check_finite(job, session, state)


def solve(job: Job, session: Session, state: State, interrupts: Interrupts) -> None:
    """The epoch of a stage that is solved, unless that is done and only its judgement is left."""
    if state.batch == 0:
        started = time.perf_counter()
        solve_epoch(job, session, state)
        state.totals.seconds += time.perf_counter() - started
        report_step(job, session, state, None)
        obey(job, session, state, interrupts)


def windows(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """Consecutive groups of ``size`` batches; the last may be shorter."""
    iterator = iter(batches)
    while window := list(itertools.islice(iterator, size)):
        yield window


def train_step(job: Job, session: Session, state: State, window: list[Batch]) -> None:
    """One optimizer step on one window of micro-batches."""
    set_rates(session.optimizer, session.plan, state.stage_step, state.scores)
    loss = backward(job, session, state, window)
    measured = session.vitals.due(state.step)
    unscale(job, session)
    if measured:
        session.vitals.before_step()
    norm = clip(job, session)
    remember(state, loss, norm)
    # Elsewhere than on a CPU a look at the loss waits for the device: then only now and then.
    if measured or loss.device.type == "cpu":
        check_finite(job, session, state)
    session.optimizer.step()
    if measured:
        keep_vitals(job, session, state, loss, norm, window)
    session.optimizer.zero_grad(set_to_none=True)
    state.totals.grad_norms.append(norm)
    state.batch += len(window)
    state.totals.batches += len(window)
    state.step += 1
    state.stage_step += 1
    report_step(job, session, state, float(loss) if measured else None)


def backward(job: Job, session: Session, state: State, window: list[Batch]) -> Tensor:
    """Gradients of the mean loss over the window's images; that loss, on the device."""
    images_in_window = sum(len(batch.labels) for batch in window)
    total = torch.zeros((), device=job.fabric.device)
    for offset, batch in enumerate(window):
        images, targets = prepare(job, session, state, batch, offset)
        logits = session.model(images)
        losses = session.loss(logits, targets)
        loss = losses.sum() / images_in_window
        job.fabric.backward(loss)
        total += loss.detach()
        count(state, logits.detach(), targets, loss.detach() * images_in_window)
        if state.weight_use is not None:
            state.weight_use.add(logits.detach(), targets, losses.detach())
    return total


def prepare(
    job: Job, session: Session, state: State, batch: Batch, offset: int
) -> tuple[Tensor, Tensor]:
    """Normalised, perhaps mixed images [B, 3, H, W] and targets [B] or [B, K], on the device."""
    recipe, device = job.recipe, job.fabric.device
    place = (recipe.training.seed, state.epoch, state.batch + offset)
    torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0] >> 1))
    images = session.normalizer(batch.images.to(device, non_blocking=True))
    targets = batch.labels.to(device, non_blocking=True)
    if recipe.augment.mixup > 0 or recipe.augment.cutmix > 0:
        images, targets = mix(
            images,
            targets,
            len(job.catalog.classes),
            recipe.augment.mixup,
            recipe.augment.cutmix,
            np.random.default_rng(place),
        )
    layout = memory_format(cast(bool, recipe.training.channels_last))
    return laid_out(images, layout), targets


@torch.no_grad()
def count(state: State, logits: Tensor, targets: Tensor, loss_sum: Tensor) -> None:
    """Add a micro-batch to the sums of the epoch, without waiting for the device."""
    hard = targets if targets.ndim == 1 else targets.argmax(dim=1)
    # MPS has no float64; everywhere else long epochs deserve it.
    exact = torch.float32 if logits.device.type == "mps" else torch.float64
    state.totals.loss = state.totals.loss + loss_sum.to(exact)
    state.totals.correct = state.totals.correct + (logits.argmax(dim=1) == hard).sum()
    state.totals.images += len(targets)


def unscale(job: Job, session: Session) -> None:
    """Make gradients true again where the loss was scaled: all that follows acts on these (D6)."""
    # A scaler knows optimizers by identity: it must be the one inside Fabric's, which it steps.
    job.fabric.strategy.precision.unscale_gradients(cast(Any, session.optimizer).optimizer)


def clip(job: Job, session: Session) -> Tensor:
    """Clip the gradients where the recipe says so; their norm before that, on the device."""
    learning = [tensor for group in session.optimizer.param_groups for tensor in group["params"]]
    limit = job.recipe.optimizer.clip_norm
    if limit is None:
        return total_norm([tensor.grad for tensor in learning])
    return torch.nn.utils.clip_grad_norm_(learning, limit)


def keep_vitals(
    job: Job, session: Session, state: State, loss: Tensor, norm: Tensor, window: list[Batch]
) -> None:
    """Append this step's vital signs to ``steps.jsonl``."""
    parts, update, _ = session.vitals.after_step()
    scaler = getattr(job.fabric.strategy.precision, "scaler", None)
    state.totals.update_norms.append(update)
    row = step_row(
        # As everywhere, the step counts what is finished: this one is the state's next.
        step=state.step + 1,
        stage=session.stage.name,
        epoch=state.epoch + 1,
        loss=float(loss),
        rate=float(session.optimizer.param_groups[-1]["lr"]),
        norm=float(norm),
        clip=job.recipe.optimizer.clip_norm,
        entropy=label_entropy(torch.cat([batch.labels for batch in window])),
        scale=math.nan if scaler is None else float(scaler.get_scale()),
        skipped=None if scaler is None else not any(p["changed"] for p in parts.values()),
    )
    append_row(job.run.steps_file, {**row, "parts": parts, "update_norm": update})


def report_step(job: Job, session: Session, state: State, loss: float | None) -> None:
    """Tell who watches how far the run is; stages to come are counted as planned."""
    ahead = sum(s.epochs for s in job.stages[state.stage_index + 1 :])
    total = state.step - state.stage_step + session.steps_per_epoch * (session.stage.epochs + ahead)
    job.watch.on_step(state.step, total, loss)


def obey(job: Job, session: Session, state: State, interrupts: Interrupts) -> None:
    """Stop in good order where a signal came, or where the time is nearly up.

    An epoch that the time limit cuts is judged as far as it came, so that its weights can be the
    best; resumed, the run goes on in the middle of it, as one that was never stopped.
    """
    if interrupts.signal is not None:
        check_finite(job, session, state)
        save_last(job, session, state)
    stop_if_asked(job, state, interrupts)
    judging = state.rows[-1].seconds * 0.1 if state.rows else 0.0
    if interrupts.time_is_up(judging):
        state.ended = f"the time limit of {interrupts.time_limit:g} s is reached"
        if job.recipe.checkpointing.save_last and state.batch < session.batches_per_epoch:
            check_finite(job, session, state)
            save_last(job, session, state)


def stop_if_asked(job: Job, state: State, interrupts: Interrupts) -> None:
    """Raise where a signal came; all up to the last saved step is on disk.

    Raises:
        TrainingInterrupted: Ctrl-C or SIGTERM.
    """
    if interrupts.signal is None:
        return
    place = shlex.quote(str(job.run.path))
    raise TrainingInterrupted(
        f"stopped at step {state.step} (epoch {state.epoch + 1}); everything is saved",
        hint=f"espalier train --resume {place}" if job.run.last.exists() else "",
        exit_code=128 + interrupts.signal,
    )
