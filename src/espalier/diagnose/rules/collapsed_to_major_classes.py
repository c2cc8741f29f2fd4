"""The network names the frequent classes and has given up on the rare ones.

What it looks at: of unequal classes, how often the most frequent answer is given beyond its share
    of validation, and how many images of rare classes are found; at the last validation.
Why it matters: accuracy looks fine while the classes one often cares most for are never found.
When it is wrong: in its first epochs every network does this; where validation has too few
    images of rare classes nobody can say.
What to do: weigh classes by the root of their numbers, or adjust logits for their frequency.
Source: fault E1; Menon et al., "Long-tail learning via logit adjustment", ICLR 2021.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from espalier.diagnose.facts import class_name
from espalier.diagnose.matching import predicted_shares, recalls, shares, val_counts
from espalier.findings import Case, Edit, Evidence, Finding, percent
from espalier.rules import CannotJudge, threshold
from espalier.run_record import RunRecord

CODE = "RUN218"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    imbalance: float = threshold(5, "largest / smallest class", "below which classes are alike")
    excess: float = threshold(0.25, "share of the answers", "beyond the class's own share")
    left: float = threshold(0.75, "of what is left beyond that share", "where that is less")
    found: float = threshold(0.25, "recall of rare classes", "at most")
    images: float = threshold(10, "validation images of rare classes", "at least")
    epochs: float = threshold(2, "epochs", "after which it counts")


@dataclass(frozen=True)
class Collapse:
    """The most given answer, its share of the answers and of the images, and the rare classes.

    Attributes:
        major: Index of the class that is named most.
        given: Share of the answers.
        share: Share of the validation images.
        rare: Indices of the rare classes.
        images: How many validation images they have.
        found: Share of these that is found.
    """

    major: int
    given: float
    share: float
    rare: tuple[int, ...]
    images: int
    found: float


def check(subject: RunRecord, thresholds: Thresholds) -> Finding | None:
    """A warning where rare classes are hardly ever found; an error where none of them is."""
    counts = subject.facts.train_counts or val_counts(subject)
    if not counts:
        raise CannotJudge("needs images per class")
    if max(counts) < thresholds.imbalance * max(1, min(counts)):
        return None
    seen = _seen(subject, counts, thresholds)
    if seen.images < thresholds.images:
        raise CannotJudge(f"validation has only {seen.images} images of rare classes")
    if len(subject.epochs) < thresholds.epochs or not _is_collapsed(seen, counts, thresholds):
        return None
    return _finding(subject, seen, max(counts) / max(1, min(counts)), thresholds)


def _seen(subject: RunRecord, counts: tuple[int, ...], thresholds: Thresholds) -> Collapse:
    given, found, images = predicted_shares(subject), recalls(subject), val_counts(subject)
    if given is None or found is None or images is None:
        raise CannotJudge("needs recall and share of the predictions per class")
    if not len(given) == len(found) == len(images) == len(counts):
        raise CannotJudge("training and validation have different numbers of classes")
    major = max(range(len(given)), key=lambda k: (given[k], -k))
    rare = tuple(
        k for k, n in enumerate(counts) if n * thresholds.imbalance <= max(counts) and images[k]
    )
    total = sum(images[k] for k in rare)
    hits = sum(images[k] * (0.0 if math.isnan(found[k]) else found[k]) for k in rare)
    return Collapse(
        major, given[major], shares(images)[major], rare, total, hits / total if total else 0.0
    )


def _is_collapsed(seen: Collapse, counts: tuple[int, ...], thresholds: Thresholds) -> bool:
    beyond = min(thresholds.excess, thresholds.left * (1 - seen.share))
    frequent = counts[seen.major] * len(counts) >= 1.5 * sum(counts)
    return frequent and seen.given - seen.share >= beyond and seen.found <= thresholds.found


def _finding(
    subject: RunRecord, seen: Collapse, imbalance: float, thresholds: Thresholds
) -> Finding:
    major = class_name(subject, seen.major)
    found = recalls(subject) or ()
    return Finding(
        rule="",
        code="",
        severity="error" if seen.found == 0 else "warning",
        cause=f"{percent(seen.given)} of the answers are {major} ({percent(seen.share)} of the "
        f"images are), and {percent(seen.found)} of the images of rare classes are found",
        evidence=(
            Evidence("share of the answers", seen.given, None, "share", f"class {major}"),
            Evidence("recall of rare classes", seen.found, thresholds.found, "share"),
            Evidence("largest / smallest class", imbalance, thresholds.imbalance),
        ),
        confidence=0.85,
        advice=(
            "Weigh the loss by the root of the class frequencies, or adjust logits for them; "
            "judge by macro-F1, not by accuracy.",
            "Train longer: rare classes are learned last.",
        ),
        prescription=_edits(subject),
        cases=tuple(
            Case((), f"{percent(found[k])} found", 1 - found[k], label=class_name(subject, k))
            for k in seen.rare
        ),
        consequences=(
            "metric_hides_failure",
            "label_noise",
            "pair_flips",
            "plateau",
            "underfitting",
        ),
    )


def _edits(subject: RunRecord) -> tuple[Edit, ...]:
    facts = subject.facts
    weighted = facts.class_weights is not None and len(set(facts.class_weights)) > 1
    if weighted or facts.sampler not in (None, "none"):
        return (Edit("checkpointing.monitor", "set", "macro_f1", "rare classes count alike there"),)
    return (
        Edit("class_weighting.strategy", "set", "sqrt", "rare classes are hardly ever found"),
        Edit("checkpointing.monitor", "set", "macro_f1", "rare classes count alike there"),
    )
