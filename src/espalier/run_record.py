"""What is known of a training run, ours or anybody's: the subject of the rules of ``diagnose``.

Everything but the epochs may be missing: a rule that needs what is not there cannot judge, and says
so. Rates and shares are in [0, 1], losses are nats per image, times are seconds; the clock is the
number of finished optimizer steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from espalier.plain_values import from_plain, to_plain
from espalier.rules import CannotJudge
from espalier.run_facts import (
    DataFacts,
    HeadTrial,
    Preflight,
    RunFacts,
    SplitPixels,
    StageFacts,
)

__all__ = [
    "DataFacts",
    "Ended",
    "EpochSigns",
    "HeadTrial",
    "PartSigns",
    "Preflight",
    "RunFacts",
    "RunRecord",
    "SplitPixels",
    "StageFacts",
    "StepSigns",
    "from_plain",
    "measured",
    "part_values",
    "to_plain",
]

Ended = Literal["finished", "stopped", "died", "running", "unknown"]


@dataclass(frozen=True)
class EpochSigns:
    """Vital signs of one epoch; NaN or None where they were not measured.

    ``train_*`` are as trained (augmented, regularised); ``clean_*`` are on up to 512 fixed training
    images as validation sees them, in evaluation mode, as plain cross-entropy; ``busy_*`` the same
    images in training mode. ``recall`` and ``predicted`` have one entry per class: the share of
    its validation images that are found, and the share of all validation images that are called
    so. ``loss_quantiles`` are the median, 90 and 99 % quantile of the clean training losses.
    ``dead`` is, per part, the share of channels that are hardly ever active, ``drift`` how far the
    running means of BatchNorm moved in standard deviations since the start. ``wait_seconds`` is
    what training waited for data. ``drawn_share`` is the share of the training images that the
    epoch drew at all, ``normed_in_validation`` of how many batches BatchNorm took statistics
    between its last step and the end of validation.
    """

    epoch: int
    step: int | None = None
    stage: str = ""
    learning_rate: float = math.nan
    backbone_learning_rate: float = math.nan
    train_loss: float = math.nan
    train_accuracy: float = math.nan
    clean_loss: float = math.nan
    clean_accuracy: float = math.nan
    busy_loss: float = math.nan
    busy_accuracy: float = math.nan
    val_loss: float = math.nan
    val_accuracy: float = math.nan
    val_macro_f1: float = math.nan
    mean_grad_norm: float = math.nan
    max_grad_norm: float = math.nan
    mean_update_norm: float = math.nan
    weight_norm: float = math.nan
    recall: tuple[float, ...] | None = None
    predicted: tuple[float, ...] | None = None
    loss_quantiles: tuple[float, float, float] | None = None
    dead: Mapping[str, float] = field(default_factory=dict)
    drift: Mapping[str, float] = field(default_factory=dict)
    seconds: float = math.nan
    wait_seconds: float = math.nan
    drawn_share: float = math.nan
    normed_in_validation: int | None = None
    ema_accuracy: float = math.nan
    best: bool = False


@dataclass(frozen=True)
class PartSigns:
    """Of one part of the network, in one step.

    Attributes:
        grad_norm: Before clipping; NaN where unknown.
        update_ratio: Median over its weight tensors of norm(change) / norm(weight).
        zero_share: Share of gradient elements that are exactly 0.
        changed: Whether any parameter changed at all.
        has_grad: Whether gradients arrived at all its trainable parameters.
    """

    grad_norm: float = math.nan
    update_ratio: float = math.nan
    zero_share: float = math.nan
    changed: bool | None = None
    has_grad: bool | None = None


@dataclass(frozen=True)
class StepSigns:
    """Vital signs of one sampled optimizer step; NaN or None where they were not measured.

    ``label_entropy`` is that of the labels in the batch, in nats; ``scale`` the loss scale;
    ``stepped_norm`` the gradient norm that the optimizer used, after clipping and unscaling;
    ``skipped`` whether the scaler skipped the step; ``cosine`` that between this gradient and the
    one of the measured step right before.
    """

    step: int
    epoch: int | None = None
    stage: str = ""
    loss: float = math.nan
    learning_rate: float = math.nan
    grad_norm: float = math.nan
    stepped_norm: float = math.nan
    clipped: bool | None = None
    scale: float = math.nan
    skipped: bool | None = None
    label_entropy: float = math.nan
    cosine: float = math.nan
    parts: Mapping[str, PartSigns] = field(default_factory=dict)


@dataclass(frozen=True)
class RunRecord:
    """A run as rules see it.

    Attributes:
        path: Where it was read.
        tool: Who wrote it: ``espalier``, ``own loop``, ``ultralytics`` ...
        epochs: In order, each epoch once.
        steps: A sample of the optimizer steps, in order; the first 20 and every so-many-th.
        confusion: Of the last validation: rows are true classes; None where unknown.
        sample_losses: Per clean training image (id -> losses by epoch); None where unknown.
        suspect_share: Estimated share of wrong labels, by confident learning; None where unknown.
        drift_auc: How well training and validation images can be told apart (AUC); None: unknown.
        start_dead: Per part, the share of hardly ever active channels before the first step.
        ended: How it ended.
        why_ended: The same in words; empty where nobody said.
        notes: What was wrong with its files.
    """

    path: str
    tool: str
    epochs: tuple[EpochSigns, ...]
    facts: RunFacts = field(default_factory=RunFacts)
    data: DataFacts = field(default_factory=DataFacts)
    preflight: Preflight = field(default_factory=Preflight)
    steps: tuple[StepSigns, ...] = ()
    confusion: tuple[tuple[int, ...], ...] | None = None
    sample_losses: Mapping[str, tuple[float, ...]] | None = None
    suspect_share: float | None = None
    drift_auc: float | None = None
    start_dead: Mapping[str, float] = field(default_factory=dict)
    ended: Ended = "unknown"
    why_ended: str = ""
    notes: tuple[str, ...] = ()

    def column(self, name: str) -> list[float]:
        """One numeric sign of all epochs, in order; NaN where it was not measured."""
        return [float(getattr(epoch, name)) for epoch in self.epochs]

    def require_column(self, name: str, least: int = 1) -> list[float]:
        """The same, finite or infinite but measured in at least so many epochs.

        Raises:
            CannotJudge: It was measured in fewer.
        """
        values = self.column(name)
        if sum(not math.isnan(value) for value in values) < least:
            what = name.replace("_", " ")
            raise CannotJudge(f"needs {what} of {least} epochs" if least > 1 else f"needs {what}")
        return values

    def require_fact(self, name: str) -> Any:
        """One of the facts.

        Raises:
            CannotJudge: It is not on record.
        """
        value = getattr(self.facts, name)
        if value is None:
            raise CannotJudge(f"needs {name.replace('_', ' ')}")
        return value

    @property
    def num_classes(self) -> int | None:
        """How many classes there are, by whatever says so."""
        facts = self.facts
        for known in (facts.classes, facts.train_counts, facts.val_counts):
            if known is not None:
                return len(known)
        return facts.head_classes

    @property
    def val_images(self) -> int | None:
        """How many validation images there are, by whatever says so."""
        if self.facts.val_counts is not None:
            return sum(self.facts.val_counts)
        return self.data.val_images

    @property
    def chance_loss(self) -> float | None:
        """Loss of a model that knows only how frequent the classes are: entropy of the prior."""
        counts = self.facts.train_counts
        if counts and sum(counts):
            return -sum(n / sum(counts) * math.log(n / sum(counts)) for n in counts if n)
        return math.log(self.num_classes) if self.num_classes else None

    def accuracy_noise(self, accuracy: float) -> float:
        """Standard error of a validation accuracy; 0.02 where the number of images is unknown."""
        if not self.val_images:
            return 0.02
        spread = min(max(accuracy, 0.5 / self.val_images), 1 - 0.5 / self.val_images)
        return math.sqrt(spread * (1 - spread) / self.val_images)


def measured(values: Iterable[float]) -> list[float]:
    """Those that are not NaN."""
    return [value for value in values if not math.isnan(value)]


def part_values(
    steps: Sequence[StepSigns], part: str, sign: Callable[[PartSigns], float]
) -> list[float]:
    """One sign of one part over the steps in which it was measured."""
    return measured(sign(step.parts[part]) for step in steps if part in step.parts)
