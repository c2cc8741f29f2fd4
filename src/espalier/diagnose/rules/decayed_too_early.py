"""The learning rate fell to almost nothing long before training ended.

What it looks at: for which share of a stage the rate lay far below its peak; whether the loss was
    still falling when it was cut; and how much was left to gain at the end.
Why it matters: the epochs after the cut are paid for and teach nothing.
When it is wrong: at the end of a cosine or one-cycle the rate is small for a few epochs only; a
    rate that was cut because the loss had stopped falling was cut at the right time.
What to do: stretch the schedule over the whole stage, behind a short warmup. Often a schedule that
    counts epochs was stepped once per batch, or its length was given in the wrong unit.
Source: fault A4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from espalier.diagnose.doses import warmup
from espalier.diagnose.facts import finite
from espalier.diagnose.loss_curves import LossCurve, loss_curve
from espalier.diagnose.signals import Stretch, low_rate_share, nats, rising, stepped
from espalier.findings import Edit, Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN104"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    nothing: float = threshold(0.01, "x peak rate", "below which a rate is almost nothing")
    share: float = threshold(0.4, "of the steps", "that a stage may be almost without rate")
    tenth: float = threshold(0.1, "x peak rate", "below which a rate is small")
    most: float = threshold(0.7, "of the steps", "that a stage may have a small rate")
    falling: float = threshold(0.03, "per epoch", "fall of the loss before the rate was cut")
    left: float = threshold(0.1, "of the loss of guessing", "left to gain at the end")
    learnt: float = threshold(0.95, "accuracy", "on clean training images, from which all is well")


def check(record: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A finding for the first stage of which it is true."""
    judged = False
    for stretch in stepped(record):
        # A head that no optimizer holds has a rate of zero from the first epoch on: none was cut.
        if max(finite(stretch.rates), default=math.nan) == 0:
            continue
        low = low_rate_share(stretch, thresholds.nothing)
        small = low_rate_share(stretch, thresholds.tenth)
        curve = loss_curve(record, stretch.epochs, least=3)
        if low is None or small is None or curve is None or rising(record, stretch):
            continue
        judged = True
        if low > thresholds.share:
            found = _finding(record, stretch, curve, thresholds, (low, thresholds.nothing))
        elif small > thresholds.most:
            found = _finding(record, stretch, curve, thresholds, (small, thresholds.tenth))
        else:
            continue
        if found is not None:
            return found
    if not judged:
        raise CannotJudge("needs learning rates and a loss of 3 epochs of one stage")
    return None


def _finding(
    record: RunRecord,
    stretch: Stretch,
    curve: LossCurve,
    thresholds: Thresholds,
    low: tuple[float, float],
) -> Finding | None:
    """None where nothing was lost by it."""
    share, factor = low
    left = finite(curve.above_floor)[-1] / ((curve.chance or 1.0) - curve.floor)
    learnt = max(finite(stretch.column("clean_accuracy")), default=0.0)
    cut = _cut(stretch, factor)
    fall = _fall(curve, cut)
    if left < thresholds.left or learnt >= thresholds.learnt or fall < thresholds.falling:
        return None
    epoch = stretch.epochs[cut].epoch
    known = math.isfinite(fall)
    limit = thresholds.share if factor == thresholds.nothing else thresholds.most
    return Finding(
        rule="",
        code="",
        severity="warning",
        cause=f"The learning rate was cut too early: for {100 * share:.0f} % of "
        f"{stretch.where or 'the run'} it lay below {100 * factor:g} % of its peak, "
        f"{_still(curve, fall)}",
        evidence=(
            Evidence(
                f"time below {100 * factor:g} % of the peak", share, limit, "share", stretch.where
            ),
            Evidence(
                "fall of the loss before it was cut",
                fall if known else "cut within the first epoch",
                thresholds.falling,
                "per epoch",
                f"epoch {epoch}",
            ),
            Evidence("left to gain at the end", left, thresholds.left, "of the loss of guessing"),
        ),
        confidence=0.85 if known else 0.8,
        advice=(
            "Let the schedule reach its end when training does: its length is the number of "
            "optimizer steps (or of epochs, if it is stepped once per epoch).",
            "In a loop of your own, check whether a schedule meant for epochs is stepped in "
            "every batch.",
        ),
        prescription=_edits(record, stretch),
        consequences=(
            "learning_rate_too_low",
            "plateau",
            "stopped_too_early",
            "underfitting",
            "not_learning",
        ),
    )


def _cut(stretch: Stretch, factor: float) -> int:
    """Index of the epoch in which the rate fell below ``factor`` x peak; 0 if that is unknown."""
    low = (i for i, rate in enumerate(stretch.rates) if rate < factor * stretch.peak)
    return next(low, 0)


def _fall(curve: LossCurve, cut: int) -> float:
    """Relative fall of the loss in the epoch of the cut or the one before, whichever fell more.

    The epoch of the cut may have had next to no rate. Training starts from chance; infinite where
    the cut came before the end of the first epoch.
    """
    start = (curve.chance or math.nan) - curve.floor
    values = [start, *curve.above_floor]
    pairs = [(values[i - 1], values[i]) for i in (cut, cut + 1) if cut and i > 0]
    falls = finite((before - after) / before for before, after in pairs if before > 0)
    return max(falls, default=math.inf)


def _still(curve: LossCurve, fall: float) -> str:
    if math.isfinite(fall):
        return f"although the {curve.name} was still falling by {100 * fall:.0f} % per epoch"
    return f"from its first epoch on, and the {curve.name} ends at {nats(finite(curve.values)[-1])}"


def _edits(record: RunRecord, stretch: Stretch) -> tuple[Edit, ...]:
    if stretch.facts is None:
        return ()
    key = f"stages.{stretch.facts.name}.schedule"
    # The rate now stays high for long: weights that a cold start spoiled are carried on with it.
    warm = [edit for edit in warmup(record) if edit.key.startswith(f"stages.{stretch.facts.name}.")]
    return (Edit(key, "set", "cosine", "falls over the whole stage"), *warm)
