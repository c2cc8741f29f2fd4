"""The averaged weights (EMA) lag behind the trained ones.

What it looks at: validation accuracy of the averaged weights against that of the trained ones;
    where it was not measured, how much of the average is still the first weights.
Why it matters: with a decay of 0.9999 a run of 2,000 steps ends with an average that is still
    82 % the weights it began with.
When it is wrong: averages that shorten their memory at the start keep up; a measured accuracy
    that keeps up acquits any decay.
What to do: a decay of about 1 - 10 / steps.
Source: fault F5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from espalier.diagnose.facts import finite, total_steps
from espalier.findings import Evidence, Finding, percent
from espalier.rules import CannotJudge, threshold
from espalier.run_record import EpochSigns, RunRecord

CODE = "RUN024"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    gap: float = threshold(0.05, "accuracy", "of the average below the trained weights")
    errors: float = threshold(3.0, "standard errors", "by which it must be below as well")
    first: float = threshold(0.5, "share of the average", "that is still the first weights")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A warning where the average is worse, or must be."""
    both = [e for e in subject.epochs if len(finite([e.ema_accuracy, e.val_accuracy])) == 2]
    if both:
        return _measured(subject, both[-2:], thresholds)
    decay = subject.facts.ema_decay
    if decay is None:
        raise CannotJudge("needs the accuracy of averaged weights, or their decay")
    if not 0 < decay < 1:
        return None
    steps = total_steps(subject)
    if not steps:
        raise CannotJudge("needs the number of steps")
    if subject.ended == "running":
        raise CannotJudge("the run has not ended, and the average may still catch up")
    first = decay**steps
    if first <= thresholds.first:
        return None
    return _finding(
        f"after {steps:,} steps with a decay of {decay:g} the averaged weights are still "
        f"{percent(first)} those of the start",
        Evidence("first weights in the average", first, thresholds.first, "share"),
        steps,
        0.75,
    )


def _measured(
    subject: RunRecord, recent: list[EpochSigns], thresholds: Thresholds
) -> Finding | None:
    last = recent[-1]
    noise = thresholds.errors * subject.accuracy_noise(last.val_accuracy)
    allowed = max(thresholds.gap, noise)
    if any(e.val_accuracy - e.ema_accuracy <= allowed for e in recent):
        return None
    gap = last.val_accuracy - last.ema_accuracy
    return _finding(
        f"the averaged weights reach an accuracy of {last.ema_accuracy:.3f}, the trained ones "
        f"{last.val_accuracy:.3f}",
        Evidence("accuracy below the trained weights", gap, allowed, "", f"epoch {last.epoch}"),
        total_steps(subject),
        0.9,
    )


def _finding(cause: str, evidence: Evidence, steps: int | None, confidence: float) -> Finding:
    fits = "1 - 10 / steps"
    if steps and steps > 20:
        fits += f", here {_rounded(1 - 10 / steps):g}"
    return Finding(
        rule="",
        code="",
        severity="warning",
        cause=cause,
        evidence=(evidence,),
        confidence=confidence,
        advice=(
            f"Set the decay to about {fits}, and see that the average is updated after every step.",
            "Until then, use the trained weights.",
        ),
    )


def _rounded(decay: float) -> float:
    """A decay with as many nines as count."""
    return round(decay, 1 - math.floor(math.log10(1 - decay)))
