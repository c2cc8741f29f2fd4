"""Batches hold few classes: the training images come sorted.

What it looks at: the entropy of the labels in the batches, against what batches of that size drawn
    at random from the training classes have.
Why it matters: each batch teaches the class it is made of and forgets the others, and BatchNorm
    learns the statistics of one class at a time.
When it is wrong: small batches have little entropy by right, which is why the expected value is
    computed for this batch and these classes; single small batches do not count.
What to do: shuffle the training images anew in every epoch.
Source: fault D13; the expected entropy is that of a multinomial sample, summed exactly.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from espalier.diagnose.facts import finite
from espalier.diagnose.matching import shares
from espalier.findings import Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN215"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    share: float = threshold(0.5, "of the expected entropy", "that batches must have on average")
    steps: float = threshold(6, "steps", "with a measured entropy, at least")
    least: float = threshold(0.2, "nats", "that must be expected of a batch, to judge")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """An error where batches hold far fewer classes than chance would give them."""
    seen = finite(step.label_entropy for step in subject.steps)
    if len(seen) < thresholds.steps:
        raise CannotJudge(f"needs the label entropy of {thresholds.steps:.0f} batches")
    classes = subject.num_classes
    if not classes:
        raise CannotJudge("needs the classes")
    counts = subject.facts.train_counts if subject.facts.sampler in (None, "none") else None
    prior = shares(counts) if counts and sum(counts) else [1 / classes] * classes
    images = (subject.facts.batch or 0) // (subject.facts.accumulate or 1)
    if images < 1:
        raise CannotJudge("needs the images per batch")
    expected, mean = expected_entropy(prior, images), statistics.fmean(seen)
    if expected < thresholds.least:
        raise CannotJudge(f"batches of {images} images hold one class by right")
    if mean >= thresholds.share * expected:
        return None
    return Finding(
        rule="",
        code="",
        severity="error",
        cause=f"batches hold few classes: their labels have an entropy of {mean:.2f} nats, and "
        f"{expected:.2f} if the images were shuffled",
        evidence=(
            Evidence("mean label entropy", mean, thresholds.share * expected, "nats"),
            Evidence("expected of shuffled images", expected, None, "nats"),
        ),
        confidence=0.95,
        advice=("Shuffle the training images in every epoch: DataLoader(..., shuffle=True).",),
        consequences=(
            "learning_rate_too_high",
            "learning_rate_noisy",
            "exploding_gradients",
            "missing_warmup",
            "gradients_not_cleared",
            "backbone_rate_erases",
            "batch_too_small",
            "batch_norm_broken",
            "dead_units",
            "labels_shuffled",
            "collapsed_to_major_classes",
            "stopped_too_early",
            "overtrained",
            "underfitting",
            "plateau",
            "not_learning",
        ),
    )


def expected_entropy(prior: list[float], images: int) -> float:
    """Mean entropy, in nats, of the labels of so many images drawn from these shares."""
    # Beyond this size a batch's entropy is that of the prior, but for K / 2n.
    if images > 4096:
        return -sum(share * math.log(share) for share in prior if share)
    return sum(
        count * _expected_term(share, images)
        for share, count in ((share, prior.count(share)) for share in sorted(set(prior)))
        if share > 0
    )


def _expected_term(share: float, images: int) -> float:
    """Mean of -q ln q, where q is the share of one class in the batch."""
    if share >= 1:
        return 0.0
    odds, total = math.log(share / (1 - share)), 0.0
    log_chance = images * math.log1p(-share)
    for count in range(1, images + 1):
        log_chance += math.log((images - count + 1) / count) + odds
        total -= math.exp(log_chance) * (count / images) * math.log(count / images)
    return total
