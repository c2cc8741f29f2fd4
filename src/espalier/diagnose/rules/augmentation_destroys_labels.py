"""Augmentation changes pictures so much that their labels no longer hold.

What it looks at: what a linear head before any training makes of training images with and
    without augmentation, where the run ends no better than that; how much worse augmented training
    images are told apart than the same images without augmentation, in the same mode of the
    network, while validation is as good as the latter; and in a run that learned nothing, whether
    two views of one image still resemble each other more than two images do.
Why it matters: the network is taught that a mirrored 6 is still a 6, or that a corner of lawn is
    the bird that sat beside it.
When it is wrong: strong augmentation lowers accuracy as trained by right, most of all where the
    network overfits; mixed images say nothing. Only a gap far beyond that is a warning. Two crops
    of one photograph may differ as two photographs do: that counts only of a run at chance, of a
    policy that is not known to be mild, and where nothing else explains it.
What to do: a milder policy; no flips where left and right matter; larger crops.
Source: fault D11; the pictures of train_batch.jpg show it to the eye.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from espalier.diagnose.fit import Fit, fit_of, settled
from espalier.diagnose.regularisers import is_mixed, weaker_augmentation
from espalier.findings import Edit, Evidence, Finding, Severity, percent
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN214"


# Two independent values of a normal distribution differ by so many standard deviations on average.
_MILD = ("none", "light", "standard")
_INDEPENDENT = 2 / math.sqrt(math.pi)


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    lost: float = threshold(0.25, "accuracy", "that augmentation takes, worth knowing")
    much: float = threshold(0.45, "accuracy", "that it takes, from which it is a warning")
    gap: float = threshold(0.05, "accuracy", "between training and validation, at most")
    strange: float = threshold(0.85, "of the difference of two images", "between two of one image")
    clean: float = threshold(0.95, "clean accuracy", "from which nothing was lost")
    dropout: float = threshold(0.3, "probability", "above which training mode must be measured")
    known: float = threshold(0.1, "recall above guessing", "of a linear head, without augmentation")
    kept: float = threshold(0.4, "of that recall", "that augmentation leaves, at most")
    faint: float = threshold(0.2, "of that recall", "the same, without trained weights")
    held: float = threshold(0.5, "of that recall", "that the run still holds, at most")
    errors: float = threshold(4, "standard errors", "that both must differ by")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A finding where augmented images are far harder than any that will be seen."""
    by_heads = _by_heads(subject, thresholds)
    if by_heads is not None:
        return by_heads
    if is_mixed(subject.facts):
        raise CannotJudge("training images are mixed, so accuracy as trained says nothing")
    fit, trained = fit_of(subject), settled(subject, "train_accuracy")
    if fit.at_chance():
        return _unrecognisable(subject, fit, thresholds)
    if trained is None:
        raise CannotJudge("needs accuracy as trained")
    busy = settled(subject, "busy_accuracy")
    if busy is None and (
        subject.facts.dropout is None or subject.facts.dropout > thresholds.dropout
    ):
        raise CannotJudge("needs the probe in training mode (busy accuracy), to set dropout apart")
    lost = (fit.clean if busy is None else busy) - trained
    held_back = fit.gap < max(thresholds.gap, 2 * fit.noise) and fit.clean < thresholds.clean
    if not held_back or fit.rising or lost < max(thresholds.lost, 3 * fit.noise):
        return None
    much = lost >= thresholds.much
    return _finding(
        "warning" if much else "info",
        f"augmentation costs {percent(lost)} of accuracy in training, and validation does "
        "not gain by it: it may change what the labels mean",
        (
            Evidence("accuracy lost to augmentation", lost, thresholds.lost, "share"),
            Evidence("accuracy as trained", trained, None, "share"),
            Evidence("accuracy on the same images without it", fit.clean, None, "share"),
        ),
        0.55 if much else 0.4,
        weaker_augmentation(subject, "augmentation costs more than it gives", safe=much),
    )


def _by_heads(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """What augmentation takes from a linear head, where the run learned no more than that head."""
    plain, drawn = subject.preflight.head, subject.preflight.drawn_head
    if plain is None or drawn is None or subject.ended == "running":
        return None
    known, left = plain.recall - plain.chance, drawn.recall - drawn.chance
    differ = known - left >= thresholds.errors * math.hypot(plain.noise, drawn.noise)
    # Pixels and untrained features hang on places: a mere shift takes two thirds from them.
    kept = thresholds.kept if subject.facts.pretrained else thresholds.faint
    if known < thresholds.known or left > kept * known or not differ:
        return None
    reached = settled(subject, "clean_accuracy")
    # A run that holds half of what its features knew before any step is only held back.
    most = plain.chance + (thresholds.held if subject.facts.pretrained else 1.0) * known
    if reached is None or reached > most + 2 * plain.noise:
        return None
    return _finding(
        "warning",
        f"augmentation leaves {percent(max(0.0, left / known))} of what a linear head knows "
        f"without any training (mean recall {percent(drawn.recall)} instead of "
        f"{percent(plain.recall)}), and the run ends at {percent(reached)} of the training images: "
        "the labels no longer hold",
        (
            Evidence("mean recall of a linear head, augmented", drawn.recall, None, "share"),
            Evidence("mean recall of a linear head, as they are", plain.recall, None, "share"),
            Evidence("left by augmentation", left / known, kept, "share"),
            Evidence("accuracy on training images as they are", reached, plain.recall, "share"),
        ),
        0.8,
        # The mildest policy that still helps: what stands there now is far beyond the next milder.
        weaker_augmentation(subject, "augmentation leaves too little to recognise", to="light"),
    )


def _unrecognisable(subject: RunRecord, fit: Fit, thresholds: Thresholds) -> Finding | None:
    """Of a run that learned nothing: are two views of one image as different as two images?"""
    if subject.facts.augment in _MILD:
        return None
    pixels = subject.data.train
    if pixels is None or pixels.redraw_change is None or not pixels.std:
        raise CannotJudge("nothing was learned; needs the change between two draws of an image")
    spread = statistics.mean(pixels.std)
    ratio = pixels.redraw_change / (_INDEPENDENT * spread) if spread > 0 else 0.0
    if ratio < thresholds.strange:
        return None
    return _finding(
        "warning",
        f"nothing was learned, and two views of one training image differ by {percent(ratio)} of "
        "what two images differ by: augmentation leaves nothing to recognise",
        (
            Evidence("change between two views", ratio, thresholds.strange, "share"),
            Evidence("accuracy on the same images without it", fit.clean, fit.guess, "share"),
        ),
        0.5,
        weaker_augmentation(subject, "augmentation leaves nothing to recognise"),
    )


def _finding(
    severity: Severity,
    cause: str,
    evidence: tuple[Evidence, ...],
    confidence: float,
    edits: tuple[Edit, ...],
) -> Finding:
    return Finding(
        rule="",
        code="",
        severity=severity,
        cause=cause,
        evidence=evidence,
        confidence=confidence,
        advice=(
            "Look at the augmented images: can a person still name each of them?",
            "Leave out flips where orientation matters, and keep crops above half the area.",
        ),
        prescription=edits,
        consequences=(
            "augmentation_or_dropout_too_strong",
            "underfitting",
            "learning_rate_too_low",
            "plateau",
            "not_learning",
        ),
    )
