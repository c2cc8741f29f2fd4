"""Epochs leave training images out.

What it looks at: the share of the training images that an epoch draws at all, against what its
    planned steps can hold.
Why it matters: images that are never drawn might as well not be there; the usual causes are
    workers that share a seed and a sampler that draws with replacement unasked.
When it is wrong: samplers against imbalance draw with replacement by right, so they are not judged;
    a last batch that is dropped, and epochs that are planned short, are taken into account.
What to do: one pass over all images per epoch, and a seed of its own for each worker.
Source: fault D14; a draw with replacement covers 63 % (1 - 1/e).
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from espalier.diagnose.facts import finite
from espalier.findings import Evidence, Finding, percent
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN216"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    share: float = threshold(0.9, "of what the planned steps hold", "that must be drawn")
    replaced: float = threshold(0.5, "share of the training images", "where the sampler is unknown")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A warning where an epoch sees fewer images than it could."""
    drawn = finite(subject.column("drawn_share"))
    if not drawn:
        raise CannotJudge("needs the share of the training images that an epoch draws")
    sampler = subject.facts.sampler
    if sampler not in (None, "none"):
        raise CannotJudge(f"the sampler ({sampler}) draws with replacement by right")
    share = thresholds.replaced if sampler is None else thresholds.share
    typical, possible = statistics.median(drawn), _possible(subject)
    if typical >= share * possible:
        return None
    return Finding(
        rule="",
        code="",
        severity="warning",
        cause=f"an epoch draws {percent(typical)} of the training images, where {percent(possible)}"
        " could be drawn",
        evidence=(
            Evidence("training images drawn", typical, share * possible, "share", "median epoch"),
        ),
        confidence=0.9,
        advice=(
            "Draw without replacement (shuffle=True, no sampler), and seed each worker anew in "
            "worker_init_fn.",
        ),
        consequences=(
            "overfitting",
            "overtrained",
            "batch_norm_broken",
            "validation_in_training_mode",
        ),
    )


def _possible(subject: RunRecord) -> float:
    """Share of the training images that the planned steps hold; a last short batch may drop."""
    facts, counts = subject.facts, subject.facts.train_counts
    images = subject.data.train_images or (sum(counts) if counts else None)
    if not images or not facts.batch:
        return 1.0
    if facts.steps_per_epoch:
        # The last step may hold fewer images than a batch has, or be dropped.
        return min(1.0, facts.steps_per_epoch * facts.batch / images)
    return max(images // facts.batch * facts.batch, 1) / images
