"""Several runs in one picture, or the stages of one run: what each reached, and for how long."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from espalier.errors import RunError
from espalier.records import EpochRow, History
from espalier.report import style
from espalier.report.context import NOTHING_KNOWN, Context
from espalier.report.names import shorten_middle
from espalier.report.numbers import duration, plain
from espalier.report.reading import (
    best_row,
    comparison_rows,
    require_rows,
    stage_results,
)

__all__ = ["compare_runs", "comparison_rows"]

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 1600
# Pixels from the top: title, two rows of panels, then a table that grows with its rows.
TITLE, PANEL, BETWEEN, TABLE_ROW, TABLE_HEAD = 142, 370, 88, 36, 120
COLUMNS = (0.047, 0.46, 0.54, 0.635, 0.78, 0.89, 0.975)


@dataclass(frozen=True)
class Contender:
    """One line of the picture: a run, or a stage of a run."""

    name: str
    rows: tuple[EpochRow, ...]
    colour: str
    dashes: Any
    baseline: float | None = None

    @property
    def best(self) -> EpochRow:
        """Its row with the highest validation macro-F1."""
        return best_row(self.rows)


def compare_runs(
    histories: Sequence[History], path: Path, contexts: Sequence[Context] = ()
) -> Path:
    """Draw several runs side by side into a PNG file; one run alone is compared by its stages.

    Args:
        histories: At least one, each with at least one finished epoch; made for up to six.
        path: The file to write, whole.
        contexts: What is known of each beside its epochs, or none.

    Raises:
        RunError: There is no run, or one of them has no finished epoch.
        DiskError: The file could not be written.
    """
    if not histories:
        raise RunError(
            "0 runs to compare; at least 1 is needed", hint="espalier compare RUN RUN -o both.png"
        )
    for history in histories:
        require_rows(history)
    if len(histories) == 1:
        return _compare_stages(histories[0], path, contexts[0] if contexts else NOTHING_KNOWN)
    known = contexts or [NOTHING_KNOWN] * len(histories)
    lines = [
        _contender(i, history.name, history.rows, context)
        for i, (history, context) in enumerate(zip(histories, known, strict=True))
    ]
    figure, panels = _layout(len(lines))
    _title(figure, f"{len(lines)} runs side by side", "validation, one colour per run")
    _draw_scores(panels[0], panels[1], lines)
    _draw_losses(panels[2], lines)
    _draw_rates(panels[3], lines)
    last = max(row.epoch for line in lines for row in line.rows)
    for axes in panels:
        style.whole_numbers(axes, 1, max(last, 2), "epoch")
    heads = ("run", "macro-F1", "epoch", "accuracy", "final gap, points", "time", "epochs")
    _table(
        figure, heads, lines, [_cells(row, "accuracy") for row in comparison_rows(histories, known)]
    )
    return style.save_picture(figure, path)


def _contender(
    index: int, name: str, rows: tuple[EpochRow, ...], context: Context = NOTHING_KNOWN
) -> Contender:
    baseline = context.baseline.macro_f1 if context.baseline else None
    return Contender(name, rows, *style.series_look(index), baseline)


def _compare_stages(history: History, path: Path, context: Context) -> Path:
    stages = stage_results(history)
    lines = [_contender(i, stage.name, stage.rows) for i, stage in enumerate(stages)]
    lines[0] = dataclasses.replace(lines[0], baseline=_contender(0, "", (), context).baseline)
    figure, panels = _layout(len(lines))
    _title(figure, history.name or "run", "the stages of one run: what each gained, for what time")
    _draw_over_epochs(panels[0], "Macro-F1", "val_macro_f1", lines)
    _draw_over_time(panels[1], lines)
    _draw_losses(panels[2], lines)
    _draw_rates(panels[3], lines)
    for axes in (panels[0], panels[2], panels[3]):
        style.whole_numbers(axes, history.rows[0].epoch, max(history.rows[-1].epoch, 2), "epoch")
    heads = ("stage", "macro-F1", "epoch", "gain", "final gap, points", "time", "epochs")
    _table(
        figure, heads, lines, [_cells(row, "gain") for row in comparison_rows([history], [context])]
    )
    return style.save_picture(figure, path)


def _layout(rows: int) -> tuple[Figure, list[Axes]]:
    height = TITLE + 2 * PANEL + BETWEEN + TABLE_HEAD + TABLE_ROW * rows
    figure = style.new_figure(WIDTH, height)
    bottom = (TABLE_HEAD + TABLE_ROW * rows) / height
    places = {
        "left": 0.047,
        "right": 0.982,
        "top": 1 - TITLE / height,
        "bottom": bottom,
        "hspace": BETWEEN / PANEL,
        "wspace": 0.12,
    }
    return figure, list(figure.subplots(2, 2, gridspec_kw=places).flat)


def _title(figure: Figure, title: str, below: str) -> None:
    height = figure.get_figheight() * style.DPI
    fonts, missing = style.fonts_for([title])
    text = style.drawable(shorten_middle(title, 90), missing)
    figure.text(0.018, 1 - 28 / height, text, fontsize=19, weight="bold", va="top", family=fonts)
    figure.text(0.018, 1 - 66 / height, below, fontsize=12, color=style.QUIET, va="top")


def _plot(axes: Axes, line: Contender, xs: Sequence[float], ys: Sequence[float]) -> None:
    size = 4.5 if len(xs) <= 30 else 0
    axes.plot(
        xs, ys, color=line.colour, ls=line.dashes, lw=1.9, marker="o", ms=size if len(xs) > 1 else 6
    )


def _draw_over_epochs(axes: Axes, title: str, key: str, lines: Sequence[Contender]) -> None:
    style.dress(axes, title)
    values: list[float] = []
    for line in lines:
        drawn = _column(line, key)
        values += drawn
        _plot(axes, line, [row.epoch for row in line.rows], drawn)
        best = max(line.rows, key=lambda row: _known(float(getattr(row, key))))
        style.ring(axes, best.epoch, float(getattr(best, key)), line.colour)
    known = [line for line in lines if line.baseline is not None and key == "val_macro_f1"]
    for line in known:
        values.append(cast(float, line.baseline))
        axes.axhline(values[-1], color=line.colour, ls=":", lw=1.4, zorder=1)
    style.score_limits(axes, values, room=0.04)
    _note(axes, "ring: best epoch" + "; dotted: linear head alone" * bool(known))


def _draw_scores(first: Axes, second: Axes, lines: Sequence[Contender]) -> None:
    _draw_over_epochs(first, "Macro-F1", "val_macro_f1", lines)
    _draw_over_epochs(second, "Accuracy", "val_accuracy", lines)


def _draw_over_time(axes: Axes, lines: Sequence[Contender]) -> None:
    style.dress(axes, "Macro-F1 over time")
    spent, values = 0.0, []
    for line in lines:
        ends = list(accumulate((_seconds(row) for row in line.rows), initial=spent))[1:]
        spent = ends[-1]
        drawn = _column(line, "val_macro_f1")
        values += drawn
        _plot(axes, line, [end / 60 for end in ends], drawn)
    style.score_limits(axes, values, room=0.04)
    axes.set_xlim(0, max(spent / 60 * 1.02, 0.01))
    axes.set_xlabel("minutes of training", fontsize=10, color=style.QUIET)


def _draw_losses(axes: Axes, lines: Sequence[Contender]) -> None:
    style.dress(axes, "Validation loss")
    values: list[float] = []
    for line in lines:
        drawn = _column(line, "val_loss")
        values += drawn
        _plot(axes, line, [row.epoch for row in line.rows], drawn)
        low = min(line.rows, key=lambda row: -_known(-row.val_loss))
        style.ring(axes, low.epoch, low.val_loss, line.colour)
    style.linear_or_log(axes, values, room=0.04, least=0.1)
    _note(axes, "nats per image; ring: minimum")


def _draw_rates(axes: Axes, lines: Sequence[Contender]) -> None:
    style.dress(axes, "Learning rate")
    rates: list[float] = []
    for line in lines:
        for key, width, opacity in (
            ("learning_rate", 1.9, 1.0),
            ("backbone_learning_rate", 1, 0.6),
        ):
            xs, ys = _split_by_stage(line, key)
            rates += ys
            axes.plot(
                xs,
                ys,
                color=line.colour,
                ls=line.dashes,
                lw=width,
                alpha=opacity,
                marker="." if len(line.rows) <= 30 else "",
            )
    style.log_rates(axes, rates)
    _note(axes, "thick: head, thin: backbone while it trains")


def _split_by_stage(line: Contender, key: str) -> tuple[list[float], list[float]]:
    """Points with a gap where a new stage begins: rates jump there, they do not slope."""
    xs: list[float] = []
    ys: list[float] = []
    stage = line.rows[0].stage_index
    for row in line.rows:
        if row.stage_index != stage:
            xs.append(math.nan)
            ys.append(math.nan)
            stage = row.stage_index
        rate = float(getattr(row, key))
        xs.append(row.epoch)
        ys.append(rate if math.isfinite(rate) and rate > 0 else math.nan)
    return xs, ys


def _column(line: Contender, key: str) -> list[float]:
    values = (float(getattr(row, key)) for row in line.rows)
    return [value if math.isfinite(value) else math.nan for value in values]


def _known(value: float) -> float:
    return value if math.isfinite(value) else -math.inf


def _seconds(row: EpochRow) -> float:
    return row.seconds if math.isfinite(row.seconds) else 0.0


def _note(axes: Axes, text: str) -> None:
    axes.text(
        1.0, 1.03, text, transform=axes.transAxes, ha="right", fontsize=9.5, color=style.QUIET
    )


def _cells(row: Mapping[str, Any], fourth: str) -> list[str]:
    gap = row["gap_points"]
    sign = "+" if fourth == "gain" else ""
    return [
        str(row["stage" if "stage" in row else "run"]),
        plain(row["macro_f1"]),
        str(row["best_epoch"]),
        plain(row[fourth], f"{sign}.3f"),
        "-" if gap is None else f"{gap:+.1f} {row['verdict']}",
        duration(row["seconds"]),
        str(row["epochs"]),
    ]


def _table(
    figure: Figure, heads: Sequence[str], lines: Sequence[Contender], cells: list[list[str]]
) -> None:
    """The legend and the numbers at once, under the panels; the best row in bold."""
    from matplotlib.lines import Line2D

    height = figure.get_figheight() * style.DPI
    top = TABLE_HEAD + TABLE_ROW * len(lines) - 78
    for x, head in zip(COLUMNS, heads, strict=True):
        side = "left" if x == COLUMNS[0] else "right"
        figure.text(x, top / height, head, fontsize=10, color=style.QUIET, ha=side, va="center")
    rule = (top - 15) / height
    figure.add_artist(Line2D([0.018, 0.982], [rule, rule], color="#d0d7de", lw=1))
    winner = max(range(len(lines)), key=lambda i: _known(lines[i].best.val_macro_f1))
    fonts, missing = style.fonts_for([row[0] for row in cells])
    for number, (line, row) in enumerate(zip(lines, cells, strict=True)):
        y = (top - 36 - TABLE_ROW * number) / height
        swatch = Line2D([0.018, 0.041], [y, y], color=line.colour, ls=line.dashes, lw=3.5)
        figure.add_artist(swatch)
        row[0] = style.drawable(shorten_middle(row[0], 52), missing)
        _table_row(figure, y, row, fonts, bold=number == winner)


def _table_row(
    figure: Figure, y: float, cells: Sequence[str], fonts: list[str], *, bold: bool
) -> None:
    for x, cell in zip(COLUMNS, cells, strict=True):
        word = cell.rpartition(" ")[2]
        figure.text(
            x,
            y,
            cell,
            fontsize=12,
            ha="left" if x == COLUMNS[0] else "right",
            va="center",
            weight="bold" if bold else "normal",
            color=style.VERDICT_COLOURS.get(word, style.INK) if x != COLUMNS[0] else style.INK,
            family=fonts,
        )
