"""The learning rate is not what the schedule says.

What it looks at: the logged rate of the head against the planned one at the same step, stage by
    stage; where no plan is on record, whether a schedule that must move never does.
Why it matters: a rate that was meant to fall and does not leaves the score below what the same
    run reaches; one that starts anew after a resume can undo what was learned.
When it is wrong: a plateau schedule depends on scores and has no plan; after a stage that stopped
    early the plan of later stages has another clock. Neither is judged.
What to do: call the scheduler once per unit it was made for, after the optimizer; on resuming,
    restore its state.
Source: fault A5; PyTorch's order warning, which fires falsely where a scaler skips a step.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass

import numpy as np

from espalier.diagnose.facts import finite
from espalier.findings import Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN001"
_MOVING = ("cosine", "one-cycle", "onecycle", "linear", "poly", "exponential")


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    deviation: float = threshold(0.01, "share of the stage's peak rate", "beyond the plan")
    share: float = threshold(0.05, "share of the logged steps", "that must deviate")
    rows: float = threshold(2, "logged steps", "that must deviate, at least")
    epochs: float = threshold(3, "epochs", "after which a schedule must have moved the rate")


@dataclass(frozen=True)
class Logged:
    """A rate as logged, and the range that the plan allows around that step."""

    step: int
    rate: float
    low: float
    high: float

    @property
    def excess(self) -> float:
        """How far it lies outside of that range."""
        return max(self.low - self.rate, self.rate - self.high, 0.0)


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A warning where the logged rates leave the plan."""
    if subject.facts.planned_rates is None:
        return _never_moves(subject, thresholds)
    rows = [row for stage in _rates_by_stage(subject) for row in _against(subject, stage)]
    if len(rows) < thresholds.rows:
        raise CannotJudge("needs logged rates of steps that are in the plan")
    peak = max(row.high for row in rows)
    off = [row for row in rows if row.excess > thresholds.deviation * peak]
    if len(off) < max(thresholds.rows, thresholds.share * len(rows)):
        return None
    worst = max(off, key=lambda row: row.excess)
    nearest = worst.low if worst.rate < worst.low else worst.high
    return _finding(
        f"the learning rate does not follow its schedule: {worst.rate:.2g} at step "
        f"{worst.step:,}, planned {nearest:.2g}; so at {len(off)} of {len(rows)} logged steps",
        (
            Evidence("learning rate", worst.rate, nearest, "", f"step {worst.step}"),
            Evidence("steps off the plan", len(off) / len(rows), thresholds.share, "share"),
        ),
        0.97,
    )


def _rates_by_stage(subject: RunRecord) -> list[list[tuple[int, float]]]:
    """(step, rate) as logged, of each stage whose plan still has the clock of the run."""
    stages = {stage.name: stage for stage in subject.facts.stages}
    if any((stage.schedule or "") == "plateau" for stage in stages.values()):
        raise CannotJudge("a plateau schedule depends on the scores, so nothing was planned")
    steps = [(row.stage, row.step, row.learning_rate) for row in subject.steps]
    epochs = [(row.stage, row.step, row.learning_rate) for row in subject.epochs if row.step]
    logged = [row for row in (steps or epochs) if finite([row[2]])]
    by_stage = []
    for name in dict.fromkeys(row[0] for row in logged):
        stage = stages.get(name)
        if stage is None or not stage.solved:
            by_stage.append([(int(step or 0), rate) for n, step, rate in logged if n == name])
        done = sum(epoch.stage == name for epoch in subject.epochs)
        if stage is not None and stage.epochs is not None and done < stage.epochs:
            break
    return by_stage


def _against(subject: RunRecord, rates: list[tuple[int, float]]) -> list[Logged]:
    """Each logged rate beside what was planned around that step."""
    planned = sorted(subject.facts.planned_rates or ())
    steps, values = [step for step, _ in planned], [rate for _, rate in planned]
    rows = []
    for step, rate in rates:
        if not steps or not steps[0] <= step <= steps[-1] + 1:
            continue
        # Clocks that begin at 0 and at 1 are one step apart.
        near = [float(np.interp(step + shift, steps, values)) for shift in (-1, 0, 1)]
        if step not in steps:
            # Between two planned steps the rate may fall at once, as `step` schedules do.
            at = bisect.bisect(steps, step)
            near += values[at - 1 : at + 1]
        rows.append(Logged(step, rate, min(near), max(near)))
    return rows


def _never_moves(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    named = {(stage.schedule or "").lower() for stage in subject.facts.stages if not stage.solved}
    if len(named) != 1 or not any(word in next(iter(named)) for word in _MOVING):
        raise CannotJudge("needs planned rates, or a schedule by name")
    name = next(iter(named))
    by_stage: dict[str, list[float]] = {}
    for epoch in subject.epochs:
        by_stage.setdefault(epoch.stage, []).extend(finite([epoch.learning_rate]))
    rates = max(by_stage.values(), key=len, default=[])
    if len(rates) < thresholds.epochs:
        raise CannotJudge(f"needs learning rates of {thresholds.epochs:.0f} epochs of a stage")
    if max(rates) - min(rates) > thresholds.deviation * max(rates):
        return None
    return _finding(
        f"the schedule is {name}, but the learning rate stayed at {rates[0]:.2g} for "
        f"{len(rates)} epochs",
        (Evidence("change of the learning rate", 0.0, thresholds.deviation, "share of the peak"),),
        0.9,
    )


def _finding(cause: str, evidence: tuple[Evidence, ...], confidence: float) -> Finding:
    return Finding(
        rule="",
        code="",
        severity="warning",
        cause=cause,
        evidence=evidence,
        confidence=confidence,
        advice=(
            "Call scheduler.step() after optimizer.step(), once per step or once per epoch, "
            "whichever its lengths are counted in.",
            "On resuming, load the scheduler's state too, or give it the step to go on from.",
        ),
        consequences=(
            "learning_rate_too_high",
            "learning_rate_noisy",
            "learning_rate_too_low",
            "decayed_too_early",
            "missing_warmup",
            "stopped_too_early",
            "plateau",
            "not_learning",
        ),
    )
