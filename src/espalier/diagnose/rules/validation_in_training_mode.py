"""Validation runs with the network in training mode.

What it looks at: whether two validations of the same weights differ; whether BatchNorm takes
    statistics of validation batches, where it is on record how many batches it counted between the
    last step and the end of validation; else whether validation scores in every epoch, from the
    first on, what the network scores in training mode (dropout active), far below what it can do
    in evaluation mode; or lies far below it from the first epoch on, with images of the same
    size, scale and mix of classes, though training mode costs accuracy or the first pass over the
    training images went better.
Why it matters: dropout and batch statistics make the score worse and random, and BatchNorm
    learns from validation images.
When it is wrong: an overfitting run comes to the same gap, but not in its first epochs. A count
    that stands still settles it the other way: the scores are not asked then.
What to do: `model.eval()` and `torch.no_grad()` before validation, `model.train()` after it.
Source: fault C6; mldoct's lint.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from espalier.diagnose.fit import gap_noise, same_mix, same_pixels
from espalier.diagnose.matching import match_classes
from espalier.findings import Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import EpochSigns, RunRecord

CODE = "RUN206"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    change: float = threshold(0.01, "logits", "between two validations, beyond rounding")
    gap: float = threshold(0.08, "accuracy", "that validation must miss of evaluation mode")
    near: float = threshold(0.05, "accuracy", "by which it may differ from training mode")
    renamed: float = threshold(0.3, "accuracy", "gained by renaming classes: another fault")
    epochs: float = threshold(4, "epochs", "needed to judge by scores alone")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """An error where two validations differ; a warning where only the scores say so."""
    change = subject.preflight.repeat_change
    if change is not None:
        if change < thresholds.change:
            return None
        evidence = Evidence("change between two validations", change, thresholds.change, "logits")
        cause = f"two validations of the same weights differ by up to {change:.2g} in the logits"
        return _finding(cause, evidence, 0.97)
    if subject.facts.batch_norms == 0 and subject.facts.dropout == 0:
        return None
    counted = [n for epoch in subject.epochs if (n := epoch.normed_in_validation) is not None]
    if counted:
        return _by_count(subject, counted)
    if same_mix(subject) is False:
        raise CannotJudge("validation has another mix of classes, so its scores cannot be compared")
    return _by_scores(subject, thresholds)


def _by_count(subject: RunRecord, counted: list[int]) -> Finding | None:
    """Batches that BatchNorm counted while nobody trained, in every epoch; None where it did not.

    Micro-batches that were left over at the end of an epoch are counted as well.
    """
    least = subject.facts.accumulate or 1
    if min(counted) < least:
        return None
    fewest, most = min(counted), max(counted)
    batches = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    cause = (
        f"BatchNorm took statistics of {batches} batches between the last step and the end of "
        f"validation, in all {len(counted)} epochs: validation runs in training mode"
    )
    return _finding(
        cause, Evidence("batches counted in validation", fewest, least, "batches"), 0.95
    )


def _by_scores(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    seen = [epoch for epoch in subject.epochs if _is_measured(epoch)]
    if len(seen) < thresholds.epochs:
        raise CannotJudge(
            "needs two validations of the same weights, or busy and clean accuracy of "
            f"{thresholds.epochs:.0f} epochs"
        )
    if not all(_is_alike(subject, epoch, thresholds) for epoch in seen):
        return _by_gap(subject, seen, thresholds)
    gap = min(epoch.clean_accuracy - epoch.val_accuracy for epoch in seen)
    cause = (
        f"validation scores what the network scores in training mode, in all {len(seen)} "
        f"epochs, and at least {100 * gap:.0f} points below evaluation mode"
    )
    evidence = Evidence("least gap to evaluation mode", gap, thresholds.gap, "accuracy")
    return _finding(cause, evidence, 0.6)


def _by_gap(subject: RunRecord, seen: list[EpochSigns], thresholds: Thresholds) -> Finding | None:
    """A gap that is there from the first epoch on, of images that differ in nothing on record."""
    # This program validates in evaluation mode, so that such a gap has another reason there.
    if subject.tool == "espalier" or not (same_mix(subject) and same_pixels(subject)):
        return None
    if _is_renamed(subject, thresholds) or not all(_is_far(subject, e, thresholds) for e in seen):
        return None
    if not (_begins_worse(subject, seen[0], thresholds) or _mode_costs(seen, thresholds)):
        return None
    gap = min(epoch.clean_accuracy - epoch.val_accuracy for epoch in seen)
    cause = (
        f"validation is at least {100 * gap:.0f} points below training images in evaluation mode "
        "from the first epoch on, when nothing can be known by heart: it seems to run in training "
        "mode"
    )
    evidence = Evidence("least gap to evaluation mode", gap, thresholds.gap, "accuracy")
    return _finding(cause, evidence, 0.5)


def _is_renamed(subject: RunRecord, thresholds: Thresholds) -> bool:
    matching = match_classes(subject.confusion) if subject.confusion else None
    return matching is not None and matching.gain >= thresholds.renamed


def _begins_worse(subject: RunRecord, first: EpochSigns, thresholds: Thresholds) -> bool:
    """Whether new images do worse than training images did when they were new as well."""
    lost = first.train_accuracy - first.val_accuracy
    noise = 3 * gap_noise(subject, first.train_accuracy, first.val_accuracy)
    return first.epoch == 1 and lost >= max(thresholds.near, noise)


def _mode_costs(seen: list[EpochSigns], thresholds: Thresholds) -> bool:
    """Whether training mode does worse than evaluation mode on training images to the end."""
    late = seen[-max(3, len(seen) // 3) :]
    costs = [epoch.clean_accuracy - epoch.train_accuracy for epoch in late]
    return statistics.median(costs) >= thresholds.gap


def _is_measured(epoch: EpochSigns) -> bool:
    signs = (epoch.busy_accuracy, epoch.clean_accuracy, epoch.val_accuracy)
    return all(map(math.isfinite, signs))


def _is_alike(subject: RunRecord, epoch: EpochSigns, thresholds: Thresholds) -> bool:
    """Whether validation is near training mode and far from evaluation mode."""
    noise = 3 * gap_noise(subject, epoch.clean_accuracy, epoch.val_accuracy)
    near = abs(epoch.val_accuracy - epoch.busy_accuracy) <= max(thresholds.near, noise)
    return near and _is_far(subject, epoch, thresholds)


def _is_far(subject: RunRecord, epoch: EpochSigns, thresholds: Thresholds) -> bool:
    noise = 3 * gap_noise(subject, epoch.clean_accuracy, epoch.val_accuracy)
    return epoch.clean_accuracy - epoch.val_accuracy >= max(thresholds.gap, noise)


def _finding(cause: str, evidence: Evidence, confidence: float) -> Finding:
    return Finding(
        rule="",
        code="",
        severity="error" if confidence > 0.9 else "warning",
        cause=cause,
        evidence=(evidence,),
        confidence=confidence,
        advice=(
            "Call model.eval() before validation and model.train() after it, and validate under "
            "torch.no_grad().",
        ),
        consequences=(
            "overfitting",
            "overtrained",
            "batch_norm_broken",
            "validation_from_elsewhere",
            "wrong_weights_kept",
        ),
    )
