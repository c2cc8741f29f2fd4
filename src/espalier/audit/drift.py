"""Whether two parts of a data set look different, beyond having other shares of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from espalier.audit.separation import auc, auc_interval

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
FOLDS = 5
# Images of either part that are looked at: 5,000 x 1,280 features take a second.
LARGEST = 2_500
# Of the mean variance of a feature, as in the instant baseline.
SHRINKAGE = 0.3


@dataclass(frozen=True)
class Drift:
    """How well a linear classifier tells images of two parts apart, class by class.

    Attributes:
        auc: Share of pairs, one of each part and both of one class, that are ranked rightly by a
            classifier that has seen neither: 0.5 where the parts look the same, 1 at most.
        interval: 95 %.
        images: Images of either part that could be compared.
        rows: Positions of the compared images of the second part, the most unlike first.
        scores: Beside ``rows``: how unlike the first part, in within-class standard deviations.
    """

    auc: float
    interval: tuple[float, float]
    images: tuple[int, int]
    rows: npt.NDArray[np.intp]
    scores: Floats


def measure_drift(
    features: npt.NDArray[np.float32],
    labels: Labels,
    other: npt.NDArray[np.bool_],
    groups: Sequence[str],
) -> Drift | None:
    """Tell two parts apart by a linear discriminant; None where no class is in both often enough.

    Images are only compared within their class, so that other shares of the classes are no drift.
    Cross-validated; images of one group are never on both sides.

    Args:
        features: [N, F].
        labels: Class indices [N].
        other: Which images are of the second part [N].
        groups: Group of each image [N]; its own name where it is free.
    """
    rows = _drawn(labels, other)
    if not len(rows):
        return None
    cells = np.unique(labels[rows], return_inverse=True)[1] * 2 + other[rows]
    folds = _folds([groups[row] for row in rows.tolist()])
    scores = _judged(features[rows], cells, folds)
    return _verdict(rows, cells, scores)


def _drawn(labels: Labels, other: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Positions of images of classes that both parts have for every fold; some of them, if many."""
    rng = np.random.default_rng(0)
    sides = []
    classes = int(labels.max(initial=-1)) + 1
    counts = [np.bincount(labels[other == side], minlength=classes) for side in (False, True)]
    shared = np.minimum(*counts) >= FOLDS
    for side in (False, True):
        rows = np.flatnonzero(shared[labels] & (other == side))
        sides.append(rng.permutation(rows)[:LARGEST])
    return np.sort(np.concatenate(sides))


def _folds(groups: Sequence[str]) -> Labels:
    index = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    turns = np.random.default_rng(0).permutation(len(index)) % FOLDS
    return turns[[index[group] for group in groups]]


def _judged(features: npt.NDArray[np.float32], cells: Labels, folds: Labels) -> Floats:
    """Score of each image [N] by a discriminant that has not seen it; NaN where it cannot know."""
    inputs = features - features.mean(axis=0)
    inputs /= float(np.sqrt(np.square(inputs).mean())) or 1.0
    count = int(cells.max()) // 2 * 2 + 2
    total = _moments(inputs, cells, count)
    scores = np.full(len(inputs), np.nan)
    for fold in range(FOLDS):
        held = folds == fold
        part = _moments(inputs[held], cells[held], count)
        kept = [whole - less for whole, less in zip(total, part, strict=True)]
        direction, middles = _discriminant(*kept)
        scores[held] = (inputs[held] - middles[cells[held] // 2]) @ direction
    return scores


def _moments(inputs: npt.NDArray[np.float32], cells: Labels, count: int) -> tuple[Floats, ...]:
    """Sum of x x' [F, F], sums [cells, F] and images [cells]; a cell is one class of one part."""
    # Listing the rules need not wait for it.
    from scipy.sparse import csr_array

    places = np.arange(len(cells))
    member = csr_array((np.ones(len(cells)), (cells, places)), shape=(count, len(cells)))
    sums: Floats = member @ inputs.astype(np.float64)
    images = np.bincount(cells, minlength=count).astype(np.float64)
    return (inputs.T @ inputs).astype(np.float64), sums, images


def _discriminant(gram: Floats, sums: Floats, images: Floats) -> tuple[Floats, Floats]:
    """Direction [F] in which the parts differ most, and the middle of each class [K, F].

    The direction is NaN where no class has images of both parts left: all those of one part are of
    one group, and that one is held out.
    """
    known = images > 0
    means = np.divide(sums, images[:, None], out=np.full_like(sums, np.nan), where=known[:, None])
    middles = (means[0::2] + means[1::2]) / 2
    both = known[0::2] & known[1::2]
    if not both.any():
        return np.full(sums.shape[1], np.nan), middles
    first, second = images[0::2][both], images[1::2][both]
    # Weights of Cochran, Mantel and Haenszel: what a class says of the difference of its parts.
    weights = first * second / (first + second)
    gap = weights @ (means[1::2] - means[0::2])[both] / weights.sum()
    within = gram - means[known].T @ sums[known]
    within /= images.sum()
    within[np.diag_indices_from(within)] += SHRINKAGE
    from scipy.linalg import solve

    direction: Floats = solve(within, gap, assume_a="pos")
    spread = float(np.sqrt(direction @ within @ direction)) or 1.0
    return direction / spread, middles


def _verdict(rows: npt.NDArray[np.intp], cells: Labels, scores: Floats) -> Drift | None:
    right, pairs, used = 0.0, 0, np.zeros(2, dtype=np.int64)
    known = ~np.isnan(scores)
    for cell in range(0, int(cells.max()) + 1, 2):
        first, second = scores[known & (cells == cell)], scores[known & (cells == cell + 1)]
        if len(first) and len(second):
            right += auc(second, first) * len(first) * len(second)
            pairs += len(first) * len(second)
            used += len(first), len(second)
    if not pairs:
        return None
    ours = np.flatnonzero(known & (cells % 2 == 1))
    order = ours[np.argsort(-scores[ours])]
    area = right / pairs
    images = int(used[0]), int(used[1])
    return Drift(area, auc_interval(area, *images), images, rows[order], scores[order])
