"""How well a run fits its training images and how well that carries over, at its end."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from espalier.diagnose.facts import finite, guess_accuracy
from espalier.diagnose.matching import binomial_noise
from espalier.rules import CannotJudge
from espalier.run_record import RunRecord

FEW = 3
PROBE_IMAGES = 512


@dataclass(frozen=True)
class Fit:
    """Where training ended; accuracies in [0, 1], medians over the last epochs of the last stage.

    Attributes:
        clean: On training images without augmentation, in evaluation mode.
        val: On validation images.
        noise: Standard error of their difference.
        guess: Of naming the most frequent class every time; 0 where no class is known.
        rising: Whether validation still gained at the end, or nobody can say.
    """

    clean: float
    val: float
    noise: float
    guess: float
    rising: bool

    @property
    def gap(self) -> float:
        """What does not carry over from training images to validation images."""
        return self.clean - self.val

    @property
    def learned(self) -> float:
        """Of what guessing leaves to learn, the share that was learned of training images."""
        return (self.clean - self.guess) / max(1e-9, 1 - self.guess)

    def at_chance(self) -> bool:
        """Whether not even training images are told apart better than by guessing."""
        noise = binomial_noise(self.guess, PROBE_IMAGES)
        return self.clean <= self.guess + max(0.02, 3 * noise)


def fit_of(record: RunRecord) -> Fit:
    """The fit of a run at its end.

    Raises:
        CannotJudge: The clean-train probe or validation accuracy is missing.
    """
    clean, val = settled(record, "clean_accuracy"), settled(record, "val_accuracy")
    if clean is None:
        raise CannotJudge("needs accuracy on training images without augmentation (clean accuracy)")
    if val is None:
        raise CannotJudge("needs val accuracy")
    noise = gap_noise(record, clean, val)
    return Fit(clean, val, noise, guess_accuracy(record) or 0.0, still_rising(record))


def settled(record: RunRecord, name: str, few: int = FEW) -> float | None:
    """Median of a column over its last finite epochs of the last stage; None where unmeasured."""
    if not record.epochs:
        return None
    stage = record.epochs[-1].stage
    known = finite(getattr(epoch, name) for epoch in record.epochs if epoch.stage == stage)
    return statistics.median(known[-few:]) if known else None


def gap_noise(record: RunRecord, clean: float, val: float) -> float:
    """Standard error of the difference of a probe accuracy and a validation accuracy."""
    counts = record.facts.train_counts
    images = record.data.train_images or (sum(counts) if counts else PROBE_IMAGES)
    probe = binomial_noise(clean, min(images or PROBE_IMAGES, PROBE_IMAGES))
    return math.hypot(probe, record.accuracy_noise(val))


def train_guess(record: RunRecord) -> float | None:
    """Accuracy on training images of naming the most frequent of their classes every time.

    None where no class is known. Validation may have another mix, and another such accuracy.
    """
    counts = record.facts.train_counts
    return max(counts) / sum(counts) if counts and sum(counts) else guess_accuracy(record)


def same_pixels(record: RunRecord) -> bool:
    """Whether nothing on record says that validation images have another size or scale."""
    train, val = record.data.train, record.data.val
    if train is None or val is None:
        return True
    if train.size and val.size:
        ratio = math.sqrt(math.prod(val.size) / math.prod(train.size))
        if not 0.8 <= ratio <= 1.6:
            return False
    shifts = (abs(a - b) for a, b in zip(train.mean, val.mean, strict=False))
    scales = (b / a for a, b in zip(train.std, val.std, strict=False) if a > 0)
    return max(finite(shifts), default=0.0) <= 0.5 and all(0.67 <= s <= 1.5 for s in finite(scales))


def still_rising(record: RunRecord, least: float = 0.01) -> bool:
    """Whether accuracy of the last quarter of the last stage beats that of the quarter before.

    It is taken to rise where fewer than four epochs were measured: nobody can say that it does not.
    """
    stage = record.epochs[-1].stage if record.epochs else ""
    epochs = [epoch for epoch in record.epochs if epoch.stage == stage]
    return any(
        rises([getattr(epoch, name) for epoch in epochs], least, noise)
        for name, noise in (
            ("val_accuracy", record.accuracy_noise(0.5)),
            ("clean_accuracy", binomial_noise(0.5, PROBE_IMAGES)),
        )
    )


def rises(values: Sequence[float], least: float, noise: float) -> bool:
    """Whether the last quarter lies above the one before, by more than ``least`` and the noise."""
    known = finite(values)
    if len(known) < 4:
        return bool(known)
    few = max(2, len(known) // 4)
    late, before = statistics.mean(known[-few:]), statistics.mean(known[-2 * few : -few])
    return late - before > max(least, noise / math.sqrt(few))


def same_mix(record: RunRecord, most: float = 0.1) -> bool | None:
    """Whether training and validation have the same mix of classes; None where unknown.

    Args:
        record: The run.
        most: Share of the images that may be in other classes.
    """
    train, val = record.facts.train_counts, record.facts.val_counts
    if not train or not val or len(train) != len(val) or not sum(train) or not sum(val):
        return None
    moved = sum(abs(a / sum(train) - b / sum(val)) for a, b in zip(train, val, strict=True)) / 2
    return moved <= max(most, _mix_noise(train, val))


def _mix_noise(train: Sequence[int], val: Sequence[int]) -> float:
    """How far two sets drawn from one mix of classes lie apart by chance: mean and 3 deviations.

    The distance is half the sum of the absolute differences of shares, each of them the absolute
    value of a normal variable (Leone et al., 1961, "The folded normal distribution").
    """
    both = sum(train) + sum(val)
    scale = 1 / sum(train) + 1 / sum(val)
    shares = [(a + b) / both for a, b in zip(train, val, strict=True)]
    variances = [share * (1 - share) * scale for share in shares]
    mean = math.sqrt(2 / math.pi) * sum(map(math.sqrt, variances)) / 2
    return mean + 3 * math.sqrt((1 - 2 / math.pi) * sum(variances)) / 2
