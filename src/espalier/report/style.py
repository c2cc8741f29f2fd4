"""How every picture looks: colours, fonts, figures without a window, axes, whole PNG files.

Only matplotlib's object interface is used, never ``pyplot``: no global state, no window, and
several threads may draw at once. matplotlib is imported when the first picture is made.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espalier.files import write_whole
from espalier.report.names import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 100
# Okabe and Ito (2008): told apart with any common colour blindness; yellow left out, too pale.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)))
INK, QUIET, FAINT = "#1f2328", "#656d76", "#e4e7eb"
TRAIN, PROBE, VALIDATION, SCORE = "#56B4E9", "#0072B2", "#D55E00", "#009E73"
VERDICT_COLOURS = {
    "good": "#1a7f37",
    "slight": "#b35900",
    "overfitting": "#c62828",
    "unknown": QUIET,
    "unsure": QUIET,
    "chance": QUIET,
}
BASE_FONT = "DejaVu Sans"
FALLBACK_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans CJK KR",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "SimHei",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Yu Gothic",
    "Malgun Gothic",
    "Noto Sans",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "Arial Unicode MS",
    "Noto Emoji",
)
NO_GLYPH = "□"
BAND_COLOURS = {"good": "#e2f4e7", "slight": "#fdf2cc", "overfitting": "#fce5e2"}


def new_figure(width: int, height: int) -> Figure:
    """A white figure of so many pixels, with an Agg canvas of its own."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save_picture(figure: Figure, path: Path) -> Path:
    """Write the figure whole as a PNG file and return its path.

    Raises:
        DiskError: The file could not be written; what was there before is untouched.
    """
    # Level 4 halves the time of the default 6 for a few per cent more bytes.
    options = {"compress_level": 4}
    write_whole(
        path, lambda partial: figure.savefig(partial, format="png", dpi=DPI, pil_kwargs=options)
    )
    return path


def series_look(index: int) -> tuple[str, Any]:
    """Colour and line style of the index-th of several things; pairs repeat after 18."""
    return PALETTE[index % len(PALETTE)], DASHES[index // len(PALETTE) % len(DASHES)]


def dress(axes: Axes, title: str) -> None:
    """Title on the left, light horizontal grid, no box."""
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK, pad=9)
    axes.grid(True, axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#b6bcc4")
    axes.tick_params(colors=QUIET, labelsize=10, which="both")


def whole_numbers(axes: Axes, first: float, last: float, label: str) -> None:
    """A horizontal axis that counts: whole ticks only, half a step of room at both ends."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(first - 0.5, last + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
    axes.set_xlabel(label, fontsize=10, color=QUIET)


def legend_above(axes: Axes, columns: int) -> None:
    """A legend on the line of the title, at its right end, where it covers no data."""
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.01, 0.995),
        ncols=columns,
        frameon=False,
        fontsize=9.5,
        labelcolor=INK,
        handlelength=1.5,
        columnspacing=1.1,
        handletextpad=0.5,
    )


def log_rates(axes: Axes, rates: Iterable[float]) -> None:
    """A logarithmic axis of whole decades around the positive rates."""
    from matplotlib.ticker import LogLocator, NullFormatter

    positive = [rate for rate in rates if math.isfinite(rate) and rate > 0] or [1e-3]
    low = math.floor(math.log10(min(positive)) + 1e-9)
    high = math.ceil(math.log10(max(positive)) - 1e-9)
    axes.set_yscale("log")
    axes.set_ylim(10.0**low * 0.7, 10.0 ** max(high, low + 1) * 2.2)
    axes.yaxis.set_major_locator(LogLocator(base=10, numticks=9))
    axes.yaxis.set_minor_locator(LogLocator(base=10, subs=(2.0, 5.0), numticks=9))
    axes.yaxis.set_minor_formatter(NullFormatter())


def linear_or_log(axes: Axes, values: Iterable[float], *, room: float, least: float) -> None:
    """Limits around the finite values with room above; logarithmic where a few dwarf the rest.

    Args:
        axes: Whose vertical axis is set.
        values: All values drawn.
        room: Share of the height kept free at the top.
        least: Smallest span, so that noise is not blown up to fill the panel.
    """
    finite = sorted(value for value in values if math.isfinite(value)) or [0.0, 1.0]
    low, high = finite[0], finite[-1]
    middle = finite[len(finite) // 2]
    if low > 0 and high > 20 * middle:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.3, high * (high / low) ** room * 1.2)
        return
    spare = max(0.0, least - (high - low)) / 2
    low, high = low - spare, high + spare
    span = high - low
    axes.set_ylim(low - 0.07 * span, high + (0.07 + room) * span)


def score_limits(axes: Axes, values: Iterable[float], *, room: float) -> None:
    """As ``linear_or_log`` for values in [0, 1]: no tick outside of what a score can be."""
    known = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    low, high = max(0.0, min(low, high - 0.1)), min(1.0, max(high, low + 0.1))
    span = high - low
    axes.set_ylim(low - 0.05 * span, high + (0.05 + room) * span)
    axes.set_yticks([tick for tick in axes.get_yticks() if low - 0.05 * span <= tick <= 1.0001])


def ring(axes: Axes, x: float, y: float, colour: str) -> None:
    """Mark a point with a ring in the colour of its line."""
    axes.plot([x], [y], "o", ms=11, mfc="none", mec=colour, mew=2.2, zorder=6, clip_on=False)


def note_in_corner(axes: Axes, lines: Sequence[tuple[str, str]]) -> None:
    """Write (text, colour) lines into the corner of a panel that holds the fewest points.

    The panel's limits must be set; points are those of its lines.
    """
    import numpy as np

    data = np.concatenate([np.asarray(line.get_xydata()) for line in axes.lines])
    with np.errstate(invalid="ignore"):
        x, y = axes.transAxes.inverted().transform(axes.transData.transform(data)).T
    width, height, step = 0.52, 0.05 + 0.06 * len(lines), 0.055

    def crowd(corner: tuple[bool, bool]) -> int:
        right, top = corner
        across = x > 1 - width if right else x < width
        up = y > 0.9 - height if top else y < height
        return int(np.sum(across & up))

    right, top = min(((True, False), (True, True), (False, True), (False, False)), key=crowd)
    for number, (text, colour) in enumerate(lines):
        axes.text(
            0.98 if right else 0.02,
            0.9 - step * number if top else 0.03 + step * (len(lines) - 1 - number),
            text,
            transform=axes.transAxes,
            ha="right" if right else "left",
            va="top" if top else "bottom",
            fontsize=10,
            fontweight="bold",
            color=colour,
            zorder=7,
            bbox={"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.8},
        )


@cache
def _characters(font: str) -> frozenset[int]:
    from matplotlib.font_manager import fontManager, get_font

    found = next((entry for entry in fontManager.ttflist if entry.name == font), None)
    return frozenset(get_font(found.fname).get_charmap()) if found else frozenset()


def fonts_for(texts: Sequence[str]) -> tuple[list[str], frozenset[str]]:
    """Font families that hold the characters of these texts, and the characters none holds."""
    fonts = [BASE_FONT]
    missing = {ord(c) for text in texts for c in one_line(text)} - _characters(BASE_FONT)
    for font in FALLBACK_FONTS if missing else ():
        if missing & _characters(font):
            fonts.append(font)
            missing -= _characters(font)
    return fonts, frozenset(chr(code) for code in missing)


def drawable(text: str, missing: frozenset[str] = frozenset()) -> str:
    """The text on one line as matplotlib must get it to draw exactly that."""
    line = "".join(NO_GLYPH if c in missing else c for c in one_line(text))
    # Two dollar signs would start a formula.
    return line.replace("$", r"\$")
