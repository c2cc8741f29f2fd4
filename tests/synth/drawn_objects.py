"""Dishes on a table and leaves on gravel, drawn with their true outline."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


def table(
    height: int, width: int, seed: int, *, colour: tuple[int, ...] = (150, 105, 70)
) -> Pixels:
    """Wood: uneven stripes and some grain."""
    rng = np.random.default_rng(seed)
    stripes = cv2.resize(rng.normal(0, 9, (1, 40)), (width, height), interpolation=cv2.INTER_CUBIC)
    grain = rng.normal(0, 3, (height, width))
    wood = np.array(colour)[None, None] + (stripes + grain)[..., None]
    return np.clip(wood, 0, 255).astype(np.uint8)


def dish(
    height: int = 192,
    width: int = 256,
    *,
    seed: int = 0,
    colour: tuple[int, int, int] = (225, 222, 215),
) -> tuple[Pixels, Mask]:
    """An oval dish with a rim, a little shading and noise; and where it is."""
    picture = table(height, width, seed).astype(np.float32)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    far = np.hypot((x - 0.52 * width) / (0.33 * width), (y - 0.48 * height) / (0.4 * height))
    shade = 1 - 0.12 * (x / width) + 0.06 * np.cos(9 * np.clip(far, 0, 1))
    paint = np.array(colour, np.float32) * shade[..., None]
    inside = far <= 1
    picture[inside] = paint[inside]
    noise = np.random.default_rng(seed).normal(0, 1.5, picture.shape)
    soft = cv2.GaussianBlur(picture, (0, 0), 0.7) + noise
    return np.clip(soft, 0, 255).astype(np.uint8), inside


def leaf(height: int = 160, width: int = 160, *, seed: int = 0) -> tuple[Pixels, Mask]:
    """A green leaf with a midrib on gravel; and where it is."""
    rng = np.random.default_rng(seed)
    stones = cv2.resize(rng.uniform(70, 170, (20, 20, 1)).astype(np.float32), (width, height))
    picture = stones[..., None] * np.array([1.0, 0.88, 0.72], np.float32)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    far = np.hypot((x - 0.5 * width) / (0.4 * width), (y - 0.5 * height) / (0.24 * height))
    inside = far <= 1
    green = np.array([70, 135, 45], np.float32) * (1.1 - 0.3 * np.clip(far, 0, 1))[..., None]
    picture[inside] = green[inside]
    picture[(np.abs(y - 0.5 * height) < 2) & inside] = (110, 165, 80)
    soft = cv2.GaussianBlur(picture, (0, 0), 0.8) + rng.normal(0, 1.5, picture.shape)
    return np.clip(soft, 0, 255).astype(np.uint8), inside


def photographs(folder: Path, count: int) -> Path:
    """A folder of drawn clean dishes."""
    folder.mkdir(parents=True)
    for number in range(count):
        pixels, _ = dish(120, 160, seed=number)
        Image.fromarray(pixels).save(folder / f"plate {number}.jpg", quality=92)
    return folder


def overlap(found: npt.NDArray[np.floating], truth: Mask) -> float:
    """Intersection over union."""
    inside = found > 0.5
    return float((inside & truth).sum() / (inside | truth).sum())
