"""How hard each class will be: what a linear head alone gets right, and what it takes it for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from espalier import metrics
from espalier.audited import Embedded
from espalier.records import Score
from espalier.report import style
from espalier.report.names import shorten
from espalier.report.sheet import (
    MARGIN,
    Sheet,
    heading_height,
    paler,
    row_height,
    row_points,
    shown_rows,
)

MOST_CLASSES, MOST_CONFUSED = 120, 2
_NAME_CELLS = 19
_LABELS, _NUMBER, _BARS, _SCORE, _CONFUSED = 210, 74, 320, 186, 460


@dataclass(frozen=True)
class Difficulty:
    """How well a linear head on the frozen backbone recognises one class.

    Attributes:
        name: Of the class.
        recall: Share of its images that are recognised, with its 95 % interval (Wilson 1927).
        support: How many of its images were judged.
        confused: What the others were taken for, most first: class and images.
    """

    name: str
    recall: Score
    support: int
    confused: tuple[tuple[str, int], ...] = ()


def class_difficulty(embedded: Embedded, classes: Sequence[str]) -> tuple[Difficulty, ...]:
    """The classes that were judged, hardest first; empty where there are no probabilities.

    Bias: the heads saw part of the images only, and a fine-tuned network will do better.
    """
    if embedded.probabilities is None or not (used := _usable(embedded)).any():
        return ()
    predicted = embedded.probabilities[used].argmax(axis=1)
    counts = metrics.confusion(embedded.labels[used], predicted, len(classes))
    found = []
    for index, name in enumerate(classes):
        row, support = counts[index], int(counts[index].sum())
        if support:
            confused = _confused(row.tolist(), index, classes)
            found.append(Difficulty(name, share_of(int(row[index]), support), support, confused))
    return tuple(sorted(found, key=lambda entry: (entry.recall.value, -entry.support)))


def _usable(embedded: Embedded) -> npt.NDArray[np.bool_]:
    usable: npt.NDArray[np.bool_] = embedded.judged & (embedded.labels >= 0)
    return usable


def _confused(row: list[int], own: int, classes: Sequence[str]) -> tuple[tuple[str, int], ...]:
    found = [(classes[j], images) for j, images in enumerate(row) if images and j != own]
    return tuple(sorted(found, key=lambda pair: -pair[1]))


def share_of(right: int, images: int) -> Score:
    """A share of images with its 95 % interval."""
    return Score(right / images, *metrics.wilson(right / images, images))


def difficulty_words(per_class: Sequence[Difficulty]) -> list[str]:
    """What is to be seen in the picture, in two sentences."""
    images = sum(entry.support for entry in per_class)
    mean = sum(entry.recall.value for entry in per_class) / len(per_class)
    hard = sum(entry.recall.value < 0.5 for entry in per_class)
    return [
        f"share of each class that a linear head alone recognises, on {images:,} images that it "
        "has not seen; line: 95 % interval",
        f"mean over {len(per_class):,} classes: {mean:.0%}; below one half: {hard:,}; training the "
        "whole network should do better, on hard classes too",
    ]


def draw_difficulty(per_class: Sequence[Difficulty], path: Path) -> Path:
    """Draw how well each class is recognised, hardest first, and what it is taken for.

    Args:
        per_class: At least one class; drawn in the order of recall.
        path: The PNG file to write, whole.

    Raises:
        ValueError: There is no class.
        DiskError: The file could not be written.
    """
    if not per_class:
        raise ValueError("no classes to draw")
    entries = sorted(per_class, key=lambda entry: (entry.recall.value, -entry.support))
    rows = shown_rows(range(len(entries)), MOST_CLASSES)
    step, lines = row_height(len(rows)), difficulty_words(entries)
    top = heading_height(lines) + 48
    width = 2 * MARGIN + _LABELS + _NUMBER + _BARS + _SCORE + _CONFUSED
    names = [*(e.name for e in entries), *(name for e in entries for name, _ in e.confused)]
    sheet = Sheet(width, top + step * len(rows) + 28, names)
    sheet.heading("How hard each class is", lines)
    _heads(sheet, top, step * len(rows))
    for number, index in enumerate(rows):
        down = top + step * number
        if index is None:
            text = f"{len(entries) - MOST_CLASSES:,} more classes in between"
            x = MARGIN + _LABELS + _NUMBER
            sheet.write(x, down + step / 2, text, size=9, colour=style.QUIET, middle=True)
        else:
            _row(sheet, down, step, entries[index])
    return sheet.save(path)


def _heads(sheet: Sheet, top: float, height: float) -> None:
    bars = MARGIN + _LABELS + _NUMBER
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = bars + _BARS * share
        sheet.line(x, top, x, top + height, style.FAINT, behind=True)
        sheet.write(x, top - 22, f"{share:.0%}", size=9.5, colour=style.QUIET, side="center")
    sheet.write(bars - 22, top - 22, "images", size=9.5, colour=style.QUIET, side="right")
    taken = bars + _BARS + _SCORE
    sheet.write(taken, top - 22, "taken for", size=9.5, colour=style.QUIET)


def _row(sheet: Sheet, down: float, step: int, entry: Difficulty) -> None:
    middle, points = down + step / 2, row_points(step)
    right, bars = MARGIN + _LABELS - 10, MARGIN + _LABELS + _NUMBER
    sheet.write(
        right, middle, entry.name, size=points, side="right", middle=True, room=_LABELS - 12
    )
    support = f"{entry.support:,}"
    sheet.write(
        bars - 22, middle, support, size=points, colour=style.QUIET, side="right", middle=True
    )
    _recall(sheet, bars, down, step, entry.recall)
    sheet.write(bars + _BARS + 14, middle, _share_text(entry.recall), size=points, middle=True)
    taken = bars + _BARS + _SCORE
    sheet.write(taken, middle, confused_text(entry), size=points, middle=True, room=_CONFUSED)


def _recall(sheet: Sheet, x: float, down: float, step: int, recall: Score) -> None:
    colour = style.VALIDATION if recall.value < 0.5 else style.PROBE
    sheet.bar(x, down + 0.2 * step, _BARS * recall.value, 0.6 * step, paler(colour, 0.7))
    if recall.low is not None and recall.high is not None:
        middle = down + step / 2
        ends = (x + _BARS * recall.low, x + _BARS * recall.high)
        sheet.line(ends[0], middle, ends[1], middle, style.INK)
        for end in ends:
            sheet.line(end, middle - 0.14 * step, end, middle + 0.14 * step, style.INK)


def _share_text(recall: Score) -> str:
    if recall.low is None or recall.high is None:
        return f"{recall.value:.0%}"
    return f"{recall.value:.0%}  ({recall.low:.0%} to {recall.high:.0%})"


def confused_text(entry: Difficulty) -> str:
    """``Black-grass 41, Wheat 3; others 2``; empty where all were right."""
    named = [
        f"{shorten(name, _NAME_CELLS)} {images:,}"
        for name, images in entry.confused[:MOST_CONFUSED]
    ]
    others = sum(images for _, images in entry.confused[MOST_CONFUSED:])
    return ", ".join(named) + (f"; others {others:,}" if others else "")
