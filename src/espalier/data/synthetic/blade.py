"""One flat leaf as a painted sheet: colour, relief, gloss and outline, before light and camera."""

from __future__ import annotations

import colorsys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from espalier.data.synthetic import noise, shapes
from espalier.data.synthetic.noise import Plane, smoothstep

LEAF_LENGTH = 0.80
_BOTTOM = 0.88
_SHIFT = 4
_RANK_TONES = (255, 190, 110)
_PARTS = (5, 2, 1)

Colour = tuple[float, float, float]


@dataclass
class Blade:
    """A leaf lying flat, tip up, on a square sheet of T x T pixels.

    Attributes:
        size: T.
        colour: Red, green, blue planes in [0, 1] [3, T, T].
        cover: Share of each pixel that is leaf or stalk, in [0, 1] [T, T].
        lamina: The same without the stalk; lesions keep to it.
        relief: Height in leaf lengths [T, T].
        gloss: Strength of the sheen [T, T].
        veins: 1 on thick veins, less on thin ones, 0 between [T, T].
        between: Distance to the nearest main or lateral vein, in leaf lengths [T, T].
        margin: Distance to the edge of the leaf, in leaf lengths [T, T].
        vein_colour: Colour of the midrib.
    """

    size: int
    colour: Plane
    cover: Plane
    lamina: Plane
    relief: Plane
    gloss: Plane
    veins: Plane
    between: Plane
    margin: Plane
    vein_colour: Colour

    def paint(self, colour: Colour, strength: Plane) -> None:
        """Lays a colour over the sheet, where ``strength`` is 1 wholly [T, T]."""
        for plane, tone in zip(self.colour, colour, strict=True):
            plane += strength * (np.float32(tone) - plane)

    def tint(self, factors: Colour, strength: Plane) -> None:
        """Multiplies the colour, where ``strength`` is 1 by the whole factor [T, T]."""
        for plane, factor in zip(self.colour, factors, strict=True):
            plane *= 1 + strength * np.float32(factor - 1)

    def noise(self, tile: Plane, rng: np.random.Generator, share: float = 0.42) -> Plane:
        """A fresh patch of a noise tile, as large as the sheet [T, T]."""
        return noise.patch(tile, self.size, rng, share)

    def somewhere(self, rng: np.random.Generator, count: int, inset: float = 0.0) -> Plane:
        """Random places on the blade, as pixels ``(x, y)`` [count, 2].

        Args:
            rng: Decides the places.
            count: How many.
            inset: Least distance to the edge, in leaf lengths.
        """
        inside = np.flatnonzero(self.margin.ravel() > inset)
        if inside.size == 0:
            inside = np.array([self.size * self.size // 2])
        chosen = rng.choice(inside, count)
        return np.stack([chosen % self.size, chosen // self.size], axis=1).astype(np.float32)

    @property
    def grid(self) -> tuple[Plane, Plane]:
        """Coordinates in the leaf: ``s`` from base to tip and ``t`` across [T, T] each."""
        x = (np.arange(self.size, dtype=np.float32) + 0.5) / self.size
        s = (_BOTTOM - x) / LEAF_LENGTH
        t = (x - 0.5) / LEAF_LENGTH
        rows, columns = np.broadcast_arrays(s[:, None], t[None, :])
        return rows, columns


def _pixels(points: shapes.Curve, size: int) -> npt.NDArray[np.int32]:
    """Leaf coordinates ``(s, t)`` as fixed-point pixels for OpenCV's drawing."""
    x = 0.5 + LEAF_LENGTH * points[:, 1]
    y = _BOTTOM - LEAF_LENGTH * points[:, 0]
    return np.rint(np.stack([x, y], axis=1) * size * (1 << _SHIFT)).astype(np.int32)


def _strokes(veins: Sequence[shapes.Vein], size: int) -> Plane:
    """Veins that get thinner towards their ends, thick ones over thin ones, uint8 [T, T]."""
    sheet = np.zeros((size, size), np.uint8)
    pixels = _pixels(np.concatenate([vein.points for vein in veins]), size)
    pieces: dict[tuple[int, int], list[npt.NDArray[np.int32]]] = defaultdict(list)
    start = 0
    for vein in veins:
        count = len(vein.points)
        parts = _PARTS[vein.rank]
        for k in range(parts):
            width = vein.width * (1 - 0.8 * k / parts) * LEAF_LENGTH * size
            tone = int(_RANK_TONES[vein.rank] * min(max(width, 0.45), 1.0))
            first, last = (start + (count - 1) * j // parts for j in (k, k + 1))
            pieces[max(round(width), 1), tone].append(pixels[first : last + 1])
        start += count
    for (width, tone), lines in sorted(pieces.items(), key=lambda item: item[0]):
        cv2.polylines(sheet, lines, False, tone, width, cv2.LINE_AA, _SHIFT)
    return sheet


def _vein_maps(shape: shapes.LeafShape, size: int) -> tuple[Plane, Plane]:
    """The veins themselves, and the distance to the nearest of rank 0 or 1 in leaf lengths."""
    coarse = _strokes([vein for vein in shape.veins if vein.rank < 2], size)
    away = cv2.distanceTransform((coarse < 60).astype(np.uint8), cv2.DIST_L2, 3)
    thin = [vein for vein in shape.veins if vein.rank == 2]
    fine = _strokes(thin, size) if thin else np.zeros_like(coarse)
    lines = cv2.GaussianBlur(np.maximum(fine, coarse), (0, 0), 0.7)
    return lines.astype(np.float32) / 255, away / np.float32(LEAF_LENGTH * size)


def _lamina(shape: shapes.LeafShape, size: int, rng: np.random.Generator) -> tuple[Plane, Plane]:
    """Where the blade is, and the distance to its edge as it grew, before insects came."""
    sheet = np.zeros((size, size), np.uint8)
    cv2.fillPoly(sheet, [_pixels(shape.outline, size)], 255, cv2.LINE_AA, _SHIFT)
    margin = cv2.distanceTransform((sheet > 127).astype(np.uint8), cv2.DIST_L2, 3)
    if rng.random() < 0.22:
        _chew(sheet, rng)
    return sheet.astype(np.float32) / 255, margin / np.float32(LEAF_LENGTH * size)


def _chew(sheet: npt.NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Holes and notches that insects leave; healthy and ill leaves have them alike."""
    inside = np.flatnonzero(sheet.ravel())
    size = sheet.shape[0]
    for spot in rng.choice(inside, int(rng.integers(1, 5))):
        centre = (int(spot % size), int(spot // size))
        axes = tuple(int(v) for v in rng.uniform(0.007, 0.024, 2) * size)
        cv2.ellipse(sheet, centre, axes, float(rng.uniform(0, 180)), 0, 360, 0, -1, cv2.LINE_AA)


def _stalk(shape: shapes.LeafShape, size: int, rng: np.random.Generator) -> Plane:
    sheet = np.zeros((size, size), np.uint8)
    u = np.linspace(0, 1, 12)
    points = np.stack([shape.base - 0.62 * u, rng.normal(0, 0.07) * u**2], axis=1)
    width = rng.uniform(0.020, 0.030) * LEAF_LENGTH * size
    cv2.polylines(
        sheet, [_pixels(points, size)], False, 255, max(round(width), 1), cv2.LINE_AA, _SHIFT
    )
    return sheet.astype(np.float32) / 255


def _green(rng: np.random.Generator) -> Colour:
    hue = float(np.clip(rng.normal(0.262, 0.030), 0.19, 0.33))
    dull = 1 - 2.2 * max(hue - 0.26, 0.0)
    saturation, value = float(rng.uniform(0.44, 0.74)), float(rng.uniform(0.36, 0.64))
    return colorsys.hsv_to_rgb(hue, saturation * dull, value * dull)


def _vein_colour(leaf: Colour, rng: np.random.Generator) -> Colour:
    """Paler than the blade; reddish on one plant in eight."""
    pale = (0.80, 0.86, 0.58) if rng.random() > 0.12 else (0.66, 0.34, 0.30)
    share = float(rng.uniform(0.30, 0.62))
    red, green, blue = (a + share * (b - a) for a, b in zip(leaf, pale, strict=True))
    return red, green, blue


def _relief(blade: Blade, rng: np.random.Generator) -> None:
    """Bulges between the veins, veins as grooves, a fold at the midrib and wavy margins."""
    s, t = blade.grid
    bulge = 1 - np.exp(-blade.between / np.float32(0.022))
    blade.relief += np.float32(rng.uniform(0.003, 0.010)) * bulge
    blade.relief -= np.float32(0.004) * blade.veins
    blade.relief += np.float32(rng.normal(0, 0.17)) * np.abs(t)
    blade.relief += np.float32(rng.normal(0.15, 0.35)) * t * t
    wave = np.sin(np.float32(rng.uniform(9, 20)) * s + np.float32(rng.uniform(0, 6)) + 2 * t)
    blade.relief += np.float32(rng.uniform(0.0, 0.055)) * wave * np.abs(t)
    blade.relief += np.float32(0.004) * blade.noise(noise.clouds(), rng, 0.3)


def _ageing(blade: Blade, rng: np.random.Generator) -> None:
    """Uneven green, yellowing from the margin, dust: what any leaf may have, ill or not."""
    uneven = blade.noise(noise.clouds(), rng, 0.5)
    strength = float(rng.uniform(0.02, 0.10))
    blade.colour *= 1 + np.float32(strength) * uneven
    if rng.random() < 0.30:
        depth = float(rng.uniform(0.02, 0.09))
        yellow = smoothstep(depth, 0.0, blade.margin + 0.25 * depth * uneven)
        blade.paint((0.74, 0.70, 0.24), np.float32(rng.uniform(0.15, 0.55)) * yellow)
    if rng.random() < 0.25:
        pale = smoothstep(0.0, 0.05, blade.between) * np.float32(rng.uniform(0.08, 0.28))
        blade.paint((0.70, 0.74, 0.30), pale)
    if rng.random() < 0.35:
        _specks(blade, rng)


def _specks(blade: Blade, rng: np.random.Generator) -> None:
    """A few crumbs of soil or dust."""
    sheet = np.zeros((blade.size, blade.size), np.uint8)
    for x, y in blade.somewhere(rng, int(rng.integers(3, 14))):
        radius = int(rng.uniform(0.5, 1.8) * blade.size / 320 * 16)
        cv2.circle(sheet, (int(x * 16), int(y * 16)), radius, 255, -1, cv2.LINE_AA, _SHIFT)
    tone = float(rng.uniform(0.12, 0.55))
    strength = sheet.astype(np.float32) * np.float32(0.75 / 255)
    blade.paint((tone * 1.05, tone * 0.95, tone * 0.8), strength)


def grow(size: int, rng: np.random.Generator) -> Blade:
    """A healthy leaf of a random kind, colour and age on a sheet of ``size`` pixels."""
    shape = shapes.draw_shape(rng)
    lamina, margin = _lamina(shape, size, rng)
    veins, between = _vein_maps(shape, size)
    stalk = _stalk(shape, size, rng)
    green = _green(rng)
    vein_colour = _vein_colour(green, rng)
    colour = np.empty((3, size, size), np.float32)
    colour[:] = np.array(green, np.float32)[:, None, None]
    blade = Blade(
        size=size,
        colour=colour,
        cover=np.maximum(lamina, stalk),
        lamina=lamina,
        relief=np.zeros((size, size), np.float32),
        gloss=np.full((size, size), rng.uniform(0.05, 0.42), np.float32),
        veins=veins,
        between=between,
        margin=margin,
        vein_colour=vein_colour,
    )
    _ageing(blade, rng)
    mesh = blade.noise(noise.net(), rng, 0.5)
    blade.tint((0.90, 0.92, 0.86), mesh * np.float32(rng.uniform(0.3, 1.0)))
    blade.paint(vein_colour, np.minimum(veins * 1.1, 1) * np.float32(rng.uniform(0.55, 0.95)))
    blade.paint(vein_colour, stalk * (1 - lamina))
    blade.tint((0.72, 0.76, 0.70), smoothstep(0.012, 0.0, margin) * lamina * 0.6)
    _relief(blade, rng)
    return blade
