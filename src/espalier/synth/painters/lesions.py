"""Diseases on healthy leaves: dead spots with a yellow halo, rust, powdery mildew, chlorosis."""

from __future__ import annotations

import cv2
import numpy as np

from espalier.data.images import Pixels
from espalier.data.synthetic import noise
from espalier.data.synthetic.noise import Plane, smoothstep
from espalier.synth import marks
from espalier.synth.canvas import Canvas, Colour, Random
from espalier.synth.region import Region, find_leaves

LABEL = "diseased"

_YELLOW: Colour = (0.55, 0.46, 0.06)
_BROWN: Colour = (0.17, 0.075, 0.025)
_PALE: Colour = (0.44, 0.32, 0.19)
_RUST: Colour = (0.42, 0.12, 0.02)
_POWDER: Colour = (0.72, 0.74, 0.70)


def find(pixels: Pixels) -> Region:
    """The leaves."""
    return find_leaves(pixels)


def paint(canvas: Canvas, rng: Random, amount: float, kind: str) -> None:
    """Give the leaves one disease, ``amount`` from first signs to a strong attack."""
    _DISEASES[kind](canvas, rng, amount)


def spots(canvas: Canvas, rng: Random, amount: float) -> None:
    """Round dead spots: pale centre, dark rim, yellow halo; few and large or many and small."""
    count = _count(canvas, 2 + 22 * amount * rng.uniform(0.6, 1.3))
    largest = canvas.reach * rng.uniform(0.12, 0.22)
    dead, core, halo = canvas.blank(), canvas.blank(), canvas.blank()
    for place in canvas.somewhere(rng, count, 0.02).tolist():
        size = float(largest * (0.25 + 0.75 * rng.beta(1.3, 2)))
        marks.blob(halo, tuple(place), 1.7 * size, rng, soft=0.6, thick=0.8, warp=0.2)
        marks.blob(dead, tuple(place), size, rng, soft=0.2, thick=1, warp=0.15)
        marks.blob(core, tuple(place), 0.6 * size, rng, soft=0.45, warp=0.15)
    _wash(canvas, halo, _YELLOW, rng.uniform(0.3, 0.8))
    canvas.lay(_uneven(canvas, dead, rng), _vary(_BROWN, rng), body=1.8, relief=-0.2)
    canvas.lay(_uneven(canvas, core, rng), _vary(_PALE, rng), body=rng.uniform(0.8, 2.2))


def rust(canvas: Canvas, rng: Random, amount: float) -> None:
    """Many small raised pustules, orange to cinnamon, in drifts, on a yellowing leaf."""
    count = _count(canvas, 30 + 230 * amount * rng.uniform(0.7, 1.2))
    # Pustules keep their size on a narrow leaf, so fewer find room there.
    count = max(4, min(count, int(0.3 * amount * float(canvas.mask.sum()) / 12)))
    heaps = canvas.somewhere(rng, max(3, count // 22), 0.0)
    spread = canvas.reach * rng.uniform(0.2, 0.5)
    places = heaps[rng.integers(0, len(heaps), count)] + rng.normal(0, spread, (count, 2))
    sizes = canvas.reach * np.clip(rng.lognormal(-4.1, 0.3, count), 0.008, 0.03)
    tones = np.array([_vary(_RUST, rng) for _ in range(count)])
    rise, colours = marks.particles(
        canvas.shape, places.astype(np.float32), np.maximum(sizes, 1.6), tones, rng, rough=0.12
    )
    halo = np.minimum(cv2.GaussianBlur(rise, (0, 0), 0.03 * canvas.reach + 1) * 1.6, 1)
    _wash(canvas, halo, _YELLOW, rng.uniform(0.5, 0.9))
    canvas.lay(rise * np.float32(1.6), colours, body=1.5, relief=0.6)


def mildew(canvas: Canvas, rng: Random, amount: float) -> None:
    """White powder in round colonies that run together and hide the veins."""
    film = canvas.blank()
    for place in canvas.somewhere(rng, _count(canvas, 2 + 9 * amount), 0.05).tolist():
        size = canvas.reach * rng.uniform(0.15, 0.45) * (0.7 + 0.5 * amount)
        marks.blob(film, tuple(place), float(size), rng, soft=0.75, thick=rng.uniform(0.5, 1))
    fluff = 1 + 0.3 * canvas.noise(noise.grain(), rng, 0.4)
    fluff = fluff + 0.3 * canvas.noise(noise.crumbs(), rng, 0.4)
    film = film * np.clip(fluff, 0.1, 2) * np.float32(rng.uniform(0.7, 1.1))
    canvas.lay(film, _vary(_POWDER, rng, 0.05), body=1.1, relief=0.15)


def chlorosis(canvas: Canvas, rng: Random, amount: float) -> None:
    """Yellowing that runs in from the margin and in clouds, and leaves the darker veins green."""
    depth = np.float32(canvas.reach * (0.25 + 0.6 * amount))
    cloud = canvas.noise(noise.clouds(), rng, 0.35)
    inward = smoothstep(1.0, 0.0, canvas.depth / depth + 0.35 * cloud)
    patches = smoothstep(1.1 - amount, 2.0 - amount, canvas.noise(noise.clouds(), rng, 0.3))
    bright = canvas.base[..., 1]
    around = cv2.blur(bright, (31, 31))
    between = np.clip(0.75 + 2.5 * (bright - around) / np.maximum(around, 0.02), 0.25, 1)
    pale = np.maximum(inward, patches) * between
    _wash(canvas, pale.astype(np.float32), _YELLOW, 0.55 + 0.4 * amount)
    scorched = smoothstep(0.35, 0.1, canvas.depth / depth + 0.2 * cloud) * np.float32(amount)
    canvas.lay(_uneven(canvas, scorched, rng), _vary(_BROWN, rng), body=0.9)


def _wash(canvas: Canvas, where: Plane, colour: Colour, strength: float) -> None:
    """Change the leaf's own colour and keep its shading and veins, as a lack of chlorophyll does.

    Args:
        canvas: The photograph.
        where: How much, in [0, 1] [H, W].
        colour: Of a fully changed leaf, linear RGB.
        strength: Factor on ``where``.
    """
    green = np.maximum(canvas.paint[..., 1:2], 0.01)
    # A yellow leaf reflects about a third more than a green one.
    goal = np.asarray(colour, np.float32) / colour[1] * green * np.float32(1.3)
    share = np.clip(where * canvas.mask * np.float32(strength), 0, 1)[..., None]
    canvas.blend(goal, share)


def _uneven(canvas: Canvas, sheet: Plane, rng: Random) -> Plane:
    uneven: Plane = sheet * np.clip(0.85 + 0.3 * canvas.noise(noise.crumbs(), rng, 0.5), 0.2, 1.6)
    return uneven


def _count(canvas: Canvas, for_a_wide_leaf: float) -> int:
    """More marks where there is more leaf, counted in squares of its half-width."""
    squares = float(canvas.mask.sum()) / canvas.reach**2
    return max(2, int(for_a_wide_leaf * np.clip(squares / 4, 0.5, 4)))


def _vary(colour: Colour, rng: Random, spread: float = 0.18) -> Colour:
    light = np.exp(rng.normal(0, spread))
    red, green, blue = (
        float(np.clip(c * light * np.exp(rng.normal(0, 0.3 * spread)), 0.004, 0.9)) for c in colour
    )
    return red, green, blue


_DISEASES = {"spots": spots, "rust": rust, "mildew": mildew, "chlorosis": chlorosis}
KINDS = tuple(_DISEASES)
