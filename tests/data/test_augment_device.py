"""A batch rendered on a device shows what the threads would have shown, for the same draws.

Run on the CPU as a device everywhere, and on a GPU where there is one.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from espalier.data.augment_device import DeviceAugment, Pictures, pad_together
from espalier.data.resample import GREY
from espalier.data.transforms import TrainTransform
from espalier.recipe.policies import POLICIES, Steps, resolve_steps
from espalier.recipe.schema import Fit

Pixels = npt.NDArray[np.uint8]
SIDE = 64
SHAPES = [(150, 150), (90, 140), (70, 64), (40, 200), (64, 64), (300, 100), (50, 44), (128, 97)]
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def photo(height: int, width: int, seed: int = 0) -> Pixels:
    """Coarse shapes with fine texture, as photographs have."""
    generator = np.random.default_rng(seed)
    coarse, fine = (generator.random((height, width, 3)).astype(np.float32) for _ in range(2))
    coarse, fine = cv2.GaussianBlur(coarse, (0, 0), 6.0), cv2.GaussianBlur(fine, (0, 0), 0.8)
    coarse = (coarse - coarse.min()) / (coarse.max() - coarse.min())
    return np.clip(40 + 160 * coarse + 60 * (fine - 0.5), 0, 255).astype(np.uint8)


PHOTOS = [photo(*shape, seed) for seed, shape in enumerate(SHAPES)]


def rngs(seed: int = 0, count: int = len(PHOTOS)) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, index]) for index in range(count)]


def certain(**steps: dict[str, float]) -> Steps:
    return resolve_steps("none", {step: {"p": 1.0, **params} for step, params in steps.items()})


def on_device(
    transform: TrainTransform, images: list[Pixels], seed: int, device: str = "cpu"
) -> npt.NDArray[np.float64]:
    augment = DeviceAugment(transform, torch.device(device))
    views = augment(pad_together(images), rngs(seed, len(images)))
    assert views.dtype == torch.uint8
    assert views.is_contiguous(memory_format=torch.channels_last)
    return views.permute(0, 2, 3, 1).cpu().numpy().astype(np.float64)


def in_threads(
    transform: TrainTransform, images: list[Pixels], seed: int
) -> npt.NDArray[np.float64]:
    generators = rngs(seed, len(images))
    views = [transform(image, rng) for image, rng in zip(images, generators, strict=True)]
    return np.stack(views).astype(np.float64)


def assert_same(transform: TrainTransform, device: str, *, mean: float, most: float) -> None:
    for seed in range(3):
        ours = on_device(transform, PHOTOS, seed, device)
        difference = np.abs(ours - in_threads(transform, PHOTOS, seed))
        assert difference.mean(axis=(1, 2, 3)).max() < mean
        assert np.quantile(difference, 0.999) <= most


STEPS: dict[str, Steps] = {
    "crop": certain(random_resized_crop={"min_area": 0.3}),
    "flips": certain(hflip={}, vflip={}),
    "enlarged": certain(enlarged_crop={"factor": 1.5}),
    "rotation": certain(rotation={"degrees": 90.0}),
    "affine": certain(affine={"shear": 20.0, "min_scale": 0.5, "max_scale": 1.5}),
    "perspective": certain(perspective={"distortion": 0.4}),
    "grid": certain(grid_distortion={}),
    "elastic": certain(elastic_distortion={}, rotation={}),
    "bent": certain(elastic_distortion={}, grid_distortion={}),
    "jitter": certain(colour_jitter={"contrast": 0.5}),
    "grayscale": certain(grayscale={}, colour_jitter={}),
    "shadow": certain(shadow={}),
    "blur": certain(blur={"max_sigma": 4.0}),
    "wide blur": certain(blur={"min_sigma": 20.0, "max_sigma": 20.0}),
    "dropout": certain(coarse_dropout={}, random_erasing={}),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("step", STEPS)
def test_each_step_is_that_of_the_threads(step: str, device: str) -> None:
    assert_same(TrainTransform(SIDE, "crop", STEPS[step]), device, mean=1.0, most=4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("policy", ["none", "light", "standard", "strong", "heavy", "e8"])
def test_a_policy_is_that_of_the_threads(policy: str, fit: Fit, device: str) -> None:
    quiet = {"noise": {"p": 0.0}} if policy == "heavy" else None
    steps = resolve_steps(policy, quiet)
    assert_same(TrainTransform(SIDE, fit, steps), device, mean=1.0, most=5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("policy", ["randaugment", "trivialaugment"])
def test_torchvisions_operators_are_chosen_as_in_the_threads(policy: str, device: str) -> None:
    transform = TrainTransform(SIDE, "crop", resolve_steps(policy, None))
    images = [photo(80, 80, seed) for seed in range(40)]
    difference = np.abs(on_device(transform, images, 0, device) - in_threads(transform, images, 0))
    # Torchvision's operators on tensors take other neighbours than those on Pillow images.
    assert np.median(difference.mean(axis=(1, 2, 3))) < 1.0
    assert difference.mean(axis=(1, 2, 3)).max() < 8.0


@pytest.mark.parametrize("device", DEVICES)
def test_noise_is_as_strong_as_in_the_threads_and_the_same_for_the_same_draws(device: str) -> None:
    transform = TrainTransform(SIDE, "crop", certain(noise={"deviation": 0.1}))
    grey = [np.full((SIDE, SIDE, 3), 128, dtype=np.uint8)] * 8
    ours, theirs = on_device(transform, grey, 0, device), in_threads(transform, grey, 0)
    np.testing.assert_allclose(ours.std(axis=(1, 2, 3)), theirs.std(axis=(1, 2, 3)), rtol=0.05)
    assert np.abs(ours.mean(axis=(1, 2, 3)) - 128).max() < 1
    assert (on_device(transform, grey, 0, device) == ours).all()
    assert len({view.tobytes() for view in ours}) == 8


def test_a_picture_does_not_depend_on_the_others_of_its_batch() -> None:
    transform = TrainTransform(SIDE, "crop", resolve_steps("heavy", None))
    augment = DeviceAugment(transform, torch.device("cpu"))
    together = augment(pad_together(PHOTOS), rngs(3)).float()
    for index, image in enumerate(PHOTOS):
        alone = augment(pad_together([image]), [rngs(3)[index]]).float()[0]
        assert (alone - together[index]).abs().max() <= 1


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_what_lies_beside_a_picture_is_never_seen(fit: Fit) -> None:
    steps = resolve_steps("heavy", {"affine": {"p": 1.0, "translate": 0.5}})
    augment = DeviceAugment(TrainTransform(SIDE, fit, steps), torch.device("cpu"))
    pictures = pad_together(PHOTOS)
    dirty = pictures.pixels.clone()
    for row, (width, height) in zip(dirty, pictures.sizes, strict=True):
        row[:, height:] = 255
        row[:, :, width:] = 255
    clean, seen = augment(pictures, rngs()), augment(Pictures(dirty, pictures.sizes), rngs())
    assert torch.equal(clean, seen)


def test_nothing_global_is_drawn_from() -> None:
    augment = DeviceAugment(
        TrainTransform(SIDE, "crop", resolve_steps("heavy", None)), torch.device("cpu")
    )
    before = torch.get_rng_state()
    augment(pad_together(PHOTOS), rngs())
    assert torch.equal(torch.get_rng_state(), before)


def test_autocast_round_it_changes_nothing() -> None:
    augment = DeviceAugment(
        TrainTransform(SIDE, "crop", resolve_steps("light", None)), torch.device("cpu")
    )
    plain = augment(pad_together(PHOTOS), rngs())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augment(pad_together(PHOTOS), rngs()), plain)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_odd_shapes_are_no_error(fit: Fit, policy: str) -> None:
    shapes = [(1, 1), (1, 300), (300, 2), (900, 3), (7, 5)]
    images = [np.full((*shape, 3), GREY, dtype=np.uint8) for shape in shapes]
    geometry = {"elastic_distortion": {"p": 1.0}, "rotation": {"p": 0.5}, "blur": {"p": 0.5}}
    plain = policy in ("none", "light", "strong")
    steps = resolve_steps(policy, geometry if plain else {"blur": {"p": 0.5}})
    views = on_device(TrainTransform(8, fit, steps), images, 0)
    assert views.shape == (5, 8, 8, 3)
    assert np.isfinite(views).all()


def test_views_can_be_drawn_elsewhere_and_rendered_later() -> None:
    transform = TrainTransform(SIDE, "crop", resolve_steps("standard", None))
    augment, pictures = DeviceAugment(transform, torch.device("cpu")), pad_together(PHOTOS)
    drawn = [
        transform.draw(image.shape[1], image.shape[0], rng)
        for image, rng in zip(PHOTOS, rngs(), strict=True)
    ]
    assert torch.equal(augment.render(pictures, drawn), augment(pictures, rngs()))
