"""Shapes of marks, each added to a sheet that says how thick something lies at each pixel."""

from __future__ import annotations

import cv2
import numpy as np

from espalier.data.synthetic import noise
from espalier.data.synthetic.noise import Plane, smoothstep
from espalier.synth.canvas import Random

Place = tuple[float, float]


def blob(
    sheet: Plane,
    place: Place,
    radius: float,
    rng: Random,
    *,
    soft: float = 0.15,
    thick: float = 1,
    warp: float = 0.3,
) -> None:
    """Add a spot of liquid: an outline warped by noise, thicker here and there.

    Args:
        sheet: Written to [H, W].
        place: Centre (x, y) in pixels.
        radius: Pixels.
        rng: Decides the shape.
        soft: Width of the border as a share of the radius.
        thick: How thick it lies in the middle.
        warp: How irregular the outline is; 0 is round.
    """
    window, far = _warped_distance(sheet, place, radius, rng, warp)
    if window is None:
        return
    uneven = _patch(noise.clouds(), far.shape, rng, 0.3)
    drawn = smoothstep(1 + soft, 1 - soft, far) * np.clip(0.8 + 0.35 * uneven, 0.15, 2)
    # Liquid draws back to its border while it dries.
    drawn += 0.35 * np.exp(-(((far - 0.93) / 0.1) ** 2))
    sheet[window] = np.maximum(sheet[window], np.float32(thick) * drawn)


def ring(sheet: Plane, place: Place, radius: float, rng: Random, *, width: float) -> None:
    """Add a dried ring: a thin dark rim, broken in places, and next to nothing inside.

    Args:
        sheet: Written to [H, W].
        place: Centre (x, y) in pixels.
        radius: Pixels.
        rng: Decides the shape.
        width: Of the rim, in pixels.
    """
    window, far = _warped_distance(sheet, place, radius, rng, 0.14)
    if window is None:
        return
    gaps = np.clip(0.35 + 0.8 * _patch(noise.clouds(), far.shape, rng, 0.25), 0, 1.3)
    rim = np.exp(-(((far - 1) * radius / width) ** 2)) * gaps
    # Soft on the inside, sharp on the outside: so it dried.
    inner = 0.3 * smoothstep(0.75, 1.0, far) * (far < 1) + 0.06 * (far < 1)
    sheet[window] += np.maximum(rim, inner * gaps).astype(np.float32)


def smear(
    sheet: Plane, points: Plane, width: float, rng: Random, *, dry: float = 0.5, thick: float = 1
) -> None:
    """Add a wiped streak along a curve: bristle lines that run with it and tear off at its end.

    Args:
        sheet: Written to [H, W].
        points: The curve, (x, y) in pixels [N, 2].
        width: Pixels across.
        rng: Decides the lines.
        dry: How much is torn, in [0, 1].
        thick: How thick it lies at its start.
    """
    along, across = _strip_coordinates(sheet, points, width)
    if along is None or across is None:
        return
    tile = noise.crumbs()
    start = rng.uniform(0, noise.TILE, 2)
    length = float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
    u = (start[0] + along * length * 0.12) % (noise.TILE - 1)
    v = (start[1] + across * 16) % (noise.TILE - 1)
    lines = cv2.remap(tile, u.astype(np.float32), v.astype(np.float32), cv2.INTER_LINEAR)
    torn = dry * (0.35 + 1.5 * along) - 0.55
    streaks = smoothstep(-0.3, 1.2, lines * 0.75 - torn + 0.25)
    side = smoothstep(1.0, 0.7, np.abs(across) * (1 + 0.15 * lines))
    ends = smoothstep(0.0, 0.06, along) * smoothstep(1.0, 0.9, along)
    drawn = streaks * side * ends * (1 - 0.45 * along)
    np.maximum(sheet, np.float32(thick) * drawn, out=sheet)


def arc(centre: Place, radius: float, start: float, turn: float, rng: Random) -> Plane:
    """A hand's arc about a centre, as points (x, y) [24, 2]; angles in radians."""
    angles = np.linspace(start, start + turn, 24)
    drift = radius * (1 + np.linspace(0, rng.normal(0, 0.18), 24))
    x = centre[0] + drift * np.cos(angles)
    y = centre[1] + drift * np.sin(angles)
    return np.stack([x, y], axis=1).astype(np.float32)


def droplets(sheet: Plane, place: Place, reach: float, count: int, rng: Random) -> None:
    """Add a splatter: drops of very unequal size around a place, drawn out away from it.

    Sizes follow a power law, as breaking drops do; small ones fly farther.
    """
    sizes = np.clip(1.1 * rng.pareto(1.7, count) + 1.0, 0, 14) * max(reach / 160, 0.45)
    angles = rng.vonmises(rng.uniform(-np.pi, np.pi), 0.7, count)
    far = rng.exponential(reach / 3, count) * np.clip(2.2 / sizes, 0.35, 1.3)
    drawn = np.zeros(sheet.shape, np.uint8)
    for size, angle, away in zip(sizes, angles, far, strict=True):
        middle = place[0] + away * np.cos(angle), place[1] + away * np.sin(angle)
        long = size * (1 + min(away / reach, 1) * rng.uniform(0, 1.2))
        _ellipse(drawn, middle, (long, size), float(np.degrees(angle)), 255)
    np.maximum(sheet, _soft(drawn, 0.8), out=sheet)


def particles(
    shape: tuple[int, ...],
    places: Plane,
    sizes: Plane,
    colours: Plane,
    rng: Random,
    *,
    rough: float = 0.35,
) -> tuple[Plane, Plane]:
    """Crumbs and bits: angular pieces, each of one colour and highest in its middle.

    Args:
        shape: Of the sheet.
        places: (x, y) in pixels [N, 2].
        sizes: Radii in pixels [N].
        colours: Linear RGB [N, 3].
        rng: Decides the outlines.
        rough: How jagged they are; 0 is round.

    Returns:
        How high they stand [H, W], about 1 in the middle; and their colours [H, W, 3].
    """
    solid = np.zeros(shape[:2], np.uint8)
    paint = np.zeros((*shape[:2], 3), np.float32)
    for place, size, colour in zip(places, sizes, colours, strict=True):
        outline = _angular(place, float(size), rough, rng)
        cv2.fillPoly(solid, [outline], 255, cv2.LINE_AA, 4)
        cv2.fillPoly(paint, [outline], tuple(float(c) for c in colour), cv2.LINE_8, 4)
    # Spread the colours a little, so that the soft border of a piece has one.
    wide = cv2.dilate(paint, np.ones((5, 5), np.uint8))
    filled = np.where(paint[..., :1] > 0, paint, wide)
    grain = _patch(noise.grain(), solid.shape, rng, 0.5)
    rise = _soft(solid, 0.9) * np.clip(0.9 + 0.18 * grain, 0.4, 1.5)
    return rise, filled


def _angular(place: Plane, size: float, rough: float, rng: Random) -> Plane:
    """A small many-sided outline in sixteenths of pixels, as OpenCV draws them."""
    corners = int(rng.integers(7, 11))
    angles = (np.arange(corners) + rng.uniform(-rough, rough, corners)) * (2 * np.pi / corners)
    out = size * rng.uniform(1 - rough, 1 + rough, corners)
    long, turn = rng.uniform(1, 1 + 2 * rough), rng.uniform(0, np.pi)
    x, y = out * np.cos(angles) * long, out * np.sin(angles)
    turned = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], 1)
    outline: Plane = np.rint((turned + place) * 16).astype(np.int32)
    return outline


def _ellipse(
    drawn: Plane, place: Place, axes: tuple[float, float], degrees: float, value: int
) -> None:
    middle = round(place[0] * 16), round(place[1] * 16)
    halves = max(4, round(axes[0] * 16)), max(4, round(axes[1] * 16))
    if abs(middle[0]) < 2**18 and abs(middle[1]) < 2**18:
        cv2.ellipse(drawn, middle, halves, degrees, 0, 360, value, -1, cv2.LINE_AA, 4)


def _soft(drawn: Plane, sigma: float) -> Plane:
    soft: Plane = cv2.GaussianBlur(drawn.astype(np.float32) / 255, (0, 0), sigma)
    return soft


def _warped_distance(
    sheet: Plane, place: Place, radius: float, rng: Random, warp: float
) -> tuple[tuple[slice, slice] | None, Plane]:
    """Distance to a place in radii, bent by noise, in a window around it."""
    room = 1.9 * radius + 3
    height, width = sheet.shape
    left, right = max(int(place[0] - room), 0), min(int(place[0] + room) + 1, width)
    top, bottom = max(int(place[1] - room), 0), min(int(place[1] + room) + 1, height)
    if right - left < 3 or bottom - top < 3:
        return None, sheet
    dx = (np.arange(left, right, dtype=np.float32) - place[0])[None, :] / radius
    dy = (np.arange(top, bottom, dtype=np.float32) - place[1])[:, None] / radius
    turn, long = rng.uniform(0, np.pi), rng.uniform(1.0, 1.0 + 1.2 * warp)
    a = (dx * np.cos(turn) + dy * np.sin(turn)) / long
    b = (dy * np.cos(turn) - dx * np.sin(turn)) * long
    shape = bottom - top, right - left
    a = a + warp * _patch(noise.clouds(), shape, rng, 0.3)
    b = b + warp * _patch(noise.clouds(), shape, rng, 0.3)
    far: Plane = np.sqrt(a * a + b * b).astype(np.float32)
    return (slice(top, bottom), slice(left, right)), far


def _patch(tile: Plane, shape: tuple[int, ...], rng: Random, share: float) -> Plane:
    return noise.patch(tile, max(shape), rng, share)[: shape[0], : shape[1]]


def _strip_coordinates(
    sheet: Plane, points: Plane, width: float
) -> tuple[Plane, Plane] | tuple[None, None]:
    """For each pixel its share of the way along a curve, and its place across in half-widths.

    Found on a quarter of the resolution, where it is smooth, and enlarged.
    """
    height, wide = (max(2, n // 4) for n in sheet.shape)
    y, x = np.mgrid[0:height, 0:wide].astype(np.float32) * 4 + 1.5
    lines = points.astype(np.float32)
    squares = (lines[:, 0, None, None] - x) ** 2 + (lines[:, 1, None, None] - y) ** 2
    nearest = squares.argmin(axis=0)
    if float(squares.min()) > (2 * width) ** 2:
        return None, None
    step = np.gradient(lines, axis=0)
    step /= np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-6)
    dx, dy = x - lines[nearest, 0], y - lines[nearest, 1]
    tx, ty = step[nearest, 0], step[nearest, 1]
    gap = float(np.linalg.norm(np.diff(lines, axis=0), axis=1).mean())
    across = (dy * tx - dx * ty) / (width / 2)
    ahead = (dx * tx + dy * ty) / max(gap, 1e-6)
    along = (nearest + ahead) / (len(lines) - 1)
    size = sheet.shape[1], sheet.shape[0]
    return (
        cv2.resize(along.astype(np.float32), size, interpolation=cv2.INTER_LINEAR),
        cv2.resize(across.astype(np.float32), size, interpolation=cv2.INTER_LINEAR),
    )
