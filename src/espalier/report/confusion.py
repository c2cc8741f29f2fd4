"""The confusion matrix as a picture, with the pairs of classes that are confused most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from espalier.report import style
from espalier.report.names import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Counts = npt.NDArray[np.integer[Any]]

MOST_WITH_NUMBERS = 40
LABEL_CELLS = 26
TOP, STRIP, PAIR_ROW, MOST_PAIRS = 150, 440, 50, 14
# Widest pixels per point of font size that an average letter of DejaVu Sans takes at 100 dpi.
LETTER = 0.62
PIXELS_PER_POINT = style.DPI / 72


def draw_confusion(
    matrix: Counts, classes: Sequence[str], path: Path, *, title: str = "Confusion matrix"
) -> Path:
    """Draw counts over row-normalised colours, and the most confused pairs, into a PNG file.

    Args:
        matrix: Images [K, K]; row: true class, column: predicted class.
        classes: Length K.
        path: The file to write, whole.
        title: At the top of the picture.

    Raises:
        DiskError: The file could not be written.
    """
    counts = np.asarray(matrix)
    if counts.shape != (len(classes), len(classes)):
        raise ValueError(f"matrix is {counts.shape}, {len(classes)} classes need a square of them")
    cell = _cell_pixels(len(classes))
    side = round(cell * len(classes))
    points = min(11.0, max(7.5, 0.62 * cell / PIXELS_PER_POINT))
    fonts, missing = style.fonts_for([*classes, title])
    labels = [_label(i, name, missing) for i, name in enumerate(classes)]
    margin = 70 + round(LETTER * points * PIXELS_PER_POINT * max(map(len, labels)))
    width = margin + side + 40 + STRIP
    height = max(TOP + side + margin, 560)
    figure = style.new_figure(width, height)
    box = (margin / width, 1 - (TOP + side) / height, side / width, side / height)
    axes = figure.add_axes(box)
    _draw_cells(axes, counts, cell)
    _label_axes(axes, labels, cell, points, fonts)
    _write_title(figure, counts, style.drawable(shorten(title, 60), missing), fonts)
    _write_pairs(figure, counts, labels, margin + side + 40, fonts)
    return style.save_picture(figure, path)


def _cell_pixels(classes: int) -> float:
    if classes > 90:
        return max(2000 / classes, 4.0)
    return float(np.clip(760 / classes, 22, 150))


def _label(index: int, name: str, missing: frozenset[str]) -> str:
    # A name that no installed font can draw is still told apart by its index.
    prefix = f"{index} " if missing & set(name) else ""
    return style.drawable(prefix + (shorten(name, LABEL_CELLS) or "?"), missing)


def row_shares(counts: Counts) -> npt.NDArray[np.float64]:
    """Each row divided by its sum; NaN for a class without images."""
    totals = counts.sum(axis=1, keepdims=True).astype(float)
    shares: npt.NDArray[np.float64] = np.divide(
        counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0
    )
    return shares


def _draw_cells(axes: Axes, counts: Counts, cell: float) -> None:
    from matplotlib import colormaps

    colours = colormaps["Blues"].with_extremes(bad="#eceff2")
    shares = row_shares(counts)
    axes.imshow(shares, cmap=colours, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    classes = len(counts)
    if cell >= 10:
        edges = np.arange(classes - 1) + 0.5
        axes.vlines(edges, -0.5, classes - 0.5, color="white", lw=0.8)
        axes.hlines(edges, -0.5, classes - 0.5, color="white", lw=0.8)
    if classes <= MOST_WITH_NUMBERS:
        _write_counts(axes, counts, shares, cell)
    axes.set_xlim(-0.5, classes - 0.5)
    axes.set_ylim(classes - 0.5, -0.5)
    axes.spines[:].set_color("#b6bcc4")


def _write_counts(axes: Axes, counts: Counts, shares: npt.NDArray[np.float64], cell: float) -> None:
    digits = len(str(int(counts.max(initial=0))))
    pixels = min(17.0, 0.55 * cell, 0.86 * cell / (LETTER * digits))
    for row, column in np.argwhere(counts > 0):
        axes.text(
            column,
            row,
            str(counts[row, column]),
            ha="center",
            va="center_baseline",
            fontsize=pixels / PIXELS_PER_POINT,
            color="white" if shares[row, column] > 0.5 else style.INK,
        )


def _label_axes(
    axes: Axes, labels: Sequence[str], cell: float, points: float, fonts: list[str]
) -> None:
    every = int(np.ceil(1.25 * points * PIXELS_PER_POINT / cell))
    shown = range(0, len(labels), every)
    texts = [labels[i] for i in shown]
    longest = LETTER * points * PIXELS_PER_POINT * max(map(len, labels))
    flat = longest < 0.95 * cell
    axes.set_xticks(shown, texts, rotation=0 if flat else 90, fontsize=points, family=fonts)
    axes.set_yticks(shown, texts, fontsize=points, family=fonts)
    axes.tick_params(length=0, colors=style.INK)
    thinned = f" (every {every}th named)" if every > 1 else ""
    axes.set_xlabel(f"predicted class{thinned}", fontsize=11, color=style.QUIET, labelpad=8)
    axes.set_ylabel(f"true class{thinned}", fontsize=11, color=style.QUIET, labelpad=8)


def _write_title(figure: Figure, counts: Counts, title: str, fonts: list[str]) -> None:
    height = figure.get_figheight() * style.DPI
    left = 26 / (figure.get_figwidth() * style.DPI)
    total, right = int(counts.sum()), int(np.trace(counts))
    share = f"{right:,} of {total:,} right ({right / total:.1%})" if total else "no images"
    lines = (
        (title, 28, 19.0, "bold", style.INK),
        (share, 68, 12.0, "normal", style.INK),
        ("colour: share of the true class, by row; number: images", 94, 10.5, "normal", style.QUIET)
        if len(counts) <= MOST_WITH_NUMBERS
        else ("colour: share of the true class, by row", 94, 10.5, "normal", style.QUIET),
    )
    for text, down, size, weight, colour in lines:
        figure.text(
            left,
            1 - down / height,
            text,
            fontsize=size,
            weight=weight,
            color=colour,
            va="top",
            family=fonts,
        )


def confused_pairs(counts: Counts) -> list[tuple[int, int, int]]:
    """(true, predicted, images) off the diagonal, most images first, then the larger share."""
    shares = np.nan_to_num(row_shares(counts))
    found = [(int(i), int(j)) for i, j in np.argwhere(counts > 0) if i != j]
    found.sort(key=lambda pair: (-int(counts[pair]), -float(shares[pair])))
    return [(i, j, int(counts[i, j])) for i, j in found]


def _write_pairs(
    figure: Figure, counts: Counts, labels: Sequence[str], left: int, fonts: list[str]
) -> None:
    from matplotlib.patches import Rectangle

    width, height = figure.get_figwidth() * style.DPI, figure.get_figheight() * style.DPI

    def write(down: float, text: str, size: float, colour: str, shift: float = 0) -> None:
        figure.text(
            (left + shift) / width,
            1 - down / height,
            text,
            fontsize=size,
            color=colour,
            va="top",
            family=fonts,
        )

    pairs = confused_pairs(counts)[: max(3, min(MOST_PAIRS, int((height - TOP - 30) / PAIR_ROW)))]
    write(TOP - 26, "MOST CONFUSED: TRUE CLASS \N{RIGHTWARDS ARROW} TAKEN FOR", 9, style.QUIET)
    if not pairs:
        write(TOP + 8, "no image was confused", 11, style.INK)
    for number, (true, taken, images) in enumerate(pairs):
        down = TOP + 6 + PAIR_ROW * number
        total = int(counts[true].sum())
        write(
            down,
            f"{_short(labels[true])} \N{RIGHTWARDS ARROW} {_short(labels[taken])}",
            10.5,
            style.INK,
        )
        bar = 110 * images / total
        corner = ((left + 1) / width, 1 - (down + 33) / height)
        figure.add_artist(Rectangle(corner, bar / width, 10 / height, color=style.VALIDATION, lw=0))
        text = f"{images:,} of {total:,} ({images / total:.0%})"
        write(down + 20, text, 9.5, style.QUIET, shift=bar + 8)


def _short(label: str) -> str:
    # Escaped dollar signs count once too often here; that only cuts a little earlier.
    return label if len(label) <= 23 else label[:22] + "…"
