"""How rare classes are helped: weights of the loss, and how often an epoch draws each image."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from espalier.errors import DataError, RecipeError
from espalier.files import write_whole

Weights = npt.NDArray[np.float64]
_COLUMNS = ("class", "images", "weight")
# An epoch's order must not repeat the numbers that other parts draw from the same seed.
_ORDER_STREAM = 0x0E9A


def class_weights(
    counts: Sequence[int], strategy: str, *, cap: float | None, beta: float
) -> Weights:
    """Weight of each class in the loss; the mean over all training images is 1.

    ``inverse`` is N / (K n_c), ``sqrt`` is sqrt(n_max / n_c), ``effective-number`` is
    (1 - beta) / (1 - beta^n_c) of Cui et al. 2019 (arXiv:1901.05555), ``none`` is 1. K counts the
    classes that have images; a class without any gets weight 0 and takes part in nothing.

    Args:
        counts: Training images per class [K].
        strategy: ``none``, ``inverse``, ``sqrt`` or ``effective-number``.
        cap: Largest ratio between two weights; those of rare classes are cut to it. None: off.
        beta: Of ``effective-number``, in (0, 1).

    Raises:
        DataError: No class has an image.
        RecipeError: Unknown strategy.
    """
    images = np.asarray(counts, dtype=np.float64)
    present = images > 0
    if not present.any():
        raise DataError("no class has a training image", hint="check the split of the data")
    weights = np.zeros_like(images)
    weights[present] = _raw_weights(images[present], strategy, beta)
    if cap is not None:
        weights = np.minimum(weights, weights[present].min() * cap)
    mean: float = float((weights * images).sum() / images.sum())
    return weights / mean


def epoch_order(
    labels: npt.ArrayLike, sampler: str, *, seed: int, epoch: int
) -> npt.NDArray[np.int64]:
    """Positions [N] of the images that one epoch sees, in order; the same for the same arguments.

    ``none`` is a permutation. ``balanced`` and ``sqrt`` draw N with replacement, so that a class
    of n_c images is drawn in proportion to 1 and to sqrt(n_c).

    Raises:
        RecipeError: Unknown sampler.
    """
    classes = np.asarray(labels, dtype=np.int64)
    generator = np.random.default_rng([_ORDER_STREAM, seed, epoch])
    if sampler == "none":
        return generator.permutation(len(classes)).astype(np.int64)
    share = np.bincount(classes)[classes].astype(np.float64) ** (_exponent(sampler) - 1.0)
    drawn = generator.choice(len(classes), size=len(classes), p=share / share.sum())
    return drawn.astype(np.int64)


def drawn_counts(counts: Sequence[int], sampler: str) -> list[float]:
    """Images of each class that an epoch is expected to draw; they sum to those there are.

    Raises:
        RecipeError: Unknown sampler.
    """
    images = np.asarray(counts, dtype=np.float64)
    share = np.where(images > 0, images ** _exponent(sampler), 0.0)
    drawn: list[float] = (images.sum() * share / share.sum()).tolist()
    return drawn


def _exponent(sampler: str) -> float:
    """A class of n images is drawn in proportion to n to this power."""
    exponents = {"none": 1.0, "sqrt": 0.5, "balanced": 0.0}
    if sampler not in exponents:
        raise RecipeError(f"sampler `{sampler}` is unknown", hint="none, balanced or sqrt")
    return exponents[sampler]


def write_class_weights(
    path: Path, classes: Sequence[str], counts: Sequence[int], weights: Weights
) -> None:
    """Write ``class,images,weight``, one row per class, with every digit of the weight."""

    def write(partial: Path) -> None:
        with partial.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(_COLUMNS)
            for name, count, weight in zip(classes, counts, weights.tolist(), strict=True):
                table.writerow((name, count, repr(weight)))

    write_whole(path, write)


def read_class_weights(path: Path) -> tuple[tuple[str, ...], tuple[int, ...], Weights]:
    """Class names, training images and weights, exactly as they were written.

    Raises:
        DataError: The file is missing or not of this form.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [
                (r["class"], int(r["images"]), float(r["weight"])) for r in csv.DictReader(file)
            ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is no table of class weights: {error!r}",
            hint=f"its columns are {','.join(_COLUMNS)}",
        ) from error
    weights = np.array([row[2] for row in rows], dtype=np.float64)
    return tuple(row[0] for row in rows), tuple(row[1] for row in rows), weights


def _raw_weights(images: Weights, strategy: str, beta: float) -> Weights:
    if strategy == "none":
        return np.ones_like(images)
    if strategy == "inverse":
        inverse: Weights = images.sum() / (len(images) * images)
        return inverse
    if strategy == "sqrt":
        root: Weights = np.sqrt(images.max() / images)
        return root
    if strategy == "effective-number":
        # expm1 keeps the digits of 1 - beta^n where beta is close to 1.
        effective: Weights = (1.0 - beta) / -np.expm1(images * math.log(beta))
        return effective
    raise RecipeError(
        f"class_weighting.strategy `{strategy}` is unknown",
        hint="none, inverse, sqrt or effective-number",
    )
