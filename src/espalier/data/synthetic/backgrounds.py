"""What lies behind the leaf: soil, grass, cloth, foliage out of focus, paper, stone, wood."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from espalier.data.synthetic import noise
from espalier.data.synthetic.blade import grow
from espalier.data.synthetic.lighting import Light, Placed, Pose, lit, place
from espalier.data.synthetic.noise import Plane, smoothstep

Random = np.random.Generator

_BANK_SEED = 7001
_BANK_LEAVES = 20


@lru_cache(maxsize=2)
def _leaf_bank(size: int) -> tuple[Plane, ...]:
    """Healthy leaves, grown and lit once, as extras for every scene [size, size, 4] each."""
    light = Light(azimuth=-2.2, elevation=0.9, ambient=0.6)
    return tuple(
        np.clip(lit(grow(size, np.random.default_rng((_BANK_SEED, k))), light, 0.0), 0, 1)
        for k in range(_BANK_LEAVES)
    )


def extra_leaf(size: int, rng: Random, pose: Pose) -> Placed:
    """Some healthy leaf of the bank, as it lies in a picture of ``size`` pixels."""
    bank = _leaf_bank(max(size // 2, 32))
    sheet = bank[int(rng.integers(len(bank)))]
    light = rng.uniform(0.75, 1.2)
    tone = (light * rng.uniform(0.85, 1.25), light, light * rng.uniform(0.8, 1.1), 1.0)
    placed = place(sheet, pose, size)
    return replace(placed, pixels=cv2.multiply(placed.pixels, np.array(tone)))


def _loose_pose(rng: Random, low: float, high: float) -> Pose:
    return Pose(
        x=float(rng.uniform(-0.1, 1.1)),
        y=float(rng.uniform(-0.1, 1.1)),
        angle=float(rng.uniform(0, 2 * np.pi)),
        scale=float(rng.uniform(low, high)),
        narrow=float(rng.uniform(0.5, 1.0)),
        bend=float(rng.normal(0, 0.4)),
    )


def _plain(size: int, colour: tuple[float, float, float]) -> Plane:
    return np.full((size, size, 3), np.array(colour, np.float32), np.float32)


def _bumpy(relief: Plane, light: Light, steepness: float) -> Plane:
    """Light on rough ground, 1 on the flat [T, T]."""
    x, y = np.cos(light.azimuth), np.sin(light.azimuth)
    slope_x = cv2.Sobel(relief, cv2.CV_32F, 1, 0, ksize=3, scale=steepness)
    slope_y = cv2.Sobel(relief, cv2.CV_32F, 0, 1, ksize=3, scale=steepness)
    return np.clip(1 - np.float32(x) * slope_x - np.float32(y) * slope_y, 0.25, 1.8)


def soil(size: int, rng: Random, light: Light) -> Plane:
    """Crumbly earth with a few pebbles."""
    crumbs = noise.patch(noise.crumbs(), size, rng, float(rng.uniform(0.25, 0.5)))
    lumps = noise.patch(noise.clouds(), size, rng, 0.6)
    shade = _bumpy(crumbs + 0.8 * lumps, light, 0.075)
    fine = noise.patch(noise.grain(), size, rng, 0.5)
    shade *= 1 + 0.15 * lumps + 0.10 * crumbs + 0.06 * fine
    value = float(rng.uniform(0.26, 0.52))
    colour = colorsys.hsv_to_rgb(
        float(rng.uniform(0.05, 0.10)), float(rng.uniform(0.2, 0.5)), value
    )
    ground = _plain(size, colour) * shade[:, :, None]
    for _ in range(int(rng.integers(0, 14))):
        _pebble(ground, rng, light)
    return ground


def _pebble(ground: Plane, rng: Random, light: Light) -> None:
    size = ground.shape[0]
    x, y = (int(v) for v in rng.integers(0, size, 2))
    radius = max(int(rng.uniform(0.008, 0.03) * size), 1)
    axes = (radius, max(int(radius * rng.uniform(0.6, 1.0)), 1))
    turn, tone = float(rng.uniform(0, 180)), float(rng.uniform(0.3, 0.65))
    dx, dy = (round(0.35 * radius * f(light.azimuth)) for f in (np.cos, np.sin))
    dark, fill = (tone * 0.3, tone * 0.27, tone * 0.24), (tone, tone * 0.95, tone * 0.88)
    bright = tuple(min(c * 1.3, 1.0) for c in fill)
    small = (max(axes[0] // 2, 1), max(axes[1] // 2, 1))
    cv2.ellipse(ground, (x - dx, y - dy), axes, turn, 0, 360, dark, -1, cv2.LINE_AA)
    cv2.ellipse(ground, (x, y), axes, turn, 0, 360, fill, -1, cv2.LINE_AA)
    cv2.ellipse(ground, (x + dx, y + dy), small, turn, 0, 360, bright, -1, cv2.LINE_AA)


def grass(size: int, rng: Random, light: Light) -> Plane:
    """Tapered blades of grass, dark ones below bright ones, a little out of focus."""
    ground = _plain(size, (0.13, 0.19, 0.07))
    count = 130
    lean, hue = float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0.19, 0.27))
    outlines = _grass_blades(count, lean, rng)
    pixels = np.rint(outlines * size * 16).astype(np.int32)
    tones = rng.uniform(0.75, 1.15, count) * np.linspace(0.22, 0.78, count)
    hues = hue + rng.normal(0, 0.016, count)
    dry = rng.random(count) < rng.uniform(0, 0.2)
    for k in range(count):
        colour = colorsys.hsv_to_rgb(
            0.14 if dry[k] else hues[k], 0.40 if dry[k] else 0.58, tones[k]
        )
        cv2.fillConvexPoly(ground, pixels[k], colour, cv2.LINE_AA, 4)
    return cv2.GaussianBlur(ground, (0, 0), float(rng.uniform(0.003, 0.014)) * size)


def _grass_blades(count: int, lean: float, rng: Random) -> npt.NDArray[np.float64]:
    """Outlines of narrow pointed blades in picture sides [count, 7, 2]."""
    u = np.linspace(0, 1, 4)
    angles = lean + rng.normal(0, 0.45, (count, 1)) + rng.normal(0, 0.25, (count, 1)) * u
    along = rng.uniform(0.25, 0.75, (count, 1)) * u
    spine = rng.uniform(-0.35, 1.1, (count, 1, 2)) + np.stack(
        [along * np.cos(angles), along * np.sin(angles)], axis=2
    )
    half = rng.uniform(0.005, 0.015, (count, 1)) * (1 - u**2)
    across = np.stack([-half * np.sin(angles), half * np.cos(angles)], axis=2)
    return np.concatenate([spine + across, (spine - across)[:, -2::-1]], axis=1)


def cloth(size: int, rng: Random, light: Light) -> Plane:
    """A woven fabric of one colour, with soft folds."""
    axis = np.arange(size, dtype=np.float32)
    pitch = np.float32(2 * np.pi / (float(rng.uniform(0.012, 0.022)) * size))
    weave = np.sin(pitch * axis)[:, None] * np.sin(pitch * axis)[None, :]
    folds = noise.patch(noise.clouds(), size, rng, 0.12)
    shade = _bumpy(cv2.GaussianBlur(folds, (0, 0), 0.03 * size), light, size / 320 * 1.2)
    fibre = noise.patch(noise.grain(), size, rng, 0.4)
    shade = shade * (1 + 0.06 * weave + 0.025 * fibre)
    saturation = float(rng.uniform(0.0, 0.55))
    colour = colorsys.hsv_to_rgb(float(rng.uniform(0, 1)), saturation, float(rng.uniform(0.3, 0.9)))
    fabric: Plane = _plain(size, colour) * shade[:, :, None]
    return fabric


def foliage(size: int, rng: Random, light: Light) -> Plane:
    """Other plants far out of focus, with bright discs where the sky shines through."""
    small = max(size // 2, 32)
    tone = float(rng.uniform(0.14, 0.45))
    scene = _plain(small, (tone * 0.85, tone, tone * 0.6))
    for k in range(9):
        extra_leaf(small, rng, _loose_pose(rng, 0.45, 0.95)).over(scene, 0.55 + 0.07 * k)
    for _ in range(int(rng.integers(0, 9))):
        x, y = (int(v) for v in rng.uniform(0, small, 2))
        bright = float(rng.uniform(0.55, 1.0))
        radius = int(rng.uniform(0.02, 0.06) * small)
        cv2.circle(scene, (x, y), radius, (bright, bright, bright * 0.85), -1, cv2.LINE_AA)
    blurred = cv2.GaussianBlur(scene, (0, 0), float(rng.uniform(0.015, 0.05)) * small)
    return cv2.resize(blurred, (size, size), interpolation=cv2.INTER_LINEAR)


def litter(size: int, rng: Random, light: Light) -> Plane:
    """Leaves of the same plant close behind, nearly in focus."""
    scene = soil(size, rng, light) * np.float32(0.6)
    small = max(size // 2, 32)
    layer = cv2.resize(scene, (small, small), interpolation=cv2.INTER_AREA)
    for k in range(6):
        extra_leaf(small, rng, _loose_pose(rng, 0.7, 1.1)).over(layer, 0.5 + 0.08 * k)
    blurred = cv2.GaussianBlur(layer, (0, 0), float(rng.uniform(0.004, 0.012)) * small)
    return cv2.resize(blurred, (size, size), interpolation=cv2.INTER_LINEAR)


def paper(size: int, rng: Random, light: Light) -> Plane:
    """A sheet of paper or a bench top in a laboratory."""
    axis = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    slope = float(rng.uniform(0.0, 0.25))
    fall = 1 + np.float32(slope) * (
        np.float32(np.cos(light.azimuth)) * axis[None, :]
        + np.float32(np.sin(light.azimuth)) * axis[:, None]
    )
    fibre = noise.patch(noise.grain(), size, rng, 0.4)
    value = float(rng.uniform(0.62, 0.95))
    colour = (value, value * float(rng.uniform(0.96, 1.0)), value * float(rng.uniform(0.88, 1.02)))
    return _plain(size, colour) * (fall * (1 + 0.012 * fibre))[:, :, None]


def stone(size: int, rng: Random, light: Light) -> Plane:
    """Grey stone or concrete, speckled."""
    rough = noise.patch(noise.crumbs(), size, rng, 0.5)
    clouds = noise.patch(noise.clouds(), size, rng, 0.4)
    fine = noise.patch(noise.grain(), size, rng, 0.4)
    shade = _bumpy(rough, light, 0.05) * (1 + 0.07 * clouds + 0.05 * fine)
    value = float(rng.uniform(0.35, 0.72))
    warm = float(rng.uniform(0.90, 1.06))
    return _plain(size, (value * warm, value, value / warm)) * shade[:, :, None]


def wood(size: int, rng: Random, light: Light) -> Plane:
    """A board: long grain lines and a joint or two."""
    grain = noise.patch(noise.crumbs(), size, rng, 0.3)
    lines = cv2.resize(grain[:, : max(size // 24, 2)], (size, size), interpolation=cv2.INTER_LINEAR)
    clouds = noise.patch(noise.clouds(), size, rng, 0.3)
    shade = 1 + 0.09 * lines + 0.06 * clouds
    row = int(rng.uniform(0.1, 0.9) * size)
    shade[row : row + max(size // 110, 1)] *= 0.45
    value = float(rng.uniform(0.35, 0.75))
    hue, saturation = float(rng.uniform(0.06, 0.10)), float(rng.uniform(0.25, 0.55))
    board = _plain(size, colorsys.hsv_to_rgb(hue, saturation, value)) * shade[:, :, None]
    return np.ascontiguousarray(board.swapaxes(0, 1)) if rng.random() < 0.5 else board


Background = Callable[[int, Random, Light], Plane]

KINDS: tuple[Background, ...] = (
    soil,
    soil,
    grass,
    grass,
    foliage,
    foliage,
    foliage,
    litter,
    litter,
    cloth,
    paper,
    stone,
    wood,
)


def draw_background(size: int, rng: Random, light: Light) -> Plane:
    """A background of a random kind, RGB, about [0, 1] [size, size, 3]."""
    return KINDS[int(rng.integers(len(KINDS)))](size, rng, light)


def dapple(size: int, rng: Random) -> Plane:
    """Shadows of a canopy above: 1 in the sun, less in the shade [size, size]."""
    field = noise.patch(noise.clouds(), size, rng, float(rng.uniform(0.12, 0.3)))
    blurred = cv2.GaussianBlur(field, (0, 0), 0.012 * size)
    edge = float(rng.uniform(-0.5, 0.6))
    return 1 - np.float32(rng.uniform(0.25, 0.5)) * smoothstep(edge, edge + 0.35, blurred)
