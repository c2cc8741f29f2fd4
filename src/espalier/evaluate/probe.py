"""The instant baseline: what a linear head alone reaches on features of the frozen backbone.

The head is linear discriminant analysis with a shrunk covariance (Friedman 1989, "Regularized
discriminant analysis"), because every fold's head comes from sums that are made once. On features
of MobileNetV2 of two sets of photographs and a long tail it was as good as the best of five
logistic regressions or better, and better than ridge regression. Choosing its shrinkage within
the folds, it took less time than the five regressions without a choice (docs/experiments.md).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from espalier import metrics
from espalier.errors import DataError
from espalier.evaluate.evaluation import RESAMPLES
from espalier.evaluate.folds import independent_units, stratified_folds
from espalier.evaluate.intervals import bootstrap
from espalier.records import Predictions, Score

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
# Of the mean variance of a feature. The best were 0.1 to 1 on three sets of photographs.
SHRINKAGES = (0.03, 0.1, 0.3, 1.0, 3.0)
# Where too few images are there to choose: good everywhere.
USUAL_SHRINKAGE = 0.3
SCORES = ("macro_f1", "accuracy")


@dataclass(frozen=True)
class Probe:
    """How well a linear head alone does, each image judged by a head that has not seen it.

    Attributes:
        classes: The label mapping.
        images: How many images were judged.
        folds: How many parts took turns in being held out.
        scores: macro_f1 and accuracy, each with its 95 % interval.
        per_class: One entry per class of the mapping, in its order.
        logits: Out-of-fold outputs [N, K], of the images that were not judged too; -inf for a
            class that the fold's head had no image of.
        judged: Which images were judged [N]: all but those of classes with one image or group.
        shrinkage: Chosen regularisation: the middle one of the folds' choices.
        fold_shrinkages: The choice of each fold, made without looking at its images.
        seconds: Wall time.
        notes: What a person should know of it.
    """

    classes: tuple[str, ...]
    images: int
    folds: int
    scores: Mapping[str, Score]
    per_class: tuple[metrics.ClassScore, ...]
    logits: npt.NDArray[np.float32]
    judged: npt.NDArray[np.bool_]
    shrinkage: float
    fold_shrinkages: tuple[float, ...]
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def predicted(self) -> Labels:
        """Out-of-fold class indices [N]."""
        chosen: Labels = self.logits.argmax(axis=1).astype(np.int64)
        return chosen

    def __str__(self) -> str:
        score = self.scores["macro_f1"]
        half = ((score.high or 0.0) - (score.low or 0.0)) / 2
        return (
            f"a linear head alone gives macro-F1 {score.value:.2f} +- {half:.2f} "
            f"({self.folds}-fold on {self.images:,} training images); fine-tuning must beat that"
        )

    def to_json(self) -> dict[str, Any]:
        """Everything but the predictions, as plain numbers; classes worst first."""
        record: dict[str, Any] = {"images": self.images, "folds": self.folds}
        for name, score in self.scores.items():
            record[name] = round(score.value, 6)
            record[f"{name}_interval"] = [round(score.low or 0.0, 6), round(score.high or 0.0, 6)]
        worst = sorted(self.per_class, key=lambda c: (c.support == 0, c.f1))
        record["per_class"] = [
            {"class": c.name, "f1": round(c.f1, 6), "support": c.support} for c in worst
        ]
        record["shrinkage"] = self.shrinkage
        record["fold_shrinkages"] = list(self.fold_shrinkages)
        record["seconds"] = round(self.seconds, 3)
        record["notes"] = list(self.notes)
        return record


def linear_probe(
    features: Features,
    labels: Labels,
    classes: Sequence[str],
    *,
    folds: int = 5,
    seed: int = 0,
    groups: Sequence[str | None] | None = None,
) -> Probe:
    """Cross-validated scores of a linear head on kept features.

    The shrinkage of each fold's head is the one with the best macro-F1 in cross-validation within
    the other folds, so that no judged image had a say in the head that judges it. A class with one
    image (or group) trains but is not judged: nothing can be said about it.

    Bias: the heads train on (folds - 1) / folds of the images, so a head on all is a little better.

    Args:
        features: Pooled features of one view per image [N, F], float32.
        labels: Class indices [N].
        classes: The label mapping.
        folds: Parts that take turns, at least 2; fewer where no class has so many images.
        seed: Of the draw of the folds.
        groups: Group of each image [N]; images of one group (one plant, exact copies) are never on
            both sides. None, or None for an image: it is free.

    Raises:
        DataError: Features that are not finite or not [N, F], labels outside the mapping, fewer
            than two classes, or no class with two images to hold one out.
    """
    start = time.perf_counter()
    check_features(features, labels, len(classes))
    independent = independent_units(labels, groups, len(classes))
    judged = independent[labels] > 1
    folds = min(_checked_folds(folds), int(independent.max()))
    if folds < 2 or np.count_nonzero(independent) < 2:
        raise _nothing_to_judge(classes, independent)
    parts = stratified_folds(labels, folds, seed=seed, groups=groups)
    places = [np.flatnonzero(parts == fold) for fold in range(folds)]
    inputs = _prepare(features).inputs
    validation = _CrossValidation(inputs, labels, len(classes), places)
    chosen = validation.choose(judged)
    logits = validation.logits(chosen)
    known = _predictions(np.where(judged, labels, -1), logits, classes)
    return Probe(
        classes=tuple(classes),
        images=int(judged.sum()),
        folds=folds,
        scores=bootstrap(known, SCORES, resamples=RESAMPLES, seed=0),
        per_class=tuple(metrics.per_class(known)),
        logits=logits,
        judged=judged,
        shrinkage=sorted(chosen)[len(chosen) // 2],
        fold_shrinkages=chosen,
        seconds=time.perf_counter() - start,
        notes=_notes(classes, independent),
    )


def fit_linear_head(
    features: Features,
    labels: Labels,
    classes: int,
    *,
    shrinkage: float,
    balanced: bool = False,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Weight [K, F] and bias [K] of the same head on all images, for features as they are.

    A class without images gets weight 0 and bias -inf: it is never called.

    Args:
        features: Pooled features [N, F], float32.
        labels: Class indices [N].
        classes: Length of the label mapping.
        shrinkage: Of the mean variance of a feature; ``Probe.shrinkage`` is a good one.
        balanced: Every class counts the same, however many images it has.

    Raises:
        DataError: Features that are not finite or not [N, F], or labels outside the mapping.
    """
    check_features(features, labels, classes)
    inputs, mean, back = _prepare(features)
    target = torch.from_numpy(labels)
    counts = torch.bincount(target, minlength=classes).float()
    weights = (len(labels) / torch.count_nonzero(counts) / counts)[target] if balanced else None
    moments = _moments(inputs, target, classes, weights)
    ((weight, bias),) = _heads(moments, [shrinkage])
    original = back @ weight.double()
    offset = bias.double() - mean @ original
    return original.T.float().numpy(), offset.float().numpy()


def check_features(features: Features, labels: Labels, classes: int) -> None:
    """Refuse what no head can be fitted to.

    Raises:
        DataError: Features that are not finite or not [N, F], or labels outside the mapping.
    """
    if features.ndim != 2 or len(features) != len(labels) or not features.size:
        raise DataError(
            f"features {features.shape} and labels {labels.shape} do not match; allowed are "
            "(N, F) and (N,) with at least one image and one feature"
        )
    wrong = np.unique(labels[(labels < 0) | (labels >= classes)])
    if len(wrong):
        raise DataError(
            f"class indices {wrong[:5].tolist()} are outside the label mapping; "
            f"allowed are 0 to {classes - 1}"
        )
    broken = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(broken):
        raise DataError(
            f"the features of {len(broken):,} of {len(features):,} images are NaN or infinite "
            f"(rows {', '.join(map(str, broken[:5].tolist()))}{', ...' * (len(broken) > 5)})",
            hint="--precision fp32, or weights that hold no NaN",
        )


class _Prepared(NamedTuple):
    """Features centred and scaled as one, and the way back.

    Attributes:
        inputs: float32 [N, D]; their mean variance is 1.
        mean: float64 [F].
        back: float64 [F, D]; weights for the inputs times this are weights for the features.
    """

    inputs: Tensor
    mean: Tensor
    back: Tensor


class _Moments(NamedTuple):
    """All that a head needs to know of a set of images; sets add up.

    Attributes:
        gram: Sum of x x' [D, D].
        sums: Sum of x per class [K, D].
        counts: Images per class [K].
    """

    gram: Tensor
    sums: Tensor
    counts: Tensor


def _prepare(features: Features) -> _Prepared:
    inputs = torch.tensor(features, dtype=torch.float32)
    mean = inputs.mean(dim=0, dtype=torch.float64)
    inputs -= mean.float()
    spread = torch.linalg.vector_norm(inputs, dtype=torch.float64) / inputs.numel() ** 0.5
    # Features that never vary tell nothing; the head is then the most frequent class.
    scale = float(spread) or 1.0
    inputs /= scale
    if len(inputs) >= inputs.shape[1]:
        return _Prepared(inputs, mean, torch.eye(inputs.shape[1], dtype=torch.float64) / scale)
    # Nothing is lost in the span of the images, because the penalty is the same in any rotation.
    span = torch.linalg.qr(inputs.T).Q
    return _Prepared(inputs @ span, mean, span.double() / scale)


def _moments(
    inputs: Tensor, labels: Tensor, classes: int, weights: Tensor | None = None
) -> _Moments:
    share = torch.ones(len(labels)) if weights is None else weights
    weighted = inputs if weights is None else inputs * weights[:, None]
    sums = torch.zeros(classes, inputs.shape[1]).index_add_(0, labels, weighted)
    counts = torch.zeros(classes).index_add_(0, labels, share)
    return _Moments(weighted.T @ inputs, sums, counts)


def _heads(moments: _Moments, shrinkages: Sequence[float]) -> list[tuple[Tensor, Tensor]]:
    """For each shrinkage the discriminant's weight [D, K] and bias [K], log prior included."""
    gram, sums, counts = moments
    images = counts.sum()
    # Sums that were taken off again leave rounding behind, in classes without images too.
    means = torch.where(counts[:, None] > 0, sums / counts[:, None], 0.0)
    within = (gram - means.T @ sums) / images
    heads = []
    for shrinkage in shrinkages:
        shrunk = within.clone()
        shrunk.diagonal().add_(shrinkage)
        weight = torch.cholesky_solve(means.T.contiguous(), torch.linalg.cholesky(shrunk))
        bias = torch.log(counts / images) - (means.T * weight).sum(dim=0) / 2
        heads.append((weight, bias))
    return heads


class _CrossValidation:
    """Heads without one or two folds, from the sums of each fold alone.

    Args:
        inputs: float32 [N, D].
        labels: Class indices [N].
        classes: Length of the label mapping.
        places: Positions of each fold.
    """

    def __init__(
        self, inputs: Tensor, labels: Labels, classes: int, places: Sequence[npt.NDArray[np.intp]]
    ) -> None:
        self.labels = labels
        self.classes = classes
        self.places = places
        self.inputs = [inputs[place] for place in places]
        self.held = [
            _moments(x, torch.from_numpy(labels[place]), classes)
            for x, place in zip(self.inputs, places, strict=True)
        ]
        self.total = _Moments(*(sum(parts[1:], parts[0]) for parts in zip(*self.held, strict=True)))

    def choose(self, judged: npt.NDArray[np.bool_]) -> tuple[float, ...]:
        """The shrinkage of each fold, by macro-F1 on the other folds' judged images."""
        folds = len(self.places)
        if folds < 3:
            return (USUAL_SHRINKAGE,) * folds
        counts = np.zeros((folds, len(SHRINKAGES), self.classes, self.classes))
        # A head without folds a and b tells a's choice how well it does on b, and b's on a.
        for a, b in itertools.combinations(range(folds), 2):
            heads = _heads(self._without(a, b), SHRINKAGES)
            counts[a] += self._confusions(heads, b, judged)
            counts[b] += self._confusions(heads, a, judged)
        called, support = counts.sum(axis=-2), counts.sum(axis=-1)
        hits = np.diagonal(counts, axis1=-2, axis2=-1)
        best = metrics.scores_of_counts(hits, support, called)["macro_f1"].argmax(axis=1)
        return tuple(SHRINKAGES[i] for i in best.tolist())

    def logits(self, shrinkages: Sequence[float]) -> npt.NDArray[np.float32]:
        """Out-of-fold outputs [N, K]."""
        found = np.empty((len(self.labels), self.classes), dtype=np.float32)
        for fold, shrinkage in enumerate(shrinkages):
            ((weight, bias),) = _heads(self._without(fold), [shrinkage])
            found[self.places[fold]] = (self.inputs[fold] @ weight + bias).numpy()
        return found

    def _without(self, *folds: int) -> _Moments:
        left = tuple(self.total)
        for fold in folds:
            left = tuple(whole - part for whole, part in zip(left, self.held[fold], strict=True))
        return _Moments(*left)

    def _confusions(
        self, heads: Sequence[tuple[Tensor, Tensor]], fold: int, judged: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.int64]:
        """Counts [heads, K, K] of the judged images of a fold."""
        place, inputs = self.places[fold], self.inputs[fold]
        found = np.zeros((len(heads), self.classes, self.classes), dtype=np.int64)
        for cells, (weight, bias) in zip(found, heads, strict=True):
            guess = (inputs @ weight + bias).argmax(dim=1).numpy()
            np.add.at(cells, (self.labels[place][judged[place]], guess[judged[place]]), 1)
        return found


def _checked_folds(folds: int) -> int:
    if folds < 2:
        raise DataError(f"folds={folds} leaves nothing to train on; at least 2 are needed")
    return folds


def _nothing_to_judge(classes: Sequence[str], independent: npt.NDArray[np.int64]) -> DataError:
    present = [name for name, count in zip(classes, independent, strict=True) if count]
    if len(present) == 1:
        return DataError(
            f"all images are of class `{present[0]}`: there is nothing to tell apart",
            hint="add images of a second class",
        )
    return DataError(
        f"none of the {len(present)} classes has two independent images: "
        "none can be held out to judge a head by",
        hint="add images to at least one class",
    )


def _notes(classes: Sequence[str], independent: npt.NDArray[np.int64]) -> tuple[str, ...]:
    alone = [name for name, count in zip(classes, independent, strict=True) if count == 1]
    if not alone:
        return ()
    named = ", ".join(alone[:5]) + ", ..." * (len(alone) > 5)
    return (f"not judged, because they have one image or group only: {named}",)


def _predictions(
    labels: Labels, logits: npt.NDArray[np.float32], classes: Sequence[str]
) -> Predictions:
    names = tuple(map(str, range(len(labels))))
    return Predictions(names, names, labels, logits, tuple(classes))
