"""``run.json`` of a run: written when a stage begins and when training ends, however it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor

from espalier.data.balance import drawn_counts
from espalier.errors import DiskError, TrainingInterrupted
from espalier.models.inference import autocast, laid_out, memory_format
from espalier.models.stages import model_parts
from espalier.run_record import DataFacts, Ended, Preflight, from_plain
from espalier.runs import RunDir
from espalier.train.facts import run_facts
from espalier.train.job import Job
from espalier.train.pixel_record import data_facts
from espalier.train.session import Session
from espalier.train.state import State
from espalier.train.vitals import starting_norms
from espalier.train.weight_use import WeightUse
from espalier.vitals.activity import ActivityWatch
from espalier.vitals.folder import About, SignsFolder
from espalier.vitals.network import sums_to_one
from espalier.vitals.probing import image_losses
from espalier.vitals.untouched import same_modes, same_randomness

_ALL_DONE = "all stages are done"


def begin_stage(job: Job, session: Session, state: State) -> None:
    """Put on record what a stage is, before its first step or when it is taken up again."""
    state.norms, state.weight_use = starting_norms(job, state), weight_use(job, state)
    folder = SignsFolder(job.run.diagnostics)
    earlier = folder.read()
    with same_randomness(job.fabric.device):
        held = earlier.get("data")
        data = from_plain(DataFacts, held) if held else data_facts(job)
        preflight = from_plain(Preflight, earlier.get("preflight") or {})
        start = dict(earlier.get("start") or {})
        if state.stage_step == 0:
            found, dead = before_stage(job, session)
            preflight = found if state.step == 0 else preflight
            # Parts that were frozen before, and perhaps not even run, have their start here.
            start["dead"] = {**dead, **start.get("dead", {})}
    facts = run_facts(job, session, state, earlier.get("facts") or {})
    checks = earlier.get("checks") or {}
    folder.write(About("espalier", facts, data, preflight, checks=checks, start=start))


def before_stage(job: Job, session: Session) -> tuple[Preflight, dict[str, float]]:
    """What the network makes of a few images of the probe before a step, and its dead units."""
    batch = next(iter(session.probe.in_order()))
    watch = ActivityWatch(session.judged, model_parts(job.model))
    layout = memory_format(cast(bool, job.recipe.training.channels_last))
    device = job.fabric.device
    with torch.inference_mode(), same_modes(session.judged), watch.watching():
        session.judged.eval()
        images = session.normalizer(batch.images.to(device))
        with autocast(device, cast(str, job.recipe.training.precision)):
            logits: Tensor = session.judged(laid_out(images, layout)).float().cpu()
    loss = float(image_losses(logits.numpy(), batch.labels.cpu().numpy()).mean())
    found = Preflight(initial_loss=loss, output_sums_to_one=sums_to_one(logits))
    return found, watch.dead()


def weight_use(job: Job, state: State) -> WeightUse | None:
    """What compares the loss with the class weights in the first epoch; None in all others."""
    if state.epoch > 0 or job.stages[state.stage_index].solve:
        return None
    counts = drawn_counts(
        list(job.catalog.counts("train").values()), job.recipe.class_weighting.sampler
    )
    return WeightUse(job.recipe.loss, job.class_weights, list(counts), job.fabric.device)


def note_weight_use(job: Job, state: State) -> None:
    """After the first epoch: were the class weights used? A person hears of it if they were not."""
    use, state.weight_use = state.weight_use, None
    if use is None:
        return
    verdict = use.verdict()
    folder = SignsFolder(job.run.diagnostics)
    folder.update(checks={**(folder.read().get("checks") or {}), **verdict})
    if verdict["weights_used"] is False:
        job.watch.on_note(verdict["weights_note"])


def rewind_signs(run: RunDir, state: State) -> None:
    """Bring the losses of the probe's images back to the checkpoint: later ones are made again."""
    SignsFolder(run.diagnostics).rewind(state.epoch)


@contextlib.contextmanager
def ending_on_record(job: Job, state: State) -> Iterator[None]:
    """Note in ``run.json`` how training ended; after a kill it still says that it runs."""
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, TrainingInterrupted | KeyboardInterrupt)
        why = getattr(error, "message", "") or f"{type(error).__name__}: {error}"
        # A disk that is full is no news beside what has happened.
        with contextlib.suppress(DiskError):
            note_end(job, state, "stopped" if stopped else "died", why)
        raise
    ended: Ended = "finished" if state.ended in ("", _ALL_DONE) else "stopped"
    note_end(job, state, ended, state.ended)


def note_end(job: Job, state: State, ended: Ended, why: str) -> None:
    """Write how it ended, and which epoch's weights are kept."""
    folder = SignsFolder(job.run.diagnostics)
    best = max((row.epoch for row in state.rows if row.best), default=None)
    facts = {**(folder.read().get("facts") or {}), "kept_epoch": best}
    folder.update(ended=ended, why_ended=why, facts=facts)
