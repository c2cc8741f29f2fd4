"""Classes that a linear head on frozen features finds far less often than the others.

What it looks at: recall and F1 of each class, every image judged by a head that has not seen it.
Why it matters: these classes will hold macro-F1 down; more images of them help the most.
When it is wrong: the head is a first guess; fine-tuning often repairs classes of fine detail.
What to do: gather images where the counts are small; check labels and twins where they are not.
Source: the instant baseline (linear discriminant analysis, cross-validated); Wilson 1927.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from espalier import metrics
from espalier.audited import Audited
from espalier.findings import Case, Evidence, Finding, listed, percent
from espalier.metrics import wilson
from espalier.rules import CannotJudge, threshold

CODE = "AUD032"


@dataclass(frozen=True)
class Thresholds:
    """What it compares with."""

    gap: float = threshold(0.15, "recall", "below the median class, at least")
    images: float = threshold(10, "judged images", "of a class, to say something of it")


@dataclass(frozen=True)
class Difficulty:
    """How hard one class is.

    Attributes:
        name: Of the class.
        recall: Share of its images that the head finds.
        high: Upper bound of it, 95 %.
        f1: Of the class.
        found: Images found.
        images: Images judged.
        taken_for: The class that most of the others are taken for, and how many.
    """

    name: str
    recall: float
    high: float
    f1: float
    found: int
    images: int
    taken_for: tuple[str, int]


def check(subject: Audited, thresholds: Thresholds) -> Finding | None:
    """A finding where a class is surely found less often than the median class."""
    embedded, probabilities = subject.require_probabilities()
    labels = embedded.labels[embedded.judged]
    guess = probabilities[embedded.judged].argmax(axis=1)
    table = metrics.confusion(labels, guess, probabilities.shape[1]) if len(labels) else None
    known = [] if table is None else np.flatnonzero(table.sum(axis=1) >= thresholds.images).tolist()
    if table is None or len(known) < 3:
        raise CannotJudge(
            f"{len(known)} classes have {thresholds.images:.0f} judged images; 3 are needed to "
            "say what is usual"
        )
    classes = [_difficulty(table, k, subject.catalog.classes) for k in known]
    median = float(np.median([c.recall for c in classes]))
    hard = [c for c in classes if c.recall <= median - thresholds.gap and c.high < median]
    if not hard:
        return None
    hard.sort(key=lambda c: c.recall)
    return Finding(
        rule="hard_classes",
        code=CODE,
        severity="info",
        cause=f"{listed([c.name for c in hard])}: a linear head finds only "
        f"{percent(hard[0].recall)} of {hard[0].name}, and {percent(median)} of the median class",
        evidence=tuple(
            Evidence("recall", c.recall, median - thresholds.gap, "", c.name) for c in hard
        ),
        confidence=0.8,
        advice=(
            f"More images of {hard[0].name} help more than more of classes found already.",
            "Look at the images that it is mistaken for: a wrong label, or a class alike?",
        ),
        cases=tuple(_case(c, median) for c in hard),
    )


def _difficulty(
    table: np.ndarray[tuple[int, int], np.dtype[np.int64]], k: int, classes: tuple[str, ...]
) -> Difficulty:
    images, found, called = int(table[k].sum()), int(table[k, k]), int(table[:, k].sum())
    missed = table[k].copy()
    missed[k] = 0
    other = int(missed.argmax())
    return Difficulty(
        name=classes[k],
        recall=found / images,
        high=wilson(found / images, images)[1],
        f1=2 * found / (images + called),
        found=found,
        images=images,
        taken_for=(classes[other], int(missed[other])),
    )


def _case(hard: Difficulty, median: float) -> Case:
    other, count = hard.taken_for
    text = (
        f"{hard.found:,} of {hard.images:,} images found ({percent(hard.recall)}), F1 "
        f"{hard.f1:.2f}; {count:,} taken for {other}"
    )
    return Case((), text, median - hard.recall, label=hard.name)
