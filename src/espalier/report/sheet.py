"""A picture laid out in pixels from its upper left corner: text that is cut to fit, bars, axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.cells import cell_len

from espalier.files import write_whole
from espalier.report import style
from espalier.report.names import shorten, shorten_middle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

Side = Literal["left", "right", "center"]
MARGIN = 26
# Pixels that the narrowest letters take; only bounds how many lengths are tried.
_NARROWEST = 4
_ROW_MOST, _ROW_LEAST, _ROWS_HEIGHT = 40, 17, 560


class Sheet:
    """A white picture; places are pixels from the left and from the top.

    Args:
        width: Pixels across.
        height: Pixels down.
        names: All names of the user's that will be written, so that fonts are found for them.
    """

    def __init__(self, width: int, height: int, names: Iterable[str] = ()) -> None:
        self.width, self.height = width, height
        self.figure = style.new_figure(width, height)
        self.fonts, self.missing = style.fonts_for(list(names))

    def write(
        self,
        x: float,
        down: float,
        text: str,
        *,
        size: float = 10.5,
        colour: str = style.INK,
        bold: bool = False,
        side: Side = "left",
        middle: bool = False,
        room: float | None = None,
        ends: bool = False,
    ) -> None:
        """Write one line of text.

        Args:
            x: Where it begins, ends or is centred, as ``side`` says.
            down: Its top, or its middle where ``middle`` is set.
            text: Control codes and line breaks in it are made visible or removed.
            size: Points.
            colour: Of the letters.
            bold: Whether it is.
            side: Which part of the text is at ``x``.
            middle: Whether ``down`` is the middle of the line.
            room: Pixels it may take; longer text is cut.
            ends: Cut in the middle: start and end of a path tell most.
        """
        drawn = self.figure.text(
            x / self.width,
            1 - down / self.height,
            style.drawable(text, self.missing),
            fontsize=size,
            color=colour,
            weight="bold" if bold else "normal",
            ha=side,
            va="center_baseline" if middle else "top",
            family=self.fonts,
        )
        if room is not None:
            self._fit(drawn, text, room, ends)

    def _fit(self, drawn: Text, text: str, room: float, ends: bool) -> None:
        cut = shorten_middle if ends else shorten
        cells = min(max(cell_len(text), 1), max(1, int(room // _NARROWEST)))
        drawn.set_text(style.drawable(cut(text, cells), self.missing))
        while cells > 1 and (across := drawn.get_window_extent().width) > room:
            cells = max(1, min(cells - 1, math.ceil(cells * room / across)))
            drawn.set_text(style.drawable(cut(text, cells), self.missing))

    def bar(self, x: float, down: float, width: float, height: float, colour: str) -> None:
        """A filled rectangle; its upper left corner is at ``x``, ``down``."""
        from matplotlib.patches import Rectangle

        corner = (x / self.width, 1 - (down + height) / self.height)
        size = (width / self.width, height / self.height)
        self.figure.add_artist(Rectangle(corner, *size, color=colour, lw=0))

    def line(
        self,
        x: float,
        down: float,
        to_x: float,
        to_down: float,
        colour: str,
        *,
        behind: bool = False,
    ) -> None:
        """A thin line from one place to another, behind the bars or before them."""
        from matplotlib.lines import Line2D

        xs = [x / self.width, to_x / self.width]
        ys = [1 - down / self.height, 1 - to_down / self.height]
        self.figure.add_artist(Line2D(xs, ys, color=colour, lw=0.9, zorder=0 if behind else 3))

    def axes(self, x: float, down: float, width: float, height: float) -> Axes:
        """Axes that fill a rectangle."""
        corner = (x / self.width, 1 - (down + height) / self.height)
        return self.figure.add_axes((*corner, width / self.width, height / self.height))

    def heading(self, title: str, lines: Sequence[str]) -> None:
        """The title of the picture, and what it says in words below it."""
        room = self.width - 2 * MARGIN
        self.write(MARGIN, 24, title, size=19, bold=True, room=room)
        for number, text in enumerate(lines):
            self.write(MARGIN, 66 + 24 * number, text, size=11.5, room=room)

    def save(self, path: Path) -> Path:
        """Write it whole: photographs as ``.jpg``, all else as PNG.

        Raises:
            DiskError: The file could not be written; what was there before is untouched.
        """
        if path.suffix.lower() not in (".jpg", ".jpeg"):
            return style.save_picture(self.figure, path)
        options = {"quality": 90, "subsampling": 0}
        write_whole(
            path,
            lambda partial: self.figure.savefig(
                partial, format="jpg", dpi=style.DPI, pil_kwargs=options
            ),
        )
        return path


def heading_height(lines: Sequence[str]) -> int:
    """Pixels that ``Sheet.heading`` takes with so many lines."""
    return 72 + 24 * len(lines)


def row_height(rows: int) -> int:
    """Pixels per row with which so many rows are readable and no taller than need be."""
    return int(min(max(_ROWS_HEIGHT / max(rows, 1), _ROW_LEAST), _ROW_MOST))


def row_points(height: int) -> float:
    """Size of the letters in a row of so many pixels."""
    return min(10.5, 0.5 * height)


def shown_rows(order: Sequence[int], most: int) -> list[int | None]:
    """All of an order, or its two ends with None where the middle is left out."""
    if len(order) <= most:
        return list(order)
    half = most // 2
    return [*order[:half], None, *order[-half:]]


def paler(colour: str, share: float) -> str:
    """A colour mixed with white; ``share`` of it is left."""
    parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(255 - (255 - part) * share):02x}" for part in parts)
