"""Softmax is applied twice: the model gives probabilities to a loss that wants logits.

What it looks at: whether the model's outputs sum to one; else, losses that stay between the two
    bounds that a second softmax sets, ln(1 + (K - 1) / e) and one nat above it, while accuracy
    says that they should be far lower.
Why it matters: the loss can never get small, gradients fade as outputs grow sure, and
    probabilities stay near 1 / K.
When it is wrong: label smoothing also leaves a floor; it is added to what a sound model of that
    accuracy may lose at most, and a run below the bound in any epoch is acquitted. Wrong labels
    in training lift losses as well; validation is then not counted.
What to do: leave out the softmax at the end of the model; apply it for predictions only.
Source: fault C11; DeepChecker's redundant softmax, UMLAUT.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from espalier.diagnose.facts import epoch_named, finite, loss_kind
from espalier.findings import Evidence, Finding
from espalier.rules import CannotJudge, threshold
from espalier.run_record import EpochSigns, RunRecord

CODE = "RUN008"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    below: float = threshold(0.02, "nats", "that a loss may lie below the bound, by rounding")
    excess: float = threshold(0.1, "nats", "above what a calibrated model would lose")
    band: float = threshold(0.25, "nats", "above what a sure model loses through two softmaxes")
    epochs: float = threshold(2, "epochs", "in which that must be so")
    noise: float = threshold(0.3, "accuracy", "of training below validation, by noise in labels")
    smoothing: float = threshold(0.1, "label smoothing", "assumed where it is unknown")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """An error where the outputs are probabilities, or losses move as if they were."""
    name = subject.facts.loss
    if name is not None and loss_kind(name) != "cross-entropy":
        return None
    if subject.preflight.output_sums_to_one is not None:
        return _of_outputs(sure=name is not None) if subject.preflight.output_sums_to_one else None
    classes = subject.num_classes
    if classes is None or classes < 2:
        raise CannotJudge("needs the number of classes, or the model's outputs")
    columns = ("train_loss", "clean_loss", "val_loss")
    losses = [loss for column in columns for loss in finite(subject.column(column))]
    pairs = _pairs(subject, classes, thresholds)
    if not pairs:
        raise CannotJudge("needs losses with their accuracies, or the model's outputs")
    # Of a model that guesses, or is worse, the accuracy bounds no loss.
    pairs = [pair for pair in pairs if pair.accuracy >= (1 + 1 / classes) / 2]
    bound = math.log(1 + (classes - 1) / math.e)
    if min(losses) < bound - thresholds.below:
        return None
    if subject.preflight.given_sum_to_one:
        return _of_given(bound)
    odd = [pair for pair in pairs if pair.is_odd(classes, thresholds)]
    if len(odd) < thresholds.epochs:
        return None
    return _of_losses(max(odd, key=lambda pair: pair.accuracy), classes, bound)


@dataclass(frozen=True)
class Pair:
    """What an epoch lost and how often it was right, on the same images.

    Attributes:
        loss: In nats.
        accuracy: In [0, 1].
        floor: What a perfect model loses, because of label smoothing.
        where: The epoch.
    """

    loss: float
    accuracy: float
    floor: float
    where: str

    def is_odd(self, classes: int, thresholds: Thresholds) -> bool:
        """Whether it loses more than it should, and about what two softmaxes make of it."""
        bound = math.log(1 + (classes - 1) / math.e)
        sure = bound + 1 - self.accuracy
        sound = calibrated_loss(self.accuracy, classes) + self.floor
        return self.loss > sound + thresholds.excess and self.loss < sure + thresholds.band


def calibrated_loss(accuracy: float, classes: int) -> float:
    """Most nats that a model can lose whose certainty equals its accuracy."""
    right = min(max(accuracy, 1e-9), 1 - 1e-9)
    wrong = 1 - right
    return -right * math.log(right) - wrong * math.log(wrong / max(1, classes - 1))


def _pairs(subject: RunRecord, classes: int, thresholds: Thresholds) -> list[Pair]:
    floor = _floor(subject, classes, thresholds)
    pairs = []
    for epoch in subject.epochs:
        where = epoch_named(epoch)
        # The probe is plain cross-entropy; validation may carry smoothing and class weights.
        pairs.append(Pair(epoch.clean_loss, epoch.clean_accuracy, 0.0, where))
        if not subject.facts.class_weights and _learned_what_it_is_asked(epoch, thresholds):
            pairs.append(_validated(epoch, floor))
    return [pair for pair in pairs if math.isfinite(pair.loss) and 0 <= pair.accuracy <= 1]


def _learned_what_it_is_asked(epoch: EpochSigns, thresholds: Thresholds) -> bool:
    """Whether training's labels are no worse than validation's: noise in them also lifts losses."""
    known = finite([epoch.clean_accuracy, epoch.train_accuracy])
    return not known or known[0] > epoch.val_accuracy - thresholds.noise


def _validated(epoch: EpochSigns, floor: float) -> Pair:
    return Pair(epoch.val_loss, epoch.val_accuracy, floor, epoch_named(epoch))


def _floor(subject: RunRecord, classes: int, thresholds: Thresholds) -> float:
    facts = subject.facts
    if facts.floor_loss is not None and math.isfinite(facts.floor_loss):
        return facts.floor_loss
    known = facts.label_smoothing is not None
    share = facts.label_smoothing if known else thresholds.smoothing
    spread = (share or 0.0) * (classes - 1) / classes
    return calibrated_loss(1 - spread, classes) if spread else 0.0


def _of_outputs(*, sure: bool) -> Finding:
    return _finding(
        "the model's outputs sum to one, and the loss applies another softmax to them",
        (Evidence("outputs", "probabilities", None, "", "the model"),),
        0.97 if sure else 0.8,
    )


def _of_given(bound: float) -> Finding:
    """A loop may turn logits into probabilities for its scores alone: then losses fall lower."""
    return _finding(
        "the outputs that validation gives are probabilities, and no loss ever falls below "
        f"{bound:.2f}, the least that two softmaxes allow",
        (
            Evidence("outputs", "probabilities", None, "", "validation"),
            Evidence("least loss through two softmaxes", bound, None, "nats"),
        ),
        0.8,
    )


def _of_losses(pair: Pair, classes: int, bound: float) -> Finding:
    sound = calibrated_loss(pair.accuracy, classes) + pair.floor
    return _finding(
        f"no loss ever falls below {bound:.2f}, the least that two softmaxes allow with {classes} "
        f"classes: {pair.loss:.2f} at an accuracy of {pair.accuracy:.2f}, where "
        f"{sound:.2f} is much already",
        (
            Evidence("loss", pair.loss, sound, "nats", pair.where),
            Evidence("least loss through two softmaxes", bound, None, "nats"),
            Evidence("accuracy", pair.accuracy, None, "", pair.where),
        ),
        0.85,
    )


def _finding(cause: str, evidence: tuple[Evidence, ...], confidence: float) -> Finding:
    return Finding(
        rule="",
        code="",
        severity="error",
        cause=cause,
        evidence=evidence,
        confidence=confidence,
        advice=(
            "Leave out the softmax at the end of the model: cross-entropy takes logits; apply "
            "softmax only where probabilities are shown.",
        ),
        consequences=(
            "learning_rate_too_low",
            "learning_rate_noisy",
            "vanishing_gradients",
            "stopped_too_early",
            "plateau",
            "under_capacity",
            "underfitting",
            "not_learning",
        ),
    )
