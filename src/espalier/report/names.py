"""Names of runs, classes and files made safe to show: one line, no control codes, cut to fit."""

from __future__ import annotations

import unicodedata

from rich.cells import cell_len

ELLIPSIS = "…"
# Terminals obey control codes and reorder marks, and a lone surrogate (a file name that is not
# valid UTF-8) cannot be printed at all.
UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def one_line(text: str) -> str:
    """The text on one line, in composed form, without characters that move or hide others."""
    composed = " ".join(unicodedata.normalize("NFC", text).split())
    return "".join("\ufffd" if unicodedata.category(c) in UNSAFE else c for c in composed)


def shorten(text: str, cells: int) -> str:
    """The start of the text and an ellipsis, at most ``cells`` columns wide."""
    line = one_line(text)
    return line if cell_len(line) <= cells else _head(line, cells - 1) + ELLIPSIS


def shorten_middle(text: str, cells: int) -> str:
    """Start and end of the text, for names that differ at their end (runs, paths)."""
    line = one_line(text)
    if cell_len(line) <= cells:
        return line
    tail = (cells - 1) // 2
    return _head(line, cells - 1 - tail) + ELLIPSIS + _head(line[::-1], tail)[::-1]


def _head(text: str, cells: int) -> str:
    kept = text[: max(cells, 0)]
    while cell_len(kept) > cells:
        kept = kept[:-1]
    return kept
