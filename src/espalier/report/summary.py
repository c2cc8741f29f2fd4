"""The summary box beside the curves of a run."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from espalier.records import EpochRow, History
from espalier.report import style
from espalier.report.context import NOTHING_KNOWN, Baseline, Context
from espalier.report.names import shorten
from espalier.report.numbers import duration, plain
from espalier.report.reading import (
    StageResult,
    best_row,
    gap_points,
    gap_verdict,
    planned_epochs,
    total_seconds,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUMMARY_LEFT, SUMMARY_CHARACTERS, LINES_PER_FACT = 0.815, 30, 2
LOWEST_LINE, MOST_STAGES = 0.088, 6
VERDICT_LINES = {
    "good": "good: below 5 points",
    "slight": "slight: 5 to 10 points",
    "overfitting": "overfitting: above 10 points",
    "unknown": "not known without validation",
    "unsure": "few validation images: not sure",
    "chance": "no better than guessing yet",
}
Lines = list[tuple[str, float, str]]


def write_summary(
    figure: Figure,
    history: History,
    stages: Sequence[StageResult],
    context: Context = NOTHING_KNOWN,
) -> None:
    """Draw the box at the right of the figure: best, now, gap, stages, time, facts."""
    from matplotlib.patches import FancyBboxPatch

    box = FancyBboxPatch(
        (SUMMARY_LEFT, 0.062),
        0.173,
        0.806,
        boxstyle="round,pad=0,rounding_size=0.006",
        fc="#f6f8fa",
        ec="#d0d7de",
        transform=figure.transFigure,
    )
    figure.add_artist(box)
    height = 0.868 - 0.022
    for heading, lines in summary_blocks(history, stages, context):
        if not lines:
            continue
        height = _write_block(figure, height, heading, lines)


def _write_block(
    figure: Figure, height: float, heading: str, lines: Sequence[tuple[str, float, str]]
) -> float:
    left = SUMMARY_LEFT + 0.011
    figure.text(left, height, heading.upper(), fontsize=9, color=style.QUIET, va="top")
    height -= 0.022
    for text, size, colour in lines:
        if height < LOWEST_LINE:
            break
        fonts, missing = style.fonts_for([text])
        shown = style.drawable(text, missing)
        bold = "bold" if size > 11 else "normal"
        figure.text(
            left, height, shown, fontsize=size, color=colour, va="top", weight=bold, family=fonts
        )
        height -= 0.0019 * size
    return height - 0.02


def summary_blocks(
    history: History, stages: Sequence[StageResult], context: Context = NOTHING_KNOWN
) -> list[tuple[str, Lines]]:
    """Headings of the summary box, each with its lines as (text, font size, colour)."""
    rows, best = history.rows, best_row(history.rows)
    seconds = total_seconds(rows)
    where = [
        f"epoch {best.epoch}, stage {shorten(best.stage, 12)}",
        f"accuracy there {plain(best.val_accuracy)}",
    ]
    return [
        (
            "best validation macro-F1",
            _lines([plain(best.val_macro_f1)], 24, style.SCORE)
            + _lines(where + _baseline_lines(best, context.baseline)),
        ),
        ("now", _lines(_now_lines(history, len(stages)))),
        ("gap, last epoch", _gap_lines(rows[-1], best, context)),
        ("stages, best macro-F1", _lines([_stage_line(stage) for stage in stages[-MOST_STAGES:]])),
        ("time", _lines([duration(seconds), f"{duration(seconds / len(rows))} per epoch"])),
        ("run", _lines(_fact_lines(history))),
    ]


def _lines(texts: Sequence[str], size: float = 11, colour: str = style.INK) -> Lines:
    return [(text, size, colour) for text in texts]


def _now_lines(history: History, begun: int) -> list[str]:
    last = history.rows[-1]
    stages = max(len(history.stages), begun)
    return [
        f"epoch {last.epoch} of {planned_epochs(history)}",
        f"stage {shorten(last.stage, 12)} ({begun} of {stages})",
        f"macro-F1 {plain(last.val_macro_f1)}",
        f"accuracy {plain(last.val_accuracy)}",
        f"loss {plain(last.val_loss)}",
    ]


def _baseline_lines(best: EpochRow, baseline: Baseline | None) -> list[str]:
    if baseline is None:
        return []
    gain = best.val_macro_f1 - baseline.macro_f1
    return [f"head alone {plain(baseline.macro_f1)} ({plain(gain, '+.3f')})"]


def _gap_lines(last: EpochRow, best: EpochRow, context: Context) -> Lines:
    gap, word = gap_points(last), gap_verdict(last, context)
    colour = style.VERDICT_COLOURS[word]
    return (
        _lines([f"{plain(gap, '+.1f')} points"], 15, colour)
        + _lines([VERDICT_LINES[word]], 11, colour)
        + _lines([f"at the best epoch {plain(gap_points(best), '+.1f')}"])
    )


def _stage_line(stage: StageResult) -> str:
    gain = "" if stage.gain is None else f" ({plain(stage.gain, '+.3f')})"
    return f"{shorten(stage.name, 12)} {plain(stage.best.val_macro_f1)}{gain}"


def _fact_lines(history: History) -> list[str]:
    lines: list[str] = []
    for key, value in history.facts.items():
        if value:
            text = shorten(f"{key}: {value}", LINES_PER_FACT * (SUMMARY_CHARACTERS - 2))
            lines += textwrap.wrap(text, SUMMARY_CHARACTERS, subsequent_indent="  ")
    return lines
