"""Long tails without cost: logits changed after training, where validation says that it helps.

Every candidate is judged by cross-fitting within validation: what it chooses (tau, a bias per
class) it chooses on some images and is scored on others. It is adopted only if its gain in
macro-F1 exceeds the noise of that gain, and left alone otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from espalier import metrics
from espalier.errors import DataError
from espalier.evaluate.class_bias import ascend
from espalier.evaluate.folds import stratified_folds

Floats = npt.NDArray[np.float64]
Logits = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.int64]

METHODS = ("logit adjustment", "class bias")
# Above 1 for networks that are surer of themselves than they should be.
TAUS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
# Cross-fitting: so many times over, with other folds each time.
REPEATS = 3
FOLDS = 5
RESAMPLES = 1000
# Weights held in memory at once, in the bootstrap.
CHUNK = 4_000_000
# Images times classes squared, up to which a class bias is tried: some 20 s of one core.
MOST_STEPS = 500_000_000


@dataclass(frozen=True)
class Candidate:
    """Other logits of the same validation images, of a head that was fitted anew.

    Attributes:
        name: What a person calls it.
        logits: [N, K], rows as in the logits that they compete with.
    """

    name: str
    logits: Logits


@dataclass(frozen=True)
class Trial:
    """What one candidate came to in cross-fitting.

    Attributes:
        method: Its name.
        tau: Of a logit adjustment fitted on all validation images; None for the others.
        bias: To add to the logits [K], fitted on all validation images; zeros for other logits.
        gain: Macro-F1 with it minus macro-F1 without, on images that it was not fitted on.
        low: Lower end of the gain's 95 % interval.
        high: Upper end.
    """

    method: str
    tau: float | None
    bias: Floats
    gain: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """The trial as plain numbers."""
        return {
            "method": self.method,
            "tau": self.tau,
            "gain": round(self.gain, 6),
            "gain_interval": [round(self.low, 6), round(self.high, 6)],
        }


@dataclass(frozen=True)
class Adjustment:
    """What to do to logits after training.

    Attributes:
        method: ``none``, ``logit adjustment``, ``class bias``, or the name of other logits.
        tau: Of a logit adjustment; None for the others.
        bias: To add to the logits [K]; zeros where there is nothing to add.
        gain: In macro-F1, by cross-fitting; 0 where nothing is adopted.
        low: Lower end of the gain's 95 % interval.
        high: Upper end.
        images: Validation images with a label.
        reason: Why, as a sentence with the figures of the best candidate.
        trials: All candidates, in the order they were tried.
    """

    method: str
    tau: float | None
    bias: Floats
    gain: float
    low: float
    high: float
    images: int
    reason: str
    trials: tuple[Trial, ...] = ()

    def apply(self, logits: Logits) -> npt.NDArray[np.float32]:
        """Logits [N, K] with the bias added; of a re-fitted head give that head's logits."""
        return (logits + self.bias).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """The adjustment as plain numbers."""
        return {
            "method": self.method,
            "tau": self.tau,
            "bias": [round(value, 6) for value in self.bias.tolist()],
            "gain": round(self.gain, 6),
            "gain_interval": [round(self.low, 6), round(self.high, 6)],
            "images": self.images,
            "reason": self.reason,
            "trials": [trial.to_json() for trial in self.trials],
        }


def choose_adjustment(
    logits: Logits,
    labels: Labels,
    train_counts: Sequence[int],
    *,
    seed: int,
    methods: Sequence[str] = METHODS,
    candidates: Sequence[Candidate] = (),
) -> Adjustment:
    """The change of the logits that raises macro-F1 on validation beyond doubt, or none.

    ``logit adjustment`` subtracts tau times the log prior of the training images (Menon et al.
    2021, arXiv:2007.07314), tau from a small grid. ``class bias`` is free: coordinate ascent on
    macro-F1, each bias shrunk by what its class has of images. Both are cross-fitted: 3 times 5
    stratified folds (``class bias`` only up to so many images and classes as take 20 s). Of the
    candidates whose 95 % interval of the gain lies above 0, the one with the highest lower end is
    adopted. The interval is a paired bootstrap over the images (percentiles), both predictions of
    an image drawn together.

    Bias: an adopted gain is the best of several, so a little too good; what is fitted on all
    validation images is a little better than what was judged.

    Args:
        logits: Of the validation images [N, K].
        labels: Class indices [N]; images with -1 are left out.
        train_counts: Training images per class [K].
        seed: Of folds and resamples.
        methods: Of ``logit adjustment`` and ``class bias``.
        candidates: Other logits of the same images, of ``refit_candidate``.

    Raises:
        DataError: Shapes that do not match, logits that are not finite, or an unknown method.
    """
    _check(logits, labels, train_counts, methods, candidates)
    known = labels >= 0
    images = _Images(np.asarray(logits[known], dtype=np.float64), labels[known])
    if len(np.unique(images.labels)) < 2:
        reason = f"{len(images.labels):,} validation images of fewer than two classes: no choice"
        return _none(logits.shape[1], len(images.labels), reason)
    fits: dict[str, Fit] = {"logit adjustment": _tau_fit(train_counts), "class bias": _bias_fit}
    if len(images.labels) * logits.shape[1] ** 2 > MOST_STEPS:
        del fits["class bias"]
    tried = [_try_fit(name, fits[name], images, seed) for name in methods if name in fits]
    tried += [_try_logits(c.name, c.logits[known], images, seed) for c in candidates]
    return _decide(tried, logits.shape[1], len(images.labels))


def refit_candidate(name: str, val_logits: Logits) -> Candidate:
    """Other logits [N, K] of the same validation images, to be compared by ``choose_adjustment``.

    Raises:
        DataError: The name is taken by what ``choose_adjustment`` does itself.
    """
    if name in ("none", *METHODS):
        raise DataError(f"a candidate cannot be called `{name}`", hint="class-balanced head")
    return Candidate(name, val_logits)


def prior_bias(train_counts: Sequence[int], tau: float) -> Floats:
    """Bias [K] of a logit adjustment: minus tau times the log prior, of mean 0.

    A class without training images gets the bias of the most frequent one: it has learned nothing
    that more trust would bring out.
    """
    counts = np.asarray(train_counts, dtype=np.float64)
    counts = np.where(counts > 0, counts, counts.max(initial=1.0))
    bias: Floats = -tau * (np.log(counts) - np.log(counts).mean())
    return bias


class _Images(NamedTuple):
    """Validation images: logits [N, K] and labels [N]."""

    logits: Floats
    labels: Labels


class _Fitted(NamedTuple):
    """What a method chose on some images."""

    bias: Floats
    tau: float | None


Fit = Callable[[_Images], _Fitted]


def _tau_fit(train_counts: Sequence[int]) -> Fit:
    biases = np.stack([prior_bias(train_counts, tau) for tau in TAUS])

    def fit(images: _Images) -> _Fitted:
        scores = [_macro_f1(images.labels, images.logits + bias) for bias in biases]
        best = int(np.argmax(scores))
        return _Fitted(biases[best], TAUS[best])

    return fit


def _bias_fit(images: _Images) -> _Fitted:
    return _Fitted(ascend(*images), None)


def _macro_f1(labels: Labels, logits: Floats) -> float:
    return metrics.macro_f1(labels, logits.argmax(axis=1), logits.shape[1])


def _try_fit(name: str, fit: Fit, images: _Images, seed: int) -> Trial:
    guesses = np.stack([_cross_fitted(fit, images, seed * REPEATS + r) for r in range(REPEATS)])
    final = fit(images)
    return Trial(name, final.tau, final.bias, *_gain(images, guesses, seed))


def _try_logits(name: str, logits: Logits, images: _Images, seed: int) -> Trial:
    gain = _gain(images, logits.argmax(axis=1)[None], seed)
    return Trial(name, None, np.zeros(logits.shape[1]), *gain)


def _cross_fitted(fit: Fit, images: _Images, seed: int) -> Labels:
    """Predictions [N], each by a bias that was fitted without its fold."""
    parts = stratified_folds(images.labels, FOLDS, seed=seed)
    guess = np.empty(len(parts), dtype=np.int64)
    for fold in np.unique(parts):
        held = parts == fold
        bias = fit(_Images(images.logits[~held], images.labels[~held])).bias
        guess[held] = (images.logits[held] + bias).argmax(axis=1)
    return guess


def _gain(images: _Images, guesses: Labels, seed: int) -> tuple[float, float, float]:
    """Mean gain in macro-F1 of predictions [R, N] over those without change; 95 % interval."""
    classes = images.logits.shape[1]
    outcomes = np.stack([images.labels, images.logits.argmax(axis=1), *guesses])
    # Images with equal outcomes are drawn as one cell: most are right whatever is done.
    cells, counts = np.unique(outcomes, axis=1, return_counts=True)
    value = float(_gains(cells, counts[None], classes)[0])
    rng, shares = np.random.default_rng(seed), counts / counts.sum()
    step = max(1, CHUNK // len(counts))
    drawn = [
        _gains(cells, rng.multinomial(counts.sum(), shares, min(step, RESAMPLES - done)), classes)
        for done in range(0, RESAMPLES, step)
    ]
    low, high = np.quantile(np.concatenate(drawn), [0.025, 0.975])
    return value, float(low), float(high)


def _gains(cells: Labels, counts: Labels, classes: int) -> Floats:
    """Gain [B] in each resample.

    Args:
        cells: Label, prediction without change, and predictions with it [2 + R, C].
        counts: Images per cell [B, C].
        classes: Length of the label mapping.
    """
    labels, *guesses = cells
    weights, one_hot = counts.astype(np.float64), np.eye(classes)
    support = weights @ one_hot[labels]
    scores = []
    for guess in guesses:
        called = one_hot[guess]
        hits = weights @ (called * (guess == labels)[:, None])
        scores.append(metrics.scores_of_counts(hits, support, weights @ called)["macro_f1"])
    gains: Floats = np.mean(scores[1:], axis=0) - scores[0]
    return gains


def _decide(trials: Sequence[Trial], classes: int, images: int) -> Adjustment:
    best = max(trials, key=lambda trial: trial.low, default=None)
    if best is None:
        return _none(classes, images, "nothing was tried")
    name = best.method if best.tau is None else f"{best.method} tau {best.tau:g}"
    figures = (
        f"{name}: {best.gain:+.3f} macro-F1 [{best.low:+.3f}, {best.high:+.3f}] "
        f"in cross-fitting on {images:,} validation images"
    )
    if best.low <= 0:
        reason = f"{figures}; not beyond its noise, not adopted"
        return _none(classes, images, reason, tuple(trials))
    return Adjustment(
        best.method,
        best.tau,
        best.bias,
        best.gain,
        best.low,
        best.high,
        images,
        f"{figures}; adopted",
        tuple(trials),
    )


def _none(classes: int, images: int, reason: str, trials: tuple[Trial, ...] = ()) -> Adjustment:
    return Adjustment("none", None, np.zeros(classes), 0.0, 0.0, 0.0, images, reason, trials)


def _check(
    logits: Logits,
    labels: Labels,
    train_counts: Sequence[int],
    methods: Sequence[str],
    candidates: Sequence[Candidate],
) -> None:
    problems = [f"method `{name}` is unknown" for name in methods if name not in METHODS]
    shape = (len(labels), len(train_counts))
    for name, found in [("logits", logits), *((c.name, c.logits) for c in candidates)]:
        if found.shape != shape:
            problems.append(f"{name}: shape {found.shape}, allowed is {shape}")
        elif broken := np.count_nonzero(~np.isfinite(found[labels >= 0]).all(axis=1)):
            problems.append(f"{name}: {broken:,} of {len(labels):,} rows are NaN or infinite")
    if np.any((labels >= shape[1]) | (labels < -1)):
        problems.append(
            f"labels from {labels.min()} to {labels.max()}, allowed 0 to {shape[1] - 1}"
        )
    if problems:
        raise DataError(
            "logits cannot be adjusted",
            problems=problems,
            hint=f"methods are {', '.join(METHODS)}; logits [N, K] belong to labels [N]",
        )
