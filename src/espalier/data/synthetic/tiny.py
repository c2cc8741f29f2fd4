"""Coloured patterns, written in no time and learnt in two epochs: data for tests of the rest."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from espalier.data.synthetic.folders import write_folder
from espalier.errors import DataError


def write_tiny(folder: Path, *, classes: int, per_class: int, imgsz: int, seed: int) -> Path:
    """A folder of class folders ``class_0``, ``class_1`` ... with PNG files of stripes.

    Each class has a hue and a direction of its stripes; phase, pitch, brightness and noise vary.

    Args:
        folder: New or empty; nothing is ever overwritten.
        classes: At least 1.
        per_class: Images of each class, at least 1.
        imgsz: Pixels across and down, at least 4.
        seed: Another seed gives other pictures.

    Raises:
        DataError: The folder is occupied, or a number is too small.
        DiskError: A file could not be written; nothing is left behind.
    """
    given = {"classes": (classes, 1), "per_class": (per_class, 1), "imgsz": (imgsz, 4)}
    given["seed"] = (seed, 0)
    problems = [
        f"{name} is {value}; it must be {least} or more"
        for name, (value, least) in given.items()
        if value < least
    ]
    if problems:
        raise DataError("the patterns cannot be drawn like this", problems=problems)
    return write_folder(folder, _files(classes, per_class, imgsz, seed), total=classes * per_class)


def _files(
    classes: int, per_class: int, imgsz: int, seed: int
) -> Iterator[tuple[str, partial[bytes]]]:
    for kind in range(classes):
        for number in range(1, per_class + 1):
            name = f"class_{kind}/class_{kind}_{number:04d}.png"
            yield name, partial(_pattern_png, kind / classes, (seed, kind, number), imgsz)


def _pattern_png(turn: float, key: tuple[int, int, int], imgsz: int) -> bytes:
    """Stripes as the bytes of a PNG file; ``turn`` in [0, 1) decides hue and direction."""
    rng = np.random.default_rng(key)
    axis = np.linspace(-1, 1, imgsz)
    along = np.cos(np.pi * turn) * axis[None, :] + np.sin(np.pi * turn) * axis[:, None]
    stripes = 0.5 + 0.5 * np.sin(along * rng.uniform(6, 10) + rng.uniform(0, 7))
    colour = np.array(colorsys.hsv_to_rgb(turn, 0.7, rng.uniform(0.6, 1.0)))
    picture = (0.25 + 0.75 * stripes)[:, :, None] * colour
    picture += rng.normal(0, 0.05, picture.shape)
    rgb = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    _, encoded = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    return bytes(encoded)
