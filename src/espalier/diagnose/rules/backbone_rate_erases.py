"""The backbone learns so fast that its pretrained features are lost.

What it looks at: a pretrained backbone that moved far in each step of its first epoch, and whether
    the stage stayed below what a linear head on the untouched backbone scores (or the stages
    before it did).
Why it matters: fine-tuning that ends below a linear head has thrown away what was paid for.
When it is wrong: a network from scratch has nothing to lose; a score that dips in the first epoch
    and comes back higher is usual.
What to do: give the backbone a rate at which its weights stay close to what they were, and never
    less than a tenth of the usual one; a head that is far above the usual rate comes down to it.
Source: fault A7; Howard and Ruder 2018 (discriminative rates); Kumar et al. 2022
    (arXiv:2202.10054, fine-tuning distorts pretrained features).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from espalier.diagnose.doses import aimed_rate
from espalier.diagnose.facts import finite, score_name
from espalier.diagnose.signals import (
    Stretch,
    backbone_movement,
    decay_movement,
    rounded,
    settled,
    stepped,
)
from espalier.findings import Edit, Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord, StageFacts

CODE = "RUN106"
_TARGET = 1e-3
# A backbone learns well at a tenth of the rate that is usual for a head (Howard and Ruder 2018); a
# head at so many times the usual rate is a fault of its own.
_TENTH, _FAR = 0.1, 5.0


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    ratio: float = threshold(1e-2, "change / weight", "of the backbone in a median step")
    rate: float = threshold(3e-3, "rate", "of a backbone, if steps were not measured")
    below: float = threshold(0.03, "score", "below the untouched backbone, at least")
    errors: float = threshold(3.0, "standard errors", "by which it must be below as well")
    alone: float = threshold(4e-2, "change / weight", "from which no comparison is needed")
    learnt: float = threshold(0.95, "accuracy", "clean, from which it is a remark if not compared")
    early: float = threshold(0.5, "accuracy", "of the first epoch, clean: features are gone")


def check(record: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A finding for the first stage that lost what the backbone had."""
    if record.facts.pretrained is None and record.facts.baseline_macro_f1 is None:
        raise CannotJudge("needs to know whether the backbone was pretrained")
    if record.facts.pretrained is False:
        return None
    judged = False
    for stretch in stepped(record):
        speed = _speed(record, stretch, thresholds)
        if speed is None or not stretch.epochs or not settled(record, stretch):
            continue
        lost = _lost(record, stretch, thresholds)
        judged = judged or lost is not None
        if lost is None or lost.threshold is None or not isinstance(lost.value, float):
            continue
        if _above(speed) and lost.value < lost.threshold:
            return _finding(record, stretch, speed, lost, thresholds)
    if not judged:
        raise CannotJudge(
            "needs movement of the backbone and a score to compare with, in a stage that is over"
        )
    return None


def _above(evidence: Evidence) -> bool:
    return isinstance(evidence.value, float) and evidence.value > (evidence.threshold or 0.0)


def _speed(record: RunRecord, stretch: Stretch, thresholds: Thresholds) -> Evidence | None:
    """How fast the backbone moved in its first epoch; None where that is unknown or it rested.

    What weight decay moves is not the rate's doing, and another rule's.
    """
    facts = stretch.facts
    if facts is not None and facts.backbone_learning_rate == 0:
        return None
    first = stretch.steps[0].epoch if stretch.steps else None
    steps = [step for step in stretch.at_speed() if step.epoch == first] or stretch.at_speed()
    ratio = backbone_movement(steps)
    if decay_movement(record, stretch) > ratio / 2:
        return None
    if math.isfinite(ratio):
        name = "change of the backbone in a median step"
        return Evidence(name, ratio, thresholds.ratio, "change / weight", stretch.where)
    rate = facts.backbone_learning_rate if facts is not None else None
    if not rate or not math.isfinite(rate):
        return None
    return Evidence("rate of the backbone", rate, thresholds.rate, "rate", stretch.where)


def _lost(record: RunRecord, stretch: Stretch, thresholds: Thresholds) -> Evidence | None:
    """The best score from this stage on, and what it should have; None where unknown."""
    column = score_name(record)
    first = stretch.epochs[0].epoch
    if column is None:
        return None
    after = finite(getattr(e, column) for e in record.epochs if e.epoch >= first)
    before = finite(getattr(e, column) for e in record.epochs if e.epoch < first)
    if column == "val_macro_f1" and record.facts.baseline_macro_f1 is not None:
        before.append(record.facts.baseline_macro_f1)
    if record.preflight.probe_accuracy is not None and column == "val_accuracy":
        before.append(record.preflight.probe_accuracy)
    if after and before:
        noise = thresholds.errors * record.accuracy_noise(max(before))
        limit = max(before) - max(thresholds.below, noise)
        name = "best score afterwards; the untouched backbone gives more than"
        return Evidence(name, max(after), limit, "", stretch.where)
    return _alone(stretch, thresholds)


def _alone(stretch: Stretch, thresholds: Thresholds) -> Evidence | None:
    """Without a comparison: steps so large that nothing can remain, and a first epoch like it."""
    accuracy = finite(stretch.column("clean_accuracy")[:1])
    if not accuracy or not backbone_movement(stretch.at_speed()) > thresholds.alone:
        return None
    name = "accuracy of the first epoch on clean training images"
    return Evidence(name, accuracy[0], thresholds.early, "", stretch.where)


def _finding(
    record: RunRecord, stretch: Stretch, speed: Evidence, lost: Evidence, thresholds: Thresholds
) -> Finding:
    measured = speed.unit != "rate"
    value = speed.value if isinstance(speed.value, float) else 1.0
    factor = rounded(min(0.3, max(_least(record, stretch), _TARGET / value if measured else 0.1)))
    compared = lost.name.startswith("best")
    learnt = max(finite(stretch.column("clean_accuracy")), default=0.0) >= thresholds.learnt
    return Finding(
        rule="",
        code="",
        severity="warning" if compared or not learnt else "info",
        cause=f"The learning rate of the backbone erases what it had learnt: {speed.name} is "
        f"{value:.2g}, and the {lost.name.partition(';')[0]} is only {lost.value:.2f}",
        evidence=(speed, lost),
        confidence=0.8 if measured and compared else 0.6,
        advice=(
            f"Multiply the backbone's peak rate by {factor:g}; the head's may stay if it is usual.",
            "Train the head alone before the backbone is thawed.",
        ),
        prescription=_edits(record, stretch.facts, factor),
        consequences=("dead_units", "underfitting", "overfitting", "plateau", "not_learning"),
    )


def _least(record: RunRecord, stretch: Stretch) -> float:
    """The factor below which the backbone would hardly learn any more."""
    aim, facts = aimed_rate(record), stretch.facts
    if aim is None or facts is None or not facts.backbone_learning_rate:
        return 1e-3
    return _TENTH * aim.rate / facts.backbone_learning_rate


def _edits(record: RunRecord, stage: StageFacts | None, factor: float) -> tuple[Edit, ...]:
    if stage is None or not stage.backbone_learning_rate:
        return ()
    because, key = "pretrained features are lost at this rate", f"stages.{stage.name}"
    slower = Edit(f"{key}.backbone_lr", "multiply", factor, because)
    aim = aimed_rate(record)
    if aim is None or not stage.learning_rate or stage.learning_rate <= _FAR * aim.rate:
        return (slower,)
    return (slower, Edit(f"{key}.lr", "set", aim.rate, aim.why))
