"""The object is found in the photograph, and where there is none that is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn_objects import dish, leaf, overlap, table

from espalier.data.images import read_image
from espalier.synth.region import find_leaves, find_object

DISHES = Path(__file__).resolve().parents[3] / "shared" / "datasets" / "dishes2" / "originals"


@pytest.mark.parametrize("colour", [(225, 222, 215), (35, 38, 40), (60, 90, 170), (200, 60, 50)])
@pytest.mark.parametrize("size", [(96, 128), (192, 256), (700, 500)])
def test_a_dish_on_a_table_is_found(colour: tuple[int, int, int], size: tuple[int, int]) -> None:
    pixels, truth = dish(*size, colour=colour)
    found = find_object(pixels)
    assert found.is_sure
    assert found.mask.shape == truth.shape
    assert overlap(found.mask, truth) > 0.93


def test_a_leaf_on_gravel_is_found() -> None:
    pixels, truth = leaf()
    found = find_leaves(pixels)
    assert found.is_sure
    assert overlap(found.mask, truth) > 0.88


@pytest.mark.parametrize("find", [find_object, find_leaves])
def test_nothing_is_found_where_nothing_is(find: object) -> None:
    rng = np.random.default_rng(0)
    empty = [
        np.full((120, 160, 3), 200, np.uint8),
        np.zeros((120, 160, 3), np.uint8),
        rng.integers(0, 256, (120, 160, 3), dtype=np.uint8),
        table(120, 160, 3),
    ]
    for pixels in empty:
        assert callable(find)
        assert not find(pixels).is_sure


def test_a_thin_photograph_and_a_tiny_one_are_no_crash() -> None:
    for shape in ((1, 1, 3), (2, 300, 3), (300, 3, 3)):
        assert find_object(np.full(shape, 90, np.uint8)).mask.shape == shape[:2]
        assert find_leaves(np.full(shape, 90, np.uint8)).mask.shape == shape[:2]


def test_the_same_photograph_has_the_same_region() -> None:
    pixels, _ = dish(seed=4)
    first, _, second = find_object(pixels), find_object(dish(seed=9)[0]), find_object(pixels)
    assert np.array_equal(first.mask, second.mask)
    assert first.confidence == second.confidence


def test_real_dishes_are_found() -> None:
    if not DISHES.is_dir():
        pytest.skip("no ../shared/datasets/dishes2")
    for path in sorted((DISHES / "cleaned").glob("*.jpg"))[::3]:
        found = find_object(read_image(str(path)))
        assert found.is_sure, path.name
        assert 0.1 < float(found.mask.mean()) < 0.7, path.name
