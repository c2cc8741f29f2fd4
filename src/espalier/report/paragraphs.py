"""Sentences broken into lines of at most 80 columns, as a terminal counts them."""

from __future__ import annotations

from rich.cells import cell_len

from espalier.report.tables import WIDTH

INDENT = "  "


def wrapped(text: str, width: int = WIDTH) -> list[str]:
    """The lines of a text, long ones broken between words; what follows a break is indented.

    Words are never broken, so that a path can be copied whole. Runs of spaces at the start and
    within a line that fits stay.
    """
    lines: list[str] = []
    for line in text.split("\n"):
        lines += [line] if cell_len(line) <= width else _broken(line, width)
    return lines


def _broken(line: str, width: int) -> list[str]:
    start = line[: len(line) - len(line.lstrip())]
    first, *words = line.split()
    lines = [start + first]
    for word in words:
        longer = f"{lines[-1]} {word}"
        if cell_len(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(start + INDENT + word)
    return lines
