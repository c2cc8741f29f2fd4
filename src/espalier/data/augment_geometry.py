"""Where the pixels of a training view come from: every geometric step drawn, then one resampling.

Positions are continuous: the left edge of an image is 0, its right edge is its width, and the
centre of pixel i is i + 0.5. Matrices are 3x3 and map (x, y, 1) of the source to the view.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from espalier.recipe.schema import Fit

Image = npt.NDArray[np.uint8]
Matrix = npt.NDArray[np.float64]
Steps = Mapping[str, Mapping[str, float]]

GREY = 114
"""Value of the bars that `pad` puts beside a picture, and of what erasing leaves behind."""

# Measured against 16-fold supersampling of photographs: averaging down to 1.5 x the view before the
# warp gives 46-48 dB at scales of 0.4-0.6; to 1 x 40-43 dB, in whole steps 42-43, never 38-42.
SPARE_PIXELS = 1.5
_CROP_ATTEMPTS = 10
_HALF_PIXEL = 0.5


class Box(NamedTuple):
    """An upright rectangle of the source, in pixels."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class View:
    """All geometric choices for one image.

    Attributes:
        box: The part of the source that fills the view.
        mirrored: Left and right exchanged, then ``upside_down``: top and bottom exchanged.
        upside_down: See ``mirrored``.
        turned: Rotation, affine and perspective on the view as one matrix; None without any.
        zoom: Linear enlargement that ``turned`` holds.
        columns: Where each column of a grid distortion takes its pixels from; None without one.
        rows: The same for rows.
    """

    box: Box
    mirrored: bool
    upside_down: bool
    turned: Matrix | None
    zoom: float
    columns: npt.NDArray[np.float64] | None
    rows: npt.NDArray[np.float64] | None


def happens(step: str, steps: Steps, rng: np.random.Generator) -> bool:
    """Whether a step of the recipe is drawn for this image."""
    return step in steps and rng.random() < steps[step]["p"]


def letterbox(image: Image, most: int) -> Image:
    """The picture centred between grey bars as a square of at most ``most`` pixels across.

    Shrinking comes first: a strip of 40,000 x 100 pixels made square would not fit in memory.
    """
    height, width = image.shape[:2]
    scale = min(1.0, most / max(height, width))
    if scale < 1.0:
        image = resize(image, max(1, round(width * scale)), max(1, round(height * scale)))
        height, width = image.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    bars = (top, side - height - top, left, side - width - left)
    padded = cv2.copyMakeBorder(image, *bars, cv2.BORDER_CONSTANT, value=(GREY, GREY, GREY))
    return np.asarray(padded, dtype=np.uint8)


def resize(image: Image, width: int, height: int) -> Image:
    """Resample without aliasing: by area along a side that shrinks, linearly where it grows."""
    small = (min(width, image.shape[1]), min(height, image.shape[0]))
    if small != (image.shape[1], image.shape[0]):
        image = np.asarray(cv2.resize(image, small, interpolation=cv2.INTER_AREA), np.uint8)
    if small != (width, height):
        large = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        image = np.asarray(large, np.uint8)
    return image


def draw_view(
    width: int, height: int, imgsz: int, fit: Fit, steps: Steps, rng: np.random.Generator
) -> View:
    """Draw the geometric steps for a source of ``width`` x ``height`` pixels.

    A picture to ``pad`` has been made square before; one to ``squash`` is treated as a square and
    the box stretched to its real shape.
    """
    short = min(width, height)
    canvas = (short, short) if fit == "squash" else (width, height)
    box = _draw_box(canvas[0], canvas[1], steps, rng)
    if fit == "squash":
        across, down = width / short, height / short
        box = Box(box.x * across, box.y * down, box.width * across, box.height * down)
    mirrored = happens("hflip", steps, rng)
    upside_down = happens("vflip", steps, rng)
    turned, zoom = _draw_turn(imgsz, steps, rng)
    columns = rows = None
    if happens("grid_distortion", steps, rng):
        columns, rows = (_draw_knots(imgsz, steps["grid_distortion"], rng) for _ in range(2))
    return View(box, mirrored, upside_down, turned, zoom, columns, rows)


def render(image: Image, view: View, imgsz: int) -> Image:
    """The view as [imgsz, imgsz, 3], interpolated once.

    Beyond the picture's edge its mirror image continues it, so that no corner turns black.
    """
    if view.turned is None and view.columns is None:
        return _render_upright(image, view, imgsz)
    image, box = _shrink(image, view, imgsz)
    to_view = _box_matrix(box, view, imgsz)
    if view.turned is not None:
        to_view = view.turned @ to_view
    if view.columns is not None and view.rows is not None:
        return _remap(image, to_view, view.columns, view.rows)
    return _warp(image, to_view, imgsz)


def _draw_box(width: int, height: int, steps: Steps, rng: np.random.Generator) -> Box:
    if happens("random_resized_crop", steps, rng):
        return _random_box(width, height, steps["random_resized_crop"], rng)
    if happens("enlarged_crop", steps, rng):
        side = min(width, height) / steps["enlarged_crop"]["factor"]
        x, y = rng.random() * (width - side), rng.random() * (height - side)
        return Box(x, y, side, side)
    return centre_box(width, height, 1.0)


def centre_box(width: int, height: int, share: float) -> Box:
    """The central square whose side is a share of the short side, on whole pixels."""
    side = max(1, round(min(width, height) * share))
    return Box((width - side) // 2, (height - side) // 2, side, side)


def _random_box(
    width: int, height: int, params: Mapping[str, float], rng: np.random.Generator
) -> Box:
    """Area uniform, log of the ratio uniform, as in Szegedy et al. 2015 and torchvision.

    The area is a share of the largest square, which is what validation sees, not of the picture:
    things are then seen as large as in validation whatever the picture's shape, and a wide picture
    does not refuse most boxes. Shapes that never fit end as the largest allowed box at the centre.
    """
    low, high = math.log(params["min_ratio"]), math.log(params["max_ratio"])
    square = min(width, height) ** 2
    for _ in range(_CROP_ATTEMPTS):
        area = square * between(params["min_area"], params["max_area"], rng)
        ratio = math.exp(between(low, high, rng))
        across, down = (
            max(1, round(math.sqrt(area * ratio))),
            max(1, round(math.sqrt(area / ratio))),
        )
        if across <= width and down <= height:
            x, y = rng.integers(width - across + 1), rng.integers(height - down + 1)
            return Box(int(x), int(y), across, down)
    across = min(width, round(height * params["max_ratio"]))
    down = min(height, round(width / params["min_ratio"]))
    return Box((width - across) // 2, (height - down) // 2, max(1, across), max(1, down))


def between(low: float, high: float, rng: np.random.Generator) -> float:
    """A uniform draw."""
    return low + (high - low) * rng.random()


def _either_way(limit: float, rng: np.random.Generator) -> float:
    return limit * (2.0 * rng.random() - 1.0)


def _draw_turn(imgsz: int, steps: Steps, rng: np.random.Generator) -> tuple[Matrix | None, float]:
    """Rotation, then affine, then perspective, about the middle of the view; and its zoom."""
    turned: Matrix | None = None
    zoom = 1.0
    if happens("rotation", steps, rng):
        turned = _centred(rotation(_either_way(steps["rotation"]["degrees"], rng)), imgsz)
    if happens("affine", steps, rng):
        params = steps["affine"]
        zoom = between(params["min_scale"], params["max_scale"], rng)
        moved = _draw_affine(imgsz, params, zoom, rng)
        turned = moved if turned is None else moved @ turned
    if happens("perspective", steps, rng):
        tilted = _draw_perspective(imgsz, steps["perspective"]["distortion"], rng)
        turned = tilted if turned is None else tilted @ turned
    return turned, zoom


def rotation(degrees: float) -> Matrix:
    """Counter-clockwise as one sees it, about the origin."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cosine, sine, 0.0], [-sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def _draw_affine(
    imgsz: int, params: Mapping[str, float], zoom: float, rng: np.random.Generator
) -> Matrix:
    lean = math.tan(math.radians(_either_way(params["shear"], rng)))
    moved = _centred(
        np.array([[zoom, -zoom * lean, 0.0], [0.0, zoom, 0.0], [0.0, 0.0, 1.0]]), imgsz
    )
    moved[0, 2] += _either_way(params["translate"], rng) * imgsz
    moved[1, 2] += _either_way(params["translate"], rng) * imgsz
    return moved


def _draw_perspective(imgsz: int, distortion: float, rng: np.random.Generator) -> Matrix:
    """Each corner moves inward by up to ``distortion`` x half a side, along both axes."""
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float32) * imgsz
    inward = 1.0 - corners * 2.0 / imgsz
    moved = corners + inward * rng.random((4, 2)) * distortion * imgsz / 2.0
    matrix = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    return np.asarray(matrix, dtype=np.float64)


def _draw_knots(
    imgsz: int, params: Mapping[str, float], rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Positions [imgsz] along one side after its cells were stretched or squeezed at random."""
    cells = int(params["cells"])
    sizes = 1.0 + params["strength"] * (2.0 * rng.random(cells) - 1.0)
    knots = np.concatenate(([0.0], np.cumsum(sizes))) * (imgsz / sizes.sum())
    centres, evenly = np.arange(imgsz) + _HALF_PIXEL, np.linspace(0.0, imgsz, cells + 1)
    positions: npt.NDArray[np.float64] = np.interp(centres, evenly, knots)
    return positions


def shift(x: float, y: float) -> Matrix:
    """Move right by x and down by y."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def _centred(matrix: Matrix, imgsz: int) -> Matrix:
    """The same map about the middle of the view instead of its corner."""
    middle = imgsz / 2.0
    return shift(middle, middle) @ matrix @ shift(-middle, -middle)


def _render_upright(image: Image, view: View, imgsz: int) -> Image:
    """Crop, resize and flip without a warp, as validation crops and resizes."""
    x, y, width, height = (round(value) for value in view.box)
    part = image[y : y + max(1, height), x : x + max(1, width)]
    part = resize(part, imgsz, imgsz)
    if view.mirrored or view.upside_down:
        code = 1 if not view.upside_down else (-1 if view.mirrored else 0)
        part = np.asarray(cv2.flip(part, code), np.uint8)
    return part


def _shrink(image: Image, view: View, imgsz: int) -> tuple[Image, Box]:
    """Average pixels that linear interpolation would skip; each axis on its own."""
    height, width = image.shape[:2]
    box = view.box
    wanted = imgsz * view.zoom * SPARE_PIXELS
    across, down = min(1.0, wanted / box.width), min(1.0, wanted / box.height)
    if across == 1.0 and down == 1.0:
        return image, box
    small = resize(image, max(1, round(width * across)), max(1, round(height * down)))
    sx, sy = small.shape[1] / width, small.shape[0] / height
    return small, Box(box.x * sx, box.y * sy, box.width * sx, box.height * sy)


def _box_matrix(box: Box, view: View, imgsz: int) -> Matrix:
    """From the source to the view: the box stretched to the whole side, and flipped."""
    sx, sy = imgsz / box.width, imgsz / box.height
    matrix = np.array([[sx, 0.0, -box.x * sx], [0.0, sy, -box.y * sy], [0.0, 0.0, 1.0]])
    if view.mirrored:
        matrix[0] = [-sx, 0.0, imgsz + box.x * sx]
    if view.upside_down:
        matrix[1] = [0.0, -sy, imgsz + box.y * sy]
    return matrix


def _warp(image: Image, to_view: Matrix, imgsz: int) -> Image:
    indexed = shift(-_HALF_PIXEL, -_HALF_PIXEL) @ to_view @ shift(_HALF_PIXEL, _HALF_PIXEL)
    size, flags, border = (imgsz, imgsz), cv2.INTER_LINEAR, cv2.BORDER_REFLECT_101
    if indexed[2, 0] == 0.0 and indexed[2, 1] == 0.0:
        warped = cv2.warpAffine(image, indexed[:2], size, flags=flags, borderMode=border)
    else:
        warped = cv2.warpPerspective(image, indexed, size, flags=flags, borderMode=border)
    return np.asarray(warped, dtype=np.uint8)


def _remap(
    image: Image,
    to_view: Matrix,
    columns: npt.NDArray[np.float64],
    rows: npt.NDArray[np.float64],
) -> Image:
    """Grid distortion on top of a warp: each view pixel looks up the source directly."""
    back = np.linalg.inv(to_view)
    column_part = np.outer(back[:, 0], columns)[:, None, :]
    row_part = (np.outer(back[:, 1], rows) + back[:, 2:])[:, :, None]
    x, y, depth = column_part + row_part
    height, width = image.shape[:2]
    map_x = _mirrored_index(x / depth - _HALF_PIXEL, width)
    map_y = _mirrored_index(y / depth - _HALF_PIXEL, height)
    border = cv2.BORDER_REPLICATE
    return np.asarray(cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=border), np.uint8)


def _mirrored_index(position: Matrix, size: int) -> npt.NDArray[np.float32]:
    """Fold positions back into the picture at its edges.

    OpenCV 5.0.0 can do this too, but its remap was seen to take a second an image with
    BORDER_REFLECT_101.
    """
    last = size - 1
    if last == 0:
        return np.zeros(position.shape, dtype=np.float32)
    folded = np.abs(np.mod(position + last, 2 * last) - last)
    return np.asarray(folded, dtype=np.float32)
