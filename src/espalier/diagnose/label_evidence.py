"""How many training labels are wrong, as the curves and losses of a run tell it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from espalier.diagnose.fit import PROBE_IMAGES, gap_noise, same_mix, train_guess
from espalier.diagnose.matching import binomial_noise
from espalier.run_record import EpochSigns, RunRecord


@dataclass(frozen=True)
class WrongLabels:
    """An estimate of the share of wrong labels, from validation that is better than training.

    Attributes:
        share: Of the training labels, in [0, 1].
        clean: Accuracy on training images by their labels, without augmentation.
        val: Accuracy on validation images.
        epoch: Where the two lay furthest apart.
    """

    share: float
    clean: float
    val: float
    epoch: int


def labels_mean_something(record: RunRecord, least: float = 0.03) -> bool:
    """Whether the first epoch beat guessing on training images that it saw for the first time.

    In the first epoch every image is judged as trained before it was ever seen, so that nothing of
    it is known by heart: what is right there carries over. Augmentation and mixed images only
    lower it.
    """
    solved = {stage.name for stage in record.facts.stages if stage.solved}
    first = record.epochs[0] if record.epochs else None
    guess, counts = train_guess(record), record.facts.train_counts
    if first is None or first.stage in solved or first.epoch > 1 or guess is None or not counts:
        return False
    return first.train_accuracy > guess + max(least, 4 * binomial_noise(guess, sum(counts)))


def head_tells_labels(record: RunRecord, least: float = 0.05, errors: float = 5) -> bool:
    """Whether a linear head, before any training, tells new training images apart by their labels.

    Then labels and images belong together, whatever the run made of them.
    """
    head = record.preflight.head
    return head is not None and head.recall > head.chance + max(least, errors * head.noise)


def wrong_label_share(record: RunRecord) -> WrongLabels | None:
    """How many training labels are wrong, where validation labels are right.

    Both accuracies are taken in evaluation mode and without augmentation, so nothing but labels
    makes training images harder than new ones. With a share r of labels replaced by any class,
    a network that did not learn them by heart is right on (1 - r) a + r / K of the training labels
    where it is right on a of the validation labels.

    Returns:
        None where it was not measured in two epochs, where the two sets have another mix of
        classes, or where the gap is no more than noise in all epochs but one: three standard
        errors of accuracy alone, or two both of accuracy and of loss.
    """
    classes = record.num_classes
    if not classes or classes < 2 or same_mix(record) is False:
        return None
    estimates = [
        found for epoch in record.epochs if (found := _estimate(record, epoch, classes)) is not None
    ]
    if len(estimates) < 2:
        return None
    # The second largest: one lucky epoch is no sign.
    return sorted(estimates, key=lambda found: (-found.share, found.epoch))[1]


def _estimate(record: RunRecord, epoch: EpochSigns, classes: int) -> WrongLabels | None:
    clean, val = epoch.clean_accuracy, epoch.val_accuracy
    if not (math.isfinite(clean) and math.isfinite(val)) or val <= 1 / classes + 0.05:
        return None
    # The loss sees images that accuracy does not, so that two weak signs make a strong one.
    errors = 2 if _loss_gap(record, epoch) >= 2 else 3
    if val - clean < max(0.05, errors * gap_noise(record, clean, val)):
        return None
    share = min(1.0, (val - clean) / (val - 1 / classes))
    return WrongLabels(share, clean, val, epoch.epoch)


def _loss_gap(record: RunRecord, epoch: EpochSigns) -> float:
    """Standard errors by which clean training images cost more than validation ones; 0: unknown."""
    gap, val_images = epoch.clean_loss - epoch.val_loss, record.val_images
    if epoch.loss_quantiles is None or not val_images or not math.isfinite(gap):
        return 0.0
    median, high, _ = epoch.loss_quantiles
    # Of a normal distribution, the 90 % quantile lies 1.28 standard deviations above the median.
    spread = (high - median) / 1.28
    images = min(record.data.train_images or PROBE_IMAGES, PROBE_IMAGES)
    error = spread * math.sqrt(1 / images + 1 / val_images)
    return gap / error if error > 0 else 0.0


@dataclass(frozen=True)
class HighLosses:
    """Training images that stay at a high loss while most are well learned.

    Attributes:
        share: Of the training images, in [0, 1]; a lower bound where only quantiles are known.
        samples: Their ids, the highest loss first; empty where only quantiles are known.
        typical: Median loss in nats.
        high: Loss of theirs in nats: the 90 % quantile, or their median.
        epochs: In how many epochs it was so.
    """

    share: float
    samples: tuple[str, ...]
    typical: float
    high: float
    epochs: int


def high_losses(record: RunRecord, low: float, ratio: float) -> HighLosses | None:
    """Images that the network contradicts although it has learned the rest.

    A wrong label of K classes costs more than ln K where the network is sure; a hard image less.

    Args:
        record: The run.
        low: Median loss, as a share of ln K, below which most images count as learned.
        ratio: High loss / median loss, at least.

    Returns:
        None where losses are unknown, of fewer than four classes, or where there are none in two
        epochs.
    """
    classes = record.num_classes
    if not classes or classes < 4:
        return None
    chance = math.log(classes)
    if record.sample_losses:
        return _by_sample(record.sample_losses, chance, low, ratio)
    rows = [epoch.loss_quantiles for epoch in record.epochs if epoch.loss_quantiles]
    seen = [row for row in rows if row[0] < low * chance and row[1] > max(chance, ratio * row[0])]
    if len(seen) < max(2, len(rows) // 10):
        return None
    typical, high, _ = max(seen, key=lambda row: row[1])
    return HighLosses(0.1, (), typical, high, len(seen))


def _by_sample(
    losses: Mapping[str, Sequence[float]], chance: float, low: float, ratio: float
) -> HighLosses | None:
    """The same by name: images that are contradicted in a third of the epochs that say so."""
    epochs = max(map(len, losses.values()))
    table = np.full((len(losses), epochs), np.nan)
    for row, values in enumerate(losses.values()):
        table[row, : len(values)] = values
    known = table[:, ~np.isnan(table).any(0)]
    typical = np.median(known, axis=0)
    learned = typical < low * chance
    if learned.sum() < 2:
        return None
    high = known[:, learned] > np.maximum(chance, ratio * typical[learned])
    often = high.sum(1) >= max(2, learned.sum() / 3)
    if not often.any():
        return None
    mean = known[:, learned].mean(1)
    ids = [sample for sample, is_high in zip(losses, often, strict=True) if is_high]
    order = np.argsort(-mean[often], kind="stable")
    return HighLosses(
        float(often.mean()),
        tuple(ids[i] for i in order),
        float(np.median(typical[learned])),
        float(np.median(mean[often])),
        int(learned.sum()),
    )
