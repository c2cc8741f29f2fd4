"""What each condition does to a leaf, from first signs to a strong attack.

Told apart by shape and texture, as a grower would: round spots with rings, raised rusty pustules,
a powdery film over the veins, large dead areas with zones, angular light and dark green between the
veins, a dry brown margin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import cv2
import numpy as np

from espalier.data.synthetic import noise
from espalier.data.synthetic.blade import LEAF_LENGTH, Blade, Colour
from espalier.data.synthetic.noise import Plane, smoothstep

Random = np.random.Generator


def _vary(colour: Colour, rng: Random, spread: float = 0.08) -> Colour:
    light = 1 + rng.normal(0, spread)
    red, green, blue = (float(np.clip(c * light + rng.normal(0, 0.015), 0, 1)) for c in colour)
    return red, green, blue


def _reach(blade: Blade, centres: Plane, radii: Plane, stretch: Random | None = None) -> Plane:
    """How far each pixel lies from the nearest centre, in that one's radii, at most 3 [T, T].

    Args:
        blade: Gives the size of the sheet.
        centres: Pixels ``(x, y)`` [N, 2].
        radii: Leaf lengths [N].
        stretch: Makes each one an ellipse of its own, up to 1.35 : 1.
    """
    far = np.full((blade.size, blade.size), 3.0, np.float32)
    for (x, y), radius in zip(centres, radii * LEAF_LENGTH * blade.size, strict=True):
        reach = int(3 * radius) + 2
        left, right = max(int(x) - reach, 0), min(int(x) + reach, blade.size)
        top, bottom = max(int(y) - reach, 0), min(int(y) + reach, blade.size)
        dx = (np.arange(left, right, dtype=np.float32) - x)[None, :] / radius
        dy = (np.arange(top, bottom, dtype=np.float32) - y)[:, None] / radius
        if stretch is not None:
            dx = dx * np.float32(stretch.uniform(0.8, 1.2))
            dy = dy * np.float32(stretch.uniform(0.8, 1.2))
        window = far[top:bottom, left:right]
        np.minimum(window, np.sqrt(dx * dx + dy * dy), out=window)
    return far


def healthy(blade: Blade, rng: Random, severity: float) -> None:
    """Leaves the leaf as it grew."""


def spots(blade: Blade, rng: Random, severity: float) -> None:
    """Round dead spots: pale centre, dark rim, yellow halo; few and large or many and small."""
    count = int(3 + 26 * severity * rng.uniform(0.6, 1.3))
    largest = rng.uniform(0.030, 0.055) * (1.0 if count < 14 else 0.75)
    radii = (largest * rng.uniform(0.4, 1.0, count)).astype(np.float32)
    far = _reach(blade, blade.somewhere(rng, count, 0.012), radii, rng)
    far = far * (1 + 0.15 * blade.noise(noise.crumbs(), rng, 0.25))
    halo = smoothstep(float(rng.uniform(1.5, 2.3)), 0.95, far) * blade.lamina
    blade.paint((0.76, 0.72, 0.24), halo * np.float32(rng.uniform(0.2, 0.75)))
    rim = smoothstep(1.12, 0.86, far)
    blade.paint(_vary((0.27, 0.16, 0.09), rng, 0.2), rim * np.float32(0.92))
    inner = float(rng.uniform(0.62, 0.85))
    centre = smoothstep(inner, inner - 0.35, far)
    centre *= np.clip(0.8 + 0.3 * blade.noise(noise.clouds(), rng), 0.15, 1)
    pale = _vary(((0.62, 0.50, 0.34), (0.72, 0.67, 0.57))[int(rng.integers(2))], rng, 0.12)
    blade.paint(pale, centre * np.float32(rng.uniform(0.65, 0.95)))
    ring = (
        centre
        * np.exp(-(((far - np.float32(0.42)) / 0.09) ** 2))
        * np.float32(rng.uniform(0, 0.45))
    )
    blade.paint((0.38, 0.25, 0.15), ring)
    blade.relief -= np.float32(0.006) * rim
    blade.gloss *= 1 - 0.8 * rim


def rust(blade: Blade, rng: Random, severity: float) -> None:
    """Many small raised pustules, orange to cinnamon, in drifts."""
    count = int(45 + 330 * severity * rng.uniform(0.7, 1.2))
    drifts = blade.somewhere(rng, max(3, count // 22))
    spread = rng.uniform(0.05, 0.13) * blade.size
    places = drifts[rng.integers(0, len(drifts), count)] + rng.normal(0, spread, (count, 2))
    sizes = np.clip(rng.lognormal(0.55, 0.34, count), 1.0, 3.8) * blade.size / 320 * 16
    sheet = np.zeros((blade.size, blade.size), np.uint8)
    for (x, y), radius in zip(places, sizes.astype(int).tolist(), strict=True):
        cv2.circle(sheet, (int(x * 16), int(y * 16)), radius, 255, -1, cv2.LINE_AA, 4)
    pustules = sheet.astype(np.float32) / 255 * blade.lamina
    halo = np.minimum(cv2.GaussianBlur(pustules, (0, 0), 3.2 * blade.size / 320) * 1.6, 1)
    blade.paint((0.80, 0.66, 0.16), halo * np.float32(rng.uniform(0.45, 0.8)))
    dust = np.minimum(cv2.GaussianBlur(pustules, (0, 0), 0.9 * blade.size / 320) * 1.1, 1)
    blade.paint(_vary((0.73, 0.34, 0.07), rng, 0.12), dust * np.float32(0.95))
    core = smoothstep(0.6, 1.0, dust) * (0.5 + 0.3 * blade.noise(noise.crumbs(), rng, 0.5))
    blade.paint((0.40, 0.15, 0.04), np.clip(core, 0, 0.8))
    blade.relief += np.float32(0.009) * dust
    blade.gloss *= 1 - 0.85 * halo


def mildew(blade: Blade, rng: Random, severity: float) -> None:
    """White powder in round colonies that run together and hide the veins."""
    count = int(3 + 9 * severity * rng.uniform(0.6, 1.3))
    radii = rng.uniform(0.05, 0.13, count).astype(np.float32) * np.float32(0.80 + 0.6 * severity)
    far = _reach(blade, blade.somewhere(rng, count), radii, rng)
    ragged = blade.noise(noise.clouds(), rng, 0.8)
    fluff = blade.noise(noise.grain(), rng, 0.4)
    film = smoothstep(1.45, 0.25, far + 0.26 * ragged) * blade.lamina
    film = np.clip(film * (0.86 + 0.12 * fluff + 0.06 * ragged), 0, 1)
    film *= np.float32(rng.uniform(0.70, 0.90))
    blade.paint(_vary((0.85, 0.87, 0.83), rng, 0.04), film)
    blade.relief *= 1 - 0.3 * film
    blade.relief += np.float32(0.0012) * film * fluff
    blade.gloss *= 1 - 0.95 * film


def blight(blade: Blade, rng: Random, severity: float) -> None:
    """One to three large dead areas with wavy borders, darker zones and a water-soaked rim."""
    count = int(rng.integers(1, 3 + round(severity)))
    edge = blade.somewhere(rng, 1) if rng.random() < 0.3 else _on_margin(blade, rng, 1)
    centres = np.concatenate([edge, blade.somewhere(rng, count - 1)]).astype(np.float32)
    radii = rng.uniform(0.11, 0.18, count).astype(np.float32) * np.float32(0.8 + 0.9 * severity)
    far = _reach(blade, centres, radii, rng)
    wavy = blade.noise(noise.clouds(), rng, 0.6)
    far = far + 0.13 * wavy + 0.9 * blade.veins * np.float32(0.12)
    soaked = smoothstep(1.42, 1.02, far) * blade.lamina
    blade.paint((0.66, 0.64, 0.24), soaked * np.float32(rng.uniform(0.45, 0.8)))
    dead = smoothstep(1.06, 0.96, far) * blade.lamina
    blade.paint(_vary((0.30, 0.20, 0.12), rng, 0.15), dead * np.float32(0.95))
    papery = smoothstep(0.86, 0.45, far + 0.1 * wavy) * blade.lamina
    blade.paint(_vary((0.56, 0.44, 0.31), rng, 0.12), papery * np.float32(0.85))
    zones = 0.5 + 0.5 * np.sin(np.float32(rng.uniform(16, 28)) * (far + 0.06 * wavy))
    blade.tint((0.66, 0.62, 0.60), zones * dead * np.float32(rng.uniform(0.35, 0.85)))
    blade.tint((0.70, 0.66, 0.62), blade.veins * dead * np.float32(0.8))
    blade.relief += np.float32(0.010) * dead * blade.noise(noise.clouds(), rng, 0.9)
    blade.gloss *= 1 - 0.85 * dead


def _on_margin(blade: Blade, rng: Random, count: int) -> Plane:
    rim = np.flatnonzero(((blade.margin > 0.004) & (blade.margin < 0.03)).ravel())
    if rim.size == 0:
        return blade.somewhere(rng, count)
    chosen = rng.choice(rim, count)
    return np.stack([chosen % blade.size, chosen // blade.size], axis=1).astype(np.float32)


def mosaic(blade: Blade, rng: Random, severity: float) -> None:
    """A virus: angular light and dark green patches between the veins, and a blistered blade."""
    polygons = blade.noise(noise.cells(), rng, float(rng.uniform(0.18, 0.30)))
    mottle = blade.noise(noise.cells(), rng, 0.42)
    drift = blade.noise(noise.clouds(), rng, 0.4)
    field = polygons + 0.35 * mottle + 0.45 * drift + np.float32(rng.uniform(-0.2, 0.3))
    pale = cv2.GaussianBlur(smoothstep(-0.1, 0.45, field), (0, 0), 1.1 * blade.size / 320)
    pale = pale * (1 - 0.6 * np.minimum(blade.veins * 1.4, 1)) * blade.lamina
    strength = np.float32(0.46 + 0.40 * severity)
    blade.paint(_vary((0.78, 0.82, 0.36), rng, 0.06), pale * strength)
    blade.tint((0.72, 0.80, 0.72), (1 - pale) * blade.lamina * np.float32(0.3 + 0.5 * severity))
    blade.relief += np.float32(0.004 + 0.010 * severity) * cv2.GaussianBlur(
        1 - pale, (0, 0), 3.0 * blade.size / 320
    )


def scorch(blade: Blade, rng: Random, severity: float) -> None:
    """A dry brown margin that reaches in between the veins, behind a yellow border."""
    s, _ = blade.grid
    depth = np.float32(0.034 + 0.085 * severity)
    uneven = blade.noise(noise.clouds(), rng, 0.35)
    ragged = blade.noise(noise.clouds(), rng, 0.9)
    fingers = np.minimum(blade.between / np.float32(0.05), 1.2)
    tipward = 0.35 + 0.85 * np.clip(s + np.float32(rng.normal(0, 0.15)), 0, 1)
    limit = depth * tipward * (0.45 + 0.7 * fingers + 0.45 * uneven + 0.16 * ragged)
    inward = np.minimum(blade.margin / np.maximum(limit, 2e-3), 4)
    border = smoothstep(float(rng.uniform(1.5, 2.2)), 1.0, inward + 0.1 * ragged) * blade.lamina
    blade.paint((0.78, 0.72, 0.28), border * np.float32(rng.uniform(0.4, 0.85)))
    dry = smoothstep(1.12, 0.88, inward) * blade.lamina
    blade.paint(_vary((0.40, 0.25, 0.13), rng, 0.14), dry * np.float32(0.93))
    crisp = smoothstep(0.95, 0.35, inward + 0.2 * ragged) * blade.lamina
    blade.paint(_vary((0.62, 0.48, 0.31), rng, 0.10), crisp * np.float32(0.85))
    blade.tint((0.72, 0.68, 0.64), dry * np.clip(0.3 + 0.35 * ragged, 0, 1))
    blade.relief += np.float32(0.012) * dry * uneven
    blade.gloss *= 1 - 0.9 * dry


Condition = Callable[[Blade, Random, float], None]

CONDITIONS: Mapping[str, Condition] = MappingProxyType(
    {
        "healthy": healthy,
        "spots": spots,
        "mosaic": mosaic,
        "rust": rust,
        "scorch": scorch,
        "blight": blight,
        "mildew": mildew,
    }
)
"""From the most frequent class to the rarest."""
