"""Doses of prescriptions: the peak rate, batch, epochs and schedule that usually work, as edits.

A prescription aims at what usually works for this optimizer, batch and start, and not at a cautious
multiple of what did not: a rate that is a thousand times too low is as wrong after a factor of ten.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from espalier.diagnose.facts import finite, rate_edits, total_steps
from espalier.diagnose.signals import Stretch, stepped, usual_rates
from espalier.findings import Edit
from espalier.run_record import RunRecord, StageFacts

USUAL_BATCH = 32
ENOUGH_STEPS = 300
"""Optimizer steps with which a small task is learnt, by fine-tuning or by a small network."""
USUAL_EPOCHS = 10
# Of the steepest rate of a rising-rate trial, which lies close to where training breaks.
_OF_BEST = 0.5
_OF_DIVERGING = 0.1
# A trial of some forty steps may be off, and so may what is usual: neither by more than this.
_APART = 10.0
# Rates that differ by less do the same.
_ALIKE = 2.0
# A schedule whose last rate is a larger share of its peak never lets training settle.
_FALLEN = 0.5


@dataclass(frozen=True)
class Aim:
    """The peak rate to aim at, and why it is this one."""

    rate: float
    why: str


def aimed_rate(record: RunRecord, batch: int | None = None) -> Aim | None:
    """The rate that a rising-rate trial found, else the usual one; None where neither is known.

    Args:
        record: The run.
        batch: Images per step with which it is to be trained; None: as it was.
    """
    usual, trial = usual_rates(record, batch), _trial(record)
    if trial is None:
        if usual is None:
            return None
        images = batch or record.facts.batch
        at = f" at {images} images a step" if images else ""
        return Aim(two_digits(usual[1]), f"the usual peak rate of {record.facts.optimizer}{at}")
    if usual is not None:
        trial = min(max(trial, usual[1] / _APART), usual[1] * _APART)
    return Aim(two_digits(trial), "what the trial of rising rates gave")


def _trial(record: RunRecord) -> float | None:
    best, diverging = record.preflight.best_rate, record.preflight.diverging_rate
    if best is None or not 0 < best < math.inf:
        return None
    limit = _OF_DIVERGING * diverging if diverging and diverging > 0 else math.inf
    return min(_OF_BEST * best, limit)


def rates_to(
    record: RunRecord,
    rate: float,
    because: str,
    chosen: Callable[[StageFacts], bool] = lambda stage: True,
) -> tuple[Edit, ...]:
    """Set the highest peak rate of the chosen stages, and the others of theirs in proportion."""
    stages = [s for s in record.facts.stages if not s.solved and highest(s) > 0 and chosen(s)]
    if not stages:
        return ()
    factor = rate / max(highest(stage) for stage in stages)
    edits = []
    for stage in stages:
        for name, now in _rates(stage):
            key = f"stages.{stage.name}.{name}"
            edits.append(Edit(key, "set", two_digits(now * factor), because))
    return tuple(edits)


def lower_to(record: RunRecord, rate: float, peak: float, because: str) -> tuple[Edit, ...]:
    """Bring the stages whose rates lie above a rate down to it; others are left as they are."""
    if not any(highest(stage) > 0 for stage in record.facts.stages if not stage.solved):
        return rate_edits(record, float(f"{rate / peak:.0e}"), because)
    return rates_to(record, rate, because, lambda stage: highest(stage) > rate)


def highest(stage: StageFacts) -> float:
    """The largest peak rate of a stage, as planned; 0 where none is known."""
    return max((rate for _, rate in _rates(stage)), default=0.0)


def reached(record: RunRecord) -> float:
    """The highest rate that was planned or used; 0 where none is known.

    Of a loop whose schedule nobody told, the plan is the rate that it began with.
    """
    planned = [highest(stage) for stage in record.facts.stages if not stage.solved]
    used = [rate for stretch in stepped(record) for rate in finite(stretch.rates)]
    steps = finite(step.learning_rate for stretch in stepped(record) for step in stretch.steps)
    return max([*planned, *used, *steps], default=0.0)


def _rates(stage: StageFacts) -> list[tuple[str, float]]:
    found = (("lr", stage.learning_rate), ("backbone_lr", stage.backbone_learning_rate))
    return [(name, rate) for name, rate in found if rate and 0 < rate < math.inf]


def batch_edits(record: RunRecord, because: str) -> tuple[Edit, ...]:
    """The usual batch instead of a tiny one, with the rate and the epochs that go with it."""
    stages, batch = record.facts.stages, record.facts.batch
    if not stages or not batch:
        return ()
    return (
        Edit("training.batch", "set", USUAL_BATCH, because),
        Edit("training.accumulate", "set", 1, "the batch itself is large enough"),
        *_rates_for(record, batch),
        *_epochs_for(record, batch),
    )


def _rates_for(record: RunRecord, batch: int) -> tuple[Edit, ...]:
    """A rate that is too high for the usual batch comes down to it; a low one grows with it."""
    aim = aimed_rate(record, USUAL_BATCH)
    now = reached(record)
    if aim is None or not now or aim.rate / _ALIKE <= now <= aim.rate * _ALIKE:
        return ()
    grown = now * max(1.0, USUAL_BATCH / batch)
    return rates_to(record, min(aim.rate, grown) if now < aim.rate else aim.rate, aim.why)


def _epochs_for(record: RunRecord, batch: int) -> tuple[Edit, ...]:
    """More epochs where a run of so few would take too few of the larger steps.

    They grow by the square root of what the batch grows by, halfway between as many images and as
    many steps: large batches cost less per image, so that it takes about as long as before.
    """
    steps = total_steps(record)
    if not steps or batch >= USUAL_BATCH:
        return ()
    growth = USUAL_BATCH / batch
    factor = min(math.sqrt(growth), ENOUGH_STEPS / max(1.0, steps / growth))
    because = "larger batches take fewer steps to an epoch"
    return tuple(
        Edit(f"stages.{stage.name}.epochs", "set", math.ceil(factor * stage.epochs), because)
        for stage in record.facts.stages
        if stage.epochs and not stage.solved and factor > 1
    )


def enough_epochs(record: RunRecord, stage: StageFacts) -> int:
    """Twice the epochs of a stage that ended too early; of a very short one the usual number."""
    planned = stage.epochs or 1
    each = record.facts.steps_per_epoch
    least = math.ceil(ENOUGH_STEPS / each) if each else 0
    return max(2 * planned, min(USUAL_EPOCHS, least))


def falling_schedule(record: RunRecord) -> tuple[Edit, ...]:
    """A rate that falls to nothing over the last stage, where as planned or seen it does not."""
    last = [stretch for stretch in stepped(record) if stretch.facts is not None][-1:]
    if not last or not undiminished(record, last[0]):
        return ()
    assert last[0].facts is not None
    key = f"stages.{last[0].facts.name}.schedule"
    return (Edit(key, "set", "cosine", "a rate that falls to zero lets it settle"),)


def undiminished(record: RunRecord, stretch: Stretch) -> bool:
    """Whether the rate of the last stretch is still high at its end, by its plan or as seen."""
    if stretch.facts is not None and stretch.facts.schedule is not None:
        name = stretch.facts.schedule.lower()
        if name == "constant":
            return True
        if "cosine" in name or "cycle" in name:
            return False
    planned = [rate for _, rate in record.facts.planned_rates or () if rate > 0]
    if len(planned) > 2 and len(record.facts.stages) == 1:
        return planned[-1] >= _FALLEN * max(planned)
    return len(stretch.epochs) > 2 and stretch.rates[-1] >= _FALLEN * stretch.peak


def warmup(record: RunRecord) -> tuple[Edit, ...]:
    """A short warmup of each stage that begins at its full rate."""
    return tuple(
        Edit(
            f"stages.{stage.name}.warmup_epochs",
            "set",
            1.0 if stage.epochs >= 5 else 0.5,
            "the first steps are not the largest ones",
        )
        for stage in record.facts.stages
        if not stage.solved and stage.epochs and stage.epochs > 1 and _cold(record, stage)
    )


def _cold(record: RunRecord, stage: StageFacts) -> bool:
    if stage.warmup_epochs is not None:
        return stage.warmup_epochs == 0
    planned = [rate for _, rate in record.facts.planned_rates or ()]
    alone = len(record.facts.stages) == 1
    return alone and len(planned) > 2 and planned[0] >= _FALLEN * max(planned)


def two_digits(value: float) -> float:
    """A rate as a person would write it: 0.00104 -> 0.001."""
    return float(f"{value:.2g}")
