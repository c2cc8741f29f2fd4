"""The paired test against scikit-learn, scipy, and what is true in a simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from espalier.errors import DataError
from espalier.evaluate.paired import SEED_NOISE, compare_paired, mcnemar, seed_noise
from espalier.records import Predictions

CLASSES = ("a", "b", "c")


def said(labels: np.ndarray, called: np.ndarray, classes: tuple[str, ...] = CLASSES) -> Predictions:
    """Predictions that call each image as given."""
    ids = tuple(f"{i:04d}" for i in range(len(labels)))
    logits = np.eye(len(classes), dtype=np.float32)[called]
    return Predictions(ids, ids, labels.astype(np.int64), logits, classes)


def noisy(rng: np.random.Generator, labels: np.ndarray, right: float) -> np.ndarray:
    """Each label with this probability, else any other class."""
    wrong = (labels + rng.integers(1, 3, len(labels))) % 3
    return np.where(rng.random(len(labels)) < right, labels, wrong)


def test_scores_are_those_of_scikit_learn_and_counts_those_by_hand() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(3, 200, p=(0.6, 0.3, 0.1))
    one, two = noisy(rng, labels, 0.6), noisy(rng, labels, 0.9)
    found = compare_paired(said(labels, one), said(labels, two))
    assert found.before == pytest.approx(f1_score(labels, one, average="macro"))
    assert found.after == pytest.approx(f1_score(labels, two, average="macro"))
    assert found.gained == sum((two == labels) & (one != labels))
    assert found.lost == sum((one == labels) & (two != labels))
    assert (found.images, found.seeds, found.seed_noise) == (200, 1, SEED_NOISE)
    assert found.low < found.difference < found.high
    assert found.verdict == "better"
    assert found.to_json()["verdict"] == "better"


def test_the_other_way_round_it_is_worse_by_the_same() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 150)
    one, two = noisy(rng, labels, 0.5), noisy(rng, labels, 0.9)
    forth = compare_paired(said(labels, one), said(labels, two))
    back = compare_paired(said(labels, two), said(labels, one))
    assert back.verdict == "worse"
    assert back.difference == pytest.approx(-forth.difference)
    assert back.low == pytest.approx(-forth.high, abs=0.01)


def test_equal_predictions_are_no_difference_and_never_certain() -> None:
    labels = np.arange(60) % 3
    same = said(labels, (labels + (np.arange(60) % 5 == 0)) % 3)
    found = compare_paired(same, same)
    assert found.verdict == "no difference"
    assert found.low < 0 < found.high
    assert found.p == 1.0


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (5, 1), (3, 9), (40, 40), (900, 700)])
def test_mcnemar_is_the_sign_test_of_scipy(gained: int, lost: int) -> None:
    expected = stats.binomtest(gained, gained + lost, 0.5).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(expected)


def test_the_interval_holds_the_true_difference() -> None:
    """Two classifiers of known quality: accuracy and macro-F1 differ alike with equal classes."""
    rng = np.random.default_rng(2)
    held, cases = 0, 150
    for _ in range(cases):
        labels = rng.permutation(np.arange(120) % 3)
        one, two = noisy(rng, labels, 0.7), noisy(rng, labels, 0.85)
        found = compare_paired(said(labels, one), said(labels, two), resamples=200)
        held += found.low <= 0.15 <= found.high
    assert held / cases >= 0.93


def test_seeds_that_differ_much_widen_the_interval_and_those_that_agree_narrow_it() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 2000)
    one = said(labels, noisy(rng, labels, 0.80))
    alike = [said(labels, noisy(rng, labels, 0.84)) for _ in range(3)]
    apart = [said(labels, noisy(rng, labels, share)) for share in (0.84, 0.74, 0.94)]
    once, steady, loose = (
        compare_paired(one, runs[0], runs[1:]) for runs in (alike[:1], alike, apart)
    )
    assert steady.seeds == 3
    assert steady.high - steady.low < once.high - once.low < loose.high - loose.low
    assert loose.seed_noise > 2 * SEED_NOISE
    assert loose.verdict == "no difference"


def test_the_noise_of_seeds_is_pooled_with_what_is_assumed() -> None:
    scores = (0.80, 0.83, 0.85)
    sigma, t = seed_noise(scores)
    expected = (4 * SEED_NOISE**2 + 2 * np.var(scores, ddof=1)) / 6
    assert sigma == pytest.approx(expected**0.5)
    assert t == pytest.approx(stats.t.ppf(0.975, 6), abs=1e-3)
    assert seed_noise((0.8,))[1] == pytest.approx(stats.t.ppf(0.975, 4), abs=1e-3)


def test_images_are_matched_by_id_and_classes_by_name() -> None:
    labels = np.array([0, 1, 2, 0, 1])
    one = said(labels, np.array([0, 1, 2, 0, 0]))
    other = said(np.array([1, 2, 0, 1]), np.array([1, 2, 0, 1]), ("c", "a", "b"))
    found = compare_paired(one, other)
    assert found.images == 4
    assert found.after == 1.0
    assert found.before == pytest.approx(f1_score([0, 1, 2, 0], [0, 1, 2, 0], average="macro"))


def test_what_cannot_be_compared_is_refused() -> None:
    labels = np.array([0, 1, 2])
    one = said(labels, labels)
    with pytest.raises(DataError, match="not in both"):
        compare_paired(one, said(labels, labels, ("a", "b", "d")))
    unlabelled = said(np.array([-1, -1, -1]), labels)
    with pytest.raises(DataError, match="share no labelled image"):
        compare_paired(one, unlabelled)
