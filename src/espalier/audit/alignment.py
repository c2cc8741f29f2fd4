"""Whether two pictures are the same photograph: laid over each other, then compared in detail."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from espalier.audit.windows import turned

Pixels = npt.NDArray[np.uint8]
Gray = npt.NDArray[np.float32]
Warp = npt.NDArray[np.float32]

SIDE = 96
_LEAST_SIDE = 32
_ROUNDS = 25
# Gray levels: below this, structure is mostly what compression left.
_NOISE = 6.0
_TILES = 6
# Mean square of the structure, where all of it is about one: less is a flat tile.
_TEXTURE = 0.1
_LEAST_COVER = 0.5
_COARSE = 32
_LEAST_HEIGHT = 0.8
_HOPEFUL = 0.3
# Better than this it need not become.
_SURE = 0.98
_SQUEEZED = 1.06
_TURNED = np.radians(3)
_HALF = np.array([0.5, 0.5], dtype=np.float32)


@dataclass(frozen=True)
class Alignment:
    """How well a picture fills a part of another.

    Attributes:
        similarity: Correlation of the fine structure of both where they overlap, in [-1, 1].
        weakest: The same of the tenth of its parts that agree least, flat ones left out.
        share: Area of the first picture that the second one shows, in [0, 1].
        upright: Whether the second is only moved and scaled, alike in both directions; a crop is,
            while another view of the same thing is also turned or squeezed a little.
    """

    similarity: float
    weakest: float
    share: float
    upright: bool


def small_gray(pixels: Pixels) -> Pixels:
    """Luma of a picture [H, W, 3] squeezed to a square of at most 96 pixels across."""
    luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    side = min(SIDE, max(_LEAST_SIDE, *luma.shape))
    shrinks = min(luma.shape) >= side
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(luma, (side, side), interpolation=way), dtype=np.uint8)


def align(
    first: Pixels, second: Pixels, window: npt.NDArray[np.float32], orientation: int
) -> Alignment | None:
    """Lay the second picture over a window of the first, and compare where they overlap.

    Args:
        first: Square gray picture.
        second: Square gray picture, not turned yet.
        window: Left, top and side of the part of the first that the second may show, as shares.
        orientation: How the second is turned to lie in it; see ``windows.turned``.

    Returns:
        None where nothing fits.
    """
    side = min(len(first), len(second))
    whole = _resized(first.astype(np.float32), side)
    part = turned(_resized(second.astype(np.float32), side), orientation)
    left, top, share = (float(value) for value in window)
    guess = np.array([[share, 0, left], [0, share, top]], dtype=np.float32)
    found = _laid_over(whole, part, guess)
    for pixels, enough in ((_COARSE, _HOPEFUL), (side, -1.0)):
        if found is not None and found.similarity >= _SURE:
            break
        height, guess = _climbed(_resized(whole, pixels), _resized(part, pixels), guess)
        found = _better(found, _laid_over(whole, part, guess))
        if height < _LEAST_HEIGHT or found is None or found.similarity < enough:
            break
    return found


def _better(one: Alignment | None, other: Alignment | None) -> Alignment | None:
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda alignment: alignment.similarity)


def _climbed(first: Gray, second: Gray, guess: Warp) -> tuple[float, Warp]:
    """Correlation at the nearest summit, and the warp there, in sides.

    Evangelidis and Psarakis, 2008: Parametric image alignment using enhanced correlation
    coefficient maximization.
    """
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _ROUNDS, 1e-4)
    everywhere = np.full(first.shape, 255, dtype=np.uint8)
    try:
        height, warp = cv2.findTransformECC(
            second, first, _in_pixels(guess, len(first)), cv2.MOTION_AFFINE, criteria, everywhere, 5
        )
    except cv2.error:
        # It says so when two pictures have nothing in common to climb along.
        return -1.0, guess
    return height, _in_sides(np.asarray(warp, dtype=np.float32), len(first))


def _in_pixels(warp: Warp, side: int) -> Warp:
    """Warp between pixel centres, of one between shares of the side."""
    linear = warp[:, :2]
    shift = warp[:, 2] * side + linear @ _HALF - _HALF
    return np.column_stack([linear, shift]).astype(np.float32)


def _in_sides(warp: Warp, side: int) -> Warp:
    linear = warp[:, :2]
    shift = (warp[:, 2] - linear @ _HALF + _HALF) / side
    return np.column_stack([linear, shift]).astype(np.float32)


def _laid_over(first: Gray, second: Gray, warp: Warp) -> Alignment | None:
    side = len(first)
    pixels = _in_pixels(warp, side)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    seen = cv2.warpAffine(first, pixels, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    cover = cv2.warpAffine(np.ones_like(first), pixels, (side, side), flags=flags) > 0.5
    if cover.mean() < _LEAST_COVER:
        return None
    similarity, weakest = _compared(np.asarray(seen, dtype=np.float32), second, cover)
    area = abs(float(np.linalg.det(warp[:, :2]))) * float(cover.mean())
    return Alignment(similarity, weakest, min(1.0, area), _is_upright(warp[:, :2]))


def _is_upright(linear: Warp) -> bool:
    strongest, weakest = np.linalg.svd(linear, compute_uv=False)
    turn = np.arctan2(linear[1, 0] - linear[0, 1], linear[0, 0] + linear[1, 1])
    return bool(strongest < _SQUEEZED * weakest and abs(turn) < _TURNED)


def _compared(first: Gray, second: Gray, cover: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Correlation of the fine structure of all, and of the tenth of its tiles that agree least."""
    sides = _in_tiles(_fine(first) * cover), _in_tiles(_fine(second) * cover)
    table = np.array([_moments(one, other) for one, other in zip(*sides, strict=True)])
    telling = table[np.maximum(table[:, 1], table[:, 2]) > _TEXTURE * len(first) ** 2 / _TILES**2]
    if not len(telling):
        return 0.0, 0.0
    each = telling[:, 0] / np.sqrt(np.maximum(1e-9, telling[:, 1] * telling[:, 2]))
    total = table.sum(axis=0)
    whole = total[0] / np.sqrt(max(1e-9, float(total[1] * total[2])))
    return float(whole), float(np.quantile(each, 0.1))


def _fine(picture: Gray) -> Gray:
    """Structure of one to four pixels, made about equally strong everywhere.

    Else the outline of the one dark object on a white board would outweigh all that tells it from
    another object of that outline.
    """
    width = max(2.5, len(picture) / 24)
    detail = cv2.GaussianBlur(picture, (0, 0), 1.0) - cv2.GaussianBlur(picture, (0, 0), width)
    strength = cv2.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), width))
    return np.asarray(detail / (strength + _NOISE), dtype=np.float32)


def _in_tiles(picture: Gray) -> list[Gray]:
    rows = np.array_split(picture, _TILES)
    return [tile for row in rows for tile in np.array_split(row, _TILES, axis=1)]


def _moments(one: Gray, other: Gray) -> tuple[float, float, float]:
    return float((one * other).sum()), float((one * one).sum()), float((other * other).sum())


def _resized(picture: Gray, side: int) -> Gray:
    if len(picture) == side:
        return picture
    return np.asarray(
        cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA), dtype=np.float32
    )
