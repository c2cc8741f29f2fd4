from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from espalier import metrics
from espalier.errors import DataError
from espalier.records import Predictions


def predictions(labels: list[int], logits: np.ndarray) -> Predictions:
    ids = tuple(str(i) for i in range(len(labels)))
    names = tuple(f"class{i}" for i in range(logits.shape[1]))
    return Predictions(ids, ids, np.array(labels, dtype=np.int64), logits.astype(np.float32), names)


def draws() -> list[tuple[np.ndarray, np.ndarray, int]]:
    """Random sets, among them classes without labels, without predictions, and with neither."""
    rng = np.random.default_rng(0)
    found = []
    for classes, images in ((2, 1), (2, 7), (5, 6), (12, 20), (12, 400), (30, 40)):
        for _ in range(5):
            labels = rng.integers(max(1, classes - 2), size=images)
            wrong = rng.integers(classes, size=images)
            found.append((labels, np.where(rng.random(images) < 0.6, labels, wrong), classes))
    return found


@pytest.mark.parametrize(("labels", "predicted", "classes"), draws())
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_scores_equal_scikit_learn(labels: np.ndarray, predicted: np.ndarray, classes: int) -> None:
    f1 = reference.f1_score(labels, predicted, average="macro", zero_division=0)
    assert metrics.accuracy(labels, predicted) == pytest.approx(
        reference.accuracy_score(labels, predicted)
    )
    assert metrics.macro_f1(labels, predicted, classes) == pytest.approx(f1)
    assert metrics.balanced_accuracy(labels, predicted, classes) == pytest.approx(
        reference.balanced_accuracy_score(labels, predicted)
    )
    np.testing.assert_array_equal(
        metrics.confusion(labels, predicted, classes),
        reference.confusion_matrix(labels, predicted, labels=range(classes)),
    )


@pytest.mark.parametrize(("labels", "predicted", "classes"), draws())
def test_per_class_equals_scikit_learn(
    labels: np.ndarray, predicted: np.ndarray, classes: int
) -> None:
    rows = metrics.per_class(predictions(labels.tolist(), np.eye(classes)[predicted]))
    wanted = reference.precision_recall_fscore_support(
        labels, predicted, labels=range(classes), zero_division=0
    )
    got = np.array([(r.precision, r.recall, r.f1, r.support) for r in rows]).T
    np.testing.assert_allclose(got, np.array(wanted))
    assert [row.name for row in rows] == [f"class{i}" for i in range(classes)]


def test_cross_entropy_equals_torch_and_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(50, 7)) * 3, rng.integers(7, size=50)
    theirs = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(labels))
    assert metrics.cross_entropy(logits, labels) == pytest.approx(float(theirs))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert metrics.cross_entropy(logits, labels) == pytest.approx(
        reference.log_loss(labels, shares, labels=range(7))
    )


def test_cross_entropy_of_a_confident_mistake_is_its_true_price() -> None:
    assert metrics.cross_entropy([[1000.0, 0.0]], [1]) == pytest.approx(1000.0)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_cross_entropy_of_broken_logits_is_nan_without_a_warning(broken: float) -> None:
    assert math.isnan(metrics.cross_entropy([[broken, 0.0]], [1]))


def test_summary_leaves_out_images_without_label() -> None:
    logits = np.array([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 2.0, 0.0]])
    scores = metrics.summary(predictions([0, -1, 2], logits))
    assert scores["accuracy"] == 0.5
    assert scores["macro_f1"] == pytest.approx(1 / 3)
    assert scores["balanced_accuracy"] == 0.5
    right, wrong = 2 - math.log(math.e**2 + 2), -math.log(math.e**2 + 2)
    assert scores["loss"] == pytest.approx(-(right + wrong) / 2, rel=1e-6)
    assert [row.support for row in metrics.per_class(predictions([0, -1, 2], logits))] == [1, 0, 1]


def test_scores_of_many_matrices_at_once_equal_one_by_one() -> None:
    rng = np.random.default_rng(2)
    stack = rng.integers(0, 5, size=(20, 4, 4)).astype(float) + np.eye(4)
    hits = stack.diagonal(axis1=1, axis2=2)
    many = metrics.scores_of_counts(hits, stack.sum(axis=2), stack.sum(axis=1))
    for i, matrix in enumerate(stack.astype(int)):
        labels = np.repeat(np.arange(4), matrix.sum(axis=1))
        guess = np.concatenate([np.repeat(np.arange(4), row) for row in matrix])
        assert many["macro_f1"][i] == pytest.approx(
            reference.f1_score(labels, guess, average="macro", zero_division=0)
        )


def test_nothing_to_score_is_an_error_that_says_so() -> None:
    with pytest.raises(DataError, match="no labelled images"):
        metrics.accuracy([], [])
    with pytest.raises(DataError, match="no labelled images"):
        metrics.cross_entropy(np.zeros((0, 3)), [])
    with pytest.raises(DataError, match="no labelled images"):
        metrics.macro_f1([], [], 3)
    with pytest.raises(DataError, match="no labelled images"):
        metrics.summary(predictions([-1, -1], np.zeros((2, 3))))


def test_indices_outside_the_label_mapping_are_named() -> None:
    with pytest.raises(DataError, match=r"\[7\].*0 to 2"):
        metrics.confusion([0, 7], [1, 1], 3)
    with pytest.raises(DataError, match="do not match"):
        metrics.accuracy([0, 1], [0])


def test_metrics_import_neither_torch_nor_scikit_learn() -> None:
    code = (
        "import espalier.metrics, sys; print([m for m in ('torch', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
