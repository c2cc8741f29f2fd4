from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.stats import binomtest

from espalier import metrics
from espalier.errors import DataError
from espalier.evaluate.intervals import bootstrap, smooth
from espalier.metrics import wilson
from espalier.records import Predictions

NAMES = metrics.SCORES


def predictions(labels: np.ndarray, predicted: np.ndarray, classes: int) -> Predictions:
    ids = tuple(str(i) for i in range(len(labels)))
    logits = np.eye(classes, dtype=np.float32)[predicted]
    return Predictions(ids, ids, labels.astype(np.int64), logits, tuple(map(str, range(classes))))


def of_matrix(matrix: np.ndarray) -> Predictions:
    classes = len(matrix)
    labels = np.repeat(np.arange(classes), matrix.sum(axis=1))
    guess = np.concatenate([np.repeat(np.arange(classes), row) for row in matrix])
    return predictions(labels, guess, classes)


def noisy(images: int, classes: int, right: float, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=images)
    guess = np.where(rng.random(images) < right, labels, rng.integers(classes, size=images))
    return predictions(labels, guess, classes)


@pytest.mark.parametrize(("hits", "images"), [(0, 1), (1, 1), (4, 4), (7, 8), (39, 40), (50, 100)])
def test_accuracy_has_the_interval_of_wilson_as_scipy_computes_it(hits: int, images: int) -> None:
    wanted = binomtest(hits, images).proportion_ci(0.95, method="wilson")
    assert wilson(hits / images, images) == pytest.approx((wanted.low, wanted.high))
    labels = np.zeros(images, dtype=int)
    score = bootstrap(
        predictions(labels, (np.arange(images) >= hits).astype(int), 2),
        ["accuracy"],
        resamples=2,
        seed=0,
    )["accuracy"]
    assert (score.low, score.high) == pytest.approx((wanted.low, wanted.high))


def test_values_are_those_of_the_metrics() -> None:
    given = noisy(200, 5, 0.7)
    scores = bootstrap(given, NAMES, resamples=200, seed=0)
    wanted = metrics.summary(given)
    assert {name: score.value for name, score in scores.items()} == pytest.approx(
        {name: wanted[name] for name in NAMES}
    )


@pytest.mark.parametrize("images", [1, 2, 4, 8, 40, 1000])
@pytest.mark.parametrize("right", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("classes", [2, 3, 12])
def test_no_interval_is_of_zero_width_or_leaves_out_its_value(
    images: int, right: float, classes: int
) -> None:
    labels = np.arange(images) % classes
    shift = np.where(np.arange(images) < right * images, 0, 1)
    given = predictions(labels, (labels + shift) % classes, classes)
    for score in bootstrap(given, NAMES, resamples=200, seed=0).values():
        assert score.low is not None
        assert score.high is not None
        assert 0 <= score.low <= score.value <= score.high <= 1
        assert score.high - score.low > 1.5 / (images + 4)


def test_a_perfect_score_on_four_images_says_how_little_that_is() -> None:
    given = of_matrix(np.diag([2, 2]))
    for score in bootstrap(given, NAMES, resamples=2000, seed=0).values():
        assert score.high == 1.0
        assert score.low is not None
        assert 0.3 < score.low < 0.55


def test_many_images_give_what_the_plain_bootstrap_gives() -> None:
    matrix = np.array([[700, 80, 20], [30, 150, 20], [10, 20, 70]])
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(matrix.sum(), matrix.ravel() / matrix.sum(), size=4000)
    stack = drawn.reshape(-1, 3, 3).astype(float)
    plain = metrics.scores_of_counts(
        stack.diagonal(axis1=1, axis2=2), stack.sum(axis=2), stack.sum(axis=1)
    )
    ours = bootstrap(of_matrix(matrix), NAMES, resamples=4000, seed=0)
    for name in NAMES:
        wanted = np.percentile(plain[name], [2.5, 97.5])
        assert (ours[name].low, ours[name].high) == pytest.approx(tuple(wanted), abs=0.006)


def simulated_coverage(
    truth: np.ndarray, images: int, shares: np.ndarray, *, sets: int
) -> dict[str, float]:
    """How often the interval holds the value that endless images of these shares would give."""
    rng = np.random.default_rng(7)
    support = np.maximum(1, np.round(shares * images)).astype(int)
    endless = support[:, None] * truth
    true = metrics.scores_of_counts(endless.diagonal(), endless.sum(axis=1), endless.sum(axis=0))
    held = dict.fromkeys(NAMES, 0)
    for _ in range(sets):
        matrix = np.stack([rng.multinomial(n, p) for n, p in zip(support, truth, strict=True)])
        scores = bootstrap(of_matrix(matrix), NAMES, resamples=200, seed=0)
        for name, score in scores.items():
            assert score.low is not None
            assert score.high is not None
            held[name] += bool(score.low <= true[name] <= score.high)
    return {name: count / sets for name, count in held.items()}


def rows_of(recalls: np.ndarray) -> np.ndarray:
    classes = len(recalls)
    rows = np.repeat(((1 - recalls) / (classes - 1))[:, None], classes, axis=1)
    np.fill_diagonal(rows, recalls)
    return rows


@pytest.mark.parametrize(
    ("classes", "images"), [(2, 8), (2, 40), (4, 20), (4, 100), (12, 60), (6, 500)]
)
@pytest.mark.parametrize("recall", [0.65, 0.9])
@pytest.mark.parametrize("ratio", [1, 20])
def test_intervals_hold_the_true_value_about_as_often_as_they_say(
    classes: int, images: int, recall: float, ratio: int
) -> None:
    shares = np.geomspace(ratio, 1, classes)
    held = simulated_coverage(
        rows_of(np.full(classes, recall)), images, shares / shares.sum(), sets=300
    )
    # 300 sets know a coverage of 0.95 to +-0.02. A class of one image has a recall of 0 or 1 and
    # nothing between, so that no interval can be right exactly 95 times in 100.
    lowest = 0.87 if images * shares.min() / shares.sum() < 1.5 else 0.91
    assert lowest <= min(held.values()), held
    assert np.mean(list(held.values())) <= 0.995


def test_classes_of_unequal_difficulty() -> None:
    recalls = np.linspace(0.99, 0.5, 5)
    held = simulated_coverage(rows_of(recalls), 60, np.full(5, 0.2), sets=200)
    assert all(0.9 <= share <= 0.995 for share in held.values()), held


def test_smoothing_keeps_the_images_of_each_class_and_the_overall_accuracy() -> None:
    matrix = np.diag([3] * 12)
    matrix[0, 0], matrix[0, 1] = 2, 1
    smoothed = smooth(matrix)
    np.testing.assert_allclose(smoothed.sum(axis=1), matrix.sum(axis=1))
    assert np.trace(smoothed) / smoothed.sum() == pytest.approx(35 / 36, abs=0.01)
    assert (smoothed.diagonal() < matrix.sum(axis=1)).all()


def test_the_same_seed_gives_the_same_interval_and_another_a_similar_one() -> None:
    given = noisy(60, 4, 0.8)
    first, again = (bootstrap(given, NAMES, resamples=2000, seed=3) for _ in range(2))
    other = bootstrap(given, NAMES, resamples=2000, seed=4)
    assert first == again
    for name in NAMES:
        assert other[name].low == pytest.approx(first[name].low, abs=0.01)


def test_images_without_label_do_not_count() -> None:
    given = noisy(50, 3, 0.8)
    more = Predictions(
        (*given.sample_ids, "a", "b"),
        (*given.paths, "a", "b"),
        np.concatenate([given.labels, [-1, -1]]),
        np.concatenate([given.logits, np.ones((2, 3), dtype=np.float32)]),
        given.classes,
    )
    assert bootstrap(more, NAMES, resamples=100, seed=0) == bootstrap(
        given, NAMES, resamples=100, seed=0
    )


def test_classes_that_do_not_occur_change_nothing() -> None:
    labels, guess = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 1])
    few = bootstrap(predictions(labels, guess, 2), NAMES, resamples=300, seed=0)
    many = bootstrap(predictions(labels, guess, 50), NAMES, resamples=300, seed=0)
    assert few == many


@pytest.mark.parametrize("classes", [12, 61])
def test_a_hundred_thousand_images_take_a_moment(classes: int) -> None:
    given = noisy(100_000, classes, 0.9)
    started = time.process_time()
    score = bootstrap(given, NAMES, resamples=2000, seed=0)["macro_f1"]
    assert time.process_time() - started < 4
    assert score.low is not None
    assert score.value - score.low < 0.003


def test_unknown_scores_and_too_few_resamples_are_refused() -> None:
    with pytest.raises(DataError, match="auc"):
        bootstrap(noisy(5, 2, 1.0), ["auc"], resamples=10, seed=0)
    with pytest.raises(DataError, match="resamples=1"):
        bootstrap(noisy(5, 2, 1.0), NAMES, resamples=1, seed=0)
    unlabelled = predictions(np.full(3, -1), np.zeros(3, dtype=int), 2)
    with pytest.raises(DataError, match="no labelled images"):
        bootstrap(unlabelled, NAMES, resamples=10, seed=0)
