"""Training and validation number their classes differently.

What it looks at: the label mappings of both, where both are on record; else whether a renaming of
    classes (Hungarian matching of the confusion matrix) makes validation right.
Why it matters: the network is right and is scored as wrong; every decision taken by validation
    (best epoch, early stopping) is noise, and predictions carry the wrong names.
When it is wrong: a network that guesses gains little by renaming, as it is wrong in no
    constant way; one that never learned does badly on training images too. A weak one calls
    several classes by a favourite name of another, but those are not called theirs in turn.
What to do: one list of classes for all splits, read once from training.
Source: fault D4; Kuhn 1955 (the matching).
"""

from __future__ import annotations

from dataclasses import dataclass

from espalier.diagnose.facts import class_name, finite
from espalier.diagnose.fit import PROBE_IMAGES, settled, train_guess
from espalier.diagnose.matching import Matching, binomial_noise, match_classes
from espalier.findings import Case, Evidence, Finding, listed, percent
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN213"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    gain: float = threshold(0.3, "accuracy", "that renaming must win, where all is renamed")
    matched: float = threshold(0.5, "accuracy", "after renaming, at least")
    carried: float = threshold(0.75, "of training accuracy", "that renaming reaches, or that")
    much: float = threshold(0.2, "accuracy above guessing", "on training images, for that")
    less: float = threshold(0.1, "accuracy", "that renaming must win where it reaches so much")
    closed: float = threshold(0.5, "of the swapped classes", "that take the name of another one")
    swap: float = threshold(0.05, "accuracy", "that renaming must win, where classes swap names")
    constant: float = threshold(0.6, "share of a class", "called by its other name")
    own: float = threshold(0.15, "share of a class", "called by its own name, at most")
    known: float = threshold(0.6, "of the gain", "by which training images are known better")
    learned: float = threshold(0.05, "accuracy above guessing", "on training images, more than")
    images: float = threshold(5, "images of a class", "at least")


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """An error where classes carry each other's numbers."""
    named = _by_names(subject)
    if named is not None:
        return named
    tried = subject.preflight.matched_accuracy
    matching = match_classes(subject.confusion) if subject.confusion else None
    if matching is None and tried is None:
        if subject.facts.val_classes is not None and subject.facts.classes is not None:
            return None
        raise CannotJudge("needs the confusion matrix of validation, or both label mappings")
    if matching is not None:
        return _by_confusion(subject, matching, thresholds)
    return _by_trial(subject, thresholds)


def _by_names(subject: RunRecord) -> Finding | None:
    train, val = subject.facts.classes, subject.facts.val_classes
    if train is None or val is None:
        return None
    moved = [name for name in val if name in train and train.index(name) != val.index(name)]
    if not moved:
        return None
    return _finding(
        f"training and validation number {len(moved)} of their classes differently: "
        f"{listed(moved)}",
        (Evidence("classes with another number", float(len(moved)), 0.0),),
        0.98,
        tuple(
            Case(
                (), f"{train.index(name)} in training, {val.index(name)} in validation", label=name
            )
            for name in moved
        ),
    )


def _by_confusion(subject: RunRecord, matching: Matching, thresholds: Thresholds) -> Finding | None:
    swapped = _swapped(subject, matching, thresholds)
    noise = 3 * subject.accuracy_noise(matching.plain)
    all_renamed = matching.matched >= thresholds.matched and matching.gain >= thresholds.gain
    all_renamed = all_renamed or _reaches_training(subject, matching, thresholds)
    few_renamed = _is_closed(swapped, thresholds) and matching.gain >= thresholds.swap
    if matching.gain < noise or not (all_renamed or few_renamed):
        return None
    if not _knows_training(subject, matching, thresholds):
        return None
    pairs = swapped or list(matching.renamed)
    return _finding(
        _cause(matching.plain, matching.matched),
        _evidence(matching.plain, matching.matched, thresholds),
        0.93,
        tuple(
            Case((), f"seems to be {class_name(subject, called)}", label=class_name(subject, true))
            for true, called in pairs
        ),
    )


def _reaches_training(subject: RunRecord, matching: Matching, thresholds: Thresholds) -> bool:
    """Whether renaming brings validation up to training images: a hard task stays below half."""
    clean, guess = settled(subject, "clean_accuracy"), train_guess(subject) or 0.0
    least = max(thresholds.less, 4 * subject.accuracy_noise(matching.plain))
    # Labels at random teach a little by heart, and leave the answers of pretraining as they were.
    return (
        clean is not None
        and clean - guess >= thresholds.much
        and matching.matched >= thresholds.carried * clean
        and matching.gain >= least
    )


def _is_closed(swapped: list[tuple[int, int]], thresholds: Thresholds) -> bool:
    """Whether names are exchanged within a few classes; a weak network lends its favourite ones."""
    moved = {true for true, _ in swapped}
    taken = sum(called in moved for _, called in swapped)
    return len(swapped) >= 2 and taken >= thresholds.closed * len(swapped)


def _knows_training(subject: RunRecord, matching: Matching, thresholds: Thresholds) -> bool:
    """Whether training images are told apart by their own names as validation is by others.

    A network that never learned its classes keeps answers of its pretraining, which can be renamed
    as well: then training images gain by it too, or are told apart no better than by guessing.
    """
    clean = settled(subject, "clean_accuracy")
    seen = settled(subject, "train_accuracy") if clean is None else clean
    if seen is None:
        return matching.matched >= thresholds.matched
    guess = train_guess(subject) or 0.0
    if seen <= guess + max(thresholds.learned, 3 * binomial_noise(guess, PROBE_IMAGES)):
        return False
    return seen >= matching.plain + thresholds.known * matching.gain


def _swapped(
    subject: RunRecord, matching: Matching, thresholds: Thresholds
) -> list[tuple[int, int]]:
    """Classes that are constantly called by one other name and hardly ever by their own."""
    rows = subject.confusion or ()
    return [
        (true, called)
        for true, called in matching.renamed
        if sum(rows[true]) >= thresholds.images
        and rows[true][called] >= thresholds.constant * sum(rows[true])
        and rows[true][true] <= thresholds.own * sum(rows[true])
    ]


def _by_trial(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    matched = subject.preflight.matched_accuracy or 0.0
    best = max(finite(subject.require_column("val_accuracy")), default=None)
    if best is None:
        raise CannotJudge("needs val accuracy")
    gain = matched - best
    enough = max(thresholds.gain, 3 * subject.accuracy_noise(matched))
    if matched < thresholds.matched or gain < enough:
        return None
    renamed = subject.preflight.matched_classes or {}
    cases = tuple(Case((), f"seems to be {to}", label=name) for name, to in renamed.items())
    return _finding(_cause(best, matched), _evidence(best, matched, thresholds), 0.93, cases)


def _cause(plain: float, matched: float) -> str:
    return (
        f"validation is right in {percent(plain)} as its classes are named, and in "
        f"{percent(matched)} if they are renamed: their order differs from training"
    )


def _evidence(plain: float, matched: float, thresholds: Thresholds) -> tuple[Evidence, ...]:
    return (
        Evidence("accuracy as named", plain, None, "share"),
        Evidence("accuracy after renaming", matched, plain + thresholds.gain, "share"),
    )


def _finding(
    cause: str, evidence: tuple[Evidence, ...], confidence: float, cases: tuple[Case, ...]
) -> Finding:
    return Finding(
        rule="",
        code="",
        severity="error",
        cause=cause,
        evidence=evidence,
        confidence=confidence,
        advice=(
            "Take the list of classes from training and use it for every split; a folder that is "
            "missing in one split shifts all numbers after it.",
        ),
        cases=cases,
        consequences=(
            "labels_shuffled",
            "label_noise",
            "pair_flips",
            "collapsed_to_major_classes",
            "validation_from_elsewhere",
            "validation_in_training_mode",
            "overfitting",
            "overtrained",
            "metric_hides_failure",
            "wrong_weights_kept",
            "stopped_too_early",
            "backbone_rate_erases",
            "plateau",
            "not_learning",
        ),
    )
