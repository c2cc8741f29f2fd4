"""Weight decay pulls the weights to zero faster than training builds them up.

What it looks at: weight decay x the rates spent so far: the power of e by which it shrinks a weight
    that nothing holds; whether the weights really shrank; and whether the loss fails to fall.
Why it matters: a network whose weights vanish says the same of every image.
When it is wrong: long runs spend much decay and do well, because gradients hold the weights; so a
    loss that falls clears it, unless decay makes most of what each step changes.
What to do: lower the decay to the value named; 1e-4 to 5e-2 is usual for AdamW, 5e-4 for SGD.
Source: fault A12; Loshchilov and Hutter 2019 (arXiv:1711.05101).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from espalier.diagnose.facts import at_chance, finite
from espalier.diagnose.loss_curves import LossCurve, loss_curve
from espalier.diagnose.signals import decay_movement, movement, relative_trend, stepped
from espalier.findings import Edit, Evidence, Finding, percent
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN108"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    pull: float = threshold(0.5, "power of e", "by which decay alone shrinks a weight, at least")
    strong: float = threshold(3.0, "power of e", "the same, where weights were not measured")
    shrunk: float = threshold(0.3, "share", "of the norm of the weights that went")
    part: float = threshold(0.3, "of the change of a step", "that decay must make, if measured")
    most: float = threshold(0.4, "of the change of a step", "from which decay rules the weights")
    sgd: float = threshold(2e-3, "weight decay", "of SGD, up to which it is the rate that rules")
    adam: float = threshold(0.1, "weight decay", "the same, of other optimizers")
    shrinking: float = threshold(0.15, "share", "of the norm that then must have gone")
    left: float = threshold(0.2, "of the loss of guessing", "left at the end, then")
    learnt: float = threshold(0.95, "accuracy", "on clean training images, from which all is well")
    chance: float = threshold(0.2, "nats", "below the loss of guessing, to learn anything")


def check(record: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A finding where decay can explain that nothing is learnt."""
    decay = float(record.require_fact("weight_decay"))
    curve = loss_curve(record, least=2)
    if curve is None:
        raise CannotJudge("needs a loss of 2 epochs")
    spent = _spent(record)
    pull, shrunk = decay * spent, _shrunk(record)
    part = _part(record)
    fails = _starves(record, curve, pull, shrunk, thresholds) and not part < thresholds.part
    if not fails and not _rules(record, curve, part, shrunk, thresholds):
        return None
    what = (
        f"alone it would shrink them to {100 * math.exp(-min(pull, 50)):.2g} %, and the "
        f"{curve.name} does not fall"
        if fails
        else f"it makes {percent(part)} of what a step changes, and {percent(shrunk)} of their "
        "norm is gone"
    )
    usual = 5e-4 if "sgd" in (record.facts.optimizer or "").lower() else 0.05
    sane = min(usual, 10 ** math.floor(math.log10(0.1 / spent)))
    return Finding(
        rule="",
        code="",
        severity="error" if fails else "warning",
        cause=f"Weight decay of {decay:g} pulls the weights to zero: {what}",
        evidence=(
            Evidence("weight decay x rates spent", pull, thresholds.pull, "power of e"),
            Evidence(
                "weights lost",
                "not measured" if math.isnan(shrunk) else shrunk,
                thresholds.shrunk,
                "share of their norm",
            ),
            Evidence(
                "share of decay in the change of a median step",
                "not measured" if math.isnan(part) else part,
                thresholds.part if fails else thresholds.most,
                "share",
            ),
            Evidence(f"{curve.name} at the end", finite(curve.values)[-1], curve.chance, "nats"),
        ),
        confidence=0.7 if math.isnan(shrunk) else 0.9,
        advice=(
            f"Set the weight decay to {sane:g}.",
            "Never decay biases and normalisation layers.",
        ),
        prescription=(Edit("optimizer.weight_decay", "set", sane, "weights are pulled to zero"),),
        consequences=(
            "vanishing_gradients",
            "under_capacity",
            "dead_units",
            "underfitting",
            "collapsed_to_major_classes",
            "plateau",
            "not_learning",
        ),
    )


def _spent(record: RunRecord) -> float:
    """Sum of the rates of all steps.

    Raises:
        CannotJudge: Rates are not known.
    """
    whole = 0.0
    for stretch in stepped(record):
        steps = [step for step in stretch.steps if math.isfinite(step.learning_rate)]
        whole += sum((b.step - a.step) * a.learning_rate for a, b in pairwise(steps))
        if len(steps) < 2 and record.facts.steps_per_epoch:
            whole += record.facts.steps_per_epoch * sum(finite(stretch.rates))
    if not whole > 0:
        raise CannotJudge("needs learning rates of steps")
    return whole


def _shrunk(record: RunRecord) -> float:
    """Share of the norm of the weights that is gone; NaN where it was not measured twice."""
    norms = finite(record.column("weight_norm"))
    return 1 - norms[-1] / norms[0] if len(norms) > 1 and norms[0] > 0 else math.nan


def _part(record: RunRecord) -> float:
    """Share of decay (rate x decay of each weight) in what a step changes; NaN: not measured."""
    ratios = [(decay_movement(record, s), movement(s.at_speed())) for s in stepped(record)]
    known = [pull / ratio for pull, ratio in ratios if ratio > 0 and math.isfinite(pull)]
    return max(known, default=math.nan)


def _starves(
    record: RunRecord, curve: LossCurve, pull: float, shrunk: float, thresholds: Thresholds
) -> bool:
    """Whether decay was strong enough to shrink the weights, did, and nothing is learnt."""
    enough = pull >= (thresholds.strong if math.isnan(shrunk) else thresholds.pull)
    return enough and not shrunk < thresholds.shrunk and _fails(record, curve, thresholds)


def _rules(
    record: RunRecord, curve: LossCurve, part: float, shrunk: float, thresholds: Thresholds
) -> bool:
    """Whether steps are mostly decay, weights shrink, and much is left to learn.

    Where decay and gradients hold each other at bay, its share is the root of half of rate x decay:
    a few percent.
    """
    whole = (curve.chance or math.nan) - curve.floor
    left = finite(curve.above_floor)[-1] / whole if whole > 0 else 0.0
    learnt = max(finite(record.column("clean_accuracy")), default=0.0) >= thresholds.learnt
    name, decay = (record.facts.optimizer or "").lower(), record.facts.weight_decay or 0.0
    if decay <= (thresholds.sgd if "sgd" in name else thresholds.adam):
        return False
    held = left >= thresholds.left and not learnt
    return held and part >= thresholds.most and shrunk >= thresholds.shrinking


def _fails(record: RunRecord, curve: LossCurve, thresholds: Thresholds) -> bool:
    """Whether the loss rises, or stays near that of guessing."""
    values = finite(curve.values)
    if at_chance(record):
        return True
    if curve.chance is not None and values[-1] > curve.chance - thresholds.chance:
        return True
    line = relative_trend(values)
    return line is not None and line.count > 2 and line.rises_by(0.01)
