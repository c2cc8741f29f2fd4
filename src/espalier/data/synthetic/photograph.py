"""From a leaf and a condition to one photograph: scene, shadow, lens, sensor."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from espalier.data.synthetic import noise
from espalier.data.synthetic.backgrounds import dapple, draw_background, extra_leaf
from espalier.data.synthetic.blade import grow
from espalier.data.synthetic.lesions import CONDITIONS
from espalier.data.synthetic.lighting import Light, Placed, Pose, draw_light, draw_pose, lit, place
from espalier.data.synthetic.noise import Plane

Random = np.random.Generator
Pixels = npt.NDArray[np.uint8]

_OVERSAMPLING = 2
_MILDEST = 0.12


def photograph(condition: str, *, imgsz: int, rng: Random) -> Pixels:
    """One leaf with a condition, RGB uint8 [imgsz, imgsz, 3].

    Args:
        condition: A key of ``CONDITIONS``.
        imgsz: Pixels across and down.
        rng: Decides everything else.
    """
    size = _OVERSAMPLING * imgsz
    light, pose = draw_light(rng), draw_pose(rng)
    blade = grow(size, rng)
    severity = _MILDEST + (1 - _MILDEST) * float(rng.beta(1.3, 1.1))
    CONDITIONS[condition](blade, rng, severity)
    leaf = place(lit(blade, light, pose.angle), pose, size)
    scene = _scene(leaf, size, light, rng)
    small = cv2.resize(scene, (imgsz, imgsz), interpolation=cv2.INTER_AREA)
    return _camera(small, rng)


def _scene(leaf: Placed, size: int, light: Light, rng: Random) -> Plane:
    """Background, leaves behind, shadow, the leaf, now and then a leaf in front."""
    picture = draw_background(size, rng, light)
    for _ in range(int(rng.choice(4, p=(0.55, 0.25, 0.12, 0.08)))):
        behind = extra_leaf(size, rng, _aside(rng, 0.30, 0.55))
        _shadow(picture, behind, light, rng)
        behind.over(picture, float(rng.uniform(0.75, 1.0)))
    _shadow(picture, leaf, light, rng)
    leaf.over(picture)
    if rng.random() < 0.20:
        front = extra_leaf(size, rng, _aside(rng, 0.58, 0.72))
        _shadow(picture, front, light, rng)
        front.over(picture)
    if rng.random() < 0.28:
        picture *= dapple(size, rng)[:, :, None]
    return picture


def _aside(rng: Random, low: float, high: float) -> Pose:
    """A leaf whose middle is this far from the middle of the picture, in picture sides."""
    around, away = rng.uniform(0, 2 * np.pi), rng.uniform(low, high)
    return Pose(
        x=float(0.5 + away * np.cos(around)),
        y=float(0.5 + away * np.sin(around)),
        angle=float(rng.uniform(0, 2 * np.pi)),
        scale=float(rng.uniform(0.55, 0.95)),
        narrow=float(rng.uniform(0.6, 1.0)),
        bend=float(rng.normal(0, 0.35)),
    )


def _shadow(picture: Plane, leaf: Placed, light: Light, rng: Random) -> None:
    """Darkens what lies under a leaf, away from the light; harder light makes it darker."""
    size = picture.shape[0]
    small = (max(size // 4, 1), max(size // 4, 1))
    height = float(rng.uniform(0.008, 0.05)) * small[0]
    whole = np.zeros((size, size), np.float32)
    leaf.window(whole)[:] = cv2.extractChannel(leaf.pixels, 3)
    quarter = cv2.resize(whole, small, interpolation=cv2.INTER_AREA)
    dx, dy = -height * np.cos(light.azimuth), -height * np.sin(light.azimuth)
    moved = cv2.warpAffine(quarter, np.array([[1, 0, dx], [0, 1, dy]], np.float32), small)
    soft = cv2.GaussianBlur(moved, (0, 0), 0.35 + 0.15 * height)
    depth = np.float32(0.30 + 0.45 * (1 - light.ambient))
    full = cv2.resize(1 - depth * soft, (size, size), interpolation=cv2.INTER_LINEAR)
    cv2.multiply(picture, cv2.merge([full, full, full]), dst=picture)


def _camera(picture: Plane, rng: Random) -> Pixels:
    """What lens and sensor make of the scene, as RGB uint8 [H, W, 3]."""
    size = picture.shape[0]
    if rng.random() < 0.35:
        picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.3, 0.75)) * size / 160)
    exposed = _expose(picture, rng)
    coloured = rng.standard_normal((size, size, 3), np.float32)
    common = noise.patch(noise.grain(), size, rng, 0.3)[:, :, None]
    strength = np.float32(rng.uniform(0.003, 0.014)) * (np.float32(0.4) + np.sqrt(exposed))
    noisy = exposed + strength * (coloured + common)
    found: Pixels = np.rint(np.clip(noisy, 0, 1) * 255).astype(np.uint8)
    return found


def _expose(picture: Plane, rng: Random) -> Plane:
    """White balance, exposure, soft highlights and a little less light in the corners."""
    warmth = float(rng.normal(0.01, 0.055))
    balance = np.array([1 + warmth, 1 + rng.normal(-0.01, 0.02), 1 - warmth])
    exposure = float(np.clip(rng.normal(1.36, 0.17), 0.95, 1.8))
    bright = np.maximum(cv2.multiply(picture, np.append(balance * exposure, 0.0)), 0)
    soft = bright / (1 + np.float32(0.20) * bright * bright)
    axis = np.linspace(-1, 1, picture.shape[0], dtype=np.float32) ** 2
    fall = 1 - np.float32(rng.uniform(0, 0.14)) * (axis[:, None] + axis[None, :])
    found: Plane = soft * fall[:, :, None]
    return found
