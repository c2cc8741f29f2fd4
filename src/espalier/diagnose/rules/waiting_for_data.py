"""Training waits for images more than it computes.

What it looks at: the share of each epoch's time spent waiting for data, the first epoch aside,
    which may fill a store.
Why it matters: the score does not suffer, but the time does: the machine idles.
When it is wrong: epochs of a second or two say little and are passed over.
What to do: more workers, decoded photographs kept in a store, smaller files.
Source: fault G3; SageMaker Debugger's profiler rules.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from espalier.findings import Edit, Evidence, Finding, percent
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN023"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    share: float = threshold(0.5, "share of the epoch's time", "spent waiting")
    seconds: float = threshold(2.0, "seconds", "that an epoch must take to be judged")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A note where half of the time is waiting."""
    timed = [e for e in subject.epochs if e.wait_seconds >= 0 and 0 < e.seconds < float("inf")]
    if not timed:
        raise CannotJudge("needs the time of epochs and what of it was waiting")
    judged = [e for e in (timed[1:] or timed) if e.seconds >= thresholds.seconds]
    if not judged:
        return None
    shares = [min(1.0, epoch.wait_seconds / epoch.seconds) for epoch in judged]
    share = statistics.median(shares)
    if share <= thresholds.share:
        return None
    wasted = sum(epoch.wait_seconds for epoch in judged)
    return Finding(
        rule="",
        code="",
        severity="info",
        cause=f"training waits for images during {percent(share)} of its time, {wasted:,.0f} s so "
        "far",
        evidence=(Evidence("waiting for data", share, thresholds.share, "share of an epoch"),),
        confidence=0.9,
        advice=(
            "Let more workers decode, keep decoded photographs (data.store), or store them "
            "smaller.",
        ),
        prescription=(
            Edit("data.workers", "unset", None, "as many as the machine has room for"),
            Edit("data.store", "unset", None, "decoded photographs are kept where there is room"),
        ),
    )
