"""Training ended while it was still gaining.

What it looks at: the slope of the validation loss over the last epochs, against its own noise; the
    rate at the end against its peak; how many epochs early stopping waited.
Why it matters: more epochs of the same would score higher.
When it is wrong: a schedule that has run out gains a little to the end, and longer training is
    then a choice and no repair; noise of a small validation set looks like a last gain.
What to do: train for twice as many epochs, a run of very few steps for ten or a few hundred steps;
    or be more patient. A rate that is still high at the end should fall with the longer run, and
    begin at the usual one if it lies far below.
Source: fault A16; Prechelt 1998 (Early stopping, but when?).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from espalier.diagnose.doses import (
    aimed_rate,
    enough_epochs,
    falling_schedule,
    rates_to,
    reached,
    two_digits,
)
from espalier.diagnose.facts import finite, score_name
from espalier.diagnose.loss_curves import loss_curve
from espalier.diagnose.signals import Stretch, Trend, relative_trend, stepped
from espalier.findings import Edit, Evidence, Finding, Severity, percent
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN109"
# Rates that differ by less do the same; a run that learnt at its rate bears three times as much.
_TWICE, _THRICE = 2.0, 3.0


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    falling: float = threshold(0.02, "per epoch", "fall of the validation loss at the end")
    short: float = threshold(0.05, "per epoch", "the same, where the rate has fallen already")
    few: float = threshold(3, "epochs", "of the last stage, to be short")
    far: float = threshold(0.6, "of the loss of guessing", "left, for a warning")
    known: float = threshold(0.98, "accuracy", "on clean training images, too high for a warning")
    decayed: float = threshold(0.3, "x peak rate", "at the end, below which the schedule is over")
    learnt: float = threshold(0.95, "validation score", "from which there is little to gain")
    patient: float = threshold(3, "epochs", "of patience, to be told from noise")


def check(record: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A finding where the end of a finished run lies on a slope."""
    if record.ended not in ("finished", "stopped"):
        raise CannotJudge("needs a run that ended by itself")
    last = [stretch for stretch in stepped(record) if stretch.epochs][-1:]
    curve = loss_curve(record, last[0].epochs, 2, ("val_loss",)) if last else None
    if curve is None:
        raise CannotJudge("needs a validation loss of 2 epochs of the last stage")
    stretch, column = last[0], score_name(record)
    best = max(finite(record.column(column)) if column else [], default=0.0)
    line = relative_trend(curve.values[-3:])
    if line is None or best >= thresholds.learnt:
        return None
    impatient = _impatient(record, thresholds)
    limit = thresholds.short if _decayed(stretch, thresholds) else thresholds.falling
    learning = line.falls_by(0.0) or _still_learning(record, stretch, thresholds)
    if not line.falls_by(limit) and not (impatient and learning):
        return None
    if limit == thresholds.short and len(stretch.epochs) > thresholds.few and not impatient:
        return None
    return _finding(
        record, stretch, line, limit, impatient, _much(record, stretch, line, thresholds)
    )


def _decayed(stretch: Stretch, thresholds: Thresholds) -> bool:
    """Whether the schedule had run out; an unknown rate counts as that."""
    rate, peak = stretch.rates[-1], stretch.peak
    return not (math.isfinite(rate) and rate >= thresholds.decayed * peak)


def _much(record: RunRecord, stretch: Stretch, line: Trend, thresholds: Thresholds) -> bool:
    """Whether much is left to gain: at full rate by the slope, after a short schedule by the loss.

    Training images that are known by heart leave little, whatever the validation loss does.
    """
    if max(finite(stretch.column("clean_accuracy")), default=0.0) >= thresholds.known:
        return False
    if not _decayed(stretch, thresholds):
        return -line.slope > 2 * thresholds.falling
    return math.exp(line.level) > thresholds.far * (record.chance_loss or math.inf)


def _impatient(record: RunRecord, thresholds: Thresholds) -> bool:
    """Whether early stopping ended it, after waiting for fewer epochs than noise can last."""
    patience, planned = record.facts.patience, record.facts.epochs
    short = planned is not None and len(record.epochs) < planned
    return bool(short and patience and patience < thresholds.patient)


def _still_learning(record: RunRecord, stretch: Stretch, thresholds: Thresholds) -> bool:
    """Whether the training loss was falling all along, at a rate that was not spent.

    One worse validation is no end of that, as long as training images are not known by heart.
    """
    curve = loss_curve(record, stretch.epochs, 2, ("train_loss",))
    if curve is None or _decayed(stretch, thresholds):
        return False
    values = finite(curve.above_floor)[-3:]
    known = max(finite(stretch.column("clean_accuracy")), default=0.0)
    least = 1 - thresholds.falling
    falls = all(after < least * before for before, after in pairwise(values))
    return falls and known < thresholds.learnt


def _finding(
    record: RunRecord,
    stretch: Stretch,
    line: Trend,
    limit: float,
    impatient: bool,
    much: bool,
) -> Finding:
    severity: Severity = "warning" if impatient or much else "info"
    why = f" after a patience of only {record.facts.patience}" if impatient else ""
    return Finding(
        rule="",
        code="",
        severity=severity,
        cause=f"Training ended{why} while it was still gaining: {_gain(line)}",
        evidence=(
            Evidence(
                "fall of the validation loss",
                1 - math.exp(line.slope),
                max(limit, 3 * line.error),
                "per epoch",
                f"the last {line.count} epochs",
            ),
            Evidence("epochs", len(record.epochs), record.facts.epochs, "", stretch.where),
        ),
        confidence=0.7 if severity == "warning" else 0.6,
        advice=(
            "Give early stopping a patience of 5 epochs or more."
            if impatient
            else f"Train for {_epochs(record, stretch)} epochs; the schedule stretches with them.",
        ),
        prescription=_edits(record, stretch, impatient, safe=severity == "warning"),
        consequences=("underfitting",),
    )


def _gain(line: Trend) -> str:
    if line.slope >= 0:
        return "the training loss fell to the end, at an undiminished rate"
    return f"the validation loss fell by {percent(1 - math.exp(line.slope))} per epoch"


def _epochs(record: RunRecord, stretch: Stretch) -> str:
    if stretch.facts is None or not stretch.facts.epochs:
        return "twice as many"
    return str(enough_epochs(record, stretch.facts))


def _edits(record: RunRecord, stretch: Stretch, impatient: bool, *, safe: bool) -> tuple[Edit, ...]:
    """More epochs cost time, and treatment says how much: a gain that is sure is worth asking."""
    if impatient:
        patience = Edit("early_stopping.patience", "set", 5, "noise lasts longer than it waited")
        return (patience, *_settling(record))
    if stretch.facts is None or not stretch.facts.epochs:
        return ()
    key, enough = f"stages.{stretch.facts.name}.epochs", enough_epochs(record, stretch.facts)
    longer = Edit(key, "set", enough, "it was still gaining", safe=safe)
    return (longer, *(_settling(record) if safe else ()))


def _settling(record: RunRecord) -> tuple[Edit, ...]:
    """A rate that falls instead of one that does not, from a peak that is usual.

    A fall spends half of what a constant rate would have: one far below the usual goes up to it.
    """
    falling, aim, peak = falling_schedule(record), aimed_rate(record), reached(record)
    if not falling or aim is None or not 0 < _TWICE * peak < aim.rate:
        return falling
    return (*falling, *rates_to(record, min(aim.rate, two_digits(_THRICE * peak)), aim.why))
