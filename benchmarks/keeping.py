"""What keeping records costs: vital signs of steps, the picture of the run, the clean-train probe.

Vital signs are timed by measuring every other step and comparing it with its two neighbours: a
step of some hundred milliseconds varies by more than they cost, and neighbours share the load.
Those of an epoch (training mode, drift, quantiles, their lines) and of the beginning of a stage
(facts, data, dead units) are timed by themselves.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.measure import Timing, by_clock, middle_half, short, spread, timed
from benchmarks.settings import Settings, open_stage, planned
from benchmarks.throughput import synthetic
from espalier import runs
from espalier.models.stages import model_parts
from espalier.records import EpochRow, History, Predictions
from espalier.report.curves import draw_curves
from espalier.train.interrupts import Interrupts
from espalier.train.job import Job
from espalier.train.judge import predict
from espalier.train.keep import save_last
from espalier.train.loop import train_epoch
from espalier.train.record import begin_stage
from espalier.train.session import Session
from espalier.train.state import State
from espalier.train.vitals import FirstKept, epoch_signs
from espalier.train.watch import Unwatched
from espalier.vitals.activity import ActivityWatch, FirstBatchWatched
from espalier.vitals.steps import StepGauge

CLOCKS = ("wall", "cpu")


class StepClock(Unwatched):
    """Notes when each step ends."""

    def __init__(self) -> None:
        self.ends: list[Timing] = []

    def on_step(self, done: int, total: int, loss: float | None) -> None:
        """A step is finished, its vital signs written."""
        self.ends.append(Timing(time.perf_counter(), time.process_time()))

    def steps(self) -> list[Timing]:
        """Length of each step but the first, whose start nobody saw."""
        return [
            Timing(end.wall - start.wall, end.cpu - start.cpu)
            for start, end in zip(self.ends, self.ends[1:], strict=False)
        ]


def measure_keeping(
    settings: Settings, job: Job, clock: StepClock, picture: Path
) -> dict[str, Any]:
    """Each stage, and all epochs of the run together."""
    curves = measure_curves(settings, job, picture)
    stages = []
    for index in settings.stages(job):
        session, state = open_stage(job, index)
        costs = measure_stage(settings, job, clock, session, state)
        first = sum(planned(stage, session) for stage in job.stages[:index])
        steps = range(first, first + planned(session.stage, session))
        due = sum(session.vitals.due(step) for step in steps)
        stages.append(shares(costs, curves, session, due))
    return {"curves": curves, "stages": stages, "run": whole_run(stages)}


def measure_stage(
    settings: Settings, job: Job, clock: StepClock, session: Session, state: State
) -> dict[str, Any]:
    """Cost of one measured step, and of the parts of an epoch beside training."""
    started = timed(lambda: begin_stage(job, session, state))
    plain, extra = alternate_steps(settings, job, clock, session, state)
    val = predict(job, session, session.val)

    def repeated(work: Callable[[], object]) -> dict[str, Any]:
        # The first time also makes what is kept from then on.
        work()
        return by_clock([timed(work) for _ in range(settings.repeats)], spread)

    return {
        "step": by_clock(plain, middle_half),
        "measured_step_extra": by_clock(extra, middle_half),
        "val": repeated(lambda: predict(job, session, session.val)),
        "probe": repeated(lambda: watched_probe(job, session)),
        "signs": repeated(signs_of(job, session, state, val)),
        "begin": {"wall": short(started.wall), "cpu": short(started.cpu)},
        "checkpoint": repeated(lambda: save_last(job, session, state)),
    }


def watched_probe(job: Job, session: Session) -> tuple[Predictions, ActivityWatch, FirstKept]:
    """The clean-train probe as an epoch measures it, dead units included."""
    watch, kept = ActivityWatch(session.judged, model_parts(job.model)), FirstKept(session.probe)
    watched = replace(session, judged=FirstBatchWatched(session.judged, watch))
    return predict(job, watched, kept), watch, kept


def signs_of(job: Job, session: Session, state: State, val: Predictions) -> Callable[[], object]:
    """What measures the signs of an epoch beside the probe itself."""
    probe, watch, kept = watched_probe(job, session)
    return lambda: epoch_signs(
        job, session, state, probe=probe, val=val, watch=watch, first=kept.first
    )


def alternate_steps(
    settings: Settings, job: Job, clock: StepClock, session: Session, state: State
) -> tuple[list[Timing], list[Timing]]:
    """Unmeasured steps, and how much longer each measured one takes than its neighbours."""
    every_other = replace(
        session, train=synthetic(session), vitals=StepGauge(session.vitals.parts, 2)
    )
    plain: list[Timing] = []
    extra: list[Timing] = []
    left = settings.steps
    while left > 0:
        state.begin_epoch()
        state.stage_step = 0
        clock.ends.clear()
        # The clock misses the first step of an epoch.
        first = state.step + 1
        batches = min(session.batches_per_epoch, left + 1)
        train_epoch(job, replace(every_other, batches_per_epoch=batches), state, Interrupts())
        left -= batches
        steps = clock.steps()
        for place in range(1, len(steps) - 1):
            if (first + place) % 2:
                plain.append(steps[place])
            else:
                extra.append(beyond(steps[place], steps[place - 1], steps[place + 1]))
    return plain, extra


def beyond(here: Timing, before: Timing, after: Timing) -> Timing:
    """How much longer a step took than the mean of its neighbours."""
    return Timing(
        here.wall - (before.wall + after.wall) / 2, here.cpu - (before.cpu + after.cpu) / 2
    )


def measure_curves(settings: Settings, job: Job, picture: Path) -> dict[str, Any]:
    """Drawing the run with all of its planned epochs: the last picture is the slowest."""
    history = made_up_history(job)

    def draw() -> None:
        draw_curves(history, picture)

    first = timed(draw)
    later = [timed(draw) for _ in range(settings.repeats)]
    return {
        "epochs": len(history.rows),
        "first": {"wall": short(first.wall), "cpu": short(first.cpu)},
        **by_clock(later, spread),
    }


def made_up_history(job: Job) -> History:
    """A run of the planned length; what its numbers are does not matter to the time."""
    rows: list[EpochRow] = []
    for index, stage in enumerate(job.stages):
        for _ in range(stage.epochs):
            done = len(rows) / sum(stage.epochs for stage in job.stages)
            rows.append(
                EpochRow(
                    stage=stage.name,
                    stage_index=index,
                    epoch=len(rows) + 1,
                    step=100 * (len(rows) + 1),
                    learning_rate=stage.lr * (1 - 0.9 * done),
                    backbone_learning_rate=0.3 * stage.lr * (1 - 0.9 * done) * (index > 0),
                    train_loss=2 - done,
                    train_accuracy=0.4 + 0.4 * done,
                    probe_loss=1.8 - done,
                    probe_accuracy=0.4 + 0.5 * done,
                    val_loss=1.9 - done,
                    val_accuracy=0.4 + 0.45 * done,
                    val_macro_f1=0.38 + 0.45 * done,
                    mean_grad_norm=1.0,
                    min_grad_norm=0.5,
                    max_grad_norm=2.0,
                    mean_update_norm=0.1,
                    batches=100,
                    seconds=60.0,
                    best=True,
                    cpu_seconds=60.0 * (len(rows) + 1),
                )
            )
    finished = tuple(rows)
    return History(
        finished, runs.stage_spans(job.recipe, finished), job.run.name, runs.run_facts(job.recipe)
    )


def shares(
    costs: dict[str, Any], curves: dict[str, Any], session: Session, due: int
) -> dict[str, Any]:
    """The costs of a stage, and what they are of its epochs by either clock."""
    return {
        "stage": session.stage.name,
        "epochs": session.stage.epochs,
        "steps_per_epoch": session.steps_per_epoch,
        "measured_steps": due,
        "probe_images": len(session.probe.samples),
        **costs,
        "epoch": {clock: epoch_by(clock, costs, curves, session, due) for clock in CLOCKS},
    }


def epoch_by(
    clock: str, costs: dict[str, Any], curves: dict[str, Any], session: Session, due: int
) -> dict[str, float]:
    """Seconds of a mean epoch of the stage, and the shares of keeping records in it."""
    step = costs["step"][clock]["median"]
    # Noise can make nothing look like less than nothing.
    extra = max(0.0, costs["measured_step_extra"][clock]["median"])
    rest_of_signs = costs["signs"][clock]["median"] + costs["begin"][clock] / session.stage.epochs
    vitals, drawing = extra * due / session.stage.epochs, curves[clock]["median"]
    vitals += rest_of_signs
    probe = costs["probe"][clock]["median"]
    rest = costs["val"][clock]["median"] + costs["checkpoint"][clock]["median"]
    epoch = step * session.steps_per_epoch + rest + probe + vitals + drawing
    return {
        "seconds": short(epoch),
        "first_20_steps_share": short(extra / step),
        "vitals_share": short(vitals / epoch),
        "curves_share": short(drawing / epoch),
        "vitals_and_curves_share": short((vitals + drawing) / epoch),
        "probe_share": short(probe / epoch),
    }


def whole_run(stages: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The shares of all planned epochs together; long epochs count for more."""
    names = ("vitals_share", "curves_share", "vitals_and_curves_share", "probe_share")
    return {clock: {name: overall(stages, clock, name) for name in names} for clock in CLOCKS}


def overall(stages: list[dict[str, Any]], clock: str, name: str) -> float:
    """One share over all stages."""
    epochs = [(stage["epochs"], stage["epoch"][clock]) for stage in stages]
    total = sum(count * epoch["seconds"] for count, epoch in epochs)
    return short(sum(count * epoch["seconds"] * epoch[name] for count, epoch in epochs) / total)
