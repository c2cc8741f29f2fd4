"""Validation images come from somewhere else than training images.

What it looks at: how well the two sets can be told apart by their features (AUC), or by their mean
    colours before normalisation; and whether accuracy is lost between them.
Why it matters: the score then says how well the network does elsewhere, and training on these
    images cannot raise it as far.
When it is wrong: a test on another place or season may be what you want; without a loss of
    accuracy it is only worth knowing.
What to do: split at random by group, or add training images of the kind that validation has.
Source: fault D16; a classifier between sets, Lopez-Paz and Oquab, ICLR 2017.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from espalier.diagnose.facts import finite
from espalier.diagnose.fit import gap_noise, settled
from espalier.diagnose.regularisers import stronger_augmentation
from espalier.findings import Evidence, Finding, percent
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN217"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    auc: float = threshold(0.8, "AUC", "from which the two sets are not of one kind")
    shift: float = threshold(0.5, "standard deviations", "between mean colours")
    gap: float = threshold(0.1, "accuracy", "lost from training to validation images")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A warning where the sets differ and accuracy is lost; information where it is not."""
    auc, shift = subject.drift_auc, _colour_shift(subject)
    if auc is not None:
        if auc < thresholds.auc:
            return None
        cause = f"training and validation images can be told apart (AUC {auc:.2f})"
        evidence = Evidence("AUC between the sets", auc, thresholds.auc)
    elif shift is not None:
        if shift < thresholds.shift:
            return None
        cause = f"mean colours of training and validation differ by {shift:.1f} standard deviations"
        evidence = Evidence("difference of mean colours", shift, thresholds.shift, "std")
    else:
        raise CannotJudge("needs features or raw pixels of training and validation images")
    return _finding(subject, cause, evidence, thresholds)


def _colour_shift(subject: RunRecord) -> float | None:
    """Largest difference of a channel's mean before normalisation, in standard deviations."""
    train, val = subject.data.train, subject.data.val
    if train is None or val is None or not train.raw_mean or not val.raw_mean:
        return None
    # Within three values of 255 every picture has noise of that size.
    stds = [max(std, 3 / 255) for std in train.raw_std or ()] or [0.25] * len(train.raw_mean)
    pairs = zip(train.raw_mean, val.raw_mean, stds, strict=False)
    return max(finite(abs(a - b) / std for a, b, std in pairs), default=None)


def _finding(subject: RunRecord, cause: str, evidence: Evidence, thresholds: Thresholds) -> Finding:
    clean, val = settled(subject, "clean_accuracy"), settled(subject, "val_accuracy")
    lost = math.nan if clean is None or val is None else clean - val
    noise = 0.0 if clean is None or val is None else gap_noise(subject, clean, val)
    hurts = lost >= max(thresholds.gap, 3 * noise)
    return Finding(
        rule="",
        code="",
        severity="warning" if hurts else "info",
        cause=f"{cause}, and {percent(lost)} of accuracy is lost between them" if hurts else cause,
        evidence=(
            evidence,
            *([Evidence("accuracy lost", lost, thresholds.gap, "share")] if hurts else []),
        ),
        confidence=0.75 if subject.drift_auc is not None else 0.55,
        advice=(
            "Split at random, keeping groups (one plant, one day, one camera) together: "
            "data.group_by.",
            "If validation must be from elsewhere, add training images from there, or augment "
            "colour and scale.",
        ),
        prescription=stronger_augmentation(subject, "closer to other places", safe=False),
        consequences=("overfitting", "overtrained"),
    )
