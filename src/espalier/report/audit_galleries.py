"""Pictures beside what was found of them: cases of a finding, and augmented examples."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from espalier.findings import Case, Correction, Finding
from espalier.records import Sample
from espalier.report import style
from espalier.report.findings_text import rule_text
from espalier.report.paragraphs import wrapped
from espalier.report.sheet import MARGIN, Sheet, heading_height

Pixels = npt.NDArray[np.uint8]
Thumbnail = Callable[[Sample], Pixels | None]
"""The upright pixels [H, W, 3] of an image, reduced to any size; None where it cannot be read."""

MOST_OF_CASE = 4
_WIDTH, _GAP, _LINE = 1500, 26, 17
_TILE, _SINGLE_TILE = 180, 220
_ROWS_OF_CAPTION = 3
_MOST_LINES = 3
# Pixels that a bold letter of the text above a case takes, on average.
_LETTER = 8.9
_LINE_OF_WORDS = 110
_MISSING = "cannot be shown"
_AUGMENTED_TILE, _LEAST_AUGMENTED = 168, 96


@dataclass(frozen=True)
class Shown:
    """One image of a case, and what is written below it.

    Attributes:
        sample: The image; None where it is not in the catalog.
        name: Its path, relative to what the user named.
        facts: Label and split.
        action: What is suggested to do with it; empty for nothing.
    """

    sample: Sample | None
    name: str
    facts: str
    action: str


def cases_with_images(finding: Finding, samples: Mapping[str, Sample]) -> tuple[Case, ...]:
    """The cases that have an image to show, strongest first."""
    known = [case for case in finding.cases if any(i in samples for i in case.samples)]
    return tuple(sorted(known, key=lambda case: -case.score))


def shown_images(
    case: Case, samples: Mapping[str, Sample], source: str = "", most: int = MOST_OF_CASE
) -> tuple[Shown, ...]:
    """The first images of a case, each with its caption."""
    todo = {correction.sample: correction for correction in case.corrections}
    known = [i for i in case.samples if i in samples][:most]
    return tuple(
        Shown(
            samples[i],
            relative_path(samples[i].path, source),
            _facts(samples[i]),
            action_text(todo[i]) if i in todo else "",
        )
        for i in known
    )


def relative_path(path: str, source: str) -> str:
    """A path as seen from the folder that the user named; whole where it lies elsewhere."""
    if not source:
        return path
    root = os.path.abspath(os.path.expanduser(source)).rstrip("/\\")
    inside = path.startswith(root) and path[len(root) : len(root) + 1] in ("/", "\\")
    return path[len(root) + 1 :] if inside else path


def _facts(sample: Sample) -> str:
    parts = (sample.label or "no label", sample.split or "")
    return ", ".join(part for part in parts if part)


def action_text(correction: Correction) -> str:
    """What a correction would do, in two or three words."""
    words = {
        "drop": "leave out",
        "relabel": f"relabel: {correction.value}",
        "move": f"move to {correction.value}",
        "group": f"group {correction.value}",
    }
    return words[correction.action]


def fitted(pixels: Pixels, side: int) -> Pixels:
    """The whole picture within a square of so many pixels; small ones are enlarged unsmoothed."""
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = Image.Resampling.NEAREST if scale > 2 else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(pixels).resize(size, how))


def draw_gallery(
    finding: Finding,
    samples: Mapping[str, Sample],
    thumbnail: Thumbnail,
    path: Path,
    limit: int = 24,
    *,
    source: str = "",
) -> Path | None:
    """Draw the strongest cases of a finding, images that belong together side by side.

    Args:
        finding: Its cases name the images.
        samples: ``sample_id`` -> sample.
        thumbnail: Gives the pixels of an image.
        path: The PNG file to write, whole.
        limit: Most cases that are drawn.
        source: What the user named; paths are shown as seen from there.

    Returns:
        The file; None where no case has an image, and nothing was written.

    Raises:
        DiskError: The file could not be written.
    """
    cases = cases_with_images(finding, samples)
    if not cases:
        return None
    shown = [(case, shown_images(case, samples, source)) for case in cases[:limit]]
    across = max(len(images) for _, images in shown)
    tile = _SINGLE_TILE if across == 1 else _TILE
    card = across * tile + (across - 1) * 6
    columns = max(1, (_WIDTH - 2 * MARGIN + _GAP) // (card + _GAP))
    rows = math.ceil(len(shown) / columns)
    texts = [_lines(_text(case, images), card) for case, images in shown]
    above = max(len(text) for text in texts) * _LINE + 6
    card_height = above + tile + _ROWS_OF_CAPTION * _LINE + 26
    lines = _gallery_words(finding, len(shown), len(cases))
    top = heading_height(lines) + 18
    width = max(2 * MARGIN + min(columns, len(shown)) * (card + _GAP) - _GAP, 760)
    sheet = Sheet(width, top + rows * card_height + 8, [*_names(shown), *lines, finding.cause])
    sheet.heading(rule_text(finding.rule).capitalize(), lines)
    for number, ((_, images), text) in enumerate(zip(shown, texts, strict=True)):
        x, down = MARGIN + number % columns * (card + _GAP), top + number // columns * card_height
        for place, line in enumerate(text):
            sheet.write(x, down + place * _LINE, line, size=9.5, bold=True, room=card)
        for place, image in enumerate(images):
            _draw_tile(sheet, x + place * (tile + 6), down + above, tile, image, thumbnail)
    return sheet.save(path)


def _gallery_words(finding: Finding, shown: int, there: int) -> list[str]:
    lines = [*wrapped(finding.cause, _LINE_OF_WORDS), *finding.advice[:2]]
    if shown < there:
        lines.append(f"the strongest {shown:,} of {there:,} cases")
    return lines


def _names(shown: Sequence[tuple[Case, Sequence[Shown]]]) -> list[str]:
    captions = [text for _, images in shown for i in images for text in (i.name, i.facts, i.action)]
    return captions + [case.text for case, _ in shown]


def _text(case: Case, images: Sequence[Shown]) -> str:
    hidden = len(case.samples) - len(images)
    return case.text + (f" (and {hidden:,} more images)" if hidden > 0 else "")


def _lines(text: str, room: float) -> list[str]:
    """The text broken between words; what does not fit on three lines stays on the third."""
    letters = max(8, int(room / _LETTER))
    lines = textwrap.wrap(text, letters, break_long_words=False, break_on_hyphens=False) or [""]
    return [*lines[: _MOST_LINES - 1], " ".join(lines[_MOST_LINES - 1 :])][: len(lines)]


def _draw_tile(
    sheet: Sheet, x: float, down: float, side: int, shown: Shown, thumbnail: Thumbnail
) -> None:
    pixels = thumbnail(shown.sample) if shown.sample else None
    if pixels is None:
        sheet.bar(x, down, side, side, style.FAINT)
        middle = (x + side / 2, down + side / 2)
        reason = (shown.sample.reason if shown.sample else "") or _MISSING
        sheet.write(
            *middle, reason, size=9, colour=style.QUIET, side="center", middle=True, room=side - 8
        )
    else:
        _place(sheet, x, down, side, fitted(pixels, side))
    captions = (
        (shown.name, style.QUIET, False),
        (shown.facts, style.INK, False),
        (shown.action, style.VALIDATION, True),
    )
    for number, (text, colour, bold) in enumerate(captions):
        sheet.write(
            x,
            down + side + 5 + number * _LINE,
            text,
            size=8.5,
            colour=colour,
            bold=bold,
            room=side,
            ends=number == 0,
        )


def _place(sheet: Sheet, x: float, down: float, side: int, tile: Pixels) -> None:
    """Pixels one for one, in the middle of a square."""
    height, width = tile.shape[:2]
    left = round(x + (side - width) / 2)
    up = round(sheet.height - down - (side + height) / 2)
    sheet.figure.figimage(tile, left, up, origin="upper")


def draw_augmented(examples: Mapping[str, Pixels], originals: Pixels, path: Path) -> Path:
    """Draw the same photographs as each augmentation policy may show them, one row per policy.

    Args:
        examples: Policy -> pixels [N, H, W, 3], one for each photograph, in their order.
        originals: The photographs as validation sees them [N, H, W, 3].
        path: The PNG file to write, whole.

    Raises:
        ValueError: There is no photograph, or a policy has another number of them.
        DiskError: The file could not be written.
    """
    count = len(originals)
    if not count or any(len(images) != count for images in examples.values()):
        raise ValueError(f"{count} photographs, but {[len(i) for i in examples.values()]} examples")
    side = max(_LEAST_AUGMENTED, min(_AUGMENTED_TILE, 1400 // count))
    rows = {"as validation sees it": originals, **examples}
    lines = ["each column is one photograph, each row a policy; drawn anew in every epoch"]
    top, names = heading_height(lines) + 14, 190
    width = 2 * MARGIN + names + count * (side + 8)
    sheet = Sheet(max(width, 700), top + len(rows) * (side + 10) + 10, rows)
    sheet.heading("Augmented photographs", lines)
    for number, (name, images) in enumerate(rows.items()):
        down = top + number * (side + 10)
        sheet.write(
            MARGIN, down + side / 2, name, size=11, bold=number > 0, middle=True, room=names - 12
        )
        for place, pixels in enumerate(images):
            x = MARGIN + names + place * (side + 8)
            _place(sheet, x, down, side, fitted(np.ascontiguousarray(pixels), side))
    return sheet.save(path)
