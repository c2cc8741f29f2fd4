"""In evaluation mode the network forgets what it can do: its BatchNorm statistics are wrong.

What it looks at: loss and accuracy of the same training images in training mode and in evaluation
    mode, over two epochs, or those as trained where they are better still; and validation in
    training mode where that was tried.
Why it matters: validation and every prediction run in evaluation mode, so what was learned does not
    arrive there.
When it is wrong: dropout makes training mode worse, never better, so it cannot cause this; in
    the very first epoch, and at a rate far too high, the statistics lag behind by right.
What to do: more images per batch, momentum of 0.1, or statistics computed anew after training.
Source: fault C5; pytorch #4741, keras #6977; DeepChecker's switch of modes.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from espalier.diagnose.facts import update_ratios
from espalier.diagnose.fit import same_pixels, settled
from espalier.findings import Edit, Evidence, Finding, percent
from espalier.rules import CannotJudge, threshold
from espalier.run_record import EpochSigns, RunRecord

CODE = "RUN205"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    loss: float = threshold(0.5, "nats", "that evaluation mode must lose more")
    accuracy: float = threshold(0.1, "accuracy", "that it must lose at least")
    severe: float = threshold(0.3, "accuracy", "from which it is an error")
    update: float = threshold(1e-2, "update / weight", "above which statistics lag by right")
    batch: float = threshold(16, "images", "below which the batch is to blame")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A warning, or an error, where evaluation mode is far worse than training mode."""
    if subject.facts.batch_norms == 0:
        return None
    if _moves_fast(subject, thresholds):
        raise CannotJudge("the weights move so fast that BatchNorm statistics lag behind")
    lost, images, where = _lost(subject, thresholds) or (0.0, "", "")
    if not images:
        return None
    return Finding(
        rule="",
        code="",
        severity="error" if lost >= thresholds.severe else "warning",
        cause=f"in evaluation mode the network loses {percent(lost)} of accuracy on the same "
        f"{images}: the BatchNorm statistics are wrong",
        evidence=(
            Evidence("accuracy lost in evaluation mode", lost, thresholds.accuracy, "share", where),
        ),
        confidence=0.85,
        advice=(
            "Raise the number of images per batch, or keep BatchNorm in evaluation mode with its "
            "pretrained statistics.",
            "In a loop of your own: momentum of 0.1 (not 0.001 or 1), and model.train() before "
            "each epoch.",
        ),
        prescription=_edits(subject, thresholds),
        consequences=(
            "validation_from_elsewhere",
            "labels_shuffled",
            "label_noise",
            "class_order_differs",
            "collapsed_to_major_classes",
            "augmentation_or_dropout_too_strong",
            "overfitting",
            "overtrained",
            "under_capacity",
            "underfitting",
            "learning_rate_noisy",
            "batch_too_small",
            "plateau",
            "not_learning",
        ),
    )


def _moves_fast(subject: RunRecord, thresholds: Thresholds) -> bool:
    """Whether the last steps change weights so much that running statistics cannot follow."""
    ratios = update_ratios(subject.steps)[-5:]
    return bool(ratios) and statistics.median(ratios) > thresholds.update


def _lost(subject: RunRecord, thresholds: Thresholds) -> tuple[float, str, str] | None:
    """Accuracy lost in evaluation mode, of which images, and when; None where it is in order."""
    seen = [epoch for epoch in subject.epochs if _is_measured(epoch)][-2:]
    tried = _lost_in_validation(subject)
    if len(seen) < 2 and tried is None:
        raise CannotJudge("needs the probe in training mode (busy loss) of 2 epochs")
    if len(seen) == 2 and all(_is_broken(subject, epoch, thresholds) for epoch in seen):
        least = min(_busy(subject, epoch)[1] - epoch.clean_accuracy for epoch in seen)
        return least, "training images", f"epoch {seen[-1].epoch}"
    if tried is not None and tried[0] >= max(thresholds.severe, 3 * tried[1]):
        return tried[0], "validation images", "after training"
    return None


def _is_measured(epoch: EpochSigns) -> bool:
    signs = (epoch.busy_loss, epoch.clean_loss, epoch.busy_accuracy, epoch.clean_accuracy)
    return not any(map(math.isnan, signs)) and math.isfinite(epoch.busy_accuracy)


def _is_broken(subject: RunRecord, epoch: EpochSigns, thresholds: Thresholds) -> bool:
    loss, accuracy = _busy(subject, epoch)
    return (
        epoch.clean_loss - loss >= thresholds.loss
        and accuracy - epoch.clean_accuracy >= thresholds.accuracy
    )


def _busy(subject: RunRecord, epoch: EpochSigns) -> tuple[float, float]:
    """Loss and accuracy in training mode, by the probe or as trained, whichever is better.

    Accuracy as trained is what the network does in training mode, on harder images and averaged
    over an epoch in which it still learned: too low, never too high, where all images are drawn.
    """
    pairs = [(epoch.busy_loss, epoch.busy_accuracy)]
    all_drawn = not epoch.drawn_share < 0.9 and subject.facts.sampler in (None, "none")
    if all_drawn and same_pixels(subject):
        pairs.append((epoch.train_loss, epoch.train_accuracy))
    return max((pair for pair in pairs if all(map(math.isfinite, pair))), key=lambda pair: pair[1])


def _lost_in_validation(subject: RunRecord) -> tuple[float, float] | None:
    """Accuracy that validation gains in training mode, and its standard error."""
    tried, val = subject.preflight.train_mode_accuracy, settled(subject, "val_accuracy", 1)
    if tried is None or val is None:
        return None
    return tried - val, math.sqrt(2) * subject.accuracy_noise(val)


def _edits(subject: RunRecord, thresholds: Thresholds) -> tuple[Edit, ...]:
    facts = subject.facts
    if facts.pretrained:
        because = "the pretrained statistics are right"
        return tuple(
            Edit(f"stages.{stage.name}.batch_norm", "set", "eval", because)
            for stage in facts.stages
        )
    if facts.batch is not None and facts.batch < thresholds.batch:
        return (Edit("training.batch", "set", 32, f"{facts.batch} images are too few to average"),)
    return ()
