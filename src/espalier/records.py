"""The nouns: frozen records that every layer shares. No torch, no input or output."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
Status = Literal["ok", "unreadable", "dropped"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One image file of the user's, known by the bytes it holds.

    Attributes:
        sample_id: First 16 hex digits of the SHA-256 of the file's bytes; a later exact copy in
            the same catalog carries ``~2``, ``~3`` ... behind them, so that ids are unique.
        path: The file as an absolute path, or ``torchvision:NAME/part/index``.
        label: Class name, or None where the image has none (unlabelled).
        group: Images of one group (one plant, one series) never meet in two splits; None if free.
        split: The part of the data it belongs to; None before the split is made.
        width: Pixels across, after EXIF orientation; 0 when unreadable.
        height: Pixels down, after EXIF orientation; 0 when unreadable.
        status: ``ok``: the file decodes to a picture, whole; ``unreadable``: it does not;
            ``dropped``: a person left it out by a correction.
        reason: Why it is not ``ok``, or what a correction changed, in a few words; else empty.
        origin: Content hash of the photograph that it was painted on; empty for a photograph.
    """

    sample_id: str
    path: str
    label: str | None
    group: str | None = None
    split: Split | None = None
    width: int = 0
    height: int = 0
    status: Status = "ok"
    reason: str = ""
    origin: str = ""

    @property
    def content(self) -> str:
        """The hash of the bytes alone, equal for exact copies."""
        return self.sample_id.partition("~")[0]


@dataclass(frozen=True)
class Catalog:
    """All images of one data set, in a fixed order, with the label mapping.

    Attributes:
        samples: One row per image file found, in use or not, sorted by path.
        classes: The label mapping: class name at position i has index i.
        source: What the user named: a folder, a manifest, ``torchvision:NAME``.
        notes: What a person should read about how the data was taken in or split.
        given: Parts of the split that the source brought with it.
    """

    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    source: str
    notes: tuple[str, ...] = ()
    given: tuple[Split, ...] = ()

    @property
    def given_split(self) -> bool:
        """Whether what validates or tests is the user's own choice."""
        return any(part != "train" for part in self.given)

    @property
    def unreadable(self) -> tuple[Sample, ...]:
        """The files that could not be read and were left out, each with its reason."""
        return tuple(s for s in self.samples if s.status == "unreadable")

    @property
    def dropped(self) -> tuple[Sample, ...]:
        """The images that a person left out by corrections, each with its reason."""
        return tuple(s for s in self.samples if s.status == "dropped")

    def in_split(self, split: Split) -> tuple[Sample, ...]:
        """Readable samples of one split, in catalog order."""
        return tuple(s for s in self.samples if s.split == split and s.status == "ok")

    def counts(self, split: Split | None = None) -> dict[str, int]:
        """Readable images per class, in class order, zeros included; of one split or of all."""
        chosen = [
            s for s in self.samples if s.status == "ok" and (split is None or s.split == split)
        ]
        found = Counter(s.label for s in chosen)
        return {name: found.get(name, 0) for name in self.classes}


@dataclass(frozen=True)
class Predictions:
    """What a model said of each image, once per ``sample_id``; every metric is computed from this.

    Attributes:
        sample_ids: Length N.
        paths: Length N, beside ``sample_ids``.
        labels: Class indices [N], int64; -1 where the image has no label.
        logits: Raw outputs [N, K], float32.
        classes: Length K, the label mapping.
    """

    sample_ids: tuple[str, ...]
    paths: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    logits: npt.NDArray[np.float32]
    classes: tuple[str, ...]

    @property
    def probabilities(self) -> npt.NDArray[np.float64]:
        """Softmax of the logits [N, K], each row summing to 1."""
        shifted = self.logits.astype(np.float64)
        shifted -= shifted.max(axis=1, keepdims=True, initial=-np.inf)
        powers = np.exp(shifted)
        total: npt.NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
        return total

    @property
    def predicted(self) -> npt.NDArray[np.int64]:
        """Index of the largest logit [N]."""
        chosen: npt.NDArray[np.int64] = self.logits.argmax(axis=1).astype(np.int64)
        return chosen


@dataclass(frozen=True)
class Score:
    """A metric in [0, 1] with its 95 % interval; ``low`` and ``high`` are None without one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class EpochRow:
    """One epoch as a row of ``results.csv``; the clock is ``step``, the global optimizer step.

    Losses are mean cross-entropy in nats per image, accuracies and scores are in [0, 1], rates are
    per optimizer step, times are seconds. ``train_loss`` and ``train_accuracy`` are as trained
    (augmented images, regularised loss); ``probe_loss`` and ``probe_accuracy`` are measured on up
    to 512 fixed training images as validation sees them, and are what to compare with validation.
    ``learning_rate`` is the head's, ``backbone_learning_rate`` the fastest of the backbone (0 while
    it is frozen), both at the end of the epoch. ``cpu_seconds`` is what the process has used by its
    end, all threads, since it was started; NaN in runs of before 0.2.
    """

    stage: str
    stage_index: int
    epoch: int
    step: int
    learning_rate: float
    backbone_learning_rate: float
    train_loss: float
    train_accuracy: float
    probe_loss: float
    probe_accuracy: float
    val_loss: float
    val_accuracy: float
    val_macro_f1: float
    mean_grad_norm: float
    min_grad_norm: float
    max_grad_norm: float
    mean_update_norm: float
    batches: int
    seconds: float
    best: bool
    cpu_seconds: float = math.nan


@dataclass(frozen=True)
class StageSpan:
    """Where a stage and its warmup lie in the epochs and steps of a run, as planned.

    Epochs are counted from 1; ``first_epoch`` and ``last_epoch`` are both part of the stage.
    """

    name: str
    first_epoch: int
    last_epoch: int
    warmup_epochs: float = 0.0


@dataclass(frozen=True)
class History:
    """A run as far as it has come: one row per finished epoch, and the planned stages."""

    rows: tuple[EpochRow, ...]
    stages: tuple[StageSpan, ...] = ()
    name: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)

    def column(self, key: str) -> list[float]:
        """One numeric field of all rows, in order."""
        return [float(getattr(row, key)) for row in self.rows]

    @property
    def best(self) -> EpochRow | None:
        """The row with the highest validation macro-F1, the first of equals; None without one."""
        scored = [row for row in self.rows if row.val_macro_f1 == row.val_macro_f1]
        return max(scored, key=lambda row: row.val_macro_f1, default=None)


def counts_line(counts: Mapping[str, int]) -> str:
    """``12 classes, 3,319 images, 3.2 : 1`` for a mapping of class name to images."""
    present: Sequence[int] = [n for n in counts.values() if n > 0]
    if not present:
        return f"{len(counts)} classes, no images"
    ratio = max(present) / min(present)
    return f"{len(counts)} classes, {sum(present):,} images, {ratio:.1f} : 1"


@dataclass(frozen=True)
class ModelFacts:
    """What a backbone needs and costs, before it is built.

    Attributes:
        name: timm's name, or ``small-cnn``.
        imgsz: Pixels across its weights were trained on.
        min_imgsz: Smallest square input that its strides and windows accept.
        multiple_of: Input sides must be a multiple of this (patches, windows); 1 if free.
        mean: Per channel, of values in [0, 1].
        std: Per channel, of values in [0, 1].
        features: Length of the pooled feature vector.
        parameters: Of the backbone, without a classifier.
        has_pretrained: Whether timm offers weights for it.
        depthwise: Whether most of its convolutions are depthwise (mobile nets).
        fixed_size: Whether it is built for one image size (ViT, Swin).
    """

    name: str
    imgsz: int
    min_imgsz: int
    multiple_of: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    features: int
    parameters: int
    has_pretrained: bool
    depthwise: bool
    fixed_size: bool = False


@dataclass(frozen=True)
class Machine:
    """What this process may use.

    Attributes:
        device: Best device found: ``cuda``, ``mps`` or ``cpu``.
        device_name: As a person would name it.
        cores: CPU cores this process may really use (affinity and cgroup quota).
        memory: Bytes of memory, as limited by the cgroup.
        device_memory: Bytes on the accelerator; 0 on a CPU.
        devices: How many such accelerators.
        bf16: Whether the accelerator computes bf16 itself; only asked of CUDA devices.
    """

    device: Literal["cpu", "cuda", "mps"]
    device_name: str
    cores: int
    memory: int
    device_memory: int = 0
    devices: int = 0
    bf16: bool = True
