"""Class weights and samplers against the formulas, computed another way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.utils.class_weight import compute_class_weight

from espalier.data.balance import (
    class_weights,
    drawn_counts,
    epoch_order,
    read_class_weights,
    write_class_weights,
)
from espalier.errors import DataError, RecipeError

COUNTS = [2445, 980, 300, 41, 7, 1]
STRATEGIES = ["none", "inverse", "sqrt", "effective-number"]


def ratio(found: npt.NDArray[np.float64]) -> float:
    """Largest over smallest weight, of classes that have one above 0."""
    return float(found.max() / found[found > 0].min())


def weights(counts: list[int], strategy: str, cap: float | None = None, beta: float = 0.999):
    return class_weights(counts, strategy, cap=cap, beta=beta)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("cap", [None, 10.0])
def test_the_mean_weight_over_the_images_is_one(strategy: str, cap: float | None) -> None:
    found = weights(COUNTS, strategy, cap)
    images = np.repeat(np.arange(len(COUNTS)), COUNTS)
    assert found[images].mean() == pytest.approx(1.0, rel=1e-12)
    assert found.dtype == np.float64


def test_the_known_ratios_of_a_2445_to_1_data_set() -> None:
    assert ratio(weights(COUNTS, "inverse")) == pytest.approx(2445)
    assert ratio(weights(COUNTS, "sqrt")) == pytest.approx(49.4, abs=0.05)
    assert ratio(weights(COUNTS, "none")) == 1


def test_inverse_equals_scikit_learn_s_balanced() -> None:
    labels = np.repeat(np.arange(len(COUNTS)), COUNTS)
    balanced = compute_class_weight("balanced", classes=np.arange(len(COUNTS)), y=labels)
    np.testing.assert_allclose(weights(COUNTS, "inverse"), balanced, rtol=1e-12)


@pytest.mark.parametrize("beta", [0.9, 0.999, 0.999999999])
def test_effective_number_is_the_geometric_sum(beta: float) -> None:
    found = weights(COUNTS, "effective-number", beta=beta)
    effective = np.array([sum(beta**i for i in range(count)) for count in COUNTS])
    np.testing.assert_allclose(found / found[0], effective[0] / effective, rtol=1e-6)


def test_the_cap_cuts_rare_classes_only() -> None:
    free, capped = weights(COUNTS, "inverse"), weights(COUNTS, "inverse", cap=10.0)
    assert ratio(capped) == pytest.approx(10)
    assert capped[1] / capped[0] == pytest.approx(free[1] / free[0])
    assert capped[3] == capped[4] == capped[5]
    np.testing.assert_allclose(weights(COUNTS, "sqrt", cap=1000.0), weights(COUNTS, "sqrt"))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_class_without_images_weighs_nothing_and_changes_nothing(strategy: str) -> None:
    found = weights([0, *COUNTS, 0], strategy)
    assert found[0] == found[-1] == 0
    np.testing.assert_allclose(found[1:-1], weights(COUNTS, strategy))
    assert np.isfinite(ratio(found))


def test_bad_input_is_refused() -> None:
    with pytest.raises(DataError, match="no class has a training image"):
        weights([0, 0], "inverse")
    with pytest.raises(RecipeError, match="`invers`"):
        weights(COUNTS, "invers")
    with pytest.raises(RecipeError, match="`all`"):
        epoch_order([0, 1], "all", seed=0, epoch=0)


def test_class_weights_read_back_exactly(tmp_path: Path) -> None:
    classes = ["a", "b, c", 'quote "d"', "new\nline", "ü", " space "]
    found = weights(COUNTS, "effective-number")
    write_class_weights(tmp_path / "class_weights.csv", classes, COUNTS, found)
    names, counts, again = read_class_weights(tmp_path / "class_weights.csv")
    assert names == tuple(classes)
    assert counts == tuple(COUNTS)
    np.testing.assert_array_equal(again, found)
    (tmp_path / "other.csv").write_text("class,weight\na,1\n")
    for name in ("other.csv", "gone.csv"):
        with pytest.raises(DataError, match=name):
            read_class_weights(tmp_path / name)


def test_without_a_sampler_every_image_is_seen_once() -> None:
    order = epoch_order([0, 0, 1, 2, 2, 2], "none", seed=0, epoch=3)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("sampler", ["none", "balanced", "sqrt"])
def test_the_order_depends_on_seed_and_epoch_alone(sampler: str) -> None:
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    first = epoch_order(labels, sampler, seed=1, epoch=2)
    np.testing.assert_array_equal(epoch_order(labels, sampler, seed=1, epoch=2), first)
    for seed, epoch in ((1, 3), (2, 2), (2, 1)):
        assert (epoch_order(labels, sampler, seed=seed, epoch=epoch) != first).any()


@pytest.mark.parametrize(("sampler", "power"), [("balanced", 0.0), ("sqrt", 0.5)])
def test_samplers_draw_classes_by_their_shares(sampler: str, power: float) -> None:
    counts = np.array([9000, 900, 100])
    labels = np.repeat([0, 3, 5], counts)
    drawn = labels[epoch_order(labels, sampler, seed=0, epoch=0)]
    assert len(drawn) == len(labels)
    share = np.bincount(drawn, minlength=6)[[0, 3, 5]] / len(drawn)
    np.testing.assert_allclose(share, counts**power / (counts**power).sum(), atol=0.02)


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [("none", [90, 10, 0]), ("balanced", [50, 50, 0]), ("sqrt", [75, 25, 0])],
)
def test_expected_draws_agree_with_many_epochs(sampler, expected):
    labels = [0] * 90 + [1] * 10
    drawn = drawn_counts([90, 10, 0], sampler)
    assert drawn == pytest.approx(expected)
    seen = np.mean(
        [
            np.bincount(np.take(labels, epoch_order(labels, sampler, seed=0, epoch=e)), minlength=3)
            for e in range(200)
        ],
        axis=0,
    )
    assert seen == pytest.approx(expected, abs=1.5)
