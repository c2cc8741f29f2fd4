"""One plain table: aligned by what a terminal shows, at most 80 columns where that can be."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

from espalier.report.names import shorten, shorten_middle

WIDTH = 80
BETWEEN = "  "
NARROWEST = 12


def table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, words: Sequence[int] = (0,)
) -> str:
    """Heads, a rule and the rows; without a trailing newline.

    Args:
        heads: One per column.
        rows: Each as long as ``heads``.
        words: Columns that hold words: flush left, and cut where the table would be wider than 80
            columns (the first column in its middle: paths and names differ at their ends). The
            others hold numbers, flush right.
    """
    cells = [list(heads), *(list(row) for row in rows)]
    widths = _fit([max(cell_len(row[i]) for row in cells) for i in range(len(heads))], words)
    lines = [_line(row, widths, words) for row in cells]
    return "\n".join([lines[0], "-" * (sum(widths) + len(BETWEEN) * (len(widths) - 1)), *lines[1:]])


def _fit(widths: list[int], words: Sequence[int]) -> list[int]:
    over = sum(widths) + len(BETWEEN) * (len(widths) - 1) - WIDTH
    while over > 0:
        widest = max(words, key=lambda i: widths[i])
        if widths[widest] <= NARROWEST:
            break
        widths[widest] -= 1
        over -= 1
    return widths


def _line(row: Sequence[str], widths: Sequence[int], words: Sequence[int]) -> str:
    cells = []
    for number, (cell, width) in enumerate(zip(row, widths, strict=True)):
        text = shorten(cell, width) if number else shorten_middle(cell, width)
        gap = " " * (width - cell_len(text))
        cells.append(text + gap if number in words else gap + text)
    return BETWEEN.join(cells).rstrip()
