"""The network learns its training images by heart, and gets worse on new ones.

What it looks at: training images known nearly without fault, validation far behind, and its loss
    above its least for epochs in which its accuracy gained nothing; or validation so far behind
    in a run that uses nothing against it.
Why it matters: what is learned from then on is true of these photographs only.
When it is wrong: on an easy set both are known; a loss that rises while accuracy still gains
    is only too sure of itself (calibration), and no fault. A gap without a rising loss, in a
    run that augments, is lack of data, and only worth knowing.
What to do: stronger augmentation, mixup, more weight decay, fewer trainable layers; stop early.
Source: fault F1; Guo et al., "On Calibration of Modern Neural Networks", ICML 2017 (the loss).
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from espalier.diagnose.fit import PROBE_IMAGES, settled
from espalier.diagnose.matching import binomial_noise
from espalier.diagnose.regularisers import is_mixed, stronger_augmentation
from espalier.findings import Edit, Evidence, Finding, percent
from espalier.rules import CannotJudge, threshold
from espalier.run_record import EpochSigns, RunFacts, RunRecord

CODE = "RUN219"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    known: float = threshold(0.98, "accuracy on training images", "that counts as by heart")
    gap: float = threshold(0.1, "accuracy", "between training and validation, at least")
    wide: float = threshold(0.2, "accuracy", "between them, where nothing holds the network back")
    noise: float = threshold(5, "standard errors", "that the gap must exceed too")
    rise: float = threshold(0.2, "of the least validation loss", "that it has risen by")
    clear_rise: float = threshold(0.3, "of the least validation loss", "where accuracy is noisy")
    flat: float = threshold(0.005, "accuracy", "gained since, at most")
    epochs: float = threshold(3, "epochs", "in which it lies that high, at the end")
    share: float = threshold(0.2, "share of the epochs", "that these are, at least")


@dataclass(frozen=True)
class Rise:
    """Validation loss above its least.

    Attributes:
        epoch: Of the least loss.
        least: In nats.
        now: Least of the last epochs, in nats.
        gained: Accuracy of the last epochs, less that when all was first known by heart.
    """

    epoch: int
    least: float
    now: float
    gained: float


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A warning where validation suffers; information where there is only a gap."""
    known, val = _known(subject), settled(subject, "val_accuracy")
    if known is None or val is None:
        raise CannotJudge("needs accuracy on training and on validation images")
    gap = known - val
    by_heart = thresholds.known - _probe_noise(subject, thresholds)
    if known < by_heart or gap < _least_gap(subject, val, thresholds):
        return None
    rise = _rise(subject, thresholds)
    noise = subject.accuracy_noise(val)
    rises = rise is not None and _gains_nothing(rise, noise, thresholds)
    suffers = rises or (gap >= thresholds.wide and _unopposed(subject.facts))
    return Finding(
        rule="",
        code="",
        severity="warning" if suffers else "info",
        cause=_cause(known, val, rise if rises else None),
        evidence=(
            Evidence("accuracy on training images", known, thresholds.known, "share"),
            Evidence("accuracy on validation images", val, None, "share"),
            *_rise_evidence(rise),
        ),
        confidence=0.85 if suffers else 0.6,
        advice=(
            "Augment more, mix images, raise weight decay, or let fewer layers learn; more "
            "photographs help most.",
            "Keep the weights of the best epoch, and stop when validation no longer gains.",
        ),
        prescription=_edits(subject, safe=suffers),
        consequences=("overtrained", "plateau") if suffers else (),
    )


def _known(subject: RunRecord) -> float | None:
    """Accuracy on training images; as trained it is a lower bound of what is known of them."""
    clean = settled(subject, "clean_accuracy")
    return settled(subject, "train_accuracy") if clean is None else clean


def _probe_noise(subject: RunRecord, thresholds: Thresholds) -> float:
    """What two or three of so few training images make of accuracy; 0 where nobody counted."""
    images = subject.data.train_images or sum(subject.facts.train_counts or ())
    return binomial_noise(thresholds.known, min(images, PROBE_IMAGES)) if images else 0.0


def _unopposed(facts: RunFacts) -> bool:
    """Whether it is on record that nothing is done against learning by heart."""
    return facts.augment == "none" and not (is_mixed(facts) or facts.dropout)


def _gains_nothing(rise: Rise, noise: float, thresholds: Thresholds) -> bool:
    """Whether accuracy stands or falls; where it may still gain, a small rise is calibration."""
    if rise.gained <= thresholds.flat:
        return True
    clearly = rise.now >= (1 + thresholds.clear_rise) * rise.least
    return clearly and rise.gained <= 0.5 * noise


def _least_gap(subject: RunRecord, val: float, thresholds: Thresholds) -> float:
    return max(thresholds.gap, thresholds.noise * subject.accuracy_noise(val))


def _rise(subject: RunRecord, thresholds: Thresholds) -> Rise | None:
    """The rise since all is known by heart, where the last epochs lie that far above the least."""
    epochs = [epoch for epoch in subject.epochs if math.isfinite(epoch.val_loss)]
    best = min(range(len(epochs)), key=lambda i: epochs[i].val_loss, default=0)
    start = max(best, _by_heart(epochs, thresholds))
    few = max(int(thresholds.epochs), math.ceil(thresholds.share * len(epochs)))
    late = epochs[max(start + 1, len(epochs) - few) :]
    if len(late) < few:
        return None
    least, now = epochs[best].val_loss, min(epoch.val_loss for epoch in late)
    if least <= 0 or now < (1 + thresholds.rise) * least:
        return None
    then = _mean_accuracy(epochs[start : start + 2])
    return Rise(epochs[best].epoch, least, now, _mean_accuracy(late) - then)


def _by_heart(epochs: list[EpochSigns], thresholds: Thresholds) -> int:
    """Place of the first epoch in which the training images are known."""
    for place, epoch in enumerate(epochs):
        if max(_finite(epoch.clean_accuracy), _finite(epoch.train_accuracy)) >= thresholds.known:
            return place
    return len(epochs)


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _mean_accuracy(epochs: list[EpochSigns]) -> float:
    known = [epoch.val_accuracy for epoch in epochs if math.isfinite(epoch.val_accuracy)]
    return statistics.mean(known) if known else math.nan


def _cause(known: float, val: float, rise: Rise | None) -> str:
    text = f"training images are known by heart ({percent(known)}), validation is at {percent(val)}"
    if rise is None:
        return text
    return f"{text}, and its loss rose from {rise.least:.2f} (epoch {rise.epoch}) to {rise.now:.2f}"


def _rise_evidence(rise: Rise | None) -> tuple[Evidence, ...]:
    if rise is None:
        return ()
    return (
        Evidence("least validation loss", rise.least, None, "nats", f"epoch {rise.epoch}"),
        Evidence("validation loss at the end", rise.now, None, "nats"),
    )


def _edits(subject: RunRecord, safe: bool) -> tuple[Edit, ...]:
    because = "training images are learned by heart"
    facts, edits = subject.facts, list(stronger_augmentation(subject, "more kinds of images", safe))
    if not facts.mixup and not facts.cutmix:
        edits.append(Edit("augment.mixup", "set", 0.2, because, safe))
    if facts.weight_decay is None or facts.weight_decay < 1e-3:
        edits.append(Edit("optimizer.weight_decay", "set", 1e-3, because, safe))
    if not facts.patience or facts.patience > 3:
        edits.append(Edit("early_stopping.patience", "set", 3, "it gets worse from there", safe))
    return tuple(edits)
