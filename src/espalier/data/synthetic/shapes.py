"""Leaf outlines and veins of several kinds of plant, as curves in the leaf's own coordinates.

A point is ``(s, t)``: ``s`` runs along the midrib from the stalk (0) to the tip (1), ``t`` across
it, in the same unit (one leaf length), left negative.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Curve = npt.NDArray[np.float64]
Random = np.random.Generator


@dataclass(frozen=True, slots=True)
class Vein:
    """One vein from thick to thin.

    Attributes:
        points: ``(s, t)`` from its start to its end [N, 2].
        width: At the start, in leaf lengths.
        rank: 0 midrib and main veins, 1 laterals, 2 their branches.
    """

    points: Curve
    width: float
    rank: int


@dataclass(frozen=True, slots=True)
class LeafShape:
    """What a leaf looks like as a line drawing.

    Attributes:
        outline: Closed polygon ``(s, t)`` [N, 2].
        veins: Thick ones first.
        base: Where the stalk meets the blade, as ``s`` at ``t = 0``.
    """

    outline: Curve
    veins: tuple[Vein, ...]
    base: float


@dataclass(frozen=True, slots=True)
class _Teeth:
    """Saw teeth (or rounded ones) along a margin."""

    count: float
    depth: float
    rounded: bool


def _profile(s: Curve, low: float, high: float) -> Curve:
    """Half width along the midrib, largest 1: rises like s^low, falls like (1-s)^high."""
    peak = low / (low + high)
    width: Curve = s**low * (1 - s) ** high / (peak**low * (1 - peak) ** high)
    return width


def _bite(phase: Curve, teeth: _Teeth) -> Curve:
    """Depth of the margin's notch in [0, 1] at a position counted in teeth."""
    within = phase % 1.0
    if teeth.rounded:
        return 1 - np.sqrt(np.clip(1 - (2 * within - 1) ** 2, 0, 1))
    notch: Curve = np.where(within < 0.8, 1 - within / 0.8, (within - 0.8) / 0.2)
    return notch


def _wobble(s: Curve, rng: Random) -> Curve:
    """A factor near 1 that varies slowly, so that no two margins are equal."""
    waves = [
        rng.normal(0, 0.028 / k) * np.sin(np.pi * k * s + rng.uniform(0, 7)) for k in (2, 3, 5)
    ]
    total: Curve = 1 + np.sum(waves, axis=0)
    return total


@dataclass(frozen=True, slots=True)
class _Pinnate:
    """A leaf with one midrib: its half width and how its margin is cut."""

    half_width: float
    low: float
    high: float
    teeth: _Teeth | None = None
    lobes: _Teeth | None = None
    heart: float = 0.0
    laterals: int = 7

    def width(self, s: Curve) -> Curve:
        """Half width without teeth."""
        return self.half_width * _profile(s, self.low, self.high)

    def side(self, sign: float, rng: Random) -> Curve:
        s = 0.5 - 0.5 * np.cos(np.linspace(0, np.pi, 260))
        t = self.width(s) * _wobble(s, rng) * rng.uniform(0.93, 1.05)
        if self.lobes is not None:
            phase = s * self.lobes.count + rng.uniform(0, 0.4)
            t = t * (
                1 - self.lobes.depth * (1 - np.abs(np.sin(np.pi * phase)) ** 0.75) * (1 - s**6)
            )
        if self.teeth is not None:
            notch = _bite(s * self.teeth.count + rng.uniform(0, 1), self.teeth)
            t = np.maximum(t - self.teeth.depth * notch * np.minimum(1, 6 * s), 0.0)
        back = self.heart * t * (1 - s) ** 4
        lean = 0.07 * t if self.lobes is not None else 0.0
        return np.stack([s - back + lean * (1 - s), sign * t], axis=1)

    def draw(self, rng: Random) -> LeafShape:
        right, left = self.side(1.0, rng), self.side(-1.0, rng)
        midrib = np.stack([np.linspace(0, 0.985, 30), np.zeros(30)], axis=1)
        veins = [Vein(midrib, 0.026, 0)]
        for sign in (1.0, -1.0):
            veins += self.laterals_of(sign, rng)
        return LeafShape(np.concatenate([right, left[::-1]]), tuple(veins), 0.0)

    def laterals_of(self, sign: float, rng: Random) -> list[Vein]:
        veins: list[Vein] = []
        shift = rng.uniform(-0.3, 0.3)
        reach = rng.uniform(0.12, 0.24) * (0.5 + self.half_width / 0.6)
        for k in range(self.laterals):
            start = 0.04 + 0.84 * ((k + 0.5 + shift * 0.5) / self.laterals) ** 1.05
            end = min(start + reach * (1.05 - 0.6 * start) + rng.normal(0, 0.008), 0.97)
            tip = float(self.width(np.array([end]))[0]) * 0.95
            curve = _arc((start, 0.0), (end - self.heart * tip * (1 - end) ** 4, sign * tip))
            veins.append(Vein(curve, 0.012 * (1.05 - 0.5 * start), 1))
            veins += _branches(curve, sign, rng)
        return veins


_ALONG = np.linspace(0, 1, 14)
_BEZIER = np.stack([(1 - _ALONG) ** 2, 2 * _ALONG * (1 - _ALONG), _ALONG**2], axis=1)


def _arc(start: tuple[float, float], end: tuple[float, float]) -> Curve:
    """From the midrib outwards, bending towards the tip of the leaf."""
    a, c = np.array(start), np.array(end)
    b = np.array([a[0] + 0.32 * (c[0] - a[0]), a[1] + 0.6 * (c[1] - a[1])])
    curve: Curve = _BEZIER @ np.stack([a, b, c])
    return curve


def _branches(parent: Curve, sign: float, rng: Random) -> list[Vein]:
    """Short side veins of a lateral, leaving it in turn to both sides."""
    veins = []
    span = float(np.abs(parent[-1] - parent[0]).sum())
    for k, at in enumerate((0.35, 0.55, 0.75)):
        start = parent[int(at * (len(parent) - 1))]
        ahead = 1.0 if k % 2 else -0.25
        length = span * rng.uniform(0.22, 0.34)
        end = start + length * np.array([0.75 * ahead, sign * (0.45 if ahead > 0 else 0.95)])
        veins.append(Vein(np.array([start, end]), 0.005, 2))
    return veins


_LOBE_ANGLES = np.array([0.0, 0.95, -0.95, 1.95, -1.95])


def _palmate(rng: Random) -> LeafShape:
    """Maple and grape: five main veins from one point, a lobe for each."""
    lengths = np.array([1.0, 0.86, 0.86, 0.58, 0.58]) * rng.uniform(0.94, 1.04, 5) * 0.66
    angles = _LOBE_ANGLES + rng.normal(0, 0.05, 5)
    theta = np.linspace(-np.pi, np.pi, 560)
    spread = rng.uniform(0.30, 0.46)
    gaps = np.abs((theta[:, None] - angles + np.pi) % (2 * np.pi) - np.pi)
    bumps = lengths * (0.42 + 0.58 * np.exp(-((gaps / spread) ** 1.5)))
    radius = (bumps**10).sum(axis=1) ** 0.1
    radius *= 1 - 0.62 * np.exp(-(((np.pi - np.abs(theta)) / 0.30) ** 2))
    notch = _bite(theta * rng.uniform(6, 8), _Teeth(1, 1, rounded=rng.random() < 0.3))
    radius *= 1 - rng.uniform(0.03, 0.10) * notch
    base = 0.30
    outline = np.stack([base + radius * np.cos(theta), radius * np.sin(theta)], axis=1)
    veins: list[Vein] = []
    for angle, length in zip(angles, lengths, strict=True):
        veins += _palmate_vein(base, float(angle), float(length), rng)
    veins.sort(key=lambda vein: vein.rank)
    return LeafShape(outline, tuple(veins), base)


def _palmate_vein(base: float, angle: float, length: float, rng: Random) -> list[Vein]:
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    steps = np.linspace(0, 0.96 * length, 16)[:, None]
    sway = 0.03 * np.sign(angle) * np.sin(np.pi * steps / length)
    main = np.array([base, 0.0]) + steps * along + sway * across
    veins = [Vein(main, 0.022 * length / 0.66, 0)]
    for k in range(2, 13, 2):
        for sign in (1.0, -1.0):
            start = main[k]
            reach = (0.42 * length) * (1 - k / 15) * rng.uniform(0.8, 1.1)
            end = start + reach * (0.75 * along + sign * 0.75 * across)
            bend = start + reach * (0.25 * along + sign * 0.45 * across)
            veins.append(Vein(np.stack([start, bend, end]), 0.008, 1))
    return veins


def _ovate(rng: Random) -> LeafShape:
    width = rng.uniform(0.26, 0.36)
    return _Pinnate(width, 0.55, 0.95, laterals=int(rng.integers(6, 9))).draw(rng)


def _lanceolate(rng: Random) -> LeafShape:
    width = rng.uniform(0.16, 0.22)
    teeth = _Teeth(40, 0.006, rounded=False) if rng.random() < 0.4 else None
    return _Pinnate(width, 0.65, 1.05, teeth, laterals=int(rng.integers(9, 13))).draw(rng)


def _serrated(rng: Random) -> LeafShape:
    teeth = _Teeth(rng.uniform(16, 26), rng.uniform(0.018, 0.032), rounded=False)
    width = rng.uniform(0.28, 0.38)
    return _Pinnate(width, 0.5, 0.85, teeth, laterals=int(rng.integers(7, 10))).draw(rng)


def _crenate(rng: Random) -> LeafShape:
    teeth = _Teeth(rng.uniform(11, 16), rng.uniform(0.016, 0.028), rounded=True)
    return _Pinnate(rng.uniform(0.32, 0.40), 0.5, 0.62, teeth, heart=0.2, laterals=6).draw(rng)


def _heart(rng: Random) -> LeafShape:
    width = rng.uniform(0.36, 0.42)
    heart = rng.uniform(0.4, 0.6)
    return _Pinnate(width, 0.34, 0.85, heart=heart, laterals=6).draw(rng)


def _oak(rng: Random) -> LeafShape:
    count = rng.uniform(4.0, 5.6)
    lobes = _Teeth(count, rng.uniform(0.30, 0.46), rounded=True)
    return _Pinnate(rng.uniform(0.32, 0.38), 0.8, 0.5, lobes=lobes, laterals=round(count) + 1).draw(
        rng
    )


KINDS: tuple[Callable[[Random], LeafShape], ...] = (
    _ovate,
    _ovate,
    _lanceolate,
    _serrated,
    _serrated,
    _crenate,
    _heart,
    _oak,
    _palmate,
    _palmate,
)


def draw_shape(rng: Random) -> LeafShape:
    """Outline and veins of one leaf of a random kind."""
    return KINDS[int(rng.integers(len(KINDS)))](rng)
