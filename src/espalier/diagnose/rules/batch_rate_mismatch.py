"""A learning rate that is usual, with a batch for which it is not; or gradients that add up.

What it looks at: the peak rate against what is usual at 64 images, scaled to the batch (SGD in
    proportion, Adam by the square root), and whether the run suffers as such a rate would make
    it; whether so large a batch leaves only a few steps; with accumulation, whether the first
    loss is so many times the expected one.
Why it matters: the same rate is right at 32 images and far off at 512.
When it is wrong: a rate that is off at any batch is the rate's own fault, and a run that learns
    well shows that its rate is right; both stay silent.
What to do: scale the rate with the batch; instead of a batch of a few images, which BatchNorm
    does not bear at any rate, take 32 at the rate and for the epochs that go with them. Divide
    the loss by the number of micro-batches.
Source: fault A10 and A14; linear scaling: Goyal et al. 2017; square root: Krizhevsky 2014.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from espalier.diagnose.doses import USUAL_BATCH, batch_edits
from espalier.diagnose.facts import (
    at_chance,
    finite,
    first_loss,
    peak_rate,
    rate_edits,
    total_steps,
    uniform_loss,
)
from espalier.diagnose.loss_curves import loss_curve
from espalier.diagnose.signals import movement, relative_trend, stepped
from espalier.findings import Edit, Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN005"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    sgd: float = threshold(0.05, "learning rate", "usual for SGD with momentum, at 64 images")
    adam: float = threshold(1e-3, "learning rate", "usual for Adam, at 64 images")
    images: float = threshold(64, "images per step", "at which those are usual")
    usual: float = threshold(4.0, "times the usual rate", "or a fourth of it, is usual still")
    off: float = threshold(3.5, "times the scaled rate", "or its inverse, is off")
    far: float = threshold(10.0, "times the scaled rate", "from which small steps do not clear it")
    brisk: float = threshold(1e-2, "update / weight", "above which steps keep a run at chance")
    update: float = threshold(3e-2, "update / weight", "above which steps are too large")
    falling: float = threshold(0.03, "share per epoch", "by which a loss falls that is too slow")
    sums: float = threshold(0.1, "share", "by which a summed first loss may differ")
    few: float = threshold(100, "steps", "of the whole run, below which they are few")
    each: float = threshold(8, "steps", "of an epoch, below which the batch is why they are few")
    tiny: float = threshold(8, "images", "per step, below which the batch is what to change")
    left: float = threshold(0.4, "of the loss of guessing", "left at the end of few or large steps")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A warning where rate and batch do not fit and the run shows it."""
    special = _summed(subject, thresholds) or _few_steps(subject, thresholds)
    if special is not None:
        return special
    batch, factor, scaled = _factor(subject, thresholds)
    usual = factor * scaled
    if max(usual, 1 / usual) > thresholds.usual or max(factor, 1 / factor) < thresholds.off:
        return None
    symptom = (
        _too_much(subject, factor, thresholds) if factor > 1 else _too_little(subject, thresholds)
    )
    if not symptom:
        return None
    rate = peak_rate(subject)
    size = "large" if factor > 1 else "small"
    times = max(factor, 1 / factor)
    repaired = float(f"{1 / factor:.2g}")
    tiny = batch < thresholds.tiny and subject.facts.batch_norms != 0
    return Finding(
        rule="",
        code="",
        severity="warning",
        cause=f"a learning rate of {rate:.2g} is {times:.1f} times too {size} for batches of "
        f"{batch}: {symptom}",
        evidence=(
            Evidence("rate against what fits the batch", factor, thresholds.off, "times"),
            Evidence("images per step", batch, None, "images"),
        ),
        confidence=0.7,
        advice=(
            f"Use batches of {USUAL_BATCH} images, with the rate and the epochs that go with them."
            if tiny
            else f"Multiply the learning rate by {repaired:g}, or train with another batch.",
        ),
        prescription=batch_edits(subject, "the batch for which such a rate is usual")
        if tiny
        else rate_edits(subject, repaired, "the rate that fits the batch"),
        consequences=_CONSEQUENCES,
    )


_CONSEQUENCES = (
    "learning_rate_too_high",
    "learning_rate_noisy",
    "learning_rate_too_low",
    "missing_warmup",
    "batch_too_small",
    "exploding_gradients",
    "dead_units",
    "stopped_too_early",
    "underfitting",
    "not_learning",
)


def _factor(subject: RunRecord, thresholds: Thresholds) -> tuple[int, float, float]:
    """Batch, rate over what fits it, and what fits it over what is usual."""
    batch = int(subject.require_fact("batch"))
    name = str(subject.require_fact("optimizer")).lower()
    rate = peak_rate(subject)
    if rate is None or batch < 1:
        raise CannotJudge("needs a learning rate")
    relative = batch / thresholds.images
    if name.startswith("sgd"):
        return batch, rate / (thresholds.sgd * relative), relative
    if "adam" in name:
        scaled = math.sqrt(relative)
        return batch, rate / (thresholds.adam * scaled), scaled
    raise CannotJudge(f"knows how SGD and Adam scale with the batch, not {name}")


def _too_much(subject: RunRecord, factor: float, thresholds: Thresholds) -> str:
    """What shows that steps are too large; empty where nothing does.

    A run that learns well shows that its rate is right, and one that goes on may do so yet.
    """
    if subject.ended == "running":
        return ""
    ratio = max(finite(movement(s.at_speed()) for s in stepped(subject)), default=math.nan)
    if ratio > thresholds.update and _left(subject) >= thresholds.left:
        return f"a step changes the weights by {100 * ratio:.1f} %"
    # Many a fault keeps a run at chance; large steps tell this one, or a rate that is far off.
    if ratio <= thresholds.brisk and factor < thresholds.far:
        return ""
    losses, chance = finite(subject.column("train_loss")), uniform_loss(subject)
    if len(losses) > 1 and chance is not None and losses[-1] > 0.95 * chance:
        return f"the training loss ends at {losses[-1]:.2f}, no better than chance"
    return "no epoch beats guessing" if at_chance(subject) else ""


def _too_little(subject: RunRecord, thresholds: Thresholds) -> str:
    """What shows that steps are too small; empty where nothing does."""
    losses = [x for x in finite(subject.column("train_loss")) if x > 0]
    if len(losses) < 3:
        return ""
    # Two epochs apart, so that one lucky epoch does not pass for progress.
    fall = 1 - math.sqrt(losses[-1] / losses[-3])
    if fall < thresholds.falling:
        return ""
    return f"the training loss still falls by {100 * fall:.0f} % an epoch at the end"


def _summed(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """Where micro-batches are added up and not averaged, the first loss is so many times chance."""
    first, parts = first_loss(subject), subject.facts.accumulate
    if first is None or not parts or parts < 2 or first.where != "step 1":
        return None
    times = first.value / first.expected
    if abs(times / parts - 1) > thresholds.sums:
        return None
    return Finding(
        rule="",
        code="",
        severity="warning",
        cause=f"{parts} micro-batches are added up and not averaged: the first loss is "
        f"{first.value:.2f}, {times:.1f} times the expected {first.expected:.2f}",
        evidence=(Evidence("first loss", first.value, first.expected, "nats", first.where),),
        confidence=0.85,
        advice=("Divide the loss by the number of accumulated micro-batches before backward.",),
        prescription=(Edit("training.accumulate", "set", 1, "nothing to add up", safe=False),),
        consequences=("bad_first_loss", *_CONSEQUENCES),
    )


def _left(subject: RunRecord) -> float:
    """What is left to gain at the end, as a share of the loss of guessing; 0 where unknown."""
    curve = loss_curve(subject)
    whole = math.nan if curve is None else (curve.chance or math.nan) - curve.floor
    return finite(curve.above_floor)[-1] / whole if curve is not None and whole > 0 else 0.0


def _few_steps(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """Where a batch of a good part of the data set leaves a run a handful of steps to learn in."""
    batch, steps = subject.facts.batch, total_steps(subject)
    curve = loss_curve(subject, least=3)
    if not batch or batch <= thresholds.images or not steps or curve is None:
        return None
    each = steps / max(1, len(subject.epochs))
    if steps >= thresholds.few or each >= thresholds.each or subject.ended == "running":
        return None
    left, line = _left(subject), relative_trend(finite(curve.above_floor))
    if left < thresholds.left or line is None or not line.falls_by(0.0):
        return None
    smaller = int(min(32, max(8, 2 ** math.floor(math.log2(batch * each / 20)))))
    return Finding(
        rule="",
        code="",
        severity="warning",
        cause=f"batches of {batch} images leave {each:.0f} steps to an epoch and {steps} in all: "
        f"the {curve.name} has only begun to fall",
        evidence=(
            Evidence("optimizer steps", steps, thresholds.few, "steps"),
            Evidence("steps of an epoch", each, thresholds.each, "steps"),
            Evidence("left to gain at the end", left, thresholds.left, "of the loss of guessing"),
        ),
        confidence=0.8,
        advice=(f"Use batches of {smaller} images, or train for correspondingly more epochs.",),
        prescription=(Edit("training.batch", "set", smaller, "more steps from the same images"),)
        if subject.facts.stages
        else (),
        consequences=_CONSEQUENCES,
    )
