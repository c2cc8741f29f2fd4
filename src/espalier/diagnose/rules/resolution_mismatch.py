"""Validation images are of another size than training images.

What it looks at: pixels across in validation over those in training, and whether accuracy of
    clean training images, or of validation images, suffers.
Why it matters: a network that learned leaves of 100 pixels does not know them at 30.
When it is wrong: validation somewhat larger than training is good practice, as random crops show
    things larger; sizes that rise during training begin small.
What to do: the same size, or up to a third more in validation.
Source: fault D17; FixRes: Touvron et al. 2019.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from espalier.diagnose.facts import finite
from espalier.findings import Edit, Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord, SplitPixels

CODE = "RUN025"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    smaller: float = threshold(0.8, "validation : training pixels", "below which it is a mismatch")
    larger: float = threshold(1.6, "validation : training pixels", "above which it is one, too")
    far: float = threshold(2.0, "times", "apart, or its inverse, which harms in any case")
    symptom: float = threshold(0.1, "accuracy", "of clean images below that in training")
    lost: float = threshold(0.15, "accuracy", "of validation below clean images, else")
    errors: float = threshold(3.0, "standard errors", "by which it must be below as well")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A warning where the score shows it or the sizes are far apart, else a note."""
    train, val = _sizes(subject)
    ratio = val / train
    if thresholds.smaller <= ratio <= thresholds.larger:
        return None
    suffers = _suffers(subject, thresholds)
    far = max(ratio, 1 / ratio) >= thresholds.far
    warned = suffers or (suffers is None and far)
    return Finding(
        rule="",
        code="",
        severity="warning" if warned else "info",
        cause=f"training images are {train:.0f} pixels across, validation images {val:.0f}",
        evidence=(
            Evidence(
                "validation : training pixels",
                ratio,
                thresholds.smaller if ratio < 1 else thresholds.larger,
            ),
        ),
        confidence=0.85 if suffers else 0.6,
        advice=("Give validation the size of training, or up to a third more.",),
        prescription=(
            Edit("training.test_imgsz", "unset", None, "the size that was trained", safe=warned),
        ),
        consequences=(
            "validation_from_elsewhere",
            "batch_norm_broken",
            "labels_shuffled",
            "class_order_differs",
            "collapsed_to_major_classes",
            "overfitting",
            "underfitting",
        )
        if warned
        else (),
    )


def _sizes(subject: RunRecord) -> tuple[float, float]:
    """Pixels across in training and validation: as decided, else as seen when training began."""
    facts, data = subject.facts, subject.data
    train = facts.imgsz or _across(data.train)
    val = facts.val_imgsz or _across(data.val)
    if not train or not val:
        raise CannotJudge("needs the size of training and of validation images")
    return float(train), float(val)


def _across(pixels: SplitPixels | None) -> float | None:
    return math.sqrt(math.prod(pixels.size)) if pixels is not None and pixels.size else None


def _suffers(subject: RunRecord, thresholds: Thresholds) -> bool | None:
    """Whether images are recognised less often at validation's size than in training.

    Training accuracy under augmentation and mixup is too low, never too high. The clean probe may
    have training's size or that of validation: then one of the two gaps shows it.
    """
    pairs = (
        ("train_accuracy", "clean_accuracy", thresholds.symptom),
        ("clean_accuracy", "val_accuracy", _lost(subject, thresholds)),
    )
    known = [(_gap(subject, higher, lower), limit) for higher, lower, limit in pairs]
    gaps = [(gap, limit) for gap, limit in known if math.isfinite(gap)]
    return any(gap > limit for gap, limit in gaps) if gaps else None


def _lost(subject: RunRecord, thresholds: Thresholds) -> float:
    return max(thresholds.lost, thresholds.errors * subject.accuracy_noise(0.5))


def _gap(subject: RunRecord, higher: str, lower: str) -> float:
    """Mean over the last two epochs that have both; NaN of none."""
    columns = zip(subject.column(higher), subject.column(lower), strict=True)
    known = finite(high - low for high, low in columns)[-2:]
    return statistics.mean(known) if known else math.nan
