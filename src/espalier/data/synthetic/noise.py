"""Ready-made noise tiles from which every drawn picture cuts its own patches.

Making noise afresh for each picture would cost more than all the drawing; a window of a fixed tile,
at a random place and turned at random, looks just as new.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[Any]
"""Float32 throughout; said loosely because OpenCV declares its results as any real number."""

TILE = 768
_TILE_SEED = 20240229


def _octaves(cell_sizes: Sequence[float], roughness: float, seed: int) -> Plane:
    rng = np.random.default_rng((_TILE_SEED, seed))
    total = np.zeros((TILE, TILE), np.float32)
    for cell in cell_sizes:
        side = int(TILE / cell) + 2
        grid = rng.standard_normal((side, side)).astype(np.float32)
        total += cv2.resize(grid, (TILE, TILE), interpolation=cv2.INTER_CUBIC) * cell**roughness
    total -= total.mean()
    found: Plane = (total / total.std()).astype(np.float32)
    return found


@lru_cache(maxsize=1)
def clouds() -> Plane:
    """Soft noise with detail at all sizes [TILE, TILE], mean 0, standard deviation 1."""
    return _octaves((128, 64, 32, 16, 8, 4), 0.85, 1)


@lru_cache(maxsize=1)
def crumbs() -> Plane:
    """Rough noise without large shapes [TILE, TILE], mean 0, standard deviation 1."""
    return _octaves((18, 9, 4.5, 2.2), 0.55, 2)


@lru_cache(maxsize=1)
def grain() -> Plane:
    """Fine noise of a few pixels [TILE, TILE], mean 0, standard deviation 1."""
    return _octaves((4, 2), 0.2, 3)


@lru_cache(maxsize=1)
def _cells() -> tuple[Plane, Plane]:
    rng = np.random.default_rng((_TILE_SEED, 4))
    free = np.full((TILE, TILE), 255, np.uint8)
    step = 12
    for row in range(0, TILE, step):
        for column in range(0, TILE, step):
            y, x = rng.integers(0, step, 2)
            free[min(row + y, TILE - 1), min(column + x, TILE - 1)] = 0
    _, nearest = cv2.distanceTransformWithLabels(
        free, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    shades = rng.uniform(-1, 1, int(nearest.max()) + 1).astype(np.float32)[nearest]
    rim = (cv2.morphologyEx(shades, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) > 0).astype(
        np.float32
    )
    return shades, cv2.GaussianBlur(rim, (0, 0), 0.8)


def cells() -> Plane:
    """Small polygons, each of one value in [-1, 1] [TILE, TILE]."""
    return _cells()[0]


def net() -> Plane:
    """The borders between those polygons as thin lines, about 1 on the line [TILE, TILE]."""
    return _cells()[1]


def patch(tile: Plane, size: int, rng: np.random.Generator, share: float = 0.42) -> Plane:
    """A window of a tile at a random place, turned at random, as [size, size].

    Args:
        tile: One of the tiles of this file.
        size: Pixels across the result.
        rng: Decides the place and the turn.
        share: Side of the window as a share of the tile's; larger means finer detail.
    """
    side = min(int(TILE * share), TILE)
    top, left = (int(v) for v in rng.integers(0, TILE - side + 1, 2))
    window = tile[top : top + side, left : left + side]
    found: Plane = cv2.resize(window, (size, size), interpolation=cv2.INTER_LINEAR)
    turn = int(rng.integers(0, 6))
    return found if turn > 3 else cv2.transpose(found) if turn == 3 else cv2.flip(found, turn - 1)


def smoothstep(low: float, high: float, values: Plane) -> Plane:
    """0 below ``low``, 1 above ``high``, a smooth rise between; falls where ``low > high``."""
    x = np.clip((values - np.float32(low)) * np.float32(1.0 / (high - low)), 0, 1)
    found: Plane = x * x * (3 - 2 * x)
    return found
