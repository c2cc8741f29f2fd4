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

from espalier.data.resample import SPARE_PIXELS, Image, resize, sample
from espalier.recipe.schema import Fit

Matrix = npt.NDArray[np.float64]
Places = npt.NDArray[np.float64]
Steps = Mapping[str, Mapping[str, float]]

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
        columns: Where each column of a grid distortion takes its pixels from; None unless bent.
        rows: The same for rows.
        pushed: How far right and down of there an elastic distortion looks [2, imgsz, imgsz], in
            pixels of the view; None without one.
    """

    box: Box
    mirrored: bool
    upside_down: bool
    turned: Matrix | None
    zoom: float
    columns: Places | None
    rows: Places | None
    pushed: Places | None = None


def happens(step: str, steps: Steps, rng: np.random.Generator) -> bool:
    """Whether a step of the recipe is drawn for this image."""
    return step in steps and rng.random() < steps[step]["p"]


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
    bend = _draw_bend(imgsz, steps, rng)
    return View(box, mirrored, upside_down, turned, zoom, *bend)


def render(image: Image, view: View, imgsz: int) -> Image:
    """The view as [imgsz, imgsz, 3], interpolated once.

    Beyond the picture's edge its mirror image continues it, so that no corner turns black.
    """
    if view.turned is None and view.columns is None:
        return _render_upright(image, view, imgsz)
    width, height = shrunk_size(image.shape[1], image.shape[0], view, imgsz)
    to_view = matrix_to_view(image.shape[1], image.shape[0], view, imgsz)
    image = resize(image, width, height)
    if view.columns is not None and view.rows is not None:
        return _remap(image, to_view, view.columns, view.rows, view.pushed)
    return _warp(image, to_view, imgsz)


def shrunk_size(width: int, height: int, view: View, imgsz: int) -> tuple[int, int]:
    """Width and height to average a picture to before a warp, which would skip pixels otherwise."""
    wanted = imgsz * view.zoom * SPARE_PIXELS
    across, down = min(1.0, wanted / view.box.width), min(1.0, wanted / view.box.height)
    return max(1, round(width * across)), max(1, round(height * down))


def matrix_to_view(width: int, height: int, view: View, imgsz: int) -> Matrix:
    """From the picture after ``shrunk_size`` to the view, without grid and elastic distortion."""
    across, down = shrunk_size(width, height, view, imgsz)
    sx, sy = across / width, down / height
    box = Box(view.box.x * sx, view.box.y * sy, view.box.width * sx, view.box.height * sy)
    matrix = _box_matrix(box, view, imgsz)
    return matrix if view.turned is None else view.turned @ matrix


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


def _draw_knots(imgsz: int, params: Mapping[str, float], rng: np.random.Generator) -> Places:
    """Positions [imgsz] along one side after its cells were stretched or squeezed at random."""
    cells = int(params["cells"])
    sizes = 1.0 + params["strength"] * (2.0 * rng.random(cells) - 1.0)
    knots = np.concatenate(([0.0], np.cumsum(sizes))) * (imgsz / sizes.sum())
    centres, evenly = np.arange(imgsz) + _HALF_PIXEL, np.linspace(0.0, imgsz, cells + 1)
    positions: Places = np.interp(centres, evenly, knots)
    return positions


def _draw_bend(
    imgsz: int, steps: Steps, rng: np.random.Generator
) -> tuple[Places, Places, Places | None] | tuple[None, None, None]:
    """Columns, rows and push of a view: elastic distortion, then grid distortion."""
    control = None
    if happens("elastic_distortion", steps, rng):
        control = _draw_control(imgsz, steps["elastic_distortion"], rng)
    if happens("grid_distortion", steps, rng):
        columns, rows = (_draw_knots(imgsz, steps["grid_distortion"], rng) for _ in range(2))
    elif control is None:
        return None, None, None
    else:
        columns = rows = np.arange(imgsz, dtype=np.float64) + _HALF_PIXEL
    if control is None:
        return columns, rows, None
    across, down = (_spline(place / imgsz, control.shape[1]) for place in (columns, rows))
    return columns, rows, down @ control @ across.T


def _draw_control(imgsz: int, params: Mapping[str, float], rng: np.random.Generator) -> Places:
    """Pushes right and down [2, points, points], in pixels, of the points of an even grid."""
    cells = int(params["cells"])
    most = params["strength"] * imgsz / cells
    control: Places = most * (2.0 * rng.random((2, cells + 3, cells + 3)) - 1.0)
    return control


def _spline(place: Places, points: int) -> Places:
    """Share of each control point in each place of 0 to 1 along a side [places, points].

    Uniform cubic B-splines: smooth, and free of folds for pushes below 0.48 cells (Choi and Lee
    2000, Injectivity conditions of 2D and 3D uniform cubic B-spline functions).
    """
    away = np.abs(place[:, None] * (points - 3) - np.arange(-1, points - 1))
    near = 2.0 / 3.0 - away**2 + away**3 / 2.0
    far = np.clip(2.0 - away, 0.0, None) ** 3 / 6.0
    shares: Places = np.where(away < 1.0, near, far)
    return shares


def shift(x: float, y: float) -> Matrix:
    """Move right by x and down by y."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def _centred(matrix: Matrix, imgsz: int) -> Matrix:
    """The same map about the middle of the view instead of its corner."""
    middle = imgsz / 2.0
    return shift(middle, middle) @ matrix @ shift(-middle, -middle)


def whole_pixels(box: Box) -> tuple[int, int, int, int]:
    """Left, top, width and height of the nearest box on whole pixels."""
    x, y, width, height = (round(value) for value in box)
    return x, y, max(1, width), max(1, height)


def _render_upright(image: Image, view: View, imgsz: int) -> Image:
    """Crop, resize and flip without a warp, as validation crops and resizes."""
    x, y, width, height = whole_pixels(view.box)
    part = sample(image[y : y + height, x : x + width], imgsz, imgsz)
    if view.mirrored or view.upside_down:
        code = 1 if not view.upside_down else (-1 if view.mirrored else 0)
        part = np.asarray(cv2.flip(part, code), np.uint8)
    return part


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
    columns: Places,
    rows: Places,
    pushed: Places | None,
) -> Image:
    """Grid and elastic distortion on top of a warp: each view pixel looks up the source."""
    back = np.linalg.inv(to_view).astype(np.float32)
    column_part = np.outer(back[:, 0], columns.astype(np.float32))[:, None, :]
    row_part = (np.outer(back[:, 1], rows.astype(np.float32)) + back[:, 2:])[:, :, None]
    place = column_part + row_part
    if pushed is not None:
        place += np.tensordot(back[:, :2], pushed.astype(np.float32), axes=1)
    height, width = image.shape[:2]
    map_x = _mirrored_index(place[0] / place[2] - np.float32(_HALF_PIXEL), width)
    map_y = _mirrored_index(place[1] / place[2] - np.float32(_HALF_PIXEL), height)
    border = cv2.BORDER_REPLICATE
    return np.asarray(cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=border), np.uint8)


def _mirrored_index(position: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.float32]:
    """Fold positions back into the picture at its edges.

    OpenCV 5.0.0 can do this too, but its remap was seen to take a second an image with
    BORDER_REFLECT_101.
    """
    last = np.float32(size - 1)
    if last == 0:
        return np.zeros_like(position)
    lowest, highest = position.min(), position.max()
    if lowest >= 0 and highest <= last:
        return position
    # One fold at each edge does for nearly all, in a tenth of the time that mod takes.
    if lowest >= -last and highest <= 2 * last:
        return np.asarray(last - np.abs(last - np.abs(position)), np.float32)
    return np.asarray(np.abs(np.mod(position + last, 2 * last) - last), np.float32)
