"""Where a finding lies: on which curve, and at which epochs of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from espalier.findings import Finding, Severity
from espalier.run_record import RunRecord

_EPOCHS = re.compile(r"epochs? (\d+)(?:\s*(?:-|to|and)\s*(?:epoch )?(\d+))?")
_STEPS = re.compile(r"steps? (\d[\d,]*)(?:\s*(?:-|to|and)\s*(?:step )?(\d[\d,]*))?")
_STAGE = re.compile(r"stage (\S+)")
# What a piece of evidence is called -> the curve that it is read from; the first that fits.
_CURVES = (
    ("rate", re.compile(r"learning rate|\brate\b(?! of)|warmup|schedule", re.IGNORECASE)),
    ("loss", re.compile(r"\bloss(es)?\b(?! scale)", re.IGNORECASE)),
    ("state", re.compile(r"\bdead\b|active|running (mean|statistic)|drift", re.IGNORECASE)),
    ("gradient", re.compile(r"gradient|\bnorm\b|clip|update|\bscale\b", re.IGNORECASE)),
    ("score", re.compile(r"accuracy|f1\b|recall|predicted|\bscore|\bgap\b", re.IGNORECASE)),
)


@dataclass(frozen=True)
class Place:
    """Where a finding lies.

    Attributes:
        number: Of the finding, as the page counts them.
        severity: Of the finding.
        curve: Key of the panel.
        start: First epoch concerned, as a fraction where it is a step; 0 is before training.
        end: Last epoch concerned; equal to ``start`` for a moment.
        text: The place in words, as the finding has it; empty where nothing says when, so that
            all of the run is meant.
    """

    number: int
    severity: Severity
    curve: str
    start: float
    end: float
    text: str = ""


def place_of(record: RunRecord, finding: Finding, number: int) -> Place | None:
    """Where a finding lies on the curves; None where it is about no curve at all.

    Args:
        record: The run.
        finding: What was found in it.
        number: That the page gives the finding.
    """
    curve = _curve_of(finding)
    texts = [entry.where for entry in finding.evidence] + [finding.cause]
    spans = [span for text in texts if (span := _span(record, text)) is not None]
    if curve is None and not spans:
        return None
    if not spans:
        last = float(record.epochs[-1].epoch) if record.epochs else 0.0
        return Place(number, finding.severity, curve or "loss", 0.0, last)
    text, start, end = spans[0]
    return Place(number, finding.severity, curve or "loss", start, end, text)


def epoch_of_step(record: RunRecord, steps: Sequence[int]) -> list[float]:
    """Steps on the axis of epochs: epoch 3 ends at 3.0, its middle is 2.5.

    Steps cannot be placed where neither epochs know their step nor anything else does: none then.
    """
    known = [(e.step, e.epoch) for e in record.epochs if e.step]
    per_epoch = record.facts.steps_per_epoch
    if known:
        ends, epochs = zip(*known, strict=True)
        last_length = per_epoch or _last_length(ends)
        ends, epochs = (*ends, ends[-1] + last_length), (*epochs, epochs[-1] + 1)
        start = max(0, epochs[0] - 1)
        placed = np.interp(steps, (0 if start == 0 else ends[0] - last_length, *ends),
                           (start, *epochs))  # fmt: skip
        return [float(value) for value in placed]
    return [step / per_epoch for step in steps] if per_epoch else []


def _last_length(ends: Sequence[int]) -> int:
    return max(1, ends[-1] - ends[-2]) if len(ends) > 1 else max(1, ends[-1])


def _curve_of(finding: Finding) -> str | None:
    for entry in finding.evidence:
        for curve, words in _CURVES:
            if words.search(entry.name):
                return curve
    return None


def _span(record: RunRecord, text: str) -> tuple[str, float, float] | None:
    if found := _STEPS.search(text):
        first, last = (int((group or found[1]).replace(",", "")) for group in found.groups())
        placed = epoch_of_step(record, [first, last])
        if placed:
            return found[0], placed[0], placed[1]
    if found := _EPOCHS.search(text):
        return found[0], float(found[1]), float(found[2] or found[1])
    if found := _STAGE.search(text):
        name = found[1].rstrip(".,;:)")
        epochs = [float(epoch.epoch) for epoch in record.epochs if epoch.stage == name]
        if epochs:
            return f"stage {name}", min(epochs), max(epochs)
    return None
