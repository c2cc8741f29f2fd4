"""Label suspects: which given labels contradict what cross-validated probabilities say.

Two estimates of how many labels are wrong. The confident joint (Northcutt, Jiang and Chuang 2021,
"Confident learning", JAIR 70) counts images that look firmly like another class; where classes
resemble each other it counts hardness, too: 11-15 % of three clean sets of photographs. The noise
model tells the two apart: probabilities are tempered until they explain the labels together with
a few wrong ones, which hit all pairs of classes at one rate, but for pairs of which the joint says
that labels go wrong one way. It says 1.5-2.1 % of the same sets, and 4-6, 9-11 and 18-20 % where
5, 10 and 20 % were replaced at random; F1 of its list is then 0.60-0.84, 0.00-0.29 above the best
of cleanlab's filters. It misses errors between classes that resemble each other both ways.

A head that was trained on labels which go wrong one way believes a part of them. Where enough do,
its probabilities are unmixed by the rates that were fitted, and the rates fitted once more: F1
with 10 % wrong one way rises from 0.52-0.58 to 0.69-0.74, 0.88-0.90 to 0.89-0.92 and 0.62-0.70 to
0.65-0.72 in three sets, three draws each. Done everywhere it would add suspects to clean sets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from espalier.audit.separation import separability
from espalier.errors import DataError
from espalier.metrics import wilson

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

# A label is suspect when it is wrong more likely than not.
SUSPECT = 0.5
# AUC below which a head cannot tell two classes apart. Twins among the seedlings have 0.71-0.77;
# the other pairs that matter in three clean sets of photographs 0.86 and more.
SEPARABLE_AUC = 0.8
# Standard deviations, and images, by which a pair must go one way more than the other.
SURE, FEWEST = 2.0, 5.0
# Images that the noise model is fitted to; more would change nothing but the time it takes.
FITTED = 20_000
# Share of wrong labels that is thought possible in any set when images are judged one by one: ten
# well-known sets have 0.15-10 %, 3.3 % on average (Northcutt, Athalye and Mueller 2021).
USUAL_SHARE = 0.01
# Labels that go wrong one way, above the rate of all pairs, from which probabilities are unmixed:
# 5-9 % of three sets with 10 % planted one way; 0-2 % of the same without, or with random ones.
ONE_WAY_SHARE = 0.03
ROUNDS, STEPS = 20, 10
START = 0.02
SMALLEST = 1e-300


@dataclass(frozen=True)
class Suspects:
    """Images whose given label is probably wrong, the most suspicious first.

    Attributes:
        indices: Positions in the given arrays [M].
        suggested: The class that each looks like instead [M].
        scores: How probable it is that the given label is wrong [M], in (0.5, 1], falling.
        probabilities: Calibrated ones [N, K], rows of images that were not judged too.
        joint: Calibrated confident joint [K, K]: images by given (row) and true (column) class.
        confident_share: Share of wrong labels by the joint; hard classes count as wrong.
        noise_share: Share of wrong labels that hard classes do not explain.
        noise_interval: Its 95 % interval.
    """

    indices: npt.NDArray[np.intp]
    suggested: Labels
    scores: Floats
    probabilities: Floats
    joint: Floats
    confident_share: float
    noise_share: float
    noise_interval: tuple[float, float]


def find_suspects(labels: Labels, probabilities: Floats, judged: Flags | None = None) -> Suspects:
    """Images whose label is wrong more likely than not, by the noise model.

    Args:
        labels: Given class indices [N].
        probabilities: Of the classes [N, K], each image judged by a model that has not seen it;
            need not be calibrated.
        judged: Which rows can be used [N]; None: all.

    Raises:
        DataError: Shapes or values that are no labels and probabilities, or nothing to judge.
    """
    used = _checked(labels, probabilities, judged)
    given = labels[used]
    logits = _logs(probabilities)
    noise = _fit_noise(logits[used], given)
    calibrated: Floats = softmax(noise.sharpness * logits, axis=1)
    if noise.one_way >= ONE_WAY_SHARE:
        calibrated = _unmixed(calibrated, noise.rates)
        noise = _fit_rates(calibrated[used], given, noise)
    true = _true_class(calibrated[used], given, _at_least(noise.rates, USUAL_SHARE))
    wrong = 1 - true[np.arange(len(given)), given]
    order = np.argsort(-wrong, kind="stable")
    order = order[wrong[order] > SUSPECT]
    looks = calibrated[used]
    looks[np.arange(len(given)), given] = -1
    joint = confident_joint(given, calibrated[used])
    return Suspects(
        indices=used[order],
        suggested=looks[order].argmax(axis=1).astype(np.int64),
        scores=wrong[order],
        probabilities=calibrated,
        joint=joint,
        confident_share=1 - float(np.trace(joint)) / len(given),
        noise_share=noise.share,
        noise_interval=wilson(noise.share, len(given)),
    )


def calibrated_probabilities(
    logits: npt.NDArray[np.floating], labels: Labels, judged: Flags | None = None
) -> Floats:
    """Probabilities [N, K] of logits that are over- or underconfident, though labels may be wrong.

    One temperature for all (Guo et al. 2017), fitted together with the share of wrong labels:
    without that, 20 % wrong labels make a model look up to twice as overconfident as it is.

    Args:
        logits: Out-of-fold outputs [N, K]; -inf for a class that a head could not know.
        labels: Given class indices [N].
        judged: Which rows can be used to fit [N]; None: all.

    Raises:
        DataError: Shapes or values that are no labels and logits, or nothing to judge.
    """
    plain: Floats = softmax(logits.astype(np.float64), axis=1)
    used = _checked(labels, plain, judged)
    logs = _logs(plain)
    calibrated: Floats = softmax(_fit_noise(logs[used], labels[used]).sharpness * logs, axis=1)
    return calibrated


def confident_thresholds(labels: Labels, probabilities: Floats) -> Floats:
    """Mean probability of each class [K] over the images labelled so; 2 for a class without any."""
    sums = np.zeros(probabilities.shape[1])
    np.add.at(sums, labels, probabilities[np.arange(len(labels)), labels])
    counts = np.bincount(labels, minlength=len(sums))
    found: Floats = np.divide(sums, counts, out=np.full(len(sums), 2.0), where=counts > 0)
    return found


def confident_joint(labels: Labels, probabilities: Floats) -> Floats:
    """Estimated images [K, K] by given (row) and true (column) class.

    An image counts for the class whose threshold it reaches, the most probable one of several;
    rows are then scaled to the images labelled so (calibration, section 3.1 of the paper).
    """
    classes = probabilities.shape[1]
    reached = probabilities >= confident_thresholds(labels, probabilities) - 1e-6
    chosen = np.where(reached, probabilities, -1.0).argmax(axis=1)
    counted = reached.any(axis=1)
    counts = np.zeros((classes, classes))
    np.add.at(counts, (labels[counted], chosen[counted]), 1)
    # As cleanlab: a class is never estimated to be empty.
    np.fill_diagonal(counts, counts.diagonal().clip(min=1))
    images = np.bincount(labels, minlength=classes)
    joint: Floats = counts / counts.sum(axis=1, keepdims=True) * images[:, None]
    return joint


@dataclass(frozen=True)
class _Noise:
    """What explains the labels.

    Attributes:
        sharpness: Factor of the logits; below 1 where they are overconfident.
        rates: Share of each true class (row) that is labelled as each class (column) [K, K].
        own: Pairs that have a rate of their own [K, K].
        share: Of wrong labels.
        one_way: Of labels that are wrong because such pairs are above the rate of all.
    """

    sharpness: float
    rates: Floats
    own: Flags
    share: float
    one_way: float


def _fit_noise(logits: Floats, labels: Labels) -> _Noise:
    """Maximise the likelihood of the labels, by turns in the sharpness and in the rates."""
    logits, labels = _some(logits, labels)
    own = _one_way_pairs(logits, labels)
    noise = _Noise(1.0, _even_rates(logits.shape[1], START), own, START, 0.0)
    for _ in range(ROUNDS):
        noise = replace(noise, sharpness=_fit_sharpness(logits, labels, noise.rates))
        noise = _fit_rates(softmax(noise.sharpness * logits, axis=1), labels, noise)
    return noise


def _fit_rates(probabilities: Floats, labels: Labels, noise: _Noise) -> _Noise:
    """Rates that make the labels more likely, from those that there are (EM)."""
    for _ in range(STEPS):
        true = _true_class(probabilities, labels, noise.rates)
        by_label = [true[labels == k].sum(axis=0) for k in range(probabilities.shape[1])]
        counts = np.stack(by_label, axis=1)
        wrong, excess = _wrong_labels(counts, noise.own)
        noise = replace(
            noise,
            rates=_rates(wrong, counts.sum(axis=1)),
            share=float(wrong.sum()) / len(labels),
            one_way=float(excess.sum()) / len(labels),
        )
    return noise


def _unmixed(probabilities: Floats, rates: Floats) -> Floats:
    """Probabilities of the true classes [N, K] that, mixed by the rates, give those of the labels.

    Each step makes them more likely and keeps them probabilities (Richardson 1972, Lucy 1974).
    """
    mixing = rates / rates.sum(axis=1, keepdims=True)
    found = probabilities
    for _ in range(STEPS):
        found = found * ((probabilities / (found @ mixing + SMALLEST)) @ mixing.T)
        found = found / found.sum(axis=1, keepdims=True)
    return found


def _one_way_pairs(logits: Floats, labels: Labels) -> Flags:
    """Pairs [K, K] of a true and a given class between which labels went wrong one way.

    In the confident joint surely more images go that way than back, and the two can be told apart:
    what goes both ways is resemblance, and between twins anything may happen.
    """
    joint = confident_joint(labels, softmax(logits, axis=1)).T
    excess = joint - joint.T
    own = excess > np.maximum(FEWEST, SURE * np.sqrt(joint + joint.T))
    for first, second in np.argwhere(own).tolist():
        own[first, second] = separability(logits, labels, first, second) >= SEPARABLE_AUC
    return own


def _fit_sharpness(logits: Floats, labels: Labels, rates: Floats) -> float:
    towards = rates[:, labels].T

    def loss(log_sharpness: float) -> float:
        probabilities = softmax(np.exp(log_sharpness) * logits, axis=1)
        return -float(np.log((probabilities * towards).sum(axis=1) + SMALLEST).mean())

    # A third of a second to import, and every listing of the rules would wait for it.
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(loss, bounds=(-3.5, 2.5), method="bounded", options={"xatol": 0.02})
    return float(np.exp(found.x))


def _true_class(probabilities: Floats, labels: Labels, rates: Floats) -> Floats:
    """Probability of each true class [N, K] once the given label is known (Bayes)."""
    both = probabilities * rates[:, labels].T + SMALLEST
    found: Floats = both / both.sum(axis=1, keepdims=True)
    return found


def _wrong_labels(counts: Floats, own: Flags) -> tuple[Floats, Floats]:
    """Expected wrong labels [K, K], and how many of each pair are above the rate of all.

    All pairs have one rate, but for some that have their own.
    """
    given = counts.sum(axis=0) > 0
    # A class that no image was given has no mistakes to count.
    apart = ~np.eye(len(counts), dtype=bool) & given & given[:, None]
    images = np.broadcast_to(counts.sum(axis=1, keepdims=True), counts.shape)
    others = apart & ~own
    level = float(counts[others].sum() / max(1.0, images[others].sum()))
    even: Floats = np.where(apart, level * images, 0)
    noise: Floats = np.where(own, np.maximum(even, counts - counts.T), even)
    return noise, noise - even


def _rates(noise: Floats, images: Floats) -> Floats:
    """Rates [K, K] from the wrong labels of each pair and the images of each true class."""
    rates = noise / np.maximum(images, 1)[:, None]
    np.fill_diagonal(rates, 1 - rates.sum(axis=1))
    found: Floats = np.maximum(rates, 0)
    return found


def _at_least(rates: Floats, share: float) -> Floats:
    """Rates [K, K] with every way to be wrong as likely as in a set with such a share, or more."""
    found: Floats = np.maximum(rates, share / (len(rates) - 1))
    np.fill_diagonal(found, 0)
    np.fill_diagonal(found, np.maximum(1 - found.sum(axis=1), 0))
    return found


def _even_rates(classes: int, share: float) -> Floats:
    rates = np.full((classes, classes), share / (classes - 1))
    np.fill_diagonal(rates, 1 - share)
    return rates


def _some(logits: Floats, labels: Labels) -> tuple[Floats, Labels]:
    if len(labels) <= FITTED:
        return logits, labels
    drawn = np.random.default_rng(0).choice(len(labels), FITTED, replace=False)
    return logits[drawn], labels[drawn]


def _logs(probabilities: Floats) -> Floats:
    logs: Floats = np.log(np.maximum(probabilities, SMALLEST))
    return logs


def _checked(labels: Labels, probabilities: Floats, judged: Flags | None) -> npt.NDArray[np.intp]:
    """Positions that can be used."""
    classes = probabilities.shape[1] if probabilities.ndim == 2 else 0
    if classes < 2 or labels.shape != probabilities.shape[:1]:
        raise DataError(
            f"labels {labels.shape} and probabilities {probabilities.shape} do not match; "
            "allowed are (N,) and (N, K) with at least two classes"
        )
    used = np.arange(len(labels)) if judged is None else np.flatnonzero(judged)
    if not len(used):
        raise DataError("no image was judged, so that no label can be suspected")
    wrong = np.unique(labels[used][(labels[used] < 0) | (labels[used] >= classes)])
    if len(wrong):
        raise DataError(
            f"class indices {wrong[:5].tolist()} are outside the label mapping; "
            f"allowed are 0 to {classes - 1}"
        )
    if not np.isfinite(probabilities[used]).all():
        raise DataError("probabilities are NaN or infinite; allowed are numbers in [0, 1]")
    return used
