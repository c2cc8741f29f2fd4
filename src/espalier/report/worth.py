"""What a linear head alone gives, what fine-tuning adds to it, and what helped rare classes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from espalier.metrics import ClassScore
from espalier.records import Score
from espalier.report.context import Baseline
from espalier.report.names import shorten
from espalier.report.numbers import duration
from espalier.report.paragraphs import wrapped
from espalier.runs import RunDir

WEAKEST = 3


class Judged(Protocol):
    """Scores of one split, as ``evaluate`` gives them."""

    @property
    def split(self) -> str:
        """What was judged."""

    @property
    def images(self) -> int:
        """How many."""

    @property
    def scores(self) -> Mapping[str, Score]:
        """By name of the metric."""

    @property
    def per_class(self) -> Sequence[ClassScore]:
        """In the order of the mapping."""


def gain_text(judged: Judged, baseline: Baseline) -> str:
    """What training was worth, against a linear head on the frozen backbone.

    Bias: the baseline trains on 4 / 5 of the training images and is judged on the others, so it is
    a little too low, and never on the split that the result is of.
    """
    score = judged.scores["macro_f1"]
    gain = score.value - baseline.macro_f1
    text = (
        f"fine-tuning: macro-F1 {score.value:.3f} on {judged.split}, against "
        f"{baseline.macro_f1:.3f} of a linear head alone: {gain:+.3f}"
    )
    low = score.value if score.low is None else score.low
    high = score.value if score.high is None else score.high
    noise = math.hypot((high - low) / 2, baseline.half)
    if abs(gain) <= noise:
        return f"{text}, within the noise"
    return text if gain > 0 else f"{text}. It did harm: try a lower lr, or --preset quick"


def adopted_lines(run: RunDir, test: Judged | None) -> list[str]:
    """What was changed for rare classes after training; nothing where nothing was."""
    try:
        record = json.loads(run.adjustment_file.read_text(encoding="utf-8"))
        adopted = record["method"] != "none"
    except (OSError, ValueError, KeyError, TypeError):
        return []
    if not adopted:
        return []
    where = "test and all predictions are with it" if test else "predictions are with it"
    text = f"adjusted for rare classes ({record['method']}): val is before it, {where}"
    return ["", *wrapped(text)]


def adjustment_text(record: Mapping[str, Any]) -> str:
    """What was tried for rare classes and what came of it, in plain words.

    Args:
        record: As ``adjustment.json`` holds it.
    """
    trials = record["trials"]
    if not trials:
        return f"rare classes: nothing to choose from ({record['reason']})"
    best = max(trials, key=lambda trial: trial["gain_interval"][0])
    low, high = best["gain_interval"]
    figures = f"{best['gain']:+.3f} [{low:+.3f}, {high:+.3f}] macro-F1"
    if record["method"] != "none":
        return f"rare classes: helped by {best['method']}, {figures} on validation; in best.pt"
    return (
        f"rare classes: nothing changed; the best of {len(trials)} tries ({best['method']}) gives "
        f"{figures} on validation, which may be chance"
    )


def baseline_text(baseline: Baseline, seconds: float) -> str:
    """The first honest score, with its weakest classes."""
    weakest = list(baseline.per_class.items())[:WEAKEST]
    named = ", ".join(f"{shorten(name, 24)} {f1:.2f}" for name, f1 in weakest)
    return (
        f"a linear head alone gives macro-F1 {baseline.macro_f1:.2f} +- {baseline.half:.2f} "
        f"({duration(seconds)}; {baseline.folds}-fold on {baseline.images:,} training images); "
        f"fine-tuning must beat that; F1 of its weakest classes: {named}"
        + "".join(f"; {note}" for note in baseline.notes)
    )
