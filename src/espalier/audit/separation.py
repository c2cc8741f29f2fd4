"""How well two sets of images can be told apart: the area under the ROC curve, and its interval."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from espalier.metrics import Z

Floats = npt.NDArray[np.float64]


def auc(ahead: Floats, behind: Floats) -> float:
    """Share of pairs, one of each, in which ``ahead`` has the higher score; ties count half.

    0.5: cannot be told apart; 1: always. The Mann-Whitney statistic.

    Args:
        ahead: Scores [A], at least one.
        behind: Scores [B], at least one.
    """
    ranks = average_ranks(np.concatenate([ahead, behind]))
    above = float(ranks[: len(ahead)].sum()) - len(ahead) * (len(ahead) + 1) / 2
    return above / (len(ahead) * len(behind))


def average_ranks(values: Floats) -> Floats:
    """Ranks [N] from 1 on; equal values share the mean of theirs.

    As scipy's ``rankdata``, whose import takes a second of every training run.
    """
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2)[places]
    return ranks


def auc_interval(value: float, ahead: int, behind: int) -> tuple[float, float]:
    """95 % interval of an AUC measured on so many images of either side; never of zero width.

    Source: Hanley and McNeil 1982, "The meaning and use of the area under a ROC curve".
    """
    pairs = ahead * behind
    area = (value * pairs + 0.5) / (pairs + 1)
    first, second = area / (2 - area), 2 * area**2 / (1 + area)
    spread = (ahead - 1) * (first - area**2) + (behind - 1) * (second - area**2)
    half = Z * math.sqrt((area * (1 - area) + spread) / pairs)
    return max(0.0, min(value, area - half)), min(1.0, max(value, area + half))


def separability(logits: Floats, labels: npt.NDArray[np.int64], first: int, second: int) -> float:
    """AUC of the difference of two outputs on the images of their classes.

    Args:
        logits: Outputs [N, K], or their logarithms up to a constant per image.
        labels: Class indices [N]; 1 is returned where a class has no image.
        first: A class.
        second: Another class.
    """
    ahead, behind = labels == first, labels == second
    if not ahead.any() or not behind.any():
        return 1.0
    lead = logits[:, first] - logits[:, second]
    return auc(lead[ahead], lead[behind])
