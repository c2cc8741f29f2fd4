"""What a confusion matrix says: matched classes, recall, shares of predictions, and their noise.

Rows of a confusion matrix are true classes, columns are predicted ones, entries are images.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from espalier.run_record import RunRecord

Confusion = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Matching:
    """The renaming of classes under which most predictions are right.

    Attributes:
        plain: Accuracy as the classes are named.
        matched: Accuracy after the renaming.
        renamed: (true class, predicted class) of each class that it renames and that has images.
    """

    plain: float
    matched: float
    renamed: tuple[tuple[int, int], ...]

    @property
    def gain(self) -> float:
        """How much the renaming raises accuracy."""
        return self.matched - self.plain


@dataclass(frozen=True)
class Confused:
    """One entry off the diagonal.

    Attributes:
        true: Index of the true class.
        predicted: Index of the predicted one.
        share: Of the images of the true class.
        back: Share of the images of the predicted class that are called the true one.
        images: How many images the true class has.
        errors: Share of the true class's errors that go this way.
    """

    true: int
    predicted: int
    share: float
    back: float
    images: int
    errors: float


def match_classes(confusion: Confusion) -> Matching | None:
    """The best one-to-one renaming, by the Hungarian method; None without images.

    Source: Kuhn, "The Hungarian method for the assignment problem", 1955; scipy.
    """
    # A tenth of a second that a diagnosis without a confusion matrix need not wait.
    from scipy.optimize import linear_sum_assignment

    counts = np.asarray(confusion, dtype=np.int64)
    total = int(counts.sum()) if counts.size else 0
    if total == 0:
        return None
    # Of equal renamings the one that leaves most names alone: less than one image in all.
    stay = np.eye(len(counts)) / (2 * len(counts))
    rows, columns = linear_sum_assignment(counts + stay, maximize=True)
    filled = counts.sum(1)
    renamed = tuple(
        (int(row), int(column))
        for row, column in zip(rows, columns, strict=True)
        if row != column and filled[row]
    )
    return Matching(
        float(np.trace(counts)) / total, float(counts[rows, columns].sum()) / total, renamed
    )


def binomial_noise(share: float, images: float) -> float:
    """Standard error of a share seen in so many images; never 0, also not at 0 and 1."""
    if images <= 0:
        return 0.5
    spread = min(max(share, 0.5 / images), 1 - 0.5 / images)
    return math.sqrt(spread * (1 - spread) / images)


def confused_pairs(confusion: Confusion) -> list[Confused]:
    """All entries off the diagonal that hold images, the largest share of their class first."""
    rows = [sum(row) for row in confusion]
    pairs = [
        Confused(
            i,
            j,
            count / rows[i],
            confusion[j][i] / rows[j] if rows[j] else 0.0,
            rows[i],
            count / (rows[i] - row[i]),
        )
        for i, row in enumerate(confusion)
        for j, count in enumerate(row)
        if i != j and count > 0
    ]
    return sorted(pairs, key=lambda pair: (-pair.share, -pair.images, pair.true, pair.predicted))


def val_counts(record: RunRecord) -> tuple[int, ...] | None:
    """Validation images per class, by whatever says so."""
    if record.facts.val_counts is not None and any(record.facts.val_counts):
        return record.facts.val_counts
    if record.confusion is not None and _images(record.confusion):
        return tuple(sum(row) for row in record.confusion)
    return None


def shares(counts: Sequence[float]) -> list[float]:
    """Each count as a share of their sum; zeros where there is nothing."""
    total = sum(counts)
    return [count / total if total else 0.0 for count in counts]


def recalls(record: RunRecord) -> tuple[float, ...] | None:
    """Recall per class at the last validation that recorded it; NaN for a class without images."""
    if record.confusion is not None and _images(record.confusion):
        return tuple(
            row[i] / sum(row) if sum(row) else math.nan for i, row in enumerate(record.confusion)
        )
    return _last(epoch.recall for epoch in record.epochs)


def predicted_shares(record: RunRecord) -> tuple[float, ...] | None:
    """Share of the validation images that are called each class, at the last validation."""
    if record.confusion is not None and _images(record.confusion):
        return tuple(shares([sum(column) for column in zip(*record.confusion, strict=True)]))
    return _last(epoch.predicted for epoch in record.epochs)


def _images(confusion: Confusion) -> int:
    return sum(sum(row) for row in confusion)


def _last(rows: Iterable[tuple[float, ...] | None]) -> tuple[float, ...] | None:
    return next((row for row in reversed(list(rows)) if row), None)
