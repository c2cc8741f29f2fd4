"""Two classifiers on the same images: how much better one is, and whether that is more than noise.

Both saw the same photographs, so that what is hard for both cancels out: the interval of the
difference is much shorter than those of the two scores. Two kinds of noise are in it: another
choice of photographs, and another seed of the same recipe.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from espalier import metrics
from espalier.errors import DataError
from espalier.records import Predictions

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Verdict = Literal["better", "worse", "no difference"]

RESAMPLES = 2000
# Standard deviation of macro-F1 from seed to seed that is assumed until it is measured, and how
# many further runs that assumption is worth. Own runs on a thousand photographs: 0.01 to 0.02.
SEED_NOISE = 0.01
ASSUMED_RUNS = 4
# 97.5th percentiles of Student's t with ASSUMED_RUNS degrees of freedom, and with 1, 2 ... more.
_T = (2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
# Cells times resamples held in memory at once.
_CHUNK = 4_000_000


@dataclass(frozen=True)
class Paired:
    """A comparison of two classifiers on the same images.

    Attributes:
        images: How many.
        before: Macro-F1 of the first one.
        after: Macro-F1 of the second one; with repeats, the mean over its seeds.
        low: Of the 95 % interval of ``after - before``, over images and seeds.
        high: The other end.
        gained: Images that only the second one got right.
        lost: Images that only the first one got right.
        p: That as many images or more change sides by chance (McNemar's exact test).
        seed_noise: Standard deviation of macro-F1 from seed to seed.
        seeds: Runs of the second recipe that are in it; with 1 the noise of seeds is assumed.
    """

    images: int
    before: float
    after: float
    low: float
    high: float
    gained: int
    lost: int
    p: float
    seed_noise: float
    seeds: int = 1

    @property
    def difference(self) -> float:
        """Macro-F1 won; negative where it was lost."""
        return self.after - self.before

    @property
    def verdict(self) -> Verdict:
        """Whether the interval leaves out zero, and on which side."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "no difference"

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "images": self.images,
            "before": round(self.before, 6),
            "after": round(self.after, 6),
            "difference": round(self.difference, 6),
            "interval": [round(self.low, 6), round(self.high, 6)],
            "gained": self.gained,
            "lost": self.lost,
            "p": round(self.p, 6),
            "seed_noise": round(self.seed_noise, 6),
            "seeds": self.seeds,
            "verdict": self.verdict,
        }


def compare_paired(
    before: Predictions,
    after: Predictions,
    repeats: Sequence[Predictions] = (),
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Paired:
    """Compare two classifiers by macro-F1 on the labelled images that both judged.

    The variance over images is that of the difference over bootstrap resamples of images (Efron
    1979), never less than that of the difference in accuracy with half an image added to each
    of the four cells (Agresti and Min 2005, "Simple improved confidence intervals for comparing
    matched proportions"): a resample knows no change that did not happen. The variance over seeds
    is that of the runs of the second recipe, pooled with an assumed one, and holds for the first
    recipe as well.

    Args:
        before: Of the first one.
        after: Of the second one.
        repeats: Of the second recipe, trained with other seeds.
        resamples: How often images are drawn.
        seed: The same seed gives the same interval.

    Raises:
        DataError: They share no labelled image, or not their classes.
    """
    labels, called = _aligned([before, after, *repeats])
    classes = len(before.classes)
    scores = [metrics.macro_f1(labels, row, classes) for row in called]
    gained = int(((called[1] == labels) & (called[0] != labels)).sum())
    lost = int(((called[0] == labels) & (called[1] != labels)).sum())
    over_images = max(
        _bootstrapped(labels, called, classes, resamples, seed), _least(gained, lost, len(labels))
    )
    noise, t = seed_noise(scores[1:])
    over_seeds = noise * math.sqrt(1 + 1 / len(scores[1:]))
    half = math.hypot(metrics.Z * over_images, t * over_seeds)
    mean = float(np.mean(scores[1:]))
    difference = mean - scores[0]
    return Paired(
        images=len(labels),
        before=scores[0],
        after=mean,
        low=difference - half,
        high=difference + half,
        gained=gained,
        lost=lost,
        p=mcnemar(gained, lost),
        seed_noise=noise,
        seeds=len(scores[1:]),
    )


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided p of McNemar's exact test: images that changed sides fall either way alike.

    Source: McNemar 1947; the exact form is a sign test (binomial with one half).
    """
    changed, fewer = gained + lost, min(gained, lost)
    if gained == lost:
        return 1.0
    # Whole numbers: a power of two of some thousand has no float.
    term = tail = 1
    for taken in range(fewer):
        term = term * (changed - taken) // (taken + 1)
        tail += term
    return min(1.0, float(tail / 2 ** (changed - 1)))


def seed_noise(scores: Sequence[float]) -> tuple[float, float]:
    """Standard deviation of a score from seed to seed, and Student's t for its 95 % interval.

    Args:
        scores: Of runs that differ in their seed alone; with one, what is assumed holds.
    """
    further = len(scores) - 1
    squares = float(np.square(np.asarray(scores) - np.mean(scores)).sum())
    pooled = (ASSUMED_RUNS * SEED_NOISE**2 + squares) / (ASSUMED_RUNS + further)
    return math.sqrt(pooled), _T[min(further, len(_T) - 1)]


def _aligned(predictions: Sequence[Predictions]) -> tuple[Ints, Ints]:
    """Labels [N] and called classes [M, N] of the images that all have, in the first's classes."""
    classes = predictions[0].classes
    for other in predictions[1:]:
        if set(other.classes) != set(classes):
            odd = sorted(set(other.classes) ^ set(classes))
            raise DataError(f"only classifiers of the same classes compare; not in both: {odd[:5]}")
    tables = [_table(each, {name: i for i, name in enumerate(classes)}) for each in predictions]
    shared = [
        image
        for image, (label, _) in tables[0].items()
        if all(table.get(image, (None, 0))[0] == label for table in tables)
    ]
    if not shared:
        raise DataError(
            "the two share no labelled image, so that nothing can be compared",
            hint="espalier train PHOTOS --split-from RUN judges on the images of that run",
        )
    labels = np.array([tables[0][image][0] for image in shared], dtype=np.int64)
    called = np.array([[table[i][1] for i in shared] for table in tables], dtype=np.int64)
    return labels, called


def _table(predictions: Predictions, index: dict[str, int]) -> dict[str, tuple[int, int]]:
    """``sample_id`` -> label and called class, in the classes of ``index``; labelled images."""
    own = np.array([index[name] for name in predictions.classes], dtype=np.int64)
    known = np.flatnonzero(predictions.labels >= 0)
    labels = own[predictions.labels[known]].tolist()
    called = own[predictions.predicted[known]].tolist()
    ids = [predictions.sample_ids[i] for i in known]
    return dict(zip(ids, zip(labels, called, strict=True), strict=True))


def _bootstrapped(labels: Ints, called: Ints, classes: int, resamples: int, seed: int) -> float:
    """Standard deviation of the difference in macro-F1 over resamples of the images."""
    cells, counts = np.unique(np.vstack([labels, called]), axis=1, return_counts=True)
    rng, step = np.random.default_rng(seed), max(1, _CHUNK // cells.shape[1])
    drawn: list[Floats] = []
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        weights = rng.multinomial(len(labels), counts / len(labels), size=rows).astype(np.float64)
        scores = [_macro_f1(weights, cells[0], row, classes) for row in cells[1:]]
        drawn.append(np.mean(scores[1:], axis=0) - scores[0])
    return float(np.concatenate(drawn).std(ddof=1))


def _macro_f1(weights: Floats, labels: Ints, called: Ints, classes: int) -> Floats:
    """Macro-F1 [R] of resamples given as how often each cell was drawn [R, C]."""
    right = (labels == called).astype(np.float64)
    return metrics.scores_of_counts(
        _per_class(weights * right, labels, classes),
        _per_class(weights, labels, classes),
        _per_class(weights, called, classes),
    )["macro_f1"]


def _per_class(weights: Floats, index: Ints, classes: int) -> Floats:
    """Sums [R, K] of the columns [R, C] of each class."""
    order = np.argsort(index, kind="stable")
    firsts = np.flatnonzero(np.diff(index[order], prepend=-1))
    sums = np.zeros((len(weights), classes))
    sums[:, index[order][firsts]] = np.add.reduceat(weights[:, order], firsts, axis=1)
    return sums


def _least(gained: int, lost: int, images: int) -> float:
    """Standard error of a difference in accuracy, with half an image added to each cell."""
    up, down, total = gained + 0.5, lost + 0.5, images + 2
    return math.sqrt(up + down - (up - down) ** 2 / total) / total
