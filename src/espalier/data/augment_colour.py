"""How the pixels of a training view change: colour as one matrix, then light, blur, noise, holes.

Brightness, contrast, saturation, hue and grayscale are affine in RGB, so they are composed into
one 3x4 matrix and values are clipped once, at the end, instead of after every step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import cv2
import numpy as np
import numpy.typing as npt

from espalier.data.augment_geometry import GREY, Image, Matrix, Steps, between, happens

LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in perceived brightness (ITU-R BT.601)."""

_SHADOW_EDGE = 0.06
_ATTEMPTS = 10


def recolour(image: Image, steps: Steps, rng: np.random.Generator) -> Image:
    """Apply the drawn colour steps to a view [H, W, 3] by one matrix."""
    matrix = np.hstack([np.eye(3), np.zeros((3, 1))])
    changed = False
    if happens("colour_jitter", steps, rng):
        matrix = _draw_jitter(image, steps["colour_jitter"], rng)
        changed = True
    if happens("grayscale", steps, rng):
        matrix = np.tile(LUMA @ matrix, (3, 1))
        changed = True
    return np.asarray(cv2.transform(image, matrix), dtype=np.uint8) if changed else image


def soften(image: Image, steps: Steps, rng: np.random.Generator) -> Image:
    """Apply the drawn shadow, blur and noise, in this order."""
    if happens("shadow", steps, rng):
        image = _shadow(image, steps["shadow"], rng)
    if happens("blur", steps, rng):
        params = steps["blur"]
        image = blur(image, between(params["min_sigma"], params["max_sigma"], rng))
    if happens("noise", steps, rng):
        image = _noise(image, steps["noise"]["deviation"] * rng.random(), rng)
    return image


def hide(image: Image, steps: Steps, rng: np.random.Generator) -> Image:
    """Cover parts of the view with grey: the drawn coarse dropout and random erasing."""
    if happens("coarse_dropout", steps, rng):
        image = _dropout(image, steps["coarse_dropout"], rng)
    if happens("random_erasing", steps, rng):
        image = _erase(image, steps["random_erasing"], rng)
    return image


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


def _draw_jitter(image: Image, params: Mapping[str, float], rng: np.random.Generator) -> Matrix:
    """Brightness, contrast, saturation, hue, in this order."""
    bright, contrasted, saturated = (
        _factor(params[name], rng) for name in ("brightness", "contrast", "saturation")
    )
    mean = float(LUMA @ cv2.mean(image)[:3]) * bright
    matrix = then(brightness(bright), contrast(contrasted, mean))
    matrix = then(matrix, saturation(saturated))
    turns = params["hue"] * (2.0 * rng.random() - 1.0)
    return then(matrix, hue(turns)) if turns else matrix


def _factor(strength: float, rng: np.random.Generator) -> float:
    return 1.0 + strength * (2.0 * rng.random() - 1.0)


def blur(image: Image, sigma: float) -> Image:
    """Gaussian blur, sigma in pixels, over three sigmas either way."""
    size = 2 * max(1, math.ceil(3.0 * sigma)) + 1
    smooth = cv2.GaussianBlur(image, (size, size), sigma, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(smooth, dtype=np.uint8)


def _noise(image: Image, deviation: float, rng: np.random.Generator) -> Image:
    """Add Gaussian noise; ``deviation`` is a share of white."""
    grain = rng.standard_normal(image.shape, dtype=np.float32)
    grain *= np.float32(deviation * 255.0)
    grain += image
    np.rint(grain, out=grain)
    return np.clip(grain, 0.0, 255.0, out=grain).astype(np.uint8)


def _shadow(image: Image, params: Mapping[str, float], rng: np.random.Generator) -> Image:
    """Darken a random four-sided area that reaches from one edge to the opposite one."""
    side = image.shape[0]
    ends = np.sort(rng.random((2, 2)), axis=1) * side
    corners = [(ends[0, 0], 0), (ends[0, 1], 0), (ends[1, 1], side), (ends[1, 0], side)]
    outline = np.array(corners, dtype=np.float64)
    if rng.random() < 0.5:
        outline = outline[:, ::-1]
    light = np.full((side, side), 255, dtype=np.uint8)
    darkness = between(params["min_darkness"], params["max_darkness"], rng)
    cv2.fillConvexPoly(light, np.rint(outline).astype(np.int32), round(255 * (1.0 - darkness)))
    edge = 2 * max(1, round(side * _SHADOW_EDGE / 2)) + 1
    soft = cv2.blur(light, (edge, edge))
    shaded = cv2.multiply(image, cv2.merge([soft] * 3), scale=1.0 / 255.0)
    return np.asarray(shaded, dtype=np.uint8)


def _dropout(image: Image, params: Mapping[str, float], rng: np.random.Generator) -> Image:
    side = image.shape[0]
    image = image.copy()
    for _ in range(int(rng.integers(1, int(params["max_holes"]) + 1))):
        sizes = (between(params["min_size"], params["max_size"], rng) for _ in range(2))
        width, height = (max(1, round(share * side)) for share in sizes)
        _cover(image, width, height, rng)
    return image


def _erase(image: Image, params: Mapping[str, float], rng: np.random.Generator) -> Image:
    """One rectangle, its area uniform and the log of its ratio uniform (Zhong et al. 2017)."""
    side = image.shape[0]
    low, high = math.log(params["min_ratio"]), math.log(params["max_ratio"])
    for _ in range(_ATTEMPTS):
        area = side * side * between(params["min_area"], params["max_area"], rng)
        ratio = math.exp(between(low, high, rng))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < width < side and 0 < height < side:
            image = image.copy()
            _cover(image, width, height, rng)
            return image
    return image


def _cover(image: npt.NDArray[np.uint8], width: int, height: int, rng: np.random.Generator) -> None:
    """Fill one rectangle at a random place inside the image with grey."""
    x = int(rng.integers(max(1, image.shape[1] - width + 1)))
    y = int(rng.integers(max(1, image.shape[0] - height + 1)))
    image[y : y + height, x : x + width] = GREY
