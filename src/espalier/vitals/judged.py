"""What a validation says: scores, per class, and the confusion matrix."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from espalier import metrics
from espalier.errors import RunError
from espalier.vitals.folder import MOST_CLASSES
from espalier.vitals.network import sums_to_one

Counts = npt.NDArray[np.int64]
GIVEN = ("loss", "accuracy", "macro_f1")


@dataclass(frozen=True)
class Judged:
    """Scores of one pass over images; NaN and None where they are not known.

    Attributes:
        confusion: Rows are true classes [K, K].
        recall: Per class; NaN for a class without images.
        predicted: Per class, the share of all images that are called so.
        sums_to_one: Whether the outputs are probabilities; None where they were not given.
    """

    loss: float = math.nan
    accuracy: float = math.nan
    macro_f1: float = math.nan
    confusion: Counts | None = None
    recall: tuple[float, ...] | None = None
    predicted: tuple[float, ...] | None = None
    sums_to_one: bool | None = None


def confusion_counts(labels: npt.ArrayLike, predicted: npt.ArrayLike, classes: int) -> Counts:
    """How often each true class [K] is called each class [K]."""
    places = np.asarray(labels, dtype=np.int64) * classes + np.asarray(predicted, dtype=np.int64)
    return np.bincount(places, minlength=classes * classes).reshape(classes, classes)


def per_class(confusion: Counts) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Recall, and share of all images called so, of each class."""
    images = confusion.sum(axis=1)
    recall = np.where(images > 0, confusion.diagonal() / np.maximum(images, 1), math.nan)
    predicted = confusion.sum(axis=0) / max(1, int(confusion.sum()))
    return tuple(recall.tolist()), tuple(predicted.tolist())


def judged_from(given: Any, classes: int | None, what: str) -> Judged:
    """Scores of what a loop gives after an epoch.

    Args:
        given: None, a mapping of scores, or ``(labels, outputs)``: class indices [N], and logits
            [N, K] or predicted classes [N].
        classes: How many there are; None: as many as occur.
        what: ``train`` or ``val``, for messages.

    Raises:
        RunError: It is none of these, or labels and outputs do not fit each other.
    """
    if given is None:
        return Judged()
    if isinstance(given, Mapping):
        return _from_scores(given, what)
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise _refused(what, f"a {type(given).__name__}")
    labels, outputs = as_array(given[0]).astype(np.int64).reshape(-1), as_array(given[1])
    if len(labels) != len(outputs) or outputs.ndim not in (1, 2) or not len(labels):
        raise _refused(what, f"{len(labels)} labels with outputs of shape {outputs.shape}")
    return _from_outputs(labels, outputs, classes)


def _from_outputs(labels: Counts, outputs: npt.NDArray[Any], classes: int | None) -> Judged:
    plain = outputs.ndim == 1
    predicted = (outputs if plain else outputs.argmax(axis=1)).astype(np.int64)
    number = max(int(labels.max()), int(predicted.max())) + 1
    number = max(number, classes or 0, 0 if plain else outputs.shape[1])
    confusion = recall = shares = None
    if number <= MOST_CLASSES:
        confusion = confusion_counts(labels, predicted, number)
        recall, shares = per_class(confusion)
    fits = not plain and int(labels.max()) < outputs.shape[1]
    return Judged(
        loss=metrics.cross_entropy(outputs, labels) if fits else math.nan,
        accuracy=metrics.accuracy(labels, predicted),
        macro_f1=metrics.macro_f1(labels, predicted, number),
        confusion=confusion,
        recall=recall,
        predicted=shares,
        sums_to_one=None if plain else sums_to_one(torch.from_numpy(outputs)),
    )


def as_array(values: Any) -> npt.NDArray[Any]:
    """A tensor on any device, or anything like an array, as numpy."""
    return np.asarray(values.detach().float().cpu() if hasattr(values, "detach") else values)


def _from_scores(given: Mapping[str, Any], what: str) -> Judged:
    unknown = sorted(set(given) - set(GIVEN))
    if unknown:
        raise RunError(
            f"{what}: {unknown[0]!r} is no score; allowed: {', '.join(GIVEN)}",
            hint=f'vitals.epoch({what}={{"loss": 0.7, "accuracy": 0.8}})',
        )
    loss, accuracy, macro_f1 = (float(given.get(name, math.nan)) for name in GIVEN)
    return Judged(loss, accuracy, macro_f1)


def _refused(what: str, found: str) -> RunError:
    return RunError(
        f"{what} is {found}; allowed: (labels, logits), (labels, predicted classes) with one row "
        "per image, or a dictionary of scores",
        hint=f"vitals.epoch({what}=(labels, logits))",
    )
