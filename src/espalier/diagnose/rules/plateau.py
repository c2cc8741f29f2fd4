"""Training no longer gains although its rate is high: the rate is not what holds it back.

What it looks at: the loss of clean training images over the last epochs at an undiminished rate,
    how far steps move the weights, and how much is left to gain.
Why it matters: more of the same epochs will not help; the next gain must come from elsewhere.
When it is wrong: a loss that jumps at a high rate would fall with a lower one, and is left to
    another rule; a flat loss after the schedule has run out is simply the end.
What to do: let more of the network learn, raise the resolution, or look at the labels.
Source: fault A18.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from espalier.diagnose.facts import finite
from espalier.diagnose.loss_curves import loss_curve
from espalier.diagnose.signals import (
    Stretch,
    detrended_variation,
    movement,
    nats,
    relative_trend,
    settled,
    stepped,
)
from espalier.findings import Evidence, Finding, percent
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN111"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    flat: float = threshold(0.005, "per epoch", "change of the loss that is none")
    epochs: float = threshold(4, "epochs", "without gain, at least")
    rate: float = threshold(0.5, "x peak rate", "in these epochs, at least")
    jumps: float = threshold(0.1, "standard deviation / loss", "above which it is not flat")
    left: float = threshold(0.1, "of the loss of guessing", "left to gain, at least")
    moves: float = threshold(1e-5, "change / weight", "of a median step, to be training at all")


def check(record: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A remark, never a warning: nothing is wrong with how it trains."""
    last = [stretch for stretch in stepped(record) if stretch.epochs][-1:]
    least = int(thresholds.epochs)
    curve = loss_curve(record, last[0].epochs, least, ("clean_loss", "val_loss")) if last else None
    if curve is None or not any(rate > 0 for rate in last[0].rates):
        raise CannotJudge(f"needs rates and a clean or validation loss of {least} epochs")
    stretch = last[0]
    if not settled(record, stretch):
        raise CannotJudge("needs a stage that is over: its rate may still fall")
    values = curve.values[-least:]
    line, left = relative_trend(values), finite(curve.above_floor)[-1] / (curve.chance or 1.0)
    if line is None or line.count < least or left < thresholds.left:
        return None
    if not _at_speed(stretch, thresholds) or detrended_variation(values) > thresholds.jumps:
        return None
    if not abs(line.slope) <= thresholds.flat or 3 * line.error > 0.05:
        return None
    if movement(stretch.at_speed()) < thresholds.moves:
        return None
    end = finite(values)[-1]
    return Finding(
        rule="",
        code="",
        severity="info",
        cause=f"Training has reached a plateau: the {curve.name} stays at {nats(end)} for "
        f"{least} epochs at full rate",
        evidence=(
            Evidence(
                f"change of the {curve.name}",
                line.slope,
                thresholds.flat,
                "per epoch",
                f"the last {least} epochs",
            ),
            Evidence("left to gain", left, thresholds.left, "of the loss of guessing"),
        ),
        confidence=0.6,
        advice=(
            f"Stop here, or let the rate fall: the loss moves by only {percent(abs(line.slope))} "
            "per epoch.",
            "Then let more of the network learn, or give it more pixels.",
        ),
    )


def _at_speed(stretch: Stretch, thresholds: Thresholds) -> bool:
    rates = stretch.rates[-int(thresholds.epochs) :]
    return all(math.isfinite(rate) and rate >= thresholds.rate * stretch.peak for rate in rates)
