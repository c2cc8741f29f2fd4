"""The first training images exactly as the network sees them, each above its class name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from rich.cells import cell_len

from espalier.files import write_whole
from espalier.report import style
from espalier.report.names import shorten_middle

if TYPE_CHECKING:
    from matplotlib.text import Text

MOST_IMAGES = 16
_COLUMNS = 4
_LEAST_SIDE = 180
_GAP, _STRIP = 8, 26
_POINTS = 10.5
_NARROWEST = 4
"""Pixels that the narrowest letters take; only bounds how many lengths are tried."""


def contact_sheet(images: npt.NDArray[np.uint8], labels: Sequence[str], path: Path) -> Path:
    """Lay up to 16 images on a grid, pixel for pixel, and write it as a JPEG file.

    Small images are enlarged by a whole factor without smoothing.

    Args:
        images: Pixels [N, H, W, 3]; the first 16 are shown.
        labels: A class name per image.
        path: The file to write, whole.

    Raises:
        DiskError: The file could not be written.
    """
    shown = min(len(images), MOST_IMAGES)
    if shown == 0 or len(labels) < shown:
        raise ValueError(f"{len(images)} images and {len(labels)} labels make no contact sheet")
    factor = max(1, math.ceil(_LEAST_SIDE / images.shape[2]))
    tiles = images[:shown].repeat(factor, axis=1).repeat(factor, axis=2)
    height, width = tiles.shape[1:3]
    columns = min(_COLUMNS, shown)
    rows = math.ceil(shown / columns)
    step_x, step_y = width + _GAP, height + _STRIP
    size = (columns * step_x + _GAP, rows * step_y + _GAP)
    canvas = np.full((size[1], size[0], 3), 255, dtype=np.uint8)
    corners = [(_GAP + i % columns * step_x, _GAP + i // columns * step_y) for i in range(shown)]
    for tile, (x, y) in zip(tiles, corners, strict=True):
        canvas[y : y + height, x : x + width] = tile
    captions = [(x, y + height, name) for (x, y), name in zip(corners, labels, strict=False)]
    _write(canvas, captions, width, path)
    return path


def _write(
    canvas: npt.NDArray[np.uint8],
    captions: Sequence[tuple[int, int, str]],
    room: int,
    path: Path,
) -> None:
    """Put each name (left, top, text) on the canvas, cut to ``room`` pixels, and save."""
    height, width = canvas.shape[:2]
    fonts, missing = style.fonts_for([name for _, _, name in captions])
    figure = style.new_figure(width, height)
    figure.figimage(canvas, 0, 0, origin="upper")
    for left, top, name in captions:
        across, up = left / width, 1.0 - (top + _STRIP / 2) / height
        text = figure.text(across, up, "", va="center", fontsize=_POINTS, family=fonts)
        text.set_color(style.INK)
        _fit(text, name, missing, room)
    options = {"quality": 95, "subsampling": 0}
    write_whole(
        path,
        lambda partial: figure.savefig(partial, format="jpg", dpi=style.DPI, pil_kwargs=options),
    )


def _fit(text: Text, name: str, missing: frozenset[str], room: int) -> None:
    """Write as much of the name as takes at most ``room`` pixels; its middle goes first."""
    cells = min(max(cell_len(name), 1), room // _NARROWEST)
    text.set_text(style.drawable(shorten_middle(name, cells) or "?", missing))
    while cells > 1 and text.get_window_extent().width > room:
        cells -= 1
        text.set_text(style.drawable(shorten_middle(name, cells), missing))
