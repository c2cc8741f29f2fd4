"""The batch is too small for BatchNorm, or for a gradient that can be trusted.

What it looks at: images per batch; with BatchNorm, whether the same images cost more in evaluation
    mode (running statistics) than in training mode (those of the batch); or whether training, at
    this batch, costs more than the same network on larger batches of training images.
Why it matters: means over a handful of images are mostly noise, and what is learnt with them does
    not hold for the running ones that prediction uses.
When it is wrong: small batches without BatchNorm, or with frozen statistics, train well; dropout
    makes the training mode the worse one, not the better.
What to do: batches of 32, at the rate that is usual for them; a short run also needs more epochs,
    as larger batches take fewer steps. Where memory forbids, keep BatchNorm in evaluation mode.
Source: fault A15; Wu and He 2018 (arXiv:1803.08494): error of BatchNorm by batch size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from espalier.diagnose.doses import batch_edits
from espalier.diagnose.facts import finite
from espalier.diagnose.signals import middle, stepped
from espalier.findings import Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import EpochSigns, RunRecord

CODE = "RUN119"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    images: float = threshold(8, "images", "per batch, below which BatchNorm suffers")
    gap: float = threshold(0.3, "nats", "by which evaluation mode is worse on the same images")
    epochs: float = threshold(2, "epochs", "at the end, over which the gap is taken")
    dearer: float = threshold(0.2, "nats", "by which training costs more than the probe")
    learnt: float = threshold(0.95, "accuracy", "on clean training images, from which all is well")


def check(record: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A finding where few images per batch and the gap come together."""
    batch = record.require_fact("batch") / (record.facts.accumulate or 1)
    layers = record.facts.batch_norms
    if batch >= thresholds.images or layers == 0:
        return None
    if layers is None:
        raise CannotJudge("needs to know whether there are BatchNorm layers")
    if _resting(record):
        return None
    symptom = _symptom(record, thresholds)
    if symptom is None:
        return None
    return Finding(
        rule="",
        code="",
        severity="warning",
        cause=f"Batches of {batch:.0f} images are too small for BatchNorm: {_in_words(symptom)}",
        evidence=(
            Evidence("images per batch", batch, thresholds.images, "images"),
            symptom,
            Evidence("BatchNorm layers", layers),
        ),
        confidence=0.8,
        advice=(
            "Use batches of 32 images, with the rate and the epochs that go with them; "
            "accumulation does not help BatchNorm.",
            "Where memory forbids it, keep BatchNorm in evaluation mode (batch_norm: eval).",
        ),
        prescription=batch_edits(record, "statistics of BatchNorm need more images"),
        consequences=(
            "batch_norm_broken",
            "learning_rate_too_high",
            "learning_rate_noisy",
            "dead_units",
            "stopped_too_early",
            "underfitting",
            "not_learning",
        ),
    )


_EVALUATION = "loss in evaluation mode above training mode"
_TRAINING = "training loss above that of the same network on clean training images"


def _in_words(symptom: Evidence) -> str:
    if symptom.name == _EVALUATION:
        return f"the same images cost {symptom.value:.2f} nats more in evaluation mode"
    return f"training costs {symptom.value:.2f} nats more than the same network on larger batches"


def _resting(record: RunRecord) -> bool:
    """Whether BatchNorm keeps its statistics in every stage: then no batch is too small for it."""
    modes = [stretch.facts.batch_norm for stretch in stepped(record) if stretch.facts is not None]
    return bool(modes) and all(mode == "eval" for mode in modes)


def _symptom(record: RunRecord, thresholds: Thresholds) -> Evidence | None:
    """What shows that statistics of so few images do harm; None where nothing does.

    Raises:
        CannotJudge: Neither can be looked at.
    """
    count = int(thresholds.epochs)
    gap = middle([epoch.clean_loss - epoch.busy_loss for epoch in record.epochs][-count:])
    above = middle(_above_probe(record)[-count:])
    if math.isnan(gap) and math.isnan(above):
        raise CannotJudge("needs the clean training loss in both modes")
    if gap > thresholds.gap:
        return Evidence(_EVALUATION, gap, thresholds.gap, "nats")
    learnt = max(finite(record.column("clean_accuracy")), default=0.0) >= thresholds.learnt
    if not above > thresholds.dearer or learnt:
        return None
    return Evidence(_TRAINING, above, thresholds.dearer, "nats")


def _above_probe(record: RunRecord) -> list[float]:
    """Training loss of each epoch above what the probe costs in its middle, from the second on.

    Empty where something else makes training dearer: mixing, smoothing, class weights.
    """
    facts = record.facts
    odd = (facts.mixup, facts.cutmix, facts.label_smoothing, facts.class_weights)
    if any(odd) or facts.dropout is None:
        return []
    probe = [_probed(epoch, bool(facts.dropout)) for epoch in record.epochs]
    costs = [epoch.train_loss for epoch in record.epochs]
    return [
        cost - (before + after) / 2
        for cost, before, after in zip(costs[1:], probe, probe[1:], strict=False)
    ]


def _probed(epoch: EpochSigns, dropout: bool) -> float:
    """Loss of the probe as dropout leaves it: in training mode; without: in the better mode."""
    if dropout:
        return epoch.busy_loss
    return min(finite([epoch.clean_loss, epoch.busy_loss]), default=math.nan)
