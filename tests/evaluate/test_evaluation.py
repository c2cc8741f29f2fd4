import numpy as np
import pytest
from sklearn.metrics import classification_report, confusion_matrix, log_loss

from espalier.errors import DataError
from espalier.evaluate.evaluation import evaluate_predictions, read_predictions, write_predictions
from espalier.records import Predictions

CLASSES = ("birch, white", "élan", "oak", "never seen")


@pytest.fixture
def predictions():
    rng = np.random.default_rng(4)
    labels = np.array([0, 0, 0, 0, 1, 1, 2, -1, 2, 1, -1, 0])
    logits = rng.normal(size=(12, 4)).astype(np.float32)
    logits[np.arange(12), np.maximum(labels, 0)] += 1
    names = tuple(f"id{i}" for i in range(12))
    return Predictions(names, tuple(f"/p/{n}.png" for n in names), labels, logits, CLASSES)


def test_only_labelled_images_are_judged_and_as_others_judge_them(predictions):
    found = evaluate_predictions(predictions, "val")
    known = predictions.labels >= 0
    true, guess = predictions.labels[known], predictions.predicted[known]
    assert found.images == 10
    report = classification_report(
        true, guess, labels=range(4), target_names=CLASSES, output_dict=True, zero_division=0
    )
    for score in found.per_class:
        expected = report[score.name]
        assert score.f1 == pytest.approx(expected["f1-score"])
        assert score.recall == pytest.approx(expected["recall"])
        assert score.precision == pytest.approx(expected["precision"])
        assert score.support == expected["support"]
    assert np.array_equal(found.confusion, confusion_matrix(true, guess, labels=range(4)))
    probabilities = predictions.probabilities[known]
    assert found.loss == pytest.approx(log_loss(true, probabilities, labels=range(4)), rel=1e-6)


def test_worst_classes_come_first_and_those_without_images_last(predictions):
    record = evaluate_predictions(predictions, "val").per_class_json()
    assert record[-1]["class"] == "never seen"
    assert record[-1]["support"] == 0
    scores = [entry["f1"] for entry in record[:-1]]
    assert scores == sorted(scores)


def test_the_record_has_an_interval_beside_each_score(predictions):
    record = evaluate_predictions(predictions, "val").to_json()
    assert set(record) == {
        "images", "loss", "accuracy", "accuracy_interval", "macro_f1", "macro_f1_interval",
        "balanced_accuracy", "balanced_accuracy_interval",
    }  # fmt: skip
    for name in ("accuracy", "macro_f1", "balanced_accuracy"):
        low, high = record[f"{name}_interval"]
        assert 0 <= low <= record[name] <= high <= 1


def test_the_same_predictions_give_the_same_intervals(predictions):
    first, second = (evaluate_predictions(predictions, "val").to_json() for _ in range(2))
    assert first == second


def test_without_a_single_label_there_is_nothing_to_compare_with(predictions):
    blind = Predictions(
        predictions.sample_ids, predictions.paths, np.full(12, -1), predictions.logits, CLASSES
    )
    with pytest.raises(DataError, match="none of the 12 images of photos has a label"):
        evaluate_predictions(blind, "photos")


def test_predictions_come_back_from_their_file_exactly(predictions, tmp_path):
    path = tmp_path / "predictions" / "new.parquet"
    write_predictions(path, predictions)
    back = read_predictions(path)
    assert back.classes == CLASSES
    assert back.sample_ids == predictions.sample_ids
    assert back.paths == predictions.paths
    assert np.array_equal(back.labels, predictions.labels)
    assert np.array_equal(back.logits, predictions.logits)
    assert [p.name for p in path.parent.iterdir()] == ["new.parquet"]


def test_no_predictions_are_a_file_too(tmp_path):
    empty = Predictions((), (), np.empty(0, np.int64), np.empty((0, 4), np.float32), CLASSES)
    write_predictions(tmp_path / "none.parquet", empty)
    back = read_predictions(tmp_path / "none.parquet")
    assert back.logits.shape == (0, 4)
    assert back.classes == CLASSES
