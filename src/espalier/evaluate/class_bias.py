"""A free bias per class, fitted to raise macro-F1."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from espalier import metrics

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

# A class bias is tried at so many steps on either side of 0, closer to each other near it.
STEPS = 12
SWEEPS = 3
# In the middle one of the margins between the two largest logits.
WIDEST = 1.5
# Images of a class at which its bias is shrunk by half.
HALF_TRUST = 10.0


def ascend(logits: Floats, labels: Labels) -> Floats:
    """Bias [K] that raises macro-F1 of these images: coordinate ascent over a grid, then shrunk.

    Classes are visited from the rarest to the most frequent; each takes the value of the grid with
    the best macro-F1, of equals the one nearest to 0. A class without images keeps 0.

    Args:
        logits: [N, K].
        labels: Class indices [N], at least one image.
    """
    support = np.bincount(labels, minlength=logits.shape[1])
    order = [k for k in np.argsort(support, kind="stable").tolist() if support[k]]
    grid, bias = _grid(logits), np.zeros(logits.shape[1])
    current = logits.copy()
    for _ in range(SWEEPS):
        before = bias.copy()
        for k in order:
            bias[k] = grid[_best_step(current, labels, support, k, logits[:, k], grid)]
            current[:, k] = logits[:, k] + bias[k]
        if np.array_equal(bias, before):
            break
    shrunk: Floats = bias * support / (support + HALF_TRUST)
    return shrunk


def _grid(logits: Floats) -> Floats:
    """Values of a bias, 0 in the middle, out to ``WIDEST`` margins."""
    largest = np.partition(logits, -2, axis=1)[:, -2:]
    unit = float(np.median(largest[:, 1] - largest[:, 0])) or 1.0
    steps = np.arange(-STEPS, STEPS + 1) / STEPS
    grid: Floats = WIDEST * unit * np.sign(steps) * steps**2
    return grid


def _best_step(
    current: Floats, labels: Labels, support: Labels, k: int, own: Floats, grid: Floats
) -> int:
    """Which bias of class k gives the best macro-F1; of equals the one nearest to 0.

    Args:
        current: Logits with the biases of all classes [N, K]; column k is overwritten.
        labels: Class indices [N].
        support: Images per class [K].
        k: The class.
        own: Its logits without a bias [N].
        grid: Biases to try [G], rising, 0 in the middle.
    """
    current[:, k] = -np.inf
    rival = current.argmax(axis=1)
    # An image goes from its rival to k at the first bias that exceeds what k is behind by.
    goes = np.searchsorted(grid, current[np.arange(len(labels)), rival] - own, side="right")
    called = _per_bias(goes, rival, np.full(len(labels), k), (len(grid), len(support)))
    right = np.where(labels == rival, rival, -1), np.where(labels == k, k, -1)
    hits = _per_bias(goes, *right, (len(grid), len(support)))
    occurs = np.count_nonzero(support + called, axis=1)
    scores = metrics.class_f1(hits, support.astype(np.float64), called).sum(axis=1) / occurs
    best = np.flatnonzero(scores >= scores.max() - 1e-12)
    return int(best[np.abs(best - len(grid) // 2).argmin()])


def _per_bias(goes: Labels, before: Labels, after: Labels, shape: tuple[int, int]) -> Floats:
    """Images per bias and class [G, K], each in class ``before`` until it goes, then ``after``.

    A class of -1 counts nowhere.
    """
    grid, classes = shape
    start = np.bincount(before[before >= 0], minlength=classes)
    left = goes * classes + before
    come = goes * classes + after
    change = np.bincount(come[after >= 0], minlength=(grid + 1) * classes)
    change -= np.bincount(left[before >= 0], minlength=(grid + 1) * classes)
    counts: Floats = change.reshape(grid + 1, classes)[:-1].cumsum(axis=0) + start.astype(float)
    return counts
