"""Each augmentation step does what torchvision's operator does, with one resampling for all."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from espalier.data import augment_colour as colour
from espalier.data.augment_geometry import View, draw_view, render
from espalier.data.resample import GREY, letterbox, resize
from espalier.data.transforms import TrainTransform
from espalier.recipe.policies import POLICIES, Steps, resolve_steps
from espalier.recipe.schema import Fit

Pixels = npt.NDArray[np.uint8]
SIDE = 96
BILINEAR = InterpolationMode.BILINEAR


def photo(height: int = SIDE, width: int = SIDE, *, low: int = 60, high: int = 190) -> Pixels:
    """Smooth colours without clipping, so that interpolation differs by little."""
    noise = np.random.default_rng(7).random((height, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 4.0, borderType=cv2.BORDER_REFLECT)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return (low + (high - low) * smooth).round().astype(np.uint8)


def tensor(image: Pixels) -> torch.Tensor:
    return torch.from_numpy(image.transpose(2, 0, 1).copy())


def array(image: torch.Tensor) -> npt.NDArray[np.float64]:
    return image.permute(1, 2, 0).numpy().astype(np.float64)


def only(step: str, **params: float) -> Steps:
    return resolve_steps("none", {step: {"p": 1.0, **params}})


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def transformed(image: Pixels, steps: Steps, seed: int, fit: Fit = "crop") -> Pixels:
    return TrainTransform(SIDE, fit, steps)(image, rng(seed))


def drawn(image: Pixels, steps: Steps, seed: int) -> View:
    return draw_view(image.shape[1], image.shape[0], SIDE, "crop", steps, rng(seed))


def assert_same_inside(
    ours: Pixels, operator: Callable[[torch.Tensor], torch.Tensor], image: Pixels, *, within: float
) -> None:
    """Equal up to rounding wherever torchvision did not look beyond the picture."""
    theirs = array(operator(tensor(image)))
    inside = array(operator(tensor(np.full_like(image, 255))))[..., 0] == 255
    inside = cv2.erode(inside.astype(np.uint8), np.ones((3, 3))).astype(bool)
    assert inside.mean() > 0.4
    difference = np.abs(ours.astype(float) - theirs)[inside]
    assert difference.max() <= within
    assert difference.mean() <= within / 2


def moved_corners(matrix: npt.NDArray[np.float64]) -> tuple[list[list[int]], list[list[float]]]:
    """The corners of the view before and after."""
    start = [[0, 0], [SIDE, 0], [SIDE, SIDE], [0, SIDE]]
    points = (matrix @ np.array([[x, y, 1.0] for x, y in start]).T).T
    return start, (points[:, :2] / points[:, 2:]).tolist()


def rotated(view: View) -> Callable[[torch.Tensor], torch.Tensor]:
    assert view.turned is not None
    angle = math.degrees(math.atan2(view.turned[0, 1], view.turned[0, 0]))
    return lambda image: F.rotate(image, angle, interpolation=BILINEAR)


def affine_parts(matrix: npt.NDArray[np.float64]) -> Callable[[torch.Tensor], torch.Tensor]:
    zoom, lean = matrix[0, 0], -matrix[0, 1] / matrix[0, 0]
    centre = np.array([SIDE / 2, SIDE / 2, 1.0])
    translate = ((matrix @ centre) - centre)[:2].tolist()
    shear = [math.degrees(math.atan(lean)), 0.0]
    return lambda image: F.affine(image, 0.0, translate, zoom, shear, interpolation=BILINEAR)


@pytest.mark.parametrize("seed", range(4))
def test_rotation_is_torchvisions(seed: int) -> None:
    steps, image = only("rotation", degrees=45), photo()
    operator = rotated(drawn(image, steps, seed))
    assert_same_inside(transformed(image, steps, seed), operator, image, within=1.0)


def test_rotation_covers_both_directions_and_stays_within_its_limit() -> None:
    image, steps = photo(), only("rotation", degrees=30)
    views = [drawn(image, steps, seed) for seed in range(300)]
    angles = [math.degrees(math.atan2(v.turned[0, 1], v.turned[0, 0])) for v in views]  # type: ignore[index]
    assert -30 <= min(angles) < -28
    assert 28 < max(angles) <= 30
    assert abs(float(np.mean(angles))) < 3


@pytest.mark.parametrize("seed", range(4))
def test_affine_is_torchvisions(seed: int) -> None:
    steps = only("affine", translate=0.1, min_scale=0.8, max_scale=1.3, shear=15)
    image = photo()
    matrix = drawn(image, steps, seed).turned
    assert matrix is not None
    operator = affine_parts(matrix)
    assert_same_inside(transformed(image, steps, seed), operator, image, within=1.0)
    assert 0.8 <= matrix[0, 0] <= 1.3
    assert abs(math.degrees(math.atan(matrix[0, 1] / matrix[0, 0]))) <= 15


@pytest.mark.parametrize("seed", range(4))
def test_perspective_is_torchvisions(seed: int) -> None:
    steps, image = only("perspective", distortion=0.4), photo()
    matrix = drawn(image, steps, seed).turned
    assert matrix is not None
    start, end = moved_corners(matrix)
    assert_same_inside(
        transformed(image, steps, seed),
        lambda source: F.perspective(source, start, end, interpolation=BILINEAR),  # type: ignore[arg-type]
        image,
        within=1.5,
    )
    corners = np.array(end)
    assert (np.abs(corners - np.array(start)) <= 0.2 * SIDE + 1e-6).all()


@pytest.mark.parametrize(("height", "width"), [(150, 150), (240, 320)])
def test_random_resized_crop_is_torchvisions(height: int, width: int) -> None:
    steps, image = only("random_resized_crop", min_area=0.3), photo(height, width)
    for seed in range(4):
        box = drawn(image, steps, seed).box
        place = [int(v) for v in (box.y, box.x, box.height, box.width)]
        theirs = F.resized_crop(tensor(image), *place, [SIDE, SIDE], BILINEAR, antialias=True)
        difference = np.abs(transformed(image, steps, seed) - array(theirs))
        assert difference.mean() < 0.8
        assert difference.max() <= 5


def test_crops_of_a_square_are_distributed_as_torchvisions() -> None:
    steps = only("random_resized_crop", min_area=0.2, min_ratio=0.75, max_ratio=4 / 3)
    image = photo(150, 150)
    ours = np.array([drawn(image, steps, seed).box for seed in range(2000)])
    torch.manual_seed(0)
    crop = v2.RandomResizedCrop(SIDE, scale=(0.2, 1.0), ratio=(0.75, 4 / 3))
    made = [crop.make_params([tensor(image)]) for _ in range(2000)]
    theirs = np.array([[p["left"], p["top"], p["width"], p["height"]] for p in made])
    np.testing.assert_allclose(ours.mean(axis=0), theirs.mean(axis=0), atol=2.0)
    np.testing.assert_allclose(ours.std(axis=0), theirs.std(axis=0), atol=2.0)


def test_crops_of_a_wide_picture_have_the_size_of_those_of_its_square_and_lie_anywhere() -> None:
    steps = only("random_resized_crop", min_area=0.5, min_ratio=0.8, max_ratio=1.25)
    image = photo(100, 300)
    boxes = np.array([drawn(image, steps, seed).box for seed in range(1000)])
    areas = boxes[:, 2] * boxes[:, 3] / 100**2
    assert 0.48 < areas.min() < 0.55
    assert 0.95 < areas.max() < 1.02
    assert boxes[:, 0].min() < 5
    assert (boxes[:, 0] + boxes[:, 2]).max() > 295
    assert len({tuple(box) for box in boxes}) > 900


def test_a_crop_that_never_fits_becomes_the_largest_allowed() -> None:
    steps = only("random_resized_crop", min_area=1.0, min_ratio=0.1, max_ratio=0.5)
    box = drawn(photo(10, 400), steps, 0).box
    assert box == ((400 - 5) // 2, 0, 5, 10)


def test_enlarged_crop_is_resize_then_crop() -> None:
    steps, image = only("enlarged_crop", factor=1.5), photo(120, 160)
    boxes = [drawn(image, steps, seed).box for seed in range(400)]
    assert {(box.width, box.height) for box in boxes} == {(80.0, 80.0)}
    assert min(box.x for box in boxes) < 2
    assert max(box.x for box in boxes) > 78
    assert max(box.y for box in boxes) > 38
    seen = transformed(image, steps, 3)
    box = boxes[3]
    large = F.resize(tensor(image), [144, 192], BILINEAR, antialias=True)
    theirs = F.crop(large, round(box.y * 1.2), round(box.x * 1.2), SIDE, SIDE)
    assert np.abs(seen - array(theirs)).mean() < 1.5


def test_flips_are_exactly_torchvisions() -> None:
    image = photo()
    across, down = F.horizontal_flip(tensor(image)), F.vertical_flip(tensor(image))
    assert (transformed(image, only("hflip"), 0) == array(across)).all()
    assert (transformed(image, only("vflip"), 0) == array(down)).all()
    assert (transformed(image, only("hflip"), 0) == image[:, ::-1]).all()
    assert (transformed(image, only("vflip"), 0) == image[::-1]).all()
    both = {**only("hflip"), **only("vflip")}
    assert (transformed(image, both, 0) == image[::-1, ::-1]).all()


def test_grid_distortion_is_a_lookup_between_moved_lines() -> None:
    steps, image = only("grid_distortion", strength=0.5), photo()
    view = drawn(image, steps, 1)
    assert view.columns is not None
    assert view.rows is not None
    grid = np.stack(np.meshgrid(view.columns, view.rows), axis=-1) * 2 / SIDE - 1
    theirs = torch.nn.functional.grid_sample(
        tensor(image)[None].double(),
        torch.from_numpy(grid)[None],
        padding_mode="border",
        align_corners=False,
    )[0]
    difference = np.abs(transformed(image, steps, 1) - array(theirs))[2:-2, 2:-2]
    assert difference.max() <= 1.5
    assert (np.diff(view.columns) > 0).all()
    assert view.columns[0] >= 0
    assert view.columns[-1] <= SIDE
    assert np.abs(view.columns - np.arange(SIDE) - 0.5).max() > 2


@pytest.mark.parametrize("seed", range(3))
def test_elastic_distortion_is_torchvisions(seed: int) -> None:
    steps, image = only("elastic_distortion", cells=4, strength=0.4), photo()
    pushed = drawn(image, steps, seed).pushed
    assert pushed is not None
    assert np.abs(pushed).max() > 2
    displacement = torch.from_numpy(pushed.transpose(1, 2, 0))[None] * 2 / SIDE
    assert_same_inside(
        transformed(image, steps, seed),
        lambda source: F.elastic(source, displacement.float(), interpolation=BILINEAR),
        image,
        within=1.5,
    )


def test_elastic_distortion_pushes_by_no_more_than_asked_and_never_folds() -> None:
    for seed in range(60):
        steps = only("elastic_distortion", cells=6, strength=0.45)
        pushed = drawn(photo(), steps, seed).pushed
        assert pushed is not None
        assert np.abs(pushed).max() <= 0.45 * SIDE / 6
        across, down = np.gradient(pushed[0]), np.gradient(pushed[1])
        assert ((1 + across[1]) * (1 + down[0]) - across[0] * down[1]).min() > 0
    still = only("elastic_distortion", strength=0.0)
    assert (transformed(photo(), still, 0) == photo()).all()


def test_elastic_and_grid_together_equal_one_after_the_other() -> None:
    image = photo()
    both = {**only("elastic_distortion"), **only("grid_distortion", strength=0.4)}
    view = drawn(image, both, 5)
    assert view.columns is not None
    assert view.rows is not None
    generator = rng(5)
    first = draw_view(SIDE, SIDE, SIDE, "crop", only("elastic_distortion"), generator)
    second = View(view.box, False, False, None, 1.0, view.columns, view.rows)
    two_steps = render(render(image, first, SIDE), second, SIDE)
    difference = np.abs(render(image, view, SIDE).astype(float) - two_steps)[4:-4, 4:-4]
    assert difference.mean() < 0.7
    assert difference.max() <= 5


def test_a_bent_view_continues_the_picture_beyond_its_edge_as_a_straight_one_does() -> None:
    image = photo(80, 120)
    for zoom in (1.0, 0.2):
        turn = only("affine", min_scale=zoom, max_scale=zoom, translate=0.3, shear=20)
        straight = drawn(image, turn, 3)
        assert straight.turned is not None
        even = np.arange(SIDE) + 0.5
        bent = View(straight.box, False, False, straight.turned, zoom, even, even)
        difference = np.abs(render(image, straight, SIDE).astype(float) - render(image, bent, SIDE))
        assert difference.max() <= 2


def test_crop_and_rotation_in_one_warp_equal_torchvisions_two() -> None:
    image = photo(150, 200)
    steps = {**only("random_resized_crop", min_area=0.5), **only("rotation", degrees=40)}
    for seed in range(3):
        view = drawn(image, steps, seed)
        place = [int(v) for v in (view.box.y, view.box.x, view.box.height, view.box.width)]
        crop = F.resized_crop(tensor(image), *place, [SIDE, SIDE], BILINEAR, antialias=True)
        cropped = np.asarray(array(crop), np.uint8)
        assert_same_inside(transformed(image, steps, seed), rotated(view), cropped, within=4.0)


def test_one_warp_equals_one_step_after_another() -> None:
    image = photo()
    steps = resolve_steps(
        "none",
        {
            "hflip": {"p": 1.0},
            "rotation": {"p": 1.0, "degrees": 20.0},
            "affine": {"p": 1.0, "shear": 8.0, "min_scale": 1.05, "max_scale": 1.2},
            "perspective": {"p": 1.0, "distortion": 0.2},
        },
    )
    view = draw_view(SIDE, SIDE, SIDE, "crop", steps, rng(8))
    # The draws of each step are replayed from the same seed, in the documented order.
    replay = rng(8)
    replay.random(), replay.random()
    angle = 20.0 * (2.0 * replay.random() - 1.0)
    replay.random()
    zoom = 1.05 + 0.15 * replay.random()
    lean = 8.0 * (2.0 * replay.random() - 1.0)
    translate = [0.05 * SIDE * (2.0 * replay.random() - 1.0) for _ in range(2)]
    assert view.turned is not None
    so_far = F.rotate(F.horizontal_flip(tensor(image)), angle, interpolation=BILINEAR)
    so_far = F.affine(so_far, 0.0, translate, zoom, [lean, 0.0], interpolation=BILINEAR)
    inside = F.rotate(torch.full_like(tensor(image), 255), angle)
    inside = F.affine(inside, 0.0, translate, zoom, [lean, 0.0])
    affine_only = {k: v for k, v in steps.items() if k != "perspective"}
    ours = render(image, draw_view(SIDE, SIDE, SIDE, "crop", affine_only, rng(8)), SIDE)
    mask = cv2.erode((array(inside)[..., 0] == 255).astype(np.uint8), np.ones((5, 5))).astype(bool)
    # Where torchvision's second step looks at the black beyond the edge of its first.
    mask[[0, -1]] = mask[:, [0, -1]] = False
    assert mask.mean() > 0.6
    difference = np.abs(ours - array(so_far))[mask]
    assert difference.mean() < 0.7
    assert difference.max() <= 4
    # Perspective comes last: what it adds is exactly its own matrix.
    before = draw_view(SIDE, SIDE, SIDE, "crop", affine_only, rng(8)).turned
    assert before is not None
    start, end = moved_corners(view.turned @ np.linalg.inv(before))
    assert (np.abs(np.array(end) - np.array(start)) <= 0.1 * SIDE + 1e-6).all()


def test_grid_and_warp_together_equal_one_after_the_other() -> None:
    image = photo()
    steps = resolve_steps(
        "none",
        {"rotation": {"p": 1.0, "degrees": 30.0}, "grid_distortion": {"p": 1.0, "strength": 0.4}},
    )
    view = drawn(image, steps, 2)
    straight = View(view.box, False, False, view.turned, 1.0, None, None)
    bent = View(view.box, False, False, None, 1.0, view.columns, view.rows)
    two_steps = render(render(image, straight, SIDE), bent, SIDE)
    difference = np.abs(render(image, view, SIDE).astype(float) - two_steps)[4:-4, 4:-4]
    assert difference.mean() < 0.7
    assert difference.max() <= 4


def test_corners_are_filled_from_the_picture() -> None:
    white = np.full((150, 150, 3), 255, dtype=np.uint8)
    geometry = {k: v for k, v in resolve_steps("heavy", None).items() if k in _GEOMETRY}
    certain = {step: {**params, "p": 1.0} for step, params in geometry.items()}
    for seed in range(20):
        assert transformed(white, certain, seed).min() == 255


_GEOMETRY = {
    *("random_resized_crop", "hflip", "vflip", "rotation", "affine", "perspective"),
    "grid_distortion",
}


def test_fine_patterns_do_not_alias_when_shrinking() -> None:
    board = np.indices((768, 768)).sum(axis=0) % 2 * 255
    image = np.repeat(board[..., None], 3, axis=2).astype(np.uint8)
    for steps in ({}, only("rotation", degrees=30), only("grid_distortion")):
        seen = transformed(image, steps, 4).astype(float)
        assert np.abs(seen - 127.5).max() < 20


def test_a_warp_of_a_large_photo_equals_a_warp_of_its_average() -> None:
    large = resize(photo(), SIDE * 5, SIDE * 5)
    steps = only("rotation", degrees=30)
    seen, wanted = transformed(large, steps, 3), transformed(photo(), steps, 3)
    assert np.abs(seen.astype(float) - wanted).mean() < 1.0


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.4])
def test_brightness_contrast_and_saturation_are_torchvisions(factor: float) -> None:
    image = photo(low=80, high=160)
    mean = float(colour.LUMA @ image.reshape(-1, 3).mean(axis=0))
    cases = [
        (colour.brightness(factor), F.adjust_brightness),
        (colour.contrast(factor, mean), F.adjust_contrast),
        (colour.saturation(factor), F.adjust_saturation),
    ]
    for matrix, operator in cases:
        theirs = array(operator(tensor(image), factor))
        # torchvision rounds the grey image, and every result, down.
        assert np.abs(cv2.transform(image, matrix).astype(float) - theirs).max() <= 2


@pytest.mark.parametrize("turns", [-0.1, -0.03, 0.03, 0.1])
def test_hue_turns_colours_as_far_as_torchvisions(turns: float) -> None:
    image = np.array([[[180, 60, 50], [60, 170, 90], [90, 70, 190], [170, 160, 40]]], np.uint8)

    def angles(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        return cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)[..., 0] / 180.0

    theirs = angles(array(F.adjust_hue(tensor(image), turns)).astype(np.uint8)) - angles(image)
    ours = angles(np.asarray(cv2.transform(image, colour.hue(turns)), np.uint8)) - angles(image)
    wrapped = (ours - theirs + 0.5) % 1.0 - 0.5
    assert np.abs(wrapped).max() < 0.02
    assert abs(float(wrapped.mean())) < 0.01
    sums = cv2.transform(image, colour.hue(turns)).astype(int).sum(axis=2)
    np.testing.assert_allclose(sums, image.astype(int).sum(axis=2), atol=2)


def test_grayscale_is_torchvisions() -> None:
    image = photo()
    theirs = array(F.rgb_to_grayscale(tensor(image), num_output_channels=3))
    assert np.abs(transformed(image, only("grayscale"), 0) - theirs).max() <= 1


def test_colours_composed_equal_colours_one_after_another() -> None:
    image = photo(low=90, high=150)
    first, second = colour.saturation(1.3), colour.hue(0.05)
    at_once = cv2.transform(image, colour.then(first, second)).astype(float)
    in_turn = cv2.transform(cv2.transform(image, first), second).astype(float)
    assert np.abs(at_once - in_turn).max() <= 2


@pytest.mark.parametrize("seed", range(4))
def test_colour_jitter_is_torchvisions_one_step_after_another(seed: int) -> None:
    image = photo(low=90, high=150)
    steps = only("colour_jitter", brightness=0.3, contrast=0.3, saturation=0.3, hue=0.0)
    replay = rng(seed)
    replay.random()
    factors = [1.0 + 0.3 * (2.0 * replay.random() - 1.0) for _ in range(3)]
    theirs = tensor(image)
    adjust = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation)
    for operator, factor in zip(adjust, factors, strict=True):
        theirs = operator(theirs, factor)
    # torchvision rounds every result down, and so does the sum of three.
    assert np.abs(transformed(image, steps, seed) - array(theirs)).max() <= 4


def test_contrast_turns_about_the_mean_of_the_view_and_not_of_the_photo() -> None:
    image = np.full((SIDE, 3 * SIDE, 3), 200, dtype=np.uint8)
    image[:, SIDE : 2 * SIDE] = 100
    steps = only("colour_jitter", brightness=0.0, contrast=0.5, saturation=0.0, hue=0.0)
    assert all((transformed(image, steps, seed) == 100).all() for seed in range(5))


def test_jitter_stays_within_its_strengths() -> None:
    grey = np.full((SIDE, SIDE, 3), 100, dtype=np.uint8)
    steps = only("colour_jitter", brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1)
    levels = [int(transformed(grey, steps, seed)[0, 0, 0]) for seed in range(300)]
    assert 80 <= min(levels) <= 83
    assert 117 <= max(levels) <= 120
    changed = transformed(photo(), steps, 1).astype(float) - photo()
    assert np.abs(changed).mean() > 1


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5])
def test_blur_is_torchvisions(sigma: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    size = 2 * max(1, math.ceil(3 * sigma)) + 1
    theirs = array(F.gaussian_blur(tensor(image), [size, size], [sigma, sigma]))
    assert np.abs(colour.blur(image, sigma) - theirs).max() <= 1


def test_noise_has_the_deviation_and_no_shift() -> None:
    image = np.full((SIDE, SIDE, 3), 128, dtype=np.uint8)
    spread = [
        (transformed(image, only("noise", deviation=0.05), seed) - 128.0).std()
        for seed in range(40)
    ]
    assert max(spread) < 0.05 * 255 * 1.05
    assert max(spread) > 0.05 * 255 * 0.8
    seen = transformed(image, only("noise", deviation=0.1), 0)
    assert abs(float(seen.mean()) - 128) < 0.5


def test_noise_is_as_strong_as_torchvisions_in_every_channel() -> None:
    image = np.full((SIDE, SIDE, 3), 128, dtype=np.uint8)
    noise = colour.Noise(deviation=0.1 * 255, seed=4)
    seen = colour.retouch(image, colour.Look(None, None, None, noise, ())).astype(float)
    torch.manual_seed(0)
    theirs = array(F.gaussian_noise(tensor(image) / 255, sigma=0.1) * 255)
    np.testing.assert_allclose(seen.std(axis=(0, 1)), theirs.std(axis=(0, 1)), rtol=0.05)
    np.testing.assert_allclose(seen.mean(axis=(0, 1)), 128, atol=1.5)
    assert np.abs(np.corrcoef(seen.reshape(-1, 3).T) - np.eye(3)).max() < 0.05


@pytest.mark.parametrize("step", ["random_erasing", "coarse_dropout"])
def test_holes_are_torchvisions_erase(step: str) -> None:
    image, steps = photo(low=150, high=250), only(step)
    for seed in range(10):
        drawn_holes = TrainTransform(SIDE, "crop", steps).draw(SIDE, SIDE, rng(seed)).look.holes
        theirs = tensor(image)
        for x, y, width, height in drawn_holes:
            theirs = F.erase(theirs, y, x, height, width, torch.full((3, 1, 1), GREY))
        assert drawn_holes
        assert (transformed(image, steps, seed) == array(theirs)).all()


def test_random_erasing_covers_areas_as_torchvisions() -> None:
    image = photo(low=150, high=250)
    steps = only("random_erasing", min_area=0.02, max_area=0.33)
    covered = [(transformed(image, steps, s) == GREY).all(axis=2).mean() for s in range(500)]
    torch.manual_seed(0)
    erasing = v2.RandomErasing(p=1.0, scale=(0.02, 0.33), ratio=(0.3, 3.3), value=GREY)
    theirs = [
        (erasing(tensor(image)) == GREY).all(dim=0).double().mean().item() for _ in range(500)
    ]
    assert np.mean(covered) == pytest.approx(np.mean(theirs), abs=0.015)
    assert min(covered) > 0.015
    assert max(covered) < 0.34


def test_coarse_dropout_makes_holes_of_the_given_number_and_size() -> None:
    image = photo(low=150, high=250)
    steps = only("coarse_dropout", max_holes=1, min_size=0.1, max_size=0.2)
    for seed in range(50):
        rows, columns = np.nonzero((transformed(image, steps, seed) == GREY).all(axis=2))
        assert 10 <= np.ptp(rows) + 1 <= 19
        assert 10 <= np.ptp(columns) + 1 <= 19
    many = only("coarse_dropout", max_holes=8)
    shares = [(transformed(image, many, s) == GREY).all(axis=2).mean() for s in range(100)]
    assert max(shares) > 2 * min(shares) > 0


def test_a_shadow_darkens_a_part_and_brightens_nothing() -> None:
    image = np.full((SIDE, SIDE, 3), 200, dtype=np.uint8)
    steps = only("shadow", min_darkness=0.5, max_darkness=0.5)
    shaded = np.array([transformed(image, steps, seed) for seed in range(50)])
    assert shaded.max() == 200
    assert 98 <= shaded.min() <= 102
    share = (shaded[..., 0] < 150).mean(axis=(1, 2))
    assert share.min() < 0.2
    assert 0.3 < share.max() < 1.0


@pytest.mark.parametrize("step", [*resolve_steps("heavy", None), "elastic_distortion"])
def test_a_step_with_p_0_has_no_effect_and_p_is_the_share_of_images(step: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (120, 140, 3)).astype(np.uint8)
    plain = transformed(image, {}, 0)
    off = resolve_steps("none", {step: {"p": 0.0}})
    assert (transformed(image, off, 0) == plain).all()
    sometimes = resolve_steps("none", {step: {"p": 0.3}})
    changed = [bool((transformed(image, sometimes, seed) != plain).any()) for seed in range(300)]
    # A whole-picture crop or a jitter of about nothing may leave an image as it is.
    assert 0.2 < float(np.mean(changed)) < 0.4


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_views_depend_on_the_generator_alone_and_leave_the_photo_as_it_was(
    policy: str, fit: Fit
) -> None:
    image = photo(110, 170)
    kept, steps = image.copy(), resolve_steps(policy, None)
    first = [transformed(image, steps, seed, fit) for seed in range(6)]
    again = [transformed(image, steps, seed, fit) for seed in range(6)]
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (image == kept).all()
    different = len({view.tobytes() for view in first})
    assert different == 1 if policy == "none" else different > 2
    assert all(view.shape == (SIDE, SIDE, 3) and view.dtype == np.uint8 for view in first)


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 2), (5000, 3), (7, 5)])
def test_odd_shapes_are_no_error(fit: Fit, shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 90, dtype=np.uint8)
    certain = {k: {**v, "p": 1.0} for k, v in resolve_steps("heavy", None).items()}
    for steps in (certain, {k: v for k, v in certain.items() if k != "grid_distortion"}, {}):
        for seed in range(4):
            assert transformed(image, steps, seed, fit).shape == (SIDE, SIDE, 3)


def test_a_long_strip_is_shrunk_before_it_is_made_square() -> None:
    boxed = letterbox(np.full((4, 60_000, 3), 200, dtype=np.uint8), 300)
    assert boxed.shape == (300, 300, 3)
    assert (boxed[149] == 200).all()
    assert (np.delete(boxed, 149, axis=0) == GREY).all()
