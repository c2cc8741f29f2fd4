"""Label suspects: against slow independent code, cleanlab, and labels that are wrong on purpose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from espalier.audit import confident
from espalier.audit.confident import (
    calibrated_probabilities,
    confident_joint,
    confident_thresholds,
    find_suspects,
)
from espalier.audit.separation import auc, auc_interval, average_ranks, separability
from espalier.errors import DataError

CENTRES = 3.0


def clusters(
    images: int = 600, classes: int = 5, *, overlap: float = 1.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """True labels [N] and logits [N, K] that are right on average but overconfident, threefold."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    seen = rng.normal(scale=overlap, size=(images, classes))
    seen[np.arange(images), labels] += CENTRES
    honest = seen * CENTRES / overlap**2
    return labels.astype(np.int64), 3 * honest


def with_errors(labels: np.ndarray, share: float, seed: int = 1) -> np.ndarray:
    """A share of the labels replaced by any other."""
    rng = np.random.default_rng(seed)
    wrong = labels.copy()
    rows = rng.choice(len(labels), round(share * len(labels)), replace=False)
    classes = int(labels.max()) + 1
    wrong[rows] = (labels[rows] + rng.integers(1, classes, len(rows))) % classes
    return wrong


def f1(found: np.ndarray, planted: np.ndarray) -> float:
    hits = np.isin(found, planted).sum()
    return float(2 * hits / (len(found) + len(planted)))


def slow_joint(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Section 3.1 of the paper, image by image."""
    classes = probabilities.shape[1]
    limits = []
    for k in range(classes):
        own = [row[k] for row, label in zip(probabilities, labels, strict=True) if label == k]
        limits.append(sum(own) / len(own) if own else np.inf)
    counts = [[0.0] * classes for _ in range(classes)]
    for row, label in zip(probabilities, labels, strict=True):
        reached = [k for k in range(classes) if row[k] >= limits[k] - 1e-6]
        if reached:
            counts[label][max(reached, key=lambda k: row[k])] += 1
    for k in range(classes):
        counts[k][k] = max(counts[k][k], 1)
        images, total = sum(label == k for label in labels), sum(counts[k])
        counts[k] = [count / total * images for count in counts[k]]
    return np.array(counts)


@pytest.mark.parametrize("seed", range(4))
def test_confident_joint_is_that_of_the_paper(seed: int) -> None:
    labels, logits = clusters(200, 4, overlap=2.5, seed=seed)
    given = with_errors(labels, 0.15)
    given[given == 3] = 2
    probabilities = softmax(logits, axis=1)
    np.testing.assert_allclose(
        confident_joint(given, probabilities), slow_joint(given, probabilities)
    )


def test_joint_and_thresholds_are_those_of_cleanlab() -> None:
    count = pytest.importorskip("cleanlab.count", reason="cleanlab is not installed")
    labels, logits = clusters(500, 6, overlap=2.0)
    given, probabilities = with_errors(labels, 0.1), softmax(logits, axis=1)
    np.testing.assert_allclose(
        confident_thresholds(given, probabilities),
        count.get_confident_thresholds(given, probabilities),
    )
    # cleanlab rounds to whole images.
    theirs = count.compute_confident_joint(given, probabilities, calibrate=True)
    assert np.abs(confident_joint(given, probabilities) - theirs).max() <= 1


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("overlap", [1.0, 1.5])
def test_planted_errors_are_found_as_well_as_by_cleanlab(share: float, overlap: float) -> None:
    cleanlab = pytest.importorskip("cleanlab.filter", reason="cleanlab is not installed")
    labels, logits = clusters(1000, 6, overlap=overlap)
    given, probabilities = with_errors(labels, share), softmax(logits, axis=1)
    planted = np.flatnonzero(given != labels)
    ours = f1(find_suspects(given, probabilities).indices, planted)
    for method in ("prune_by_noise_rate", "both", "confident_learning", "low_self_confidence"):
        mask = cleanlab.find_label_issues(given, probabilities, filter_by=method, n_jobs=1)
        assert ours >= f1(np.flatnonzero(mask), planted) - 0.03, method


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
def test_planted_errors_are_found_and_counted(share: float) -> None:
    labels, logits = clusters(1000, 6)
    given = with_errors(labels, share)
    planted = np.flatnonzero(given != labels)
    suspects = find_suspects(given, softmax(logits, axis=1))
    assert f1(suspects.indices, planted) > 0.85
    assert suspects.noise_share == pytest.approx(share, abs=0.02)
    assert np.isin(suspects.indices[:20], planted).all()
    hits = np.isin(suspects.indices, planted)
    assert (suspects.suggested == labels[suspects.indices])[hits].mean() > 0.9
    assert (np.diff(suspects.scores) <= 0).all()


def test_hard_classes_are_not_taken_for_wrong_labels() -> None:
    labels, logits = clusters(3000, 4, overlap=3.0)
    suspects = find_suspects(labels, softmax(logits, axis=1))
    assert (logits.argmax(axis=1) != labels).mean() > 0.3
    assert suspects.confident_share > 0.2
    assert suspects.noise_share < 0.03
    assert len(suspects.indices) < 0.02 * len(labels)


def test_twins_are_not_taken_for_wrong_labels_and_others_still_are() -> None:
    labels, logits = clusters(1200, 4)
    # Nothing tells 0 and 1 apart; the head calls both 0, so that all of 1 look wrong.
    twins = np.isin(labels, (0, 1))
    strange = np.random.default_rng(5).normal(1.0, 1.0, twins.sum())
    logits[twins, 0] = 12.0
    logits[twins, 1] = 12.0 - strange
    given = labels.copy()
    wrong = np.flatnonzero(labels == 3)[:12]
    given[wrong] = 2
    suspects = find_suspects(given, softmax(logits, axis=1))
    assert np.isin(wrong, suspects.indices).sum() >= 11
    assert len(suspects.indices) <= len(wrong) + 4


def test_errors_of_one_kind_are_found() -> None:
    labels, logits = clusters(1200, 6)
    given = labels.copy()
    wrong = np.flatnonzero(labels == 2)[:40]
    given[wrong] = 3
    suspects = find_suspects(given, softmax(logits, axis=1))
    assert f1(suspects.indices, wrong) > 0.9
    assert (suspects.suggested[np.isin(suspects.indices, wrong)] == 2).all()


def taught_one_way(share: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of which a share went wrong one way, and what a head says that half believes it."""
    labels, logits = clusters(1500, 6, overlap=1.2, seed=seed)
    rng = np.random.default_rng(seed)
    rates = one_way_rates(share)
    given = np.array([rng.choice(6, p=rates[label]) for label in labels], dtype=np.int64)
    return labels, given, softmax(logits / 3, axis=1) @ one_way_rates(share / 2)


def one_way_rates(share: float) -> np.ndarray:
    rates = np.eye(6)
    rates[[1, 2, 4], [1, 2, 4]] = 1 - share
    rates[[1, 2, 4], [2, 3, 5]] = share
    return rates


@pytest.mark.parametrize("seed", range(3))
def test_a_head_that_learnt_errors_of_one_kind_is_unmixed(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels, given, probabilities = taught_one_way(0.3, seed)
    planted = np.flatnonzero(given != labels)
    found = find_suspects(given, probabilities)
    monkeypatch.setattr(confident, "ONE_WAY_SHARE", 1.0)
    mixed = find_suspects(given, probabilities)
    assert f1(found.indices, planted) > f1(mixed.indices, planted) + 0.05
    share = len(planted) / len(labels)
    assert abs(found.noise_share - share) < abs(mixed.noise_share - share)
    assert found.noise_share == pytest.approx(share, abs=0.04)


def test_unmixed_probabilities_are_those_before_the_mixing() -> None:
    rng = np.random.default_rng(0)
    true = softmax(rng.normal(scale=3, size=(200, 4)), axis=1)
    rates = np.array([[0.8, 0.2, 0, 0], [0, 1, 0, 0], [0, 0.1, 0.9, 0], [0, 0, 0.3, 0.7]])
    found = confident._unmixed(true @ rates, rates)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert np.abs(found - true).mean() < 0.25 * np.abs(true @ rates - true).mean()


def test_only_judged_images_are_suspected() -> None:
    labels, logits = clusters(400, 4)
    given = with_errors(labels, 0.1)
    judged = np.arange(400) % 2 == 0
    probabilities = softmax(logits, axis=1)
    probabilities[~judged] = np.nan
    suspects = find_suspects(given, probabilities, judged)
    assert len(suspects.indices) > 10
    assert judged[suspects.indices].all()
    alone = find_suspects(given[judged], probabilities[judged])
    np.testing.assert_array_equal(np.flatnonzero(judged)[alone.indices], suspects.indices)


def test_many_images_are_judged_from_some_of_them() -> None:
    labels, logits = clusters(45_000, 5)
    given = with_errors(labels, 0.05)
    suspects = find_suspects(given, softmax(logits, axis=1))
    assert suspects.noise_share == pytest.approx(0.05, abs=0.01)
    assert f1(suspects.indices, np.flatnonzero(given != labels)) > 0.9


def test_two_classes_and_unused_ones() -> None:
    labels, logits = clusters(300, 2)
    given = with_errors(labels, 0.1)
    wide = np.column_stack([logits, np.full(300, -np.inf)])
    probabilities = softmax(wide, axis=1)
    found = find_suspects(given, probabilities)
    assert f1(found.indices, np.flatnonzero(given != labels)) > 0.75
    assert (found.suggested < 2).all()


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_calibration_finds_the_temperature_in_spite_of_wrong_labels(share: float) -> None:
    labels, logits = clusters(4000, 5, overlap=2.0)
    calibrated = calibrated_probabilities(logits, with_errors(labels, share))
    np.testing.assert_allclose(calibrated.sum(axis=1), 1)
    # The logits are three times too large by construction.
    assert np.abs(calibrated - softmax(logits / 3, axis=1)).mean() < 0.02
    sure = calibrated.max(axis=1)
    right = calibrated.argmax(axis=1) == labels
    for low, high in ((0.4, 0.6), (0.6, 0.8), (0.8, 0.95)):
        among = (sure > low) & (sure < high)
        assert right[among].mean() == pytest.approx(sure[among].mean(), abs=0.07)


def test_calibrated_probabilities_stay_as_they_are() -> None:
    labels, logits = clusters(2000, 5, overlap=2.0)
    once = calibrated_probabilities(logits, labels)
    twice = calibrated_probabilities(np.log(np.maximum(once, 1e-300)), labels)
    assert np.abs(once - twice).max() < 0.02


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"labels": np.zeros(3, dtype=np.int64)}, "do not match"),
        ({"probabilities": np.ones((4, 1))}, "at least two classes"),
        ({"labels": np.array([0, 1, 2, 0])}, r"\[2\] are outside the label mapping"),
        ({"labels": np.array([0, 1, -1, 0])}, r"\[-1\] are outside the label mapping"),
        ({"probabilities": np.full((4, 2), np.nan)}, "NaN or infinite"),
        ({"judged": np.zeros(4, dtype=np.bool_)}, "no image was judged"),
    ],
)
def test_what_cannot_be_judged_is_refused(change: dict[str, Any], says: str) -> None:
    given: dict[str, Any] = {
        "labels": np.array([0, 1, 1, 0]),
        "probabilities": np.full((4, 2), 0.5),
        "judged": None,
    }
    with pytest.raises(DataError, match=says):
        find_suspects(**{**given, **change})


def test_auc_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(2)
    ahead, behind = rng.normal(1, 1, 40).round(1), rng.normal(0, 1, 70).round(1)
    wanted = roc_auc_score([1] * 40 + [0] * 70, np.concatenate([ahead, behind]))
    assert auc(ahead, behind) == pytest.approx(wanted)
    logits = np.column_stack([np.concatenate([ahead, behind]), np.zeros((110, 2))])
    labels = np.array([0] * 40 + [1] * 70)
    assert separability(logits, labels, 0, 1) == pytest.approx(wanted)
    assert separability(logits, labels, 0, 2) == 1


def test_interval_of_the_auc_holds_the_true_value() -> None:
    rng = np.random.default_rng(3)
    true, held = 0.7602, 0  # of two normals one standard deviation apart
    for _ in range(400):
        low, high = auc_interval(auc(rng.normal(1, 1, 30), rng.normal(0, 1, 50)), 30, 50)
        held += low <= true <= high
    assert 0.91 <= held / 400 <= 0.985
    low, high = auc_interval(1.0, 20, 20)
    assert low < 1 == high


def test_ranks_are_those_of_scipy() -> None:
    values = np.random.default_rng(0).integers(0, 9, 200).astype(np.float64)
    assert average_ranks(values).tolist() == rankdata(values).tolist()
