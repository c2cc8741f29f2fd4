"""The ways to weigh classes side by side: what each makes of the counts, and when to use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from espalier.data.balance import class_weights
from espalier.recipe.schema import ClassWeighting

_WHEN = {
    "none": "Below 10 : 1, and always as the run to compare with.",
    "inverse": "When every class must count the same and even the smallest has many images: "
    "the weights are as unequal as the classes.",
    "sqrt": "From 10 : 1 on: rare classes count more, and no image counts for hundreds.",
    "effective-number": "When large classes repeat themselves: close to inverse for classes far "
    "below 1 / (1 - beta) images (1,000 for beta 0.999), nearly equal weights above.",
}


@dataclass(frozen=True)
class Strategy:
    """One way to weigh classes in the loss.

    Attributes:
        name: Value of ``class_weighting.strategy``.
        weights: Class -> weight; the mean over the training images is 1; 0 without images.
        ratio: Largest over smallest weight, of the classes that have images.
        when: When to use it, as a sentence.
    """

    name: str
    weights: Mapping[str, float]
    ratio: float
    when: str


def advice(counts: Mapping[str, int]) -> tuple[Strategy, ...]:
    """All strategies of the recipe for these training images per class, ``none`` first.

    Weights are those that training would use with the recipe's ``beta`` and without a cap.

    Raises:
        DataError: No class has an image.
    """
    return tuple(_strategy(name, when, counts) for name, when in _WHEN.items())


def _strategy(name: str, when: str, counts: Mapping[str, int]) -> Strategy:
    beta = ClassWeighting().beta
    weights = class_weights(list(counts.values()), name, cap=None, beta=beta)
    present = weights[weights > 0]
    return Strategy(
        name,
        dict(zip(counts, weights.tolist(), strict=True)),
        float(present.max() / present.min()),
        when,
    )
