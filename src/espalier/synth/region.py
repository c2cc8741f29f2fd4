"""Where the object of a photograph is, found in the photograph itself, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from espalier.data.images import Pixels
from espalier.data.synthetic.noise import Plane

LEAST_CONFIDENCE = 0.5
"""Below this, a photograph is skipped: paint beside the object is worse than none."""

# Enough to place a mark, and GrabCut takes 20 ms instead of half a second.
_SIDE = 144
_FRAME = 0.04
_LARGEST_HOLE = 0.01


@dataclass(frozen=True)
class Region:
    """The part of a photograph that may be painted on.

    Attributes:
        mask: 1 inside, 0 outside, soft at the border [H, W], as large as the photograph.
        confidence: In [0, 1]; the weakest of the signs that this is an object.
        albedo: Share of the light that such objects usually send back, in [0, 1].
    """

    mask: Plane
    confidence: float
    albedo: float = 0.7

    @property
    def is_sure(self) -> bool:
        """Whether the object was found well enough to paint on it."""
        return self.confidence >= LEAST_CONFIDENCE


def find_object(pixels: Pixels) -> Region:
    """The one compact object in the middle of a photograph, such as a dish.

    Two guesses (what differs from the frame of the picture; an ellipse in its middle) are refined
    by GrabCut (Rother et al. 2004), and the one with the better signs is taken.

    Args:
        pixels: RGB [H, W, 3].
    """
    small = _small(pixels)
    lab = _lab(small)
    unlike = _unlike_frame(lab)
    guesses = (unlike > 0.5, _middle(small.shape[:2]) & (unlike > 0.2))
    found = [_largest(_refined(small, guess, unlike)) for guess in guesses]
    rated = [(_object_confidence(lab, mask), mask) for mask in found]
    confidence, mask = max(rated, key=lambda one: one[0])
    return Region(_full(mask, pixels), confidence)


def find_leaves(pixels: Pixels) -> Region:
    """All leaves of a photograph: what is green, in pieces that are not too small.

    By the excess-green index 2g - r - b (Woebbecke et al. 1995).

    Args:
        pixels: RGB [H, W, 3].
    """
    small = _small(pixels)
    share = small.astype(np.float32) / np.maximum(small.sum(axis=2, keepdims=True), 1)
    excess = 2 * share[..., 1] - share[..., 0] - share[..., 2]
    light = small.max(axis=2)
    # Behind the leaves in front there are others, in their shade and out of focus.
    bright = np.percentile(light[excess > 0.05], 90) if (excess > 0.05).any() else 0
    dark = max(25.0, 0.5 * float(bright))
    limit, _ = cv2.threshold(_bytes(excess * 2.5), 0, 255, cv2.THRESH_OTSU)
    level = float(np.clip(limit / 255 / 2.5, 0.06, 0.16))
    green = ((excess > level) & (light > dark)).astype(np.uint8)
    mask = _without_scraps(cv2.morphologyEx(green, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)))
    return Region(_full(mask, pixels), _leaf_confidence(excess, mask), albedo=0.22)


def _small(pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    scale = _SIDE / min(height, width)
    size = max(16, round(width * scale)), max(16, round(height * scale))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _lab(pixels: Pixels) -> Plane:
    smooth = cv2.bilateralFilter(pixels, 5, 25, 3)
    lab: Plane = cv2.cvtColor(smooth.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return lab


def _unlike_frame(lab: Plane) -> Plane:
    """How little each pixel resembles the frame of the picture, in [0, 1] [h, w]."""
    edge = _frame(lab.shape[:2])
    colours = np.ascontiguousarray(lab[edge])
    # GrabCut and k-means draw from OpenCV's own generator: the same photograph, the same mask.
    cv2.setRNGSeed(1)
    stop = (cv2.TERM_CRITERIA_MAX_ITER, 10, 1.0)
    empty = np.empty((0,), np.int32)
    _, nearest, centres = cv2.kmeans(colours, 3, empty, stop, 2, cv2.KMEANS_PP_CENTERS)
    sizes = np.bincount(nearest.ravel(), minlength=3) / len(colours)
    # A dish that touches the frame must not count as background.
    kept = [i for i in range(3) if sizes[i] >= 0.2]
    away = [np.linalg.norm(lab - centres[i], axis=2) / _spread(colours, nearest, i) for i in kept]
    far = np.minimum.reduce(away)
    limit, _ = cv2.threshold(_bytes(far / 16), 0, 255, cv2.THRESH_OTSU)
    middle = np.clip(limit / 255 * 16, 2.0, 5.0)
    unlike: Plane = np.clip(far / (2 * middle), 0, 1).astype(np.float32)
    return unlike


def _spread(colours: Plane, nearest: Plane, cluster: int) -> float:
    """Standard deviation of one cluster in CIELAB units, at least what the eye can tell apart."""
    return max(2.0, float(colours[nearest.ravel() == cluster].std(axis=0).mean()))


def _frame(shape: tuple[int, ...]) -> Plane:
    edge = np.ones(shape[:2], bool)
    wide = max(2, round(_FRAME * min(shape[:2])))
    edge[wide:-wide, wide:-wide] = False
    return edge


def _middle(shape: tuple[int, ...]) -> Plane:
    height, width = shape[:2]
    disc = np.zeros((height, width), np.uint8)
    axes = round(0.36 * width), round(0.36 * height)
    cv2.ellipse(disc, (width // 2, height // 2), axes, 0, 0, 360, 1, -1)
    return disc.astype(bool)


def _refined(small: Pixels, guess: Plane, unlike: Plane) -> Plane:
    """The guess cut out along the edges of the photograph [h, w], 0 or 1."""
    marks = np.where(guess, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    marks[_frame(marks.shape) & (unlike < 0.5)] = cv2.GC_BGD
    if not guess.any() or not (marks == cv2.GC_BGD).any():
        return guess.astype(np.uint8)
    cv2.setRNGSeed(1)
    cv2.grabCut(
        small, marks, (0, 0, 1, 1), np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_MASK
    )
    return np.isin(marks, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)


def _largest(mask: Plane) -> Plane:
    """The largest piece, its holes filled: decoration in the background's colour is dish too."""
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, _disc(5))
    outlines, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(mask)
    if outlines:
        cv2.drawContours(filled, [max(outlines, key=cv2.contourArea)], -1, 1, -1)
    closed: Plane = cv2.morphologyEx(filled, cv2.MORPH_CLOSE, _disc(7))
    return closed


def _without_scraps(mask: Plane) -> Plane:
    closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, _disc(3))
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(closed)
    areas = stats[:, cv2.CC_STAT_AREA]
    large = [i for i in range(1, count) if areas[i] >= 0.2 * areas[1:].max()]
    kept = np.isin(pieces, large).astype(np.uint8)
    count, gaps, stats, _ = cv2.connectedComponentsWithStats(1 - kept)
    areas = stats[:, cv2.CC_STAT_AREA]
    holes = [i for i in range(1, count) if areas[i] < _LARGEST_HOLE * kept.size]
    return (kept | np.isin(gaps, holes)).astype(np.uint8)


def _disc(size: int) -> Plane:
    disc: Plane = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return disc


def _object_confidence(lab: Plane, mask: Plane) -> float:
    """The weakest sign: size, roundness of the outline, contrast across it, distance to the frame.

    Dishes are convex, so an outline with deep bays is not one.
    """
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not outlines:
        return 0.0
    outline = max(outlines, key=cv2.contourArea)
    area = float(mask.mean())
    solidity = cv2.contourArea(outline) / max(cv2.contourArea(cv2.convexHull(outline)), 1.0)
    at_frame = float((mask[_frame(mask.shape)] > 0).mean())
    signs = (
        _rise(area, 0.02, 0.06),
        _rise(area, 0.98, 0.86),
        _rise(solidity, 0.72, 0.9),
        _rise(_contrast(lab, mask), 2.0, 7.0),
        _rise(at_frame, 0.7, 0.3),
    )
    return min(signs)


def _contrast(lab: Plane, mask: Plane) -> float:
    """Colour difference across most of the outline, in CIELAB units.

    The lower quartile over twelve sectors: an object differs from its surroundings all around.
    """
    inner = mask - cv2.erode(mask, _disc(7))
    outer = cv2.dilate(mask, _disc(9)) - cv2.dilate(mask, _disc(3))
    rows, columns = np.nonzero(mask)
    y, x = np.indices(mask.shape)
    sector = ((np.arctan2(y - rows.mean(), x - columns.mean()) / (2 * np.pi) + 0.5) * 12).astype(
        int
    )
    steps = []
    for number in range(12):
        inside, outside = (lab[(ring > 0) & (sector == number)] for ring in (inner, outer))
        if len(inside) and len(outside):
            steps.append(float(np.linalg.norm(np.median(inside, 0) - np.median(outside, 0))))
    return float(np.percentile(steps, 25)) if steps else 0.0


def _leaf_confidence(excess: Plane, mask: Plane) -> float:
    area = float(mask.mean())
    if not 0 < area < 1:
        return 0.0
    inside = mask > 0
    step = float(np.median(excess[inside]) - np.median(excess[~inside]))
    # A leaf that fills the picture has nothing beside it to stand out from.
    stands_out = 1.0 if area > 0.9 else _rise(step, 0.04, 0.14)
    thick = float(cv2.distanceTransform(mask, cv2.DIST_L2, 3).max()) / _SIDE
    return min(_rise(area, 0.015, 0.05), stands_out, _rise(thick, 0.02, 0.05))


def _rise(value: float, none: float, full: float) -> float:
    return float(np.clip((value - none) / (full - none), 0, 1))


def _bytes(values: Plane) -> Pixels:
    found: Pixels = np.clip(values * 255, 0, 255).astype(np.uint8)
    return found


def _full(mask: Plane, pixels: Pixels) -> Plane:
    """The mask at the photograph's size, with a smooth outline."""
    height, width = pixels.shape[:2]
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.2)
    large = cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR)
    full: Plane = np.clip((large - 0.5) * 4, 0, 1).astype(np.float32)
    return full
