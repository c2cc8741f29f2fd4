"""Light on a flat sheet with relief: shading, sheen, and how the sheet is bent into the scene."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from espalier.data.synthetic.blade import LEAF_LENGTH, Blade
from espalier.data.synthetic.noise import Plane


@dataclass(frozen=True, slots=True)
class Light:
    """Where the light comes from and how hard it is.

    Attributes:
        azimuth: Radians in the picture, 0 from the right, growing clockwise.
        elevation: Radians above the picture.
        ambient: Share of light that comes from everywhere, in [0, 1].
    """

    azimuth: float
    elevation: float
    ambient: float


@dataclass(frozen=True, slots=True)
class Pose:
    """How a leaf lies in the picture.

    Attributes:
        x: Centre across, as a share of the picture.
        y: Centre down, as a share of the picture.
        angle: Radians; 0 has the tip up, growing clockwise.
        scale: Sheet's side as a share of the picture's.
        narrow: Foreshortening across the leaf, 1 for none.
        keystone: Perspective along the leaf, 0 for none.
        bend: Sideways curve of the midrib.
        roll: How much the sides curl away.
    """

    x: float
    y: float
    angle: float
    scale: float
    narrow: float = 1.0
    keystone: float = 0.0
    bend: float = 0.0
    roll: float = 0.0


_REACH = 0.62


@dataclass(frozen=True, slots=True)
class Placed:
    """The part of a picture that a leaf reaches.

    Attributes:
        pixels: Red, green, blue and cover, empty where the leaf is not [h, w, 4].
        top: First row of the picture that it reaches.
        left: First column.
    """

    pixels: Plane
    top: int
    left: int

    def window(self, picture: Plane) -> Plane:
        """The same part of a picture, as a view [h, w, ...]."""
        height, width = self.pixels.shape[:2]
        return picture[self.top : self.top + height, self.left : self.left + width]

    def over(self, picture: Plane, brightness: float = 1.0) -> None:
        """Lays the leaf on a picture [H, W, 3], in place."""
        under = self.window(picture)
        cover = cv2.extractChannel(self.pixels, 3)
        front = cv2.cvtColor(self.pixels, cv2.COLOR_RGBA2RGB)
        weight = cover * np.float32(brightness)
        under[:] = cv2.blendLinear(front, np.ascontiguousarray(under), weight, 1 - cover)


def draw_light(rng: np.random.Generator) -> Light:
    """Anything from an overcast sky to low sun."""
    return Light(
        azimuth=float(rng.uniform(0, 2 * np.pi)),
        elevation=float(rng.uniform(0.55, 1.2)),
        ambient=float(rng.uniform(0.30, 0.72)),
    )


def draw_pose(rng: np.random.Generator) -> Pose:
    """The leaf that the photograph is of: large, near the middle, at any angle."""
    return Pose(
        x=float(rng.normal(0.5, 0.035)),
        y=float(rng.normal(0.5, 0.035)),
        angle=float(rng.uniform(0, 2 * np.pi)),
        scale=float(rng.uniform(0.98, 1.30)),
        narrow=float(rng.uniform(0.80, 1.0)),
        keystone=float(rng.normal(0, 0.12)),
        bend=float(rng.normal(0, 0.28)),
        roll=float(np.abs(rng.normal(0, 0.35))),
    )


def lit(blade: Blade, light: Light, turn: float) -> Plane:
    """The sheet's colour under a light, sheen included, not clipped [T, T, 4] with cover last.

    Args:
        blade: What is lit.
        light: In the coordinates of the picture.
        turn: The angle at which the sheet will lie in it.
    """
    x = np.cos(light.azimuth - turn) * np.cos(light.elevation)
    y = np.sin(light.azimuth - turn) * np.cos(light.elevation)
    z = np.sin(light.elevation)
    unit = LEAF_LENGTH * blade.size
    slope_x = cv2.Sobel(blade.relief, cv2.CV_32F, 1, 0, ksize=3, scale=unit / 8)
    slope_y = cv2.Sobel(blade.relief, cv2.CV_32F, 0, 1, ksize=3, scale=unit / 8)
    length = np.sqrt(1 + slope_x * slope_x + slope_y * slope_y)
    direct = (np.float32(z) - np.float32(x) * slope_x - np.float32(y) * slope_y) / length
    shade = light.ambient + (1 - light.ambient) * np.clip(direct / np.float32(z), 0.05, 1.5)
    half = np.array([x, y, z + 1.0]) / np.sqrt(x * x + y * y + (z + 1.0) ** 2)
    facing = (np.float32(half[2]) - half[0].astype(np.float32) * slope_x) / length
    facing -= half[1].astype(np.float32) * slope_y / length
    sheen = blade.gloss * _sharp(np.clip(facing, 0, 1)) * np.float32(1 - 0.6 * light.ambient)
    planes = [plane * shade + sheen * tone for plane, tone in zip(blade.colour, _SKY, strict=True)]
    found: Plane = cv2.merge([*planes, blade.cover])
    return found


def _sharp(cosine: Plane) -> Plane:
    """The 24th power, by squaring: much faster than the general power."""
    eighth = np.square(np.square(np.square(cosine)))
    found: Plane = eighth * eighth * eighth
    return found


_SKY = (np.float32(0.86), np.float32(0.92), np.float32(0.98))


def _span(middle: float, scale: float, size: int) -> Plane:
    """Pixel positions from a sheet's middle, in sheet sides, where the sheet may reach [N]."""
    first = max(int((middle - _REACH * scale) * size), 0)
    last = min(int((middle + _REACH * scale) * size) + 1, size)
    pixels = np.arange(min(first, size - 1), max(last, 1), dtype=np.float32)
    found: Plane = ((pixels + np.float32(0.5)) / size - np.float32(middle)) / np.float32(scale)
    return found


def place(sheet: Plane, pose: Pose, size: int) -> Placed:
    """A lit sheet as it lies in a picture of ``size`` pixels."""
    dx = _span(pose.x, pose.scale, size)[None, :]
    dy = _span(pose.y, pose.scale, size)[:, None]
    cos, sin = np.float32(np.cos(pose.angle)), np.float32(np.sin(pose.angle))
    across = cos * dx + sin * dy
    along = cos * dy - sin * dx
    across = across * ((1 + np.float32(pose.keystone) * along) / np.float32(pose.narrow))
    across += np.float32(pose.bend) * along * along
    across *= 1 + np.float32(pose.roll) * across * across
    side = sheet.shape[0]
    pixels: Plane = cv2.remap(
        sheet,
        (across + np.float32(0.5)) * side - np.float32(0.5),
        (along + np.float32(0.5)) * side - np.float32(0.5),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
    )
    left, top = (
        round((middle + pose.scale * float(span)) * size - 0.5)
        for middle, span in ((pose.x, dx[0, 0]), (pose.y, dy[0, 0]))
    )
    return Placed(pixels, top, left)
