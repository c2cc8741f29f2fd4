"""The recipes that faults are put into: what a sound run of each decides.

R1 and R2 are plain loops of their own (``loop.py``), R3 goes through ``espalier.train_classifier``.
R4 is a plain loop as well, on which nothing was ever tuned (``held_out.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.faults.pictures import SHARED

Augment = Literal["none", "light", "heavy", "destructive"]
Schedule = Literal["cosine", "constant", "one-cycle", "step", "restarts"]


@dataclass(frozen=True)
class Plan:
    """What a plain loop decides before its first step; rates are peaks, decay is decoupled.

    Attributes:
        recipe: ``R1``, ``R2`` or ``R4``.
        backbone_lr: None: as ``lr``.
        schedule: Of the rate, over all steps after the warmup.
        decay_share: Share of the steps that the cosine, or each step of ``step``, takes.
        images: Training images used; None: all.
        kept: Which weights the loop hands out: of the best validation macro-F1, or the last.
        patience: Epochs without gain before it stops; 0: never.
        train_part: What the author means to train.
        network: ``resnet8``, ``small-cnn`` or ``patches``.
        kind: Normalisation of the network: ``batch``, ``group``, ``layer`` or ``none``.
    """

    recipe: str
    lr: float
    backbone_lr: float | None = None
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: float = 0.9
    eps: float = 1e-8
    weight_decay: float = 1e-4
    batch: int = 32
    epochs: int = 10
    schedule: Schedule = "cosine"
    decay_share: float = 1.0
    gamma: float = 0.1
    warmup_epochs: float = 1.0
    label_smoothing: float = 0.0
    mixup: float = 0.0
    dropout: float = 0.0
    augment: Augment = "light"
    clip_norm: float | None = None
    class_weights: tuple[float, ...] | None = None
    sampler: Literal["none", "balanced"] = "none"
    images: int | None = None
    kept: Literal["best", "last"] = "best"
    patience: int = 0
    train_part: Literal["all", "head"] = "all"
    pretrained: bool = False
    network: str = "small-cnn"
    kind: str = "batch"
    width: int = 16
    normalise: bool = True
    loss: Literal["cross-entropy", "mse"] = "cross-entropy"


R1 = Plan(
    recipe="R1",
    lr=1e-3,
    pretrained=True,
    network="resnet8",
    epochs=10,
)
R2 = Plan(
    recipe="R2",
    lr=0.05,
    optimizer="sgd",
    weight_decay=5e-4,
    epochs=8,
    network="small-cnn",
)


@dataclass(frozen=True)
class Staged:
    """A run of R3: values for ``espalier.train_classifier``, and which photographs it is given.

    Attributes:
        data: Name of a variant of the photographs, see ``photographs.py``.
        values: Dotted key of the recipe -> value.
    """

    data: str = "plain"
    values: dict[str, Any] = field(default_factory=dict)
    recipe: str = "R3"


R3_PHOTOS = SHARED / "datasets" / "plant_seedlings12"
R3_WEIGHTS = SHARED / "weights" / "mobilenetv2_100.timm.safetensors"
R3 = Staged(
    values={
        "model.name": "mobilenetv2_100",
        "model.weights": str(R3_WEIGHTS),
        "training.imgsz": 96,
        "training.batch": 32,
        "training.threads": 1,
        "data.workers": 0,
        "logging.curves": False,
    }
)
R4 = Plan(
    recipe="R4",
    lr=2e-3,
    weight_decay=0.05,
    batch=64,
    epochs=12,
    network="patches",
    kind="layer",
    width=64,
)
# Its photographs a class, as they come: cardboard, glass, metal, paper, plastic, trash.
R4_COUNTS = (287, 354, 286, 403, 347, 91)
PLANS = {"R1": R1, "R2": R2, "R4": R4}
CLASSES = {"R1": 10, "R2": 10, "R4": len(R4_COUNTS)}
# Rules were developed on the others; what they say here is counted apart.
UNTUNED = ("R4",)


def weights_against(counts: tuple[int, ...], power: float) -> tuple[float, ...]:
    """A weight for each class that falls with this power of its count, 1 on average."""
    raw = [count**-power for count in counts]
    return tuple(weight * len(raw) / sum(raw) for weight in raw)
