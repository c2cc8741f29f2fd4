"""What rules on facts share: chance, kinds of losses, peak rates, and the words for figures."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from espalier.findings import Edit, percent
from espalier.run_record import EpochSigns, RunRecord, StepSigns

LossKind = Literal["cross-entropy", "binary", "regression", "likelihood", "other"]

# Losses of regression by the words that name them, as other tools spell them.
_REGRESSION = re.compile(r"mse|squared|\bl1|\bl2|l1loss|mae|absolute|huber|smoothl1")
_BINARY = re.compile(r"bce|binary")
_LIKELIHOOD = re.compile(r"nll|likelihood")
_CROSS_ENTROPY = re.compile(
    r"crossentropy|softmax|^ce$|^celoss$|focal|logitadjusted|labelsmoothing"
)


def finite(values: Iterable[float]) -> list[float]:
    """Those that are neither NaN nor infinite."""
    return [value for value in values if math.isfinite(value)]


def of_all(part: float, whole: float, what: str) -> str:
    """``3 of 100 training images (3.0 %)``."""
    return f"{part:,.0f} of {whole:,.0f} {what} ({percent(part / whole)})"


def class_name(record: RunRecord, index: int) -> str:
    """Name of a class; ``class 3`` where nobody named it."""
    classes = record.facts.classes
    if classes is not None and index < len(classes):
        return classes[index]
    return f"class {index}"


def loss_kind(name: str) -> LossKind:
    """What kind of loss a name means, however it is spelled."""
    word = re.sub(r"[^a-z0-9]", "", name.lower())
    kinds: tuple[tuple[re.Pattern[str], LossKind], ...] = (
        (_BINARY, "binary"),
        (_LIKELIHOOD, "likelihood"),
        (_CROSS_ENTROPY, "cross-entropy"),
        (_REGRESSION, "regression"),
    )
    return next((kind for pattern, kind in kinds if pattern.search(word)), "other")


def uniform_loss(record: RunRecord) -> float | None:
    """Loss in nats of a model whose outputs are all equal: what the first batch should cost.

    It is ln K for cross-entropy, with or without label smoothing, mixup and class weights.
    """
    facts = record.facts
    if facts.chance_loss is not None and math.isfinite(facts.chance_loss):
        return facts.chance_loss
    if facts.loss is not None and loss_kind(facts.loss) != "cross-entropy":
        return None
    if facts.loss is not None and "focal" in facts.loss.lower():
        return None
    classes = record.num_classes
    return math.log(classes) if classes and classes > 1 else None


def guess_accuracy(record: RunRecord) -> float | None:
    """Accuracy of naming the most frequent class every time; None where no class is known."""
    for counts in (record.facts.val_counts, record.facts.train_counts):
        if counts and sum(counts):
            return max(counts) / sum(counts)
    classes = record.num_classes
    return 1 / classes if classes else None


def smallest_share(record: RunRecord) -> float | None:
    """Accuracy of naming the rarest class every time: nothing that learns stays below it."""
    for counts in (record.facts.val_counts, record.facts.train_counts):
        if counts and sum(counts):
            return min(counts) / sum(counts)
    classes = record.num_classes
    return 1 / classes if classes else None


def best_accuracy(record: RunRecord) -> float | None:
    """The best validation accuracy of any epoch, else the best training accuracy."""
    for name in ("val_accuracy", "clean_accuracy", "train_accuracy"):
        values = finite(record.column(name))
        if values:
            return max(values)
    return None


def at_chance(record: RunRecord, noise: float = 3.0) -> bool | None:
    """Whether no epoch beat naming the most frequent class; None where that is not known.

    Args:
        record: The run.
        noise: By how many standard errors it must be beaten.
    """
    best, guess = best_accuracy(record), guess_accuracy(record)
    if best is None or guess is None:
        return None
    return best <= guess + max(0.02, noise * record.accuracy_noise(guess))


def total_steps(record: RunRecord) -> int | None:
    """Optimizer steps so far, by whatever says so."""
    known = [epoch.step for epoch in record.epochs if epoch.step is not None]
    known += [step.step for step in record.steps]
    if known:
        return max(known)
    per_epoch = record.facts.steps_per_epoch
    return per_epoch * len(record.epochs) if per_epoch and record.epochs else None


def peak_rate(record: RunRecord) -> float | None:
    """The largest learning rate of the head that was planned, else the largest that was logged."""
    facts = record.facts
    planned = [s.learning_rate for s in facts.stages if s.learning_rate and not s.solved]
    logged = [step.learning_rate for step in record.steps] + record.column("learning_rate")
    for rates in (planned, logged):
        known = [rate for rate in finite(rates) if rate > 0]
        if known:
            return max(known)
    return None


def rate_edits(record: RunRecord, factor: float, because: str) -> tuple[Edit, ...]:
    """Multiply the peak rates of every stage that takes steps, backbone and head alike."""
    edits = []
    for stage in record.facts.stages:
        if stage.solved:
            continue
        edits.append(Edit(f"stages.{stage.name}.lr", "multiply", factor, because))
        if stage.backbone_learning_rate:
            edits.append(Edit(f"stages.{stage.name}.backbone_lr", "multiply", factor, because))
    return tuple(edits)


@dataclass(frozen=True)
class FirstLoss:
    """What the untrained model lost.

    Attributes:
        value: In nats per image.
        expected: Of a model whose outputs are all equal.
        where: Where it was seen.
    """

    value: float
    expected: float
    where: str


def first_loss(record: RunRecord) -> FirstLoss | None:
    """Loss before the first update, and what it should be; None where either is unknown.

    A run that was taken up again, or whose first stage solves for the head, does not begin with an
    untrained model, and its first step says nothing.
    """
    initial, classes = record.preflight.initial_loss, record.facts.head_classes
    classes = classes or record.num_classes
    stepped = _first_step_loss(record)
    if initial is None or not math.isfinite(initial) or not classes or classes < 2:
        return stepped
    # Statistics that BatchNorm has not learned yet can hide in evaluation what training meets.
    if stepped is not None and stepped.value > 2 * max(initial, stepped.expected):
        return stepped
    return FirstLoss(initial, math.log(classes), "before training")


def _first_step_loss(record: RunRecord) -> FirstLoss | None:
    expected, stages = uniform_loss(record), record.facts.stages
    if expected is None or not record.steps or (stages and stages[0].solved):
        return None
    first = record.steps[0]
    if first.step > 1 or not math.isfinite(first.loss):
        return None
    return FirstLoss(first.loss, expected, "step 1")


def update_ratios(steps: Iterable[StepSigns]) -> list[float]:
    """The largest update ratio of any part, of each step that has one."""
    largest = []
    for step in steps:
        known = finite(part.update_ratio for part in step.parts.values())
        if known:
            largest.append(max(known))
    return largest


def score_name(record: RunRecord, least: int = 1) -> str | None:
    """The column that says how good an epoch was: macro-F1, else accuracy; None where neither."""
    for name in ("val_macro_f1", "val_accuracy"):
        if len(finite(record.column(name))) >= least:
            return name
    return None


def epoch_named(epoch: EpochSigns) -> str:
    """``epoch 3``, with its stage where there are stages."""
    return f"epoch {epoch.epoch}, stage {epoch.stage}" if epoch.stage else f"epoch {epoch.epoch}"
