"""Scores of predictions, in numpy: the one place where a metric is computed.

Labels and predictions are class indices [N]. Every score is in [0, 1], higher is better; the loss
is in nats. All of them agree with scikit-learn, which the tests check.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from espalier.errors import DataError
from espalier.records import Predictions

Floats = npt.NDArray[np.float64]
SCORES = ("accuracy", "macro_f1", "balanced_accuracy")
# 97.5th percentile of the normal distribution.
Z = 1.959963984540054


@dataclass(frozen=True)
class ClassScore:
    """How well one class is recognised; a ratio without a denominator is 0.

    Attributes:
        name: Of the class.
        precision: Share of the images called so that are.
        recall: Share of the images that are so that are called so.
        f1: Harmonic mean of the two.
        support: Images whose true class it is.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int


def accuracy(labels: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Share of the images whose predicted class is the true one.

    Raises:
        DataError: No images, or lengths that differ.
    """
    true, guess = _indices(labels, predicted)
    return float((true == guess).mean())


def macro_f1(labels: npt.ArrayLike, predicted: npt.ArrayLike, classes: int) -> float:
    """Unweighted mean over classes of F1, the harmonic mean of precision and recall.

    The classes that count are those that occur among labels or predictions, as in scikit-learn's
    ``f1_score(average="macro", zero_division=0)``: a class that is only ever predicted counts
    with 0, one that does not occur at all is left out. It is the mean of the F1 scores, not the F1
    of mean precision and mean recall (Opitz and Burst 2019, arXiv:1911.03347).

    Args:
        labels: True class indices [N].
        predicted: Predicted class indices [N].
        classes: Length of the label mapping.

    Raises:
        DataError: No images, lengths that differ, or an index outside the label mapping.
    """
    return float(_counted(labels, predicted, classes)["macro_f1"])


def balanced_accuracy(labels: npt.ArrayLike, predicted: npt.ArrayLike, classes: int) -> float:
    """Unweighted mean of recall over the classes that have images.

    Source: Brodersen et al. 2010, "The balanced accuracy and its posterior distribution"; not
    adjusted for chance, as scikit-learn's ``balanced_accuracy_score``.

    Args:
        labels: True class indices [N].
        predicted: Predicted class indices [N].
        classes: Length of the label mapping.

    Raises:
        DataError: No images, lengths that differ, or an index outside the label mapping.
    """
    return float(_counted(labels, predicted, classes)["balanced_accuracy"])


def cross_entropy(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Mean negative log of the probability given to the true class, in nats; no smoothing.

    Computed from logits in float64 by log-sum-exp, so that a confident mistake costs its true
    price; scikit-learn's ``log_loss`` clips probabilities, and so the price. NaN where a logit is
    NaN or infinite.

    Args:
        logits: Raw outputs [N, K].
        labels: True class indices [N].

    Raises:
        DataError: No images, lengths that differ, or an index outside the label mapping.
    """
    raw = np.asarray(logits, dtype=np.float64)
    raw = raw.reshape(0, 1) if raw.size == 0 else raw
    true, _ = _indices(labels, raw.argmax(axis=1), raw.shape[1])
    # Logits that have become infinite give NaN, which is the answer and needs no warning.
    with np.errstate(invalid="ignore"):
        shifted = raw - raw.max(axis=1, keepdims=True)
        total = np.log(np.exp(shifted).sum(axis=1))
        return float((total - shifted[np.arange(len(true)), true]).mean())


def confusion(
    labels: npt.ArrayLike, predicted: npt.ArrayLike, classes: int
) -> npt.NDArray[np.int64]:
    """Counts [K, K] of images; row: true class, column: predicted class.

    Raises:
        DataError: No images, lengths that differ, or an index outside the label mapping.
    """
    true, guess = _indices(labels, predicted, classes)
    cells = np.bincount(true * classes + guess, minlength=classes * classes)
    return cells.reshape(classes, classes).astype(np.int64)


def per_class(predictions: Predictions) -> list[ClassScore]:
    """Precision, recall, F1 and support of each class of the mapping, over labelled images.

    Source: scikit-learn's ``precision_recall_fscore_support(zero_division=0)``.

    Raises:
        DataError: No image has a label.
    """
    true, guess = _labelled(predictions)
    hits, support, called = _margins(confusion(true, guess, len(predictions.classes)))
    precision, recall, f1 = (
        _share(hits, called),
        _share(hits, support),
        class_f1(hits, support, called),
    )
    return [
        ClassScore(name, float(p), float(r), float(f), int(n))
        for name, p, r, f, n in zip(
            predictions.classes, precision, recall, f1, support, strict=True
        )
    ]


def summary(predictions: Predictions) -> dict[str, float]:
    """``accuracy``, ``macro_f1``, ``balanced_accuracy`` and ``loss`` over labelled images.

    Raises:
        DataError: No image has a label.
    """
    true, guess = _labelled(predictions)
    scores = _counted(true, guess, len(predictions.classes))
    loss = cross_entropy(predictions.logits[predictions.labels >= 0], true)
    return {**{name: float(value) for name, value in scores.items()}, "loss": loss}


def class_f1(hits: Floats, support: Floats, called: Floats) -> Floats:
    """F1 of each class, 2 TP / (2 TP + FP + FN), any shape; 0 where a class does not occur."""
    return _share(2 * hits, support + called)


def scores_of_counts(hits: Floats, support: Floats, called: Floats) -> dict[str, Floats]:
    """The three scores from counts per class, over the last axis; many matrices at once.

    Args:
        hits: Images of the class that are called so [..., K].
        support: Images of the class [..., K].
        called: Images that are called so [..., K].
    """
    occurs, has_images = support + called > 0, support > 0
    return {
        "accuracy": hits.sum(axis=-1) / support.sum(axis=-1),
        "macro_f1": class_f1(hits, support, called).sum(axis=-1) / occurs.sum(axis=-1),
        "balanced_accuracy": _share(hits, support).sum(axis=-1) / has_images.sum(axis=-1),
    }


def _counted(labels: npt.ArrayLike, predicted: npt.ArrayLike, classes: int) -> dict[str, Floats]:
    return scores_of_counts(*_margins(confusion(labels, predicted, classes)))


def _margins(matrix: npt.NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
    counts = matrix.astype(np.float64)
    return counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)


def _share(part: Floats, whole: Floats) -> Floats:
    shares: Floats = np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)
    return shares


def _labelled(
    predictions: Predictions,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    known = predictions.labels >= 0
    return predictions.labels[known], predictions.logits[known].argmax(axis=1).astype(np.int64)


def _indices(
    labels: npt.ArrayLike, predicted: npt.ArrayLike, classes: int | None = None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    true, guess = np.asarray(labels, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    if true.shape != guess.shape or true.ndim != 1:
        raise DataError(
            f"labels {true.shape} and predictions {guess.shape} do not match; "
            "both must be class indices of shape (N,)"
        )
    if len(true) == 0:
        raise DataError(
            "there are no labelled images to score", hint="name a folder of class folders"
        )
    if classes is not None:
        wrong = [int(i) for i in np.unique([true, guess]) if not 0 <= i < classes]
        if wrong:
            raise DataError(
                f"class indices {wrong[:5]} are outside the label mapping; "
                f"allowed are 0 to {classes - 1}"
            )
    return true, guess


def wilson(share: float, images: float) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share measured on so many images (not always whole).

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    scale = 1 + Z * Z / images
    centre = (share + Z * Z / (2 * images)) / scale
    half = Z / scale * math.sqrt(share * (1 - share) / images + Z * Z / (4 * images * images))
    return max(0.0, centre - half), min(1.0, centre + half)
