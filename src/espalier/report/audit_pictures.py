"""The classes of a data set: images per class, and what each way of weighting makes of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from espalier.records import SPLITS
from espalier.report import style
from espalier.report.sheet import (
    MARGIN,
    Sheet,
    heading_height,
    paler,
    row_height,
    row_points,
    shown_rows,
)

MAJOR_ABOVE, RARE_BELOW = 1000, 50
MAJOR, USUAL, RARE = "#0072B2", "#7b8794", "#D55E00"
MOST_CLASSES = 240
_LABELS, _BARS, _NUMBER, _TAG = 210, 520, 74, 128
_PANEL, _PANEL_GAP, _FEWEST_PANELS = 264, 12, 2


def draw_classes(counts: Mapping[str, Mapping[str, int]], path: Path) -> Path:
    """Draw the images of each class, largest first, major and rare classes marked.

    Args:
        counts: Split -> class -> readable images, zeros included.
        path: The PNG file to write, whole.

    Raises:
        ValueError: There is no class.
        DiskError: The file could not be written.
    """
    totals = total_counts(counts)
    names = sorted(totals, key=lambda name: (-totals[name], name))
    rows = [None if i is None else names[i] for i in shown_rows(range(len(names)), MOST_CLASSES)]
    step, lines = row_height(len(rows)), distribution_words(totals)
    splits = _ordered(counts)
    top = heading_height(lines) + 62
    width = 2 * MARGIN + _LABELS + _BARS + _TAG + _NUMBER * len(splits)
    sheet = Sheet(width, top + step * len(rows) + 28, names)
    sheet.heading("Images per class", lines)
    _legend(sheet, top - 46, splits)
    for number, name in enumerate(rows):
        down = top + step * number
        if name is None:
            _left_out(sheet, down, step, [totals[n] for n in names if n not in rows])
        else:
            row = {split: counts[split].get(name, 0) for split in splits}
            _class_row(sheet, down, step, name, row, max(totals.values()))
    return sheet.save(path)


def total_counts(counts: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Images per class over all splits.

    Raises:
        ValueError: There is no class.
    """
    names = list(dict.fromkeys(name for split in counts.values() for name in split))
    if not names:
        raise ValueError("no classes to draw")
    return {name: sum(split.get(name, 0) for split in counts.values()) for name in names}


def distribution_words(totals: Mapping[str, int]) -> list[str]:
    """What is to be seen in the class distribution: its size and ratio, major and rare classes."""
    images = sum(totals.values())
    present = {name: count for name, count in totals.items() if count}
    lines = [f"{_of(len(totals), 'class', 'classes')}, {_of(images, 'image', 'images')}"]
    if present:
        ratio = max(present.values()) / min(present.values())
        lines[0] += f"; largest : smallest = {ratio_text(ratio)}"
    if len(present) < len(totals):
        lines[0] += f"; {_of(len(totals) - len(present), 'class', 'classes')} without any image"
    lines.append(f"{_major_words(totals)}; {_rare_words(totals)}")
    return lines


def _major_words(totals: Mapping[str, int]) -> str:
    major = [count for count in totals.values() if count > MAJOR_ABOVE]
    if not major:
        return f"no major class (more than {MAJOR_ABOVE:,} images)"
    share = sum(major) / sum(totals.values())
    verb = "hold" if len(major) > 1 else "holds"
    return (
        f"{_of(len(major), 'major class', 'major classes')} (more than {MAJOR_ABOVE:,} images) "
        f"{verb} {share:.1%} of all images"
    )


def _rare_words(totals: Mapping[str, int]) -> str:
    rare = sum(0 < count < RARE_BELOW for count in totals.values())
    found = _of(rare, "rare class", "rare classes") if rare else "no rare class"
    return f"{found} (fewer than {RARE_BELOW} images)"


def ratio_text(ratio: float) -> str:
    """``3.2 : 1``, ``2,445 : 1``."""
    return f"{ratio:,.0f} : 1" if ratio >= 99.5 else f"{ratio:.1f} : 1"


def _of(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _ordered(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Splits that have images, as they are used: train, val, test, then others."""
    known = [split for split in (*SPLITS, *counts) if split in counts]
    return [split for split in dict.fromkeys(known) if any(counts[split].values())]


def _kind(count: int) -> tuple[str, str]:
    """Colour and mark of a class with so many images."""
    if count > MAJOR_ABOVE:
        return MAJOR, "major"
    if 0 < count < RARE_BELOW:
        return RARE, "rare"
    return (USUAL, "") if count else (style.VERDICT_COLOURS["overfitting"], "no image")


def _shade(colour: str, position: int) -> str:
    return paler(colour, (1.0, 0.58, 0.3, 0.18)[min(position, 3)])


def _legend(sheet: Sheet, down: float, splits: Sequence[str]) -> None:
    x = MARGIN + _LABELS
    entries = [
        (MAJOR, f"major, > {MAJOR_ABOVE:,}"),
        (USUAL, "between"),
        (RARE, f"rare, < {RARE_BELOW}"),
    ]
    for place, (colour, text) in zip((0, 142, 240), entries, strict=True):
        sheet.bar(x + place, down, 14, 12, colour)
        sheet.write(x + place + 20, down + 6, text, size=10, colour=style.QUIET, middle=True)
    for number, split in enumerate(splits):
        right = MARGIN + _LABELS + _BARS + _TAG + _NUMBER * (number + 1)
        sheet.bar(right - 62, down + 1, 10, 10, _shade(USUAL, number))
        sheet.write(
            right,
            down + 6,
            split,
            size=10,
            colour=style.QUIET,
            side="right",
            middle=True,
            room=_NUMBER - 26,
        )


def _class_row(
    sheet: Sheet, down: float, step: int, name: str, row: Mapping[str, int], largest: int
) -> None:
    points, middle = row_points(step), down + step / 2
    total = sum(row.values())
    colour, mark = _kind(total)
    _label(sheet, middle, points, name)
    x = float(MARGIN + _LABELS)
    for position, count in enumerate(row.values()):
        width = _BARS * count / max(largest, 1)
        sheet.bar(x, down + 0.14 * step, width, 0.72 * step, _shade(colour, position))
        x += width
    text = f"{total:,} {mark}".strip()
    dark = colour if mark else style.INK
    sheet.write(x + 7, middle, text, size=points, colour=dark, bold=bool(mark), middle=True)
    for number, count in enumerate(row.values()):
        right = MARGIN + _LABELS + _BARS + _TAG + _NUMBER * (number + 1)
        missing = count == 0
        sheet.write(
            right,
            middle,
            f"{count:,}",
            size=points,
            colour=style.VERDICT_COLOURS["overfitting"] if missing else style.QUIET,
            bold=missing,
            side="right",
            middle=True,
        )


def _label(sheet: Sheet, middle: float, points: float, name: str) -> None:
    right = MARGIN + _LABELS - 10
    room = _LABELS - 12
    sheet.write(right, middle, name, size=points, side="right", middle=True, room=room)


def _left_out(sheet: Sheet, down: float, step: int, counts: Sequence[int]) -> None:
    text = f"{len(counts):,} more classes with {min(counts):,} to {max(counts):,} images each"
    x, middle = MARGIN + _LABELS, down + step / 2
    sheet.write(x, middle, text, size=row_points(step), colour=style.QUIET, middle=True)


def draw_weights(
    classes: Sequence[str],
    counts: Sequence[int],
    strategies: Sequence[tuple[str, Sequence[float]]],
    path: Path,
) -> Path:
    """Draw what each weighting makes of the classes, side by side on one logarithmic axis.

    Args:
        classes: Length K.
        counts: Training images per class [K].
        strategies: Name and weights [K] of each; 1 is the weight of an average image, 0 stands
            for a class without images.
        path: The PNG file to write, whole.

    Raises:
        ValueError: There is no class or strategy, or lengths differ.
        DiskError: The file could not be written.
    """
    if not classes or not strategies or any(len(w) != len(classes) for _, w in strategies):
        raise ValueError(f"{len(strategies)} strategies for {len(classes)} classes: lengths differ")
    order = sorted(range(len(classes)), key=lambda i: (-counts[i], classes[i]))
    rows = shown_rows(order, MOST_CLASSES)
    step = row_height(len(rows))
    lines = [
        "how much one image of a class counts in the loss; 1: as much as an average image",
        "beside each name: largest weight : smallest weight; all axes alike and logarithmic",
    ]
    top = heading_height(lines) + 62
    panels = max(len(strategies), _FEWEST_PANELS)
    width = 2 * MARGIN + _LABELS + _NUMBER + (_PANEL + _PANEL_GAP) * panels
    sheet = Sheet(width, top + step * len(rows) + 28, [*classes, *(name for name, _ in strategies)])
    sheet.heading("Class weights", lines)
    _weight_labels(sheet, top, step, rows, classes, counts)
    reach = _reach([weights for _, weights in strategies])
    for number, (name, weights) in enumerate(strategies):
        x = MARGIN + _LABELS + _NUMBER + (_PANEL + _PANEL_GAP) * number
        title = f"{name}, {ratio_text(weight_ratio(weights))}"
        middle = x + _PANEL / 2
        sheet.write(middle, top - 46, title, size=11.5, bold=True, side="center", room=_PANEL)
        _weight_panel(sheet, x, top, step, [None if i is None else weights[i] for i in rows], reach)
    return sheet.save(path)


def weight_ratio(weights: Sequence[float]) -> float:
    """Largest weight by smallest, of the classes that have any; 1 where none has."""
    present = [weight for weight in weights if weight > 0]
    return max(present) / min(present) if present else 1.0


def _reach(strategies: Sequence[Sequence[float]]) -> float:
    """How far a bar can go from 1, either way, in natural logarithms."""
    present = [abs(math.log(w)) for weights in strategies for w in weights if w > 0]
    return max([*present, math.log(2)])


def _weight_labels(
    sheet: Sheet,
    top: float,
    step: int,
    rows: Sequence[int | None],
    classes: Sequence[str],
    counts: Sequence[int],
) -> None:
    right, points = MARGIN + _LABELS + _NUMBER - 20, row_points(step)
    sheet.write(right, top - 20, "images", size=9.5, colour=style.QUIET, side="right")
    for number, i in enumerate(rows):
        middle = top + step * (number + 0.5)
        if i is None:
            text = f"{len(classes) - len(rows) + 1:,} more classes"
            sheet.write(right, middle, text, size=points, colour=style.QUIET, side="right")
            continue
        _label(sheet, middle, points, classes[i])
        text = f"{counts[i]:,}"
        sheet.write(
            right, middle, text, size=points, colour=_kind(counts[i])[0], side="right", middle=True
        )


def _weight_panel(
    sheet: Sheet, x: float, top: float, step: int, weights: Sequence[float | None], reach: float
) -> None:
    """Bars from 1: to the right where a class counts more, to the left where it counts less."""
    points = row_points(step)
    # Room for a number stays free at both ends.
    zero, half = x + _PANEL / 2, _PANEL / 2 - 52
    sheet.line(zero, top - 4, zero, top + step * len(weights), style.QUIET)
    sheet.write(zero, top - 20, "1", size=9.5, colour=style.QUIET, side="center")
    for number, weight in enumerate(weights):
        if weight is None:
            continue
        down = top + step * number
        length = half * math.log(weight) / reach if weight > 0 else 0.0
        colour = RARE if length > 0 else MAJOR
        left = zero + min(length, 0.0)
        sheet.bar(left, down + 0.16 * step, abs(length), 0.68 * step, colour)
        sheet.write(
            zero + length + (5 if length >= 0 else -5),
            down + step / 2,
            weight_text(weight),
            size=points,
            colour=style.QUIET,
            side="left" if length >= 0 else "right",
            middle=True,
        )


def weight_text(weight: float) -> str:
    """Three digits, and never more than six letters; ``none`` for a class without images."""
    if weight <= 0:
        return "none"
    return f"{weight:.3g}" if 0.001 <= weight < 999.5 else f"{weight:.0e}"
