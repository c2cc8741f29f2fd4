"""How the pixels of a training view change: colour as one matrix, then light, blur, noise, holes.

All of it is drawn first and done afterwards, so that a batch on a device can do the same.
Brightness, contrast, saturation, hue and grayscale are affine in RGB, so they are composed into
one 3x4 matrix and values are clipped once, at the end, instead of after every step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from espalier.data.augment_geometry import Matrix, Steps, between, happens
from espalier.data.resample import GREY, Image

LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in perceived brightness (ITU-R BT.601)."""

_SHADOW_EDGE = 0.06
_ATTEMPTS = 10
_SEEDS = 2**31


class Shadow(NamedTuple):
    """An area that is darker: its corners (x, y) in pixels [4, 2], and the light left, of 255."""

    corners: npt.NDArray[np.int32]
    light: int


class Noise(NamedTuple):
    """Gaussian noise: its standard deviation in steps of 1/255, and the seed of its grain."""

    deviation: float
    seed: int


class Hole(NamedTuple):
    """A rectangle covered with grey, in pixels."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Look:
    """All choices for one image that move no pixel; None for what does not happen.

    Attributes:
        colour: Matrix [3, 4] on (red, green, blue, mean brightness of the view).
        shadow: Comes after colour.
        sigma: Of a Gaussian blur, in pixels; comes after the shadow.
        noise: Comes after the blur.
        holes: Come last.
    """

    colour: Matrix | None
    shadow: Shadow | None
    sigma: float | None
    noise: Noise | None
    holes: tuple[Hole, ...]


def draw_look(imgsz: int, steps: Steps, rng: np.random.Generator) -> Look:
    """Draw the steps that change the pixels of a view of ``imgsz`` pixels where they are."""
    return Look(
        colour=_draw_colour(steps, rng),
        shadow=_draw_shadow(imgsz, steps["shadow"], rng) if happens("shadow", steps, rng) else None,
        sigma=_draw_sigma(steps["blur"], rng) if happens("blur", steps, rng) else None,
        noise=_draw_noise(steps["noise"], rng) if happens("noise", steps, rng) else None,
        holes=_draw_holes(imgsz, steps, rng),
    )


def retouch(image: Image, look: Look) -> Image:
    """Change the pixels of a view [S, S, 3] as drawn; the view itself may be returned."""
    if look.colour is not None:
        image = recolour(image, look.colour)
    if look.shadow is not None:
        light = shadow_light(look.shadow, image.shape[0])
        image = np.asarray(cv2.multiply(image, cv2.merge([light] * 3), scale=1.0 / 255.0), np.uint8)
    if look.sigma is not None:
        image = blur(image, look.sigma)
    if look.noise is not None:
        image = _add_noise(image, look.noise)
    return _cover(image, look.holes) if look.holes else image


def recolour(image: Image, colour: Matrix) -> Image:
    """Apply a colour matrix [3, 4] of a ``Look`` to a view [H, W, 3]."""
    mean = float(LUMA @ cv2.mean(image)[:3])
    return np.asarray(cv2.transform(image, colour * [1.0, 1.0, 1.0, mean]), dtype=np.uint8)


def brightness(factor: float) -> Matrix:
    """All channels times a factor [3, 4]."""
    return np.hstack([np.eye(3) * factor, np.zeros((3, 1))])


def contrast(factor: float, mean: float) -> Matrix:
    """Distance from the image's mean brightness times a factor [3, 4]."""
    return np.hstack([np.eye(3) * factor, np.full((3, 1), (1.0 - factor) * mean)])


def saturation(factor: float) -> Matrix:
    """Distance of each pixel from its own grey times a factor [3, 4]."""
    return np.hstack([np.eye(3) * factor + (1.0 - factor) * LUMA, np.zeros((3, 1))])


def hue(turns: float) -> Matrix:
    """A turn of the colour circle about the grey axis, the sum of the channels kept [3, 4].

    Unlike the hue of HSV this is linear, which is what lets it join the others; it turns colours as
    far as HSV does and differs in how bright they come out.
    """
    cosine, sine = math.cos(2 * math.pi * turns), math.sin(2 * math.pi * turns)
    along, across = (1.0 - cosine) / 3.0, sine / math.sqrt(3.0)
    same, after, before = cosine + along, along - across, along + across
    turn = [[same, after, before], [before, same, after], [after, before, same]]
    return np.hstack([np.array(turn), np.zeros((3, 1))])


def then(first: Matrix, second: Matrix) -> Matrix:
    """One colour matrix [3, 4] that does two, in order."""
    joined = second[:, :3] @ first
    joined[:, 3] += second[:, 3]
    return joined


def blur(image: Image, sigma: float) -> Image:
    """Gaussian blur, sigma in pixels, over three sigmas either way."""
    size = 2 * blur_radius(sigma) + 1
    smooth = cv2.GaussianBlur(image, (size, size), sigma, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(smooth, dtype=np.uint8)


def blur_radius(sigma: float) -> int:
    """Pixels that a blur looks at, either way."""
    return max(1, math.ceil(3.0 * sigma))


def shadow_light(shadow: Shadow, side: int) -> Image:
    """How much light is left in each pixel [side, side], of 255, with soft edges."""
    light = np.full((side, side), 255, dtype=np.uint8)
    cv2.fillConvexPoly(light, shadow.corners, shadow.light)
    edge = 2 * max(1, round(side * _SHADOW_EDGE / 2)) + 1
    return np.asarray(cv2.blur(light, (edge, edge)), dtype=np.uint8)


def _draw_colour(steps: Steps, rng: np.random.Generator) -> Matrix | None:
    matrix = None
    if happens("colour_jitter", steps, rng):
        matrix = _draw_jitter(steps["colour_jitter"], rng)
    if happens("grayscale", steps, rng):
        matrix = np.tile(LUMA @ (np.eye(3, 4) if matrix is None else matrix), (3, 1))
    return matrix


def _draw_jitter(params: Mapping[str, float], rng: np.random.Generator) -> Matrix:
    """Brightness, contrast, saturation, hue, in this order."""
    bright, contrasted, saturated = (
        _factor(params[name], rng) for name in ("brightness", "contrast", "saturation")
    )
    # Contrast is the one step that looks at the view: at its mean, which brightness has scaled.
    matrix = then(brightness(bright), contrast(contrasted, mean=bright))
    matrix = then(matrix, saturation(saturated))
    turns = params["hue"] * (2.0 * rng.random() - 1.0)
    return then(matrix, hue(turns)) if turns else matrix


def _factor(strength: float, rng: np.random.Generator) -> float:
    return 1.0 + strength * (2.0 * rng.random() - 1.0)


def _draw_shadow(side: int, params: Mapping[str, float], rng: np.random.Generator) -> Shadow:
    """A four-sided area that reaches from one edge to the opposite one."""
    ends = np.sort(rng.random((2, 2)), axis=1) * side
    corners = [(ends[0, 0], 0), (ends[0, 1], 0), (ends[1, 1], side), (ends[1, 0], side)]
    outline = np.array(corners, dtype=np.float64)
    if rng.random() < 0.5:
        outline = outline[:, ::-1]
    darkness = between(params["min_darkness"], params["max_darkness"], rng)
    return Shadow(np.rint(outline).astype(np.int32), round(255 * (1.0 - darkness)))


def _draw_sigma(params: Mapping[str, float], rng: np.random.Generator) -> float:
    return between(params["min_sigma"], params["max_sigma"], rng)


def _draw_noise(params: Mapping[str, float], rng: np.random.Generator) -> Noise:
    return Noise(params["deviation"] * rng.random() * 255.0, int(rng.integers(_SEEDS)))


def _add_noise(image: Image, noise: Noise) -> Image:
    # OpenCV keeps the state of its generator per thread, and draws three times as fast as numpy.
    cv2.setRNGSeed(noise.seed)
    grain = np.empty((image.shape[0], image.shape[1] * 3), dtype=np.float32)
    cv2.randn(grain, np.zeros(1), np.array([noise.deviation]))
    noisy = cv2.add(image, grain.reshape(image.shape), dtype=cv2.CV_8U)
    return np.asarray(noisy, dtype=np.uint8)


def _draw_holes(side: int, steps: Steps, rng: np.random.Generator) -> tuple[Hole, ...]:
    """The holes of coarse dropout, then that of random erasing."""
    holes: list[Hole] = []
    if happens("coarse_dropout", steps, rng):
        holes += _draw_dropout(side, steps["coarse_dropout"], rng)
    if happens("random_erasing", steps, rng):
        holes += _draw_erasing(side, steps["random_erasing"], rng)
    return tuple(holes)


def _draw_dropout(side: int, params: Mapping[str, float], rng: np.random.Generator) -> list[Hole]:
    holes = []
    for _ in range(int(rng.integers(1, int(params["max_holes"]) + 1))):
        sizes = (between(params["min_size"], params["max_size"], rng) for _ in range(2))
        width, height = (max(1, round(share * side)) for share in sizes)
        holes.append(_place(width, height, side, rng))
    return holes


def _draw_erasing(side: int, params: Mapping[str, float], rng: np.random.Generator) -> list[Hole]:
    """One rectangle, its area uniform and the log of its ratio uniform (Zhong et al. 2017)."""
    low, high = math.log(params["min_ratio"]), math.log(params["max_ratio"])
    for _ in range(_ATTEMPTS):
        area = side * side * between(params["min_area"], params["max_area"], rng)
        ratio = math.exp(between(low, high, rng))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < width < side and 0 < height < side:
            return [_place(width, height, side, rng)]
    return []


def _place(width: int, height: int, side: int, rng: np.random.Generator) -> Hole:
    """A rectangle anywhere inside the view."""
    x, y = (int(rng.integers(max(1, side - length + 1))) for length in (width, height))
    return Hole(x, y, width, height)


def _cover(image: Image, holes: tuple[Hole, ...]) -> Image:
    image = image.copy()
    for x, y, width, height in holes:
        image[y : y + height, x : x + width] = GREY
    return image
