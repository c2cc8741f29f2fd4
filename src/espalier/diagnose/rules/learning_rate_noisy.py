"""The learning rate stays so high that training bounces around and no longer settles.

What it looks at: at a rate that stays the same to the end, how much the loss of fixed images jumps
    from epoch to epoch, and how far each step moves the weights.
Why it matters: the last epochs are worth no more than a draw of the lot; a lower rate at the end
    settles, and often gains several points at once.
When it is wrong: mixup and strong augmentation make the loss of batches noisy, not that of clean
    images; near a loss of zero every change is large by ratio, so that is left out.
What to do: let the rate fall to nearly zero towards the end (a cosine). A peak far above the usual
    one comes down to that; without a schedule to change, it is divided by three.
Source: fault A2; AutoTrainer's oscillating loss (zeta, eta) without its false alarms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from espalier.diagnose.doses import aimed_rate, lower_to
from espalier.diagnose.facts import rate_edits
from espalier.diagnose.loss_curves import loss_curve
from espalier.diagnose.signals import (
    Stretch,
    detrended_variation,
    middle,
    movement,
    settled,
    stepped,
)
from espalier.findings import Edit, Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN102"
_THIRD = 0.3
# A peak up to so many times the usual one does well, if it falls: one-cycle runs have three.
_FAR = 3.0


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    bounce: float = threshold(0.15, "standard deviation / loss", "from epoch to epoch")
    blind: float = threshold(0.3, "standard deviation / loss", "the same, steps not measured")
    ratio: float = threshold(1e-2, "change / weight", "of a median step, above which it is large")
    epochs: float = threshold(5, "epochs", "at the same rate, at least")
    steady: float = threshold(1.5, "largest : smallest rate", "that still is the same rate")
    level: float = threshold(0.1, "x loss of guessing", "below which jumps do not matter")


def check(record: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A finding where the end of the run bounces at an undiminished rate."""
    stretch = _last(record)
    if not settled(record, stretch):
        raise CannotJudge("needs a stage that is over: its rate may still fall")
    length = _same_rate(stretch.rates, thresholds.steady)
    if length < thresholds.epochs or stretch.rates[-1] < stretch.peak / 2:
        return None
    curve = loss_curve(
        record,
        stretch.epochs[-length:],
        least=int(thresholds.epochs),
        columns=("clean_loss", "val_loss"),
    )
    if curve is None:
        raise CannotJudge(f"needs a clean or validation loss of {thresholds.epochs:.0f} epochs")
    if middle(curve.values) < thresholds.level * (curve.chance or 1.0):
        return None
    bounce, ratio = detrended_variation(curve.values), movement(stretch.at_speed())
    blind = math.isnan(ratio)
    limit = thresholds.blind if blind else thresholds.bounce
    if not bounce > limit or (not blind and ratio <= thresholds.ratio):
        return None
    return Finding(
        rule="",
        code="",
        severity="warning",
        cause=f"The learning rate is too high to settle: at {stretch.rates[-1]:.2g} to the end, "
        f"the {curve.name} jumps by {100 * bounce:.0f} % from epoch to epoch",
        evidence=(
            Evidence(f"jumps of the {curve.name}", bounce, limit, "share", stretch.where),
            Evidence(
                "change of the weights in a median step",
                "not measured" if blind else ratio,
                thresholds.ratio,
                "change / weight",
                stretch.where,
            ),
        ),
        confidence=0.55 if blind else 0.75,
        advice=(
            "Let the rate fall to nearly zero towards the end of training, as a cosine does.",
            "Or divide the peak rate by three.",
        ),
        prescription=_edits(record, stretch),
        consequences=(
            "batch_norm_broken",
            "label_noise",
            "dead_units",
            "stopped_too_early",
            "overtrained",
            "underfitting",
            "plateau",
        ),
    )


def _last(record: RunRecord) -> Stretch:
    """The last stretch of steps that has epochs with rates.

    Raises:
        CannotJudge: There is none.
    """
    known = [s for s in stepped(record) if s.epochs and any(rate > 0 for rate in s.rates)]
    if not known:
        raise CannotJudge("needs learning rates of epochs")
    return known[-1]


def _same_rate(rates: Sequence[float], steady: float) -> int:
    """How many epochs at the end had one rate."""
    length, low, high = 0, math.inf, 0.0
    for rate in reversed(rates):
        low, high = min(low, rate), max(high, rate)
        if not rate > 0 or not math.isfinite(rate) or high > steady * low:
            break
        length += 1
    return length


def _edits(record: RunRecord, stretch: Stretch) -> tuple[Edit, ...]:
    """A rate that falls, from a peak that is usual; where none is known, from a third of it."""
    schedule = _schedule(stretch)
    aim = aimed_rate(record)
    if aim is None or not schedule:
        return (*schedule, *rate_edits(record, _THIRD, "the loss bounces"))
    if stretch.peak <= _FAR * aim.rate:
        return schedule
    return (*schedule, *lower_to(record, aim.rate, stretch.peak, aim.why))


def _schedule(stretch: Stretch) -> tuple[Edit, ...]:
    """Whatever its name says: the rate was seen to stay the same to the end."""
    if stretch.facts is None:
        return ()
    key = f"stages.{stretch.facts.name}.schedule"
    return (Edit(key, "set", "cosine", "a rate that falls to zero lets it settle"),)
