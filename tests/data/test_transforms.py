"""Validation sees one fixed view of a photograph, fitted as in training, and never a random one."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from espalier.data.resample import GREY
from espalier.data.transforms import EvalTransform, TrainTransform, at_least_for, transform_for
from espalier.recipe.policies import POLICIES, resolve_steps
from espalier.recipe.schema import Augment, Data, Fit, Recipe
from espalier.records import Split

Pixels = npt.NDArray[np.uint8]


def photo(height: int, width: int) -> Pixels:
    """Ramps: red grows to the right, green downwards, so that places can be told."""
    y, x = np.mgrid[:height, :width]
    red, green = x * 255 / max(1, width - 1), y * 255 / max(1, height - 1)
    return np.stack([red, green, (red + green) / 2], axis=2).astype(np.uint8)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("split", ["val", "test"])
def test_no_policy_reaches_validation_or_test(policy: str, split: Split) -> None:
    recipe = Recipe(augment=Augment(policy=policy))
    transform = transform_for(split, recipe, 64)
    assert not isinstance(transform, TrainTransform)
    image, generator = photo(90, 120), rng()
    before = generator.bit_generator.state
    views = [transform(image, generator) for _ in range(5)]
    assert all((view == views[0]).all() for view in views)
    assert generator.bit_generator.state == before
    plain = transform_for(split, Recipe(augment=Augment(policy="none")), 64)
    assert (plain(image, generator) == views[0]).all()


def test_training_gets_the_policy_with_its_changes() -> None:
    steps = {"rotation": {"degrees": 3.0}}
    recipe = Recipe(augment=Augment(policy="strong", steps=steps), data=Data(fit="pad"))
    transform = transform_for("train", recipe, 64)
    assert isinstance(transform, TrainTransform)
    assert transform.steps == resolve_steps("strong", steps)
    assert (transform.fit, transform.imgsz) == ("pad", 64)


def test_a_resolved_recipe_gives_the_same_training_transform() -> None:
    steps = resolve_steps("standard", {"blur": {"p": 0.0}})
    recipe = Recipe(augment=Augment(policy="standard", steps=steps))
    transform = transform_for("train", recipe, 64)
    assert isinstance(transform, TrainTransform)
    assert transform.steps == {k: v for k, v in steps.items() if k != "blur"}


def test_a_split_that_does_not_exist_gets_no_transform() -> None:
    with pytest.raises(AssertionError):
        transform_for("validation", Recipe(), 64)  # type: ignore[arg-type]


@pytest.mark.parametrize(("height", "width"), [(100, 160), (160, 100), (40, 60), (300, 300)])
@pytest.mark.parametrize("share", [1.0, 0.8])
def test_crop_keeps_the_central_square(height: int, width: int, share: float) -> None:
    image = photo(height, width)
    side = round(min(height, width) * share)
    left, top = (width - side) // 2, (height - side) // 2
    part = Image.fromarray(image).crop((left, top, left + side, top + side))
    shrinks = side >= 64
    method = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    wanted = np.asarray(part.resize((64, 64), method)).astype(float)
    assert np.abs(EvalTransform(64, "crop", share)(image) - wanted).max() <= 2


def test_squash_keeps_everything() -> None:
    image = photo(80, 240)
    wanted = Image.fromarray(image).resize((64, 64), Image.Resampling.BOX)
    assert np.abs(EvalTransform(64, "squash", 0.5)(image) - np.asarray(wanted, float)).max() <= 2


def test_pad_keeps_everything_between_grey_bars() -> None:
    seen = EvalTransform(64, "pad", 0.5)(photo(100, 200))
    assert (seen[:16] == GREY).all()
    assert (seen[48:] == GREY).all()
    inner = Image.fromarray(photo(100, 200)).resize((64, 32), Image.Resampling.BOX)
    assert np.abs(seen[16:48] - np.asarray(inner, float)).max() <= 2
    small = EvalTransform(64, "pad", 1.0)(photo(8, 16))
    assert (small[0] == GREY).all()
    assert small[32, 0, 0] < 40
    assert small[32, -1, 0] > 215


@pytest.mark.parametrize("shape", [(100, 160), (60, 40), (128, 128), (500, 300)])
def test_training_without_a_policy_sees_what_validation_sees(shape: tuple[int, int]) -> None:
    image = photo(*shape)
    for fit in ("crop", "squash"):
        train = TrainTransform(64, fit, {})(image, rng())
        assert (train == EvalTransform(64, fit, 1.0)(image)).all()
    # Bars are put round a larger picture in training, so their edge may blend by a pixel.
    train = TrainTransform(64, "pad", {})(image, rng()).astype(float)
    different = np.abs(train - EvalTransform(64, "pad", 1.0)(image)).max(axis=2) > 12
    assert different.mean() < 0.04


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (3000, 2), (5, 7)])
def test_odd_shapes_are_no_error(fit: Fit, shape: tuple[int, int]) -> None:
    assert EvalTransform(64, fit, 0.5)(photo(*shape)).shape == (64, 64, 3)


def test_fine_patterns_do_not_alias() -> None:
    board = (np.indices((640, 640)).sum(axis=0) % 2 * 255).astype(np.uint8)
    seen = EvalTransform(100, "crop", 1.0)(np.repeat(board[..., None], 3, axis=2))
    assert np.abs(seen.astype(float) - 127.5).max() < 4


def test_pixels_asked_for_are_enough_for_every_view() -> None:
    assert EvalTransform(64, "crop", 0.8).at_least == 80
    assert EvalTransform(64, "pad", 0.8).at_least == 64
    assert TrainTransform(64, "crop", {}).at_least == 64
    for policy in POLICIES:
        transform = TrainTransform(64, "crop", resolve_steps(policy, None))
        crop = resolve_steps(policy, None).get("random_resized_crop")
        if crop:
            shortest = math.sqrt(crop["min_area"] * min(crop["min_ratio"], 1 / crop["max_ratio"]))
            assert transform.at_least * shortest >= 64
            assert transform.at_least < 3 * 64


def test_one_size_serves_every_resolution_of_a_run() -> None:
    recipe = Recipe(augment=Augment(policy="standard"), data=Data(crop_share=0.8))
    asked = at_least_for(recipe, [96, 128, 160])
    for size in (96, 128, 160):
        for split in ("train", "val", "test"):
            assert transform_for(split, recipe, size).at_least <= asked
    assert asked == transform_for("train", recipe, 160).at_least
    assert at_least_for(recipe, iter([160])) == asked


def test_a_test_resolution_of_its_own_asks_for_what_the_test_needs() -> None:
    recipe = Recipe(augment=Augment(policy="none"), data=Data(crop_share=0.8))
    assert at_least_for(recipe, [128]) == 160
    assert at_least_for(recipe, [128], eval_sizes=[160]) == 200
    assert at_least_for(recipe, [224], eval_sizes=[160]) == 224


@pytest.mark.parametrize("size", [64, 72, 80, 100])
def test_validation_at_another_resolution_sees_the_same_part_of_the_photo(size: int) -> None:
    image = photo(120, 160)
    small = EvalTransform(60, "crop", 0.9)(image).astype(float)
    large = np.asarray(Image.fromarray(EvalTransform(size, "crop", 0.9)(image)))
    again = np.asarray(Image.fromarray(large).resize((60, 60), Image.Resampling.BOX), float)
    assert np.abs(small - again).max() <= 4


def test_mild_shrinking_is_linear_and_strong_shrinking_averages() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 90, 3)).astype(np.uint8)
    planes = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    linear = torch.nn.functional.interpolate(planes, (64, 64), mode="bilinear")[0]
    wanted = linear.permute(1, 2, 0).numpy()
    assert np.abs(EvalTransform(64, "crop", 1.0)(image) - wanted).max() <= 1
    average = np.asarray(Image.fromarray(image).resize((30, 30), Image.Resampling.BOX), float)
    assert np.abs(EvalTransform(30, "crop", 1.0)(image) - average).max() <= 1


def test_a_crop_that_is_switched_off_asks_for_no_more_pixels() -> None:
    steps = resolve_steps("heavy", {"random_resized_crop": {"p": 0}, "affine": {"p": 0}})
    assert TrainTransform(64, "crop", steps).at_least == 64
