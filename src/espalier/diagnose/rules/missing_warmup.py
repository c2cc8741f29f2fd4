"""Training begins at full rate, and the first steps do damage that is not made good.

What it looks at: the rate of the first step against its peak; the loss and the gradients of the
    first steps against what came before and after; whether the run ended below where it began.
Why it matters: the first gradients are the largest and the optimizer knows nothing yet: at full
    rate a few steps can undo pretrained features.
When it is wrong: one leap of the loss that ends in a better place (a catapult) is no fault, and
    without such a leap a warmup is not missed.
What to do: raise the rate in a straight line over the first half epoch, or 3 to 10 % of the steps.
Source: fault A6; Goyal et al. 2017 (arXiv:1706.02677); Deep Learning Tuning Playbook.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from espalier.diagnose.facts import finite, score_name
from espalier.diagnose.loss_curves import loss_curve
from espalier.diagnose.signals import Stretch, middle, running_median, settled, stepped
from espalier.findings import Edit, Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord, StepSigns

CODE = "RUN105"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    full: float = threshold(0.5, "x peak rate", "of the first step, above which there is no warmup")
    leap: float = threshold(1.5, "x first loss", "that the first steps may reach")
    nats: float = threshold(0.5, "nats", "above the first loss, at least")
    gradients: float = threshold(5.0, "x median", "gradient norm of the first steps")
    early: float = threshold(0.05, "of the steps", "that count as the first ones, but 20 at least")
    lost: float = threshold(0.02, "score", "below where the stage began, at least")
    left: float = threshold(0.5, "of the loss of guessing", "left at the end, if nothing is known")


def check(record: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A finding for the first stage that leapt at its start and did not recover."""
    judged = False
    for stretch in stepped(record):
        steps = [step for step in stretch.steps if math.isfinite(step.loss)]
        known = len(steps) >= 10 and math.isfinite(steps[0].learning_rate)
        if not known or not settled(record, stretch):
            continue
        judged = True
        if steps[0].learning_rate < thresholds.full * stretch.peak:
            continue
        leap = _leap(steps, thresholds)
        worse = _worse(record, stretch, thresholds) if leap else None
        if leap is not None and worse is not None:
            return _finding(stretch, steps, leap, worse)
    if not judged:
        raise CannotJudge("needs losses and rates of the first steps of a stage that is over")
    return None


def _leap(steps: Sequence[StepSigns], thresholds: Thresholds) -> tuple[Evidence, ...] | None:
    """Where loss and gradients of the first steps stand out; None where either does not."""
    span = steps[-1].step - steps[0].step
    most = steps[0].step + max(20, thresholds.early * span)
    early = [step for step in steps if step.step <= most]
    rest = [step.grad_norm for step in steps if step.step > most]
    first = steps[0].loss
    highest = max(running_median([step.loss for step in early], 3))
    limit = max(thresholds.leap * first, first + thresholds.nats)
    where = f"steps {steps[0].step} to {early[-1].step}"
    found = (Evidence("loss of the first steps", highest, limit, "nats", where),)
    if highest <= limit:
        return None
    largest, usual = max(finite(s.grad_norm for s in early), default=math.nan), middle(rest)
    if math.isnan(largest) or math.isnan(usual):
        return found
    if largest <= thresholds.gradients * usual:
        return None
    limit = thresholds.gradients * usual
    return (*found, Evidence("largest gradient norm of the first steps", largest, limit, "", where))


def _worse(record: RunRecord, stretch: Stretch, thresholds: Thresholds) -> Evidence | None:
    """The end of the stage, if it is worse than its beginning; None where it is not."""
    column = score_name(record)
    scores = finite(stretch.column(column)) if column else []
    before = _before(record, stretch, column)
    if scores and before is not None:
        limit = before - thresholds.lost
        name = "best score of the stage; without its training"
        return Evidence(name, max(scores), limit, "") if max(scores) < limit else None
    curve = loss_curve(record, stretch.epochs, columns=("clean_loss", "val_loss", "train_loss"))
    if curve is None or curve.chance is None:
        return None
    left = finite(curve.above_floor)[-1] / (curve.chance - curve.floor)
    if left <= thresholds.left:
        return None
    return Evidence("left to gain at the end", left, thresholds.left, "of the loss of guessing")


def _before(record: RunRecord, stretch: Stretch, column: str | None) -> float | None:
    """Score of a linear head on the untouched backbone, or of the stages before."""
    first = min((epoch.epoch for epoch in stretch.epochs), default=0)
    known = [] if column is None else [getattr(e, column) for e in record.epochs if e.epoch < first]
    if column == "val_macro_f1" and record.facts.baseline_macro_f1 is not None:
        known.append(record.facts.baseline_macro_f1)
    return max(finite(known), default=None)


def _finding(
    stretch: Stretch, steps: Sequence[StepSigns], leap: tuple[Evidence, ...], worse: Evidence
) -> Finding:
    highest = leap[0].value
    facts = stretch.facts
    because = "the first steps did damage"
    return Finding(
        rule="",
        code="",
        severity="warning",
        cause=f"Without a warmup the first steps did damage: the loss leapt from "
        f"{steps[0].loss:.2f} to {highest:.2f}, and the run did not recover",
        evidence=(*leap, worse),
        confidence=0.7,
        advice=(
            "Let the rate rise in a straight line over the first half epoch to one epoch.",
            "If the loss still leaps, divide the peak rate by three.",
        ),
        prescription=(Edit(f"stages.{facts.name}.warmup_epochs", "set", 0.5, because),)
        if facts is not None and (facts.epochs or 0) > 1
        else (),
        consequences=("backbone_rate_erases", "exploding_gradients", "dead_units", "underfitting"),
    )
