"""Losses by epoch, beside what a perfect model and one that knows nothing would lose."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from espalier.diagnose.facts import finite
from espalier.run_record import EpochSigns, RunRecord

# How loops and torch say that a figure was no number ("the loss is nan at step 2"); a file that
# is called "nan" is not found either, so one of the figures must be named beside it.
_NO_NUMBER = re.compile(
    r"\b(nan|[+-]?inf(inity|inite)?|(non-?|not )finite|not a (finite )?number)\b", re.IGNORECASE
)
_FIGURE = re.compile(
    r"\b(loss(es)?|grad(ient)?s?|norms?|weights?|logits|outputs?|values?|backward)\b", re.IGNORECASE
)
_GRADIENT = re.compile(r"\bgrad(ient)?s?\b|backward", re.IGNORECASE)
_STEP = re.compile(r"\bstep (\d+)", re.IGNORECASE)

CURVES = {
    "clean_loss": "clean training loss",
    "train_loss": "training loss",
    "val_loss": "validation loss",
}


@dataclass(frozen=True)
class LossCurve:
    """A loss by epoch, with what a perfect model and one that knows nothing would lose.

    Attributes:
        name: In words.
        values: One per epoch, in nats; NaN where not measured.
        floor: What the objective lets a perfect model lose in this measure.
        chance: What one loses that knows only how frequent the classes are; None if unknown.
    """

    name: str
    values: tuple[float, ...]
    floor: float
    chance: float | None

    @property
    def above_floor(self) -> list[float]:
        """What is left to gain in each epoch, at least 0.001 nats; NaN where not measured."""
        return [v if math.isnan(v) else max(v - self.floor, 1e-3) for v in self.values]


def loss_curve(
    record: RunRecord,
    epochs: Sequence[EpochSigns] | None = None,
    least: int = 1,
    columns: Sequence[str] = ("clean_loss", "train_loss", "val_loss"),
) -> LossCurve | None:
    """The first of these losses that is finite in so many epochs; None where none is."""
    rows = record.epochs if epochs is None else epochs
    for column in columns:
        values = tuple(float(getattr(row, column)) for row in rows)
        if len(finite(values)) >= max(1, least):
            trained = column == "train_loss"
            floor = trained_floor(record) if trained else plain_floor(record)
            return LossCurve(CURVES[column], values, floor, _chance(record, trained))
    return None


def loss_broke(record: RunRecord) -> str | None:
    """Where the loss stopped being a number for good (``step 312``); None where it did not.

    NaN also stands for "not measured", so it counts only behind finite ones and up to the end, in
    three sampled steps or two epochs at least; one infinite loss is enough, and so is the word of
    a run that died of it.
    """
    steps = [(step.loss, f"step {step.step}") for step in record.steps]
    epochs = [(epoch.train_loss, f"epoch {epoch.epoch}") for epoch in record.epochs]
    broken = _first_break(steps, 3) or _first_break(epochs, 2)
    return broken or (_last_step(record) if died_of(record) is not None else None)


def died_of(record: RunRecord) -> str | None:
    """In words, which figure was no number when the run died; None where it did not die of one."""
    why = record.why_ended.split("\n", 1)[0]
    if record.ended != "died" or not _NO_NUMBER.search(why) or not _FIGURE.search(why):
        return None
    return why.split(" (", 1)[0].rstrip(". ")


def died_of_gradients(record: RunRecord) -> bool:
    """Whether it was a gradient, and not the loss, that was no number when the run died."""
    why = died_of(record)
    return why is not None and _GRADIENT.search(why) is not None


def _last_step(record: RunRecord) -> str:
    named = _STEP.search(record.why_ended)
    if named is not None:
        return f"step {named[1]}"
    return f"step {record.steps[-1].step}" if record.steps else "the end"


def _first_break(losses: Sequence[tuple[float, str]], least: int) -> str | None:
    finite_at = [i for i, (loss, _) in enumerate(losses) if math.isfinite(loss)]
    if not finite_at:
        return next((where for loss, where in losses if math.isinf(loss)), None)
    for loss, where in losses[finite_at[0] :]:
        if math.isinf(loss):
            return where
    tail = losses[finite_at[-1] + 1 :]
    return tail[0][1] if len(tail) >= least else None


def _chance(record: RunRecord, trained: bool) -> float | None:
    prior = record.facts.prior_loss if record.facts.prior_loss is not None else record.chance_loss
    return record.facts.chance_loss if trained and record.facts.chance_loss is not None else prior


def trained_floor(record: RunRecord) -> float:
    """Lowest training loss: the recorded one, else the entropy of smoothed labels; 0 if unknown."""
    if record.facts.floor_loss is not None:
        return record.facts.floor_loss
    smoothing, classes = record.facts.label_smoothing or 0.0, record.num_classes or 0
    if not 0 < smoothing < 1 or classes < 2:
        return 0.0
    right, wrong = 1 - smoothing + smoothing / classes, smoothing / classes
    return -right * math.log(right) - (classes - 1) * wrong * math.log(wrong)


def plain_floor(record: RunRecord) -> float:
    """Plain cross-entropy of a model that fits smoothed labels perfectly: 0.1 for smoothing 0.1."""
    smoothing, classes = record.facts.label_smoothing or 0.0, record.num_classes or 0
    if not 0 < smoothing < 1 or classes < 2:
        return 0.0
    return -math.log(1 - smoothing + smoothing / classes)
