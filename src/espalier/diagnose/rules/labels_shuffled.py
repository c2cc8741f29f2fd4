"""The labels do not belong to the images.

What it looks at: validation at guessing while training images were memorised, or while its loss
    rises above that of guessing as fast as the training loss falls below; a linear head that
    guesses too, on pretrained features or on those that the network began with; validation far
    above training, which only wrong training labels explain; and a network that moves as it
    should, with its loss at chance.
Why it matters: what is learned is noise; no setting of the training can help.
When it is wrong: a network that cannot learn for another reason (rate, frozen parts, size, modes,
    inputs) is at chance as well: a loss at chance counts only where all of those were judged and
    found in order, and where no linear head tells the images apart by their labels. Validation
    images of another size, scale or mix of classes say nothing. Labels that already help in the
    first epoch, on images never seen before, are not shuffled.
What to do: look at a few images with their labels; check how the two were joined.
Source: fault D1; Karpathy, "A Recipe for Training Neural Networks", 2019.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from espalier.diagnose.facts import finite, guess_accuracy
from espalier.diagnose.fit import (
    PROBE_IMAGES,
    gap_noise,
    same_mix,
    same_pixels,
    settled,
    train_guess,
)
from espalier.diagnose.label_evidence import (
    head_tells_labels,
    labels_mean_something,
    wrong_label_share,
)
from espalier.diagnose.matching import binomial_noise, match_classes
from espalier.diagnose.ranks import BY_EXCLUSION
from espalier.diagnose.signals import movements, nats
from espalier.findings import Evidence, Finding, percent
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN210"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    noise: float = threshold(3, "standard errors", "within which validation is at guessing")
    memorised: float = threshold(0.15, "accuracy above guessing", "on training images, at least")
    begun: float = threshold(0.05, "accuracy above guessing", "on training images, to be learning")
    least_gain: float = threshold(0.05, "nats", "below chance, for a training loss that falls")
    mirrored: float = threshold(0.25, "of the gain on training", "that validation loses at least")
    carried: float = threshold(0.25, "of what was learned", "that reaches validation, at most")
    loss: float = threshold(0.1, "nats", "around chance, in which a loss is stuck")
    least_update: float = threshold(1e-4, "update / weight", "below which nothing moves")
    most_update: float = threshold(3e-2, "update / weight", "above which the rate is to blame")
    epochs: float = threshold(3, "epochs", "of a living run, before it is stuck")
    done: float = threshold(0.5, "of the planned epochs", "the same")
    wrong: float = threshold(0.6, "share of the labels", "wrong, that is more than noise")
    imbalance: float = threshold(
        5, "largest / smallest class", "from which guessing may be a habit"
    )
    least: float = threshold(0.03, "recall above guessing", "of a linear head that knows something")
    blind: float = threshold(0.1, "recall", "of noise, from which a linear head says nothing")
    by_heart: float = threshold(0.6, "accuracy", "on training images, that are known by heart")
    most: float = threshold(0.5, "share", "of the largest class, to judge by accuracy of a head")
    renamed: float = threshold(0.3, "accuracy", "gained by renaming classes: another fault")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """An error where labels and images do not go together."""
    wrong = wrong_label_share(subject)
    if wrong is not None and wrong.share >= thresholds.wrong:
        cause = (
            f"about {percent(wrong.share)} of the training labels are wrong: training images are "
            f"told apart worse ({percent(wrong.clean)}) than validation images "
            f"({percent(wrong.val)})"
        )
        return _finding(cause, (Evidence("wrong labels", wrong.share, thresholds.wrong),), 0.8)
    val, guess = settled(subject, "val_accuracy"), guess_accuracy(subject)
    if val is None or guess is None:
        raise CannotJudge("needs val accuracy and the classes")
    margin = max(0.02, thresholds.noise * subject.accuracy_noise(guess))
    if _is_renamed(subject, thresholds):
        return None
    # A network that answers at random answers alike to alike images, so luck goes further.
    if val > guess + 2 * margin:
        return _by_probe(subject, val, thresholds) if _is_rote(subject, val, thresholds) else None
    if labels_mean_something(subject):
        return _by_probe(subject, val, thresholds)
    if head_tells_labels(subject):
        return None
    found = None
    if val <= guess + margin:
        found = (
            _by_probe(subject, val, thresholds)
            or _by_head(subject, thresholds)
            or _by_memory(subject, val, guess, thresholds)
            or _by_mirror(subject, val, thresholds)
        )
    elif subject.facts.pretrained:
        # Answers at random, learned from labels at random, may lie a little above guessing.
        found = _by_head(subject, thresholds)
    return found or _by_movement(subject, val, guess, thresholds)


def _is_rote(subject: RunRecord, val: float, thresholds: Thresholds) -> bool:
    """Whether training images are known by heart, and hardly anything of it carries over."""
    clean, guess = settled(subject, "clean_accuracy"), train_guess(subject)
    if clean is None or guess is None or clean < thresholds.by_heart or not _is_comparable(subject):
        return False
    return val - guess <= thresholds.carried * (clean - guess)


def _is_renamed(subject: RunRecord, thresholds: Thresholds) -> bool:
    matching = match_classes(subject.confusion) if subject.confusion else None
    return matching is not None and matching.gain >= thresholds.renamed


def _by_probe(subject: RunRecord, val: float, thresholds: Thresholds) -> Finding | None:
    tried, chance = subject.preflight.probe_accuracy, subject.preflight.probe_chance
    if tried is None or chance is None or not subject.facts.pretrained:
        return None
    # Where one class is most of the images, a good head is hardly more often right than naming it.
    if chance > thresholds.most:
        return None
    if tried > chance + max(0.03, thresholds.noise * subject.accuracy_noise(chance)):
        return None
    cause = (
        f"not even a linear head on pretrained features beats guessing ({percent(tried)} against "
        f"{percent(chance)}): the labels do not belong to the images"
    )
    return _finding(cause, (Evidence("accuracy of a linear head", tried, chance, "share"),), 0.93)


def _by_head(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A linear head on what the network began with, where that guesses, and so does the run."""
    head = subject.preflight.head
    if head is None or len(head.images) < 2:
        return None
    error = thresholds.noise * head.noise
    # So few images that a good head could not be told from guessing say nothing.
    if error > thresholds.blind or head.recall > head.chance + max(thresholds.least, error):
        return None
    what = "pretrained features" if subject.facts.pretrained else "untrained features and pixels"
    cause = (
        f"validation is at guessing, and so is a linear head on {what} ({percent(head.recall)} "
        f"against {percent(head.chance)}): the labels do not belong to the images"
    )
    evidence = Evidence("mean recall of a linear head", head.recall, head.chance, "share")
    return _finding(cause, (evidence,), 0.9 if subject.facts.pretrained else 0.6)


def _by_memory(
    subject: RunRecord, val: float, guess: float, thresholds: Thresholds
) -> Finding | None:
    clean = settled(subject, "clean_accuracy")
    seen = settled(subject, "train_accuracy") if clean is None else clean
    if seen is None or not _is_comparable(subject):
        return None
    learned = seen - (train_guess(subject) or 0.0)
    if learned < max(thresholds.memorised, 3 * gap_noise(subject, seen, val)):
        return None
    if not _at_guessing(subject, val, guess, learned, thresholds):
        return None
    cause = (
        f"training images are told apart ({percent(seen)}), validation images by guessing only "
        f"({percent(val)}): the labels were learned by heart and mean nothing"
    )
    evidence = (
        Evidence("accuracy on training images", seen, None, "share"),
        Evidence("accuracy on validation images", val, guess, "share"),
    )
    return _finding(cause, evidence, 0.85 if clean is not None else 0.6)


def _is_comparable(subject: RunRecord) -> bool:
    """Whether validation is made of the same classes, shown in the same way."""
    return same_mix(subject) is not False and same_pixels(subject)


def _at_guessing(
    subject: RunRecord, val: float, guess: float, learned: float, thresholds: Thresholds
) -> bool:
    """Whether validation carries hardly any of what was learned, and is large enough to say so."""
    little = val - guess <= thresholds.carried * learned
    return little and 2 * subject.accuracy_noise(guess) <= 0.5 * learned


def _by_mirror(subject: RunRecord, val: float, thresholds: Thresholds) -> Finding | None:
    """What helps on training images harms on others: so it is in the first epochs by heart."""
    clean, guess = settled(subject, "clean_accuracy"), train_guess(subject)
    if clean is None or guess is None or not _is_comparable(subject):
        return None
    if clean - guess < max(thresholds.begun, 5 * binomial_noise(guess, PROBE_IMAGES)):
        return None
    trained, new = settled(subject, "clean_loss"), settled(subject, "val_loss")
    if trained is None or new is None or not _mirrors(subject, trained, new, thresholds):
        return None
    cause = (
        f"the more of the training images is learned ({percent(clean)} by now), the worse is "
        f"validation: its loss rose to {nats(new)}, above that of guessing "
        f"({nats(subject.chance_loss or math.nan)}); the labels are learned by heart and mean "
        "nothing"
    )
    evidence = (
        Evidence("accuracy on training images", clean, guess, "share"),
        Evidence("accuracy on validation images", val, None, "share"),
        Evidence("validation loss", new, subject.chance_loss, "nats"),
    )
    return _finding(cause, evidence, 0.7)


def _mirrors(subject: RunRecord, trained: float, new: float, thresholds: Thresholds) -> bool:
    """Whether validation rose above chance by a good part of what training fell below it."""
    chance, first = subject.chance_loss, finite(subject.column("val_loss"))[0]
    if chance is None or chance - trained < thresholds.least_gain:
        return False
    return new > first and new - chance >= thresholds.mirrored * (chance - trained)


def _by_movement(
    subject: RunRecord, val: float, guess: float, thresholds: Thresholds
) -> Finding | None:
    """The weakest sign: all moves as it should, and nothing is learned."""
    counts, chance = subject.facts.train_counts, subject.chance_loss
    if counts and min(counts) * thresholds.imbalance < max(counts):
        return None
    if not _is_comparable(subject):
        return None
    needed = max(thresholds.epochs, math.ceil(thresholds.done * (subject.facts.epochs or 0)))
    if subject.ended == "running" and len(subject.epochs) < needed:
        raise CannotJudge(f"validation is near guessing; needs {needed:.0f} epochs")
    column = "clean_loss" if finite(subject.column("clean_loss")) else "val_loss"
    loss, updates = settled(subject, column), movements(subject.steps)
    if loss is None or chance is None:
        raise CannotJudge("validation is near guessing; needs a loss to tell why")
    if abs(loss - chance) > thresholds.loss:
        return None
    if not updates:
        raise CannotJudge("validation is near guessing; needs update sizes to tell why")
    slowest, update = min(updates.values()), statistics.median(updates.values())
    if slowest < thresholds.least_update or update > thresholds.most_update:
        return None
    cause = (
        f"the weights move as they should, but the loss stays at chance ({loss:.2f}): the "
        "labels seem not to belong to the images"
    )
    evidence = (
        Evidence(column.replace("_", " "), loss, chance, "nats"),
        Evidence("update / weight", update, thresholds.least_update),
        Evidence("accuracy on validation images", val, guess, "share"),
    )
    return _finding(cause, evidence, BY_EXCLUSION)


def _finding(cause: str, evidence: tuple[Evidence, ...], confidence: float) -> Finding:
    return Finding(
        rule="",
        code="",
        severity="error",
        cause=cause,
        evidence=evidence,
        confidence=confidence,
        advice=(
            "Look at twenty training images with their labels, and at how the two were joined: "
            "a sorted list beside an unsorted one is the usual mistake.",
            "Read labels from the file's own path, and never shuffle images and labels apart.",
        ),
        consequences=(
            "label_noise",
            "pair_flips",
            "overfitting",
            "overtrained",
            "underfitting",
            "under_capacity",
            "augmentation_destroys_labels",
            "validation_from_elsewhere",
            "collapsed_to_major_classes",
            "wrong_weights_kept",
            "stopped_too_early",
            "plateau",
            "not_learning",
        ),
    )
