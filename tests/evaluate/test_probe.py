from __future__ import annotations

import json
import time

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import accuracy_score, f1_score

from espalier.errors import DataError
from espalier.evaluate.folds import stratified_folds
from espalier.evaluate.probe import SHRINKAGES, fit_linear_head, linear_probe

ABC = ("a", "b", "c", "d")


def clouds(
    counts: tuple[int, ...], features: int, *, apart: float = 1.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Features of so many images per class around a centre of its own; labels in a mixed order."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    centres = apart * rng.normal(size=(len(counts), features))
    noise = rng.normal(size=(len(labels), features)) * np.linspace(0.5, 2, features)
    return (centres[labels] + noise + 3).astype(np.float32), labels


class _Shrunk:
    """Covariance of one class with a constant added, as scikit-learn's estimators give it."""

    def __init__(self, added: float = 0.0) -> None:
        self.added = added

    def fit(self, x: np.ndarray) -> _Shrunk:
        self.covariance_ = np.cov(x.T, bias=True) + self.added * np.eye(x.shape[1])
        return self


@pytest.mark.parametrize("features", [12, 150])
def test_the_head_is_the_discriminant_of_scikit_learn(features: int) -> None:
    x, y = clouds((40, 25, 10, 5), features, apart=0.3)
    weight, bias = fit_linear_head(x, y, 4, shrinkage=0.3)
    added = 0.3 * x.astype(np.float64).var(axis=0).mean()
    other = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=_Shrunk(added))
    wanted = other.fit(x.astype(np.float64), y).decision_function(x)
    found = x @ weight.T + bias
    # Logits mean the same whatever is added to all of an image.
    found, wanted = (z - z.mean(axis=1, keepdims=True) for z in (found, wanted))
    assert found == pytest.approx(wanted, abs=2e-3)


def test_a_balanced_head_is_that_of_repeated_images() -> None:
    x, y = clouds((30, 10, 5), 8)
    weight, bias = fit_linear_head(x, y, 3, shrinkage=0.3, balanced=True)
    times = np.array([1, 3, 6])[y]
    repeated, labels = np.repeat(x, times, axis=0), np.repeat(y, times)
    # Its shrinkage is meant of the variance of the images as they are.
    ratio = x.var(axis=0).mean() / repeated.var(axis=0).mean()
    wanted_weight, wanted_bias = fit_linear_head(repeated, labels, 3, shrinkage=float(0.3 * ratio))
    found, wanted = x @ weight.T + bias, x @ wanted_weight.T + wanted_bias
    found, wanted = (z - z.mean(axis=1, keepdims=True) for z in (found, wanted))
    assert found == pytest.approx(wanted, abs=1e-3)


def test_each_image_is_judged_by_a_head_that_has_not_seen_its_fold() -> None:
    x, y = clouds((60, 40, 20), 30, apart=0.4)
    probe = linear_probe(x, y, ABC[:3], seed=7)
    parts = stratified_folds(y, 5, seed=7)
    scale = x.var(axis=0).mean()
    for fold, shrinkage in enumerate(probe.fold_shrinkages):
        held = parts == fold
        own = float(shrinkage * scale / x[~held].var(axis=0).mean())
        weight, bias = fit_linear_head(x[~held], y[~held], 3, shrinkage=own)
        found, wanted = probe.logits[held], x[held] @ weight.T + bias
        found, wanted = (z - z.mean(axis=1, keepdims=True) for z in (found, wanted))
        assert found == pytest.approx(wanted, abs=1e-3)


def test_scores_are_those_of_the_held_out_predictions() -> None:
    x, y = clouds((60, 40, 20), 30, apart=0.4)
    probe = linear_probe(x, y, ABC[:3])
    macro, accuracy = probe.scores["macro_f1"], probe.scores["accuracy"]
    assert macro.value == pytest.approx(f1_score(y, probe.predicted, average="macro"))
    assert accuracy.value == pytest.approx(accuracy_score(y, probe.predicted))
    assert macro.low < macro.value < macro.high
    each = f1_score(y, probe.predicted, average=None)
    assert [c.f1 for c in probe.per_class] == pytest.approx(each.tolist())
    assert probe.judged.all()


def test_what_can_be_told_apart_is_and_labels_by_chance_are_not() -> None:
    x, y = clouds((40, 40, 40, 40), 400)
    assert linear_probe(x, y, ABC).scores["accuracy"].value > 0.95
    # With more features than images any head fits its own images perfectly.
    by_chance = np.random.default_rng(1).permutation(y)
    assert linear_probe(x, by_chance, ABC).scores["accuracy"].value < 0.4


def test_choosing_the_shrinkage_has_no_look_at_the_judged_images() -> None:
    scores = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=(60, 40)).astype(np.float32), np.arange(60) % 2
        scores.append(linear_probe(x, y, ABC[:2], seed=seed).scores["accuracy"].value)
    assert np.mean(scores) == pytest.approx(0.5, abs=0.04)


def test_copies_in_one_group_are_never_on_both_sides() -> None:
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(60, 30)).astype(np.float32), 3, axis=0)
    y = np.repeat(rng.permutation(np.arange(60) % 3), 3)
    groups = [f"plant {i // 3}" for i in range(180)]
    leaky = linear_probe(x, y, ABC[:3]).scores["accuracy"].value
    honest = linear_probe(x, y, ABC[:3], groups=groups).scores["accuracy"].value
    assert leaky > 0.6
    assert honest < 0.5


def test_the_shrinkage_follows_the_data() -> None:
    rng = np.random.default_rng(0)
    # Many images, and the classes differ where the features vary least.
    labels = np.arange(3000) % 2
    spread = np.geomspace(0.05, 3, 20)
    many = rng.normal(size=(3000, 20)) * spread + labels[:, None] * spread[::-1] * 0.03
    assert linear_probe(many.astype(np.float32), labels, ABC[:2]).shrinkage == SHRINKAGES[0]
    # Few images, and all features vary alike.
    few = rng.normal(size=(60, 300)) + 0.2 * (np.arange(60) % 2)[:, None]
    assert linear_probe(few.astype(np.float32), np.arange(60) % 2, ABC[:2]).shrinkage >= 0.3


def test_rare_classes_are_judged_and_single_images_only_train() -> None:
    x, y = clouds((30, 20, 2, 1), 6, apart=6)
    probe = linear_probe(x, y, ABC)
    assert probe.images == 52
    assert not probe.judged[y == 3].any()
    assert [c.support for c in probe.per_class] == [30, 20, 2, 0]
    assert probe.per_class[2].f1 == 1.0
    assert probe.notes == ("not judged, because they have one image or group only: d",)


def test_a_class_in_one_group_is_not_judged_however_many_images_it_has() -> None:
    x, y = clouds((20, 20, 9), 6)
    groups = ["series" if label == 2 else None for label in y]
    probe = linear_probe(x, y, ABC[:3], groups=groups)
    assert probe.images == 40
    assert "c" in probe.notes[0]


@pytest.mark.parametrize("counts", [(2, 2), (2, 1), (3, 2), (1, 4), (2, 0, 2)])
def test_a_handful_of_images_is_enough(counts: tuple[int, ...]) -> None:
    x, y = clouds(counts, 20, apart=5)
    probe = linear_probe(x, y, ABC[: len(counts)])
    assert 2 <= probe.folds <= max(counts)
    assert 0 <= probe.scores["macro_f1"].low <= probe.scores["macro_f1"].high <= 1


def test_features_that_never_vary_change_nothing() -> None:
    x, y = clouds((30, 30, 30), 10, apart=0.7)
    padded = np.hstack([x, np.zeros((90, 5)), np.full((90, 5), 1e4)]).astype(np.float32)
    plain, with_constants = (linear_probe(f, y, ABC[:3]) for f in (x, padded))
    assert np.mean(plain.predicted == with_constants.predicted) > 0.95


def test_without_any_variation_the_most_frequent_class_is_called() -> None:
    y = np.array([0] * 12 + [1] * 6)
    probe = linear_probe(np.full((18, 4), 7, np.float32), y, ABC[:2])
    assert set(probe.predicted) == {0}


def test_features_from_a_read_only_file_and_of_any_size(tmp_path) -> None:
    x, y = clouds((20, 20), 10, apart=3)
    np.save(tmp_path / "kept.npy", x * 1e15)
    kept = np.load(tmp_path / "kept.npy", mmap_mode="r")
    before = np.array(kept)
    assert linear_probe(kept, y, ABC[:2]).scores["accuracy"].value > 0.9
    assert np.array_equal(kept, before)


def test_the_same_call_gives_the_same_answer() -> None:
    x, y = clouds((20, 20), 10, apart=0.5)
    first, second = (linear_probe(x, y, ABC[:2], seed=3) for _ in range(2))
    assert np.array_equal(first.logits, second.logits)
    assert first.scores == second.scores


def test_one_line_says_what_must_be_beaten_and_the_record_is_json() -> None:
    x, y = clouds((900, 600), 4, apart=0.5)
    probe = linear_probe(x, y, ("thistle", "cress"))
    record = json.loads(json.dumps(probe.to_json()))
    low, high = record["macro_f1_interval"]
    assert str(probe) == (
        f"a linear head alone gives macro-F1 {record['macro_f1']:.2f} +- {(high - low) / 2:.2f} "
        "(5-fold on 1,500 training images); fine-tuning must beat that"
    )
    assert record["per_class"][0]["f1"] <= record["per_class"][1]["f1"]
    assert {entry["class"] for entry in record["per_class"]} == {"thistle", "cress"}


def test_broken_features_are_counted_and_a_way_out_is_named() -> None:
    x, y = clouds((10, 10), 5)
    x[3, 1], x[7, 0], x[7, 4] = np.nan, np.inf, -np.inf
    with pytest.raises(DataError, match=r"2 of 20 images are NaN or infinite \(rows 3, 7\)") as e:
        linear_probe(x, y, ABC[:2])
    assert "fp32" in e.value.hint


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": np.zeros(20, dtype=np.int64)}, "all images are of class `a`"),
        ({"labels": np.arange(20), "classes": tuple("abcdefghijklmnopqrst")}, "two independent"),
        ({"labels": np.full(20, 2)}, r"class indices \[2\] are outside"),
        ({"labels": np.zeros(19, dtype=np.int64)}, "do not match"),
        ({"features": np.zeros((20, 2, 2), np.float32)}, "do not match"),
        ({"features": np.zeros((0, 5), np.float32), "labels": np.zeros(0, int)}, "at least one"),
        ({"folds": 1}, "folds=1"),
        ({"groups": ["one"] * 3}, "3 groups were given for 20 images"),
    ],
)
def test_what_cannot_be_judged_is_an_error_in_words(change: dict, words: str) -> None:
    x, y = clouds((10, 10), 5)
    arguments = {"features": x, "labels": y, "classes": ("a", "b"), **change}
    with pytest.raises(DataError, match=words):
        linear_probe(**arguments)


@pytest.mark.parametrize("folds", [2, 5, 7])
def test_folds_are_even_within_every_class(folds: int) -> None:
    y = np.random.default_rng(0).choice(4, p=[0.6, 0.3, 0.09, 0.01], size=501)
    parts = stratified_folds(y, folds, seed=1)
    table = np.array([np.bincount(parts[y == k], minlength=folds) for k in range(4)])
    assert (table.max(axis=1) - table.min(axis=1)).max() <= 1
    assert np.ptp(table.sum(axis=0)) <= 4
    assert not np.array_equal(parts, stratified_folds(y, folds, seed=2))


def test_folds_never_divide_a_group_and_stay_about_even() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=600)
    groups = [None if i % 5 == 0 else f"{y[i]}-{i % 40}" for i in range(600)]
    parts = stratified_folds(y, 5, seed=0, groups=groups)
    for name in set(groups) - {None}:
        assert len({int(p) for p, g in zip(parts, groups, strict=True) if g == name}) == 1
    assert np.bincount(parts).min() > 100


def test_three_thousand_images_cost_seconds_at_most() -> None:
    x, y = clouds((277,) * 12, 1280, apart=0.05)
    start = time.process_time()
    linear_probe(x, y, tuple("abcdefghijkl"))
    # Measured: 1.4 s; the rest is for busy and slow machines.
    assert time.process_time() - start < 6
