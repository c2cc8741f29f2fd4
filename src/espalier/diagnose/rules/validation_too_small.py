"""Validation has too few images to tell epochs apart.

What it looks at: the standard error of the best validation accuracy, from the number of images:
    sqrt(a (1 - a) / n). The 95 % interval is 1.96 of it to each side. Two runs, or two epochs,
    differ by chance up to 1.96 sqrt(2) of it, as if they erred independently; on the same images
    they mostly err on the same ones, and a comparison image by image tells less apart.
Why it matters: which epoch is best, when to stop and which run won are then decided by chance.
When it is wrong: a small set can be all there is. It is never more than a note.
What to do: hold out more, or judge by cross-validation; believe only what exceeds the noise.
Source: fault D15.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from espalier.diagnose.facts import finite
from espalier.findings import Edit, Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN022"
_SURE = 1.96


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    error: float = threshold(0.02, "standard error of accuracy", "above which it is too small")
    share: float = threshold(0.2, "share of all images", "up to which more may be held out")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A note where chance moves the accuracy by more than two points."""
    images = subject.val_images
    if not images:
        raise CannotJudge("needs the number of validation images")
    accuracies = finite(subject.require_column("val_accuracy"))
    if not accuracies:
        raise CannotJudge("needs a validation accuracy that is a number")
    best = max(accuracies)
    error = subject.accuracy_noise(best)
    if error <= thresholds.error:
        return None
    return Finding(
        rule="",
        code="",
        severity="info",
        cause=f"{images:,} validation images: best accuracy {best:.2f} "
        f"+-{100 * _SURE * error:.0f} points (95 %)",
        evidence=(
            Evidence("standard error of accuracy", error, thresholds.error),
            Evidence("validation images", images, _needed(best, thresholds), "images"),
        ),
        confidence=0.95,
        advice=(
            f"Between two runs, or two epochs, a difference below "
            f"{100 * _SURE * math.sqrt(2) * error:.0f} points can be chance.",
            "Compare them image by image, which tells smaller differences apart; or hold out more "
            "images, or use cross-validation.",
        ),
        prescription=_prescription(subject, images, thresholds),
    )


def _needed(accuracy: float, thresholds: Thresholds) -> int:
    spread = min(max(accuracy, 0.01), 0.99)
    return math.ceil(spread * (1 - spread) / thresholds.error**2)


def _prescription(subject: RunRecord, images: int, thresholds: Thresholds) -> tuple[Edit, ...]:
    """A larger share, never without asking: it takes images from training and changes the split."""
    counts = subject.facts.train_counts
    trained = sum(counts) if counts else subject.data.train_images
    if not trained or images / (images + trained) >= thresholds.share:
        return ()
    because = "a score that can tell epochs apart"
    return (Edit("data.val_share", "set", thresholds.share, because, safe=False),)
