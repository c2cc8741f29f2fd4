"""The picture of a run that is redrawn after every epoch: ``curves.png``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from espalier.records import EpochRow, History
from espalier.report import style
from espalier.report.context import NOTHING_KNOWN, Baseline, Context
from espalier.report.names import shorten, shorten_middle
from espalier.report.reading import (
    GOOD_BELOW,
    SLIGHT_UP_TO,
    StageResult,
    gap_points,
    gap_verdict,
    planned_epochs,
    require_rows,
    stage_results,
)
from espalier.report.summary import write_summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 1600, 1100
PANEL_PIXELS = 560
LINE_POINTS = 40


def draw_curves(
    history: History, path: Path, *, note: str = "", context: Context = NOTHING_KNOWN
) -> Path:
    """Draw losses, scores, learning rates, gap and a summary of one run into a PNG file.

    Args:
        history: A run with at least one finished epoch.
        path: The file to write, whole.
        note: A sentence under the title, instead of where the run stands.
        context: What is known of the run beside its epochs, as ``context_of`` gives it.

    Raises:
        RunError: The history has no finished epoch.
        DiskError: The file could not be written.
    """
    require_rows(history)
    figure = style.new_figure(WIDTH, HEIGHT)
    losses, scores, rates, gaps = _panels(figure)
    stages = stage_results(history)
    _draw_losses(losses, history)
    _draw_scores(scores, history, context.baseline)
    _draw_rates(rates, stages)
    _draw_gaps(gaps, history, context)
    for axes in (losses, scores, rates, gaps):
        style.whole_numbers(axes, history.rows[0].epoch, max(history.rows[-1].epoch, 2), "epoch")
        mark_stages(axes, stages, PANEL_PIXELS)
    _mark_lowest_loss(losses, history)
    _mark_baseline(scores, history, context.baseline)
    _mark_best_scores(scores, history)
    _write_title(figure, history, note)
    write_summary(figure, history, stages, context)
    return style.save_picture(figure, path)


def _panels(figure: Figure) -> list[Axes]:
    places = {
        "left": 0.047,
        "right": 0.783,
        "top": 0.868,
        "bottom": 0.062,
        "hspace": 0.27,
        "wspace": 0.15,
    }
    return list(figure.subplots(2, 2, gridspec_kw=places).flat)


def _line(axes: Axes, rows: Sequence[EpochRow], key: str, colour: str, label: str) -> None:
    epochs = [row.epoch for row in rows]
    size = 4.5 if len(rows) <= 30 else 2.5
    values = finite([getattr(row, key) for row in rows])
    axes.plot(epochs, values, "-o", color=colour, label=label, lw=1.8, ms=size)


def finite(values: Sequence[float]) -> list[float]:
    """The values with NaN for everything that cannot be drawn."""
    return [value if math.isfinite(value) else math.nan for value in values]


def _draw_losses(axes: Axes, history: History) -> None:
    style.dress(axes, "Loss")
    _line(axes, history.rows, "train_loss", style.TRAIN, "train, as trained")
    _line(axes, history.rows, "probe_loss", style.PROBE, "train, clean probe")
    _line(axes, history.rows, "val_loss", style.VALIDATION, "validation")
    keys = ("train_loss", "probe_loss", "val_loss")
    values = [v for key in keys for v in history.column(key)]
    style.linear_or_log(axes, values, room=0.12, least=0.1)
    axes.set_ylabel("cross-entropy (nats per image)", fontsize=10, color=style.QUIET)
    style.legend_above(axes, 3)


def _draw_scores(axes: Axes, history: History, baseline: Baseline | None) -> None:
    style.dress(axes, "Scores")
    _line(axes, history.rows, "probe_accuracy", style.PROBE, "train accuracy, clean")
    _line(axes, history.rows, "val_accuracy", style.VALIDATION, "val accuracy")
    _line(axes, history.rows, "val_macro_f1", style.SCORE, "val macro-F1")
    keys = ("probe_accuracy", "val_accuracy", "val_macro_f1")
    values = [v for key in keys for v in history.column(key)]
    values += [] if baseline is None else [baseline.macro_f1]
    style.score_limits(axes, values, room=0.12)
    axes.set_ylabel("accuracy, macro-F1 (0 to 1)", fontsize=10, color=style.QUIET)
    style.legend_above(axes, 3)


def _draw_rates(axes: Axes, stages: Sequence[StageResult]) -> None:
    style.dress(axes, "Learning rate")
    rates: list[float] = []
    for number, stage in enumerate(stages):
        epochs = [row.epoch for row in stage.rows]
        # Equal rates stay visible: the head's line is the wider one, underneath.
        for key, colour, width, label in (
            ("learning_rate", style.PALETTE[3], 3.6, "head"),
            ("backbone_learning_rate", style.PALETTE[4], 1.6, "backbone"),
        ):
            values = [_positive(getattr(row, key)) for row in stage.rows]
            rates += values
            once = label if number == 0 else None
            axes.plot(epochs, values, "-o", color=colour, label=once, lw=width, ms=width + 2)
    style.log_rates(axes, rates)
    axes.set_ylabel("per optimizer step, at the end of the epoch", fontsize=10, color=style.QUIET)
    warm = [stage for stage in stages if stage.warmup_epochs > 0]
    for number, stage in enumerate(warm):
        _mark_warmup(axes, stage, None if number else "warmup, to the dotted line")
    for stage in stages:
        _mark_frozen(axes, stage)
    style.legend_above(axes, 3)


def _positive(rate: float) -> float:
    return rate if math.isfinite(rate) and rate > 0 else math.nan


def _mark_warmup(axes: Axes, stage: StageResult, label: str | None) -> None:
    start = stage.first - 0.5
    end = min(start + stage.warmup_epochs, stage.last + 0.5)
    axes.axvspan(start, end, color="#fff1c9", lw=0, zorder=0, label=label)
    if start + stage.warmup_epochs <= stage.last + 0.5:
        axes.axvline(end, color="#b58900", lw=1.2, ls=":")


def _mark_frozen(axes: Axes, stage: StageResult) -> None:
    if any(row.backbone_learning_rate > 0 for row in stage.rows):
        return
    # A head that is solved for has no rate: nothing but these words says that it learned.
    what = "head solved, backbone frozen" if stage.solved else "backbone frozen"
    axes.text(
        stage.last + 0.35,
        0.02,
        what,
        transform=axes.get_xaxis_transform(),
        ha="right",
        va="bottom",
        rotation=90,
        fontsize=9,
        color=style.QUIET,
    )


def _draw_gaps(axes: Axes, history: History, context: Context) -> None:
    style.dress(axes, "Train - validation gap")
    gaps = [gap_points(row) for row in history.rows]
    epochs = [row.epoch for row in history.rows]
    known = [gap for gap in gaps if math.isfinite(gap)] or [0.0]
    low, high = min(-2.0, *known) - 1, max(14.0, 1.12 * max(known) + 1)
    high += 0.1 * (high - low)
    axes.set_ylim(low, high)
    for name, start, end in (
        ("good", low, GOOD_BELOW),
        ("slight", GOOD_BELOW, SLIGHT_UP_TO),
        ("overfitting", SLIGHT_UP_TO, high),
    ):
        axes.axhspan(start, end, color=style.BAND_COLOURS[name], lw=0, zorder=0)
        _name_band(axes, name, (start + end) / 2 if name != "overfitting" else start + 0.02 * high)
    axes.axhline(0, color="#b6bcc4", lw=1)
    axes.plot(epochs, finite(gaps), "-", color=style.QUIET, lw=1.4)
    colours = [style.VERDICT_COLOURS[gap_verdict(row, context)] for row in history.rows]
    axes.scatter(epochs, finite(gaps), c=colours, s=34 if len(gaps) <= 30 else 14, zorder=5)
    axes.set_ylabel("points of accuracy, both on clean images", fontsize=10, color=style.QUIET)
    axes.text(
        1.0,
        1.032,
        _gap_note(context),
        transform=axes.transAxes,
        ha="right",
        fontsize=9.5,
        color=style.QUIET,
    )


def _gap_note(context: Context) -> str:
    if context.val_images == 0:
        return "no validation images: this says nothing"
    if context.has_few_images():
        return f"{context.val_images} validation images: too few to be sure"
    return "augmentation and mixup cannot fake it"


def _name_band(axes: Axes, name: str, height: float) -> None:
    upright = name == "overfitting"
    axes.text(
        1.007,
        height,
        name,
        transform=axes.get_yaxis_transform(),
        rotation=90 if upright else 0,
        ha="left",
        va="bottom" if upright else "center",
        fontsize=9,
        fontweight="bold",
        color=style.VERDICT_COLOURS[name],
    )


def mark_stages(axes: Axes, stages: Sequence[StageResult], pixels: int) -> None:
    """Dashed lines where stages meet, and each stage's name at the top where it fits.

    Args:
        axes: A panel whose horizontal axis is the epoch, limits set.
        stages: In order.
        pixels: Width of the panel.
    """
    left, right = axes.get_xlim()
    for number, stage in enumerate(stages):
        start, end = stage.first - 0.5, stage.last + 0.5
        if number:
            axes.axvline(start, color="#8b949e", lw=1.2, ls=(0, (5, 4)), zorder=1)
        room = (min(end, right) - start) / (right - left) * pixels
        _name_stage(axes, start, stage.name, room, pixels / (right - left))


def _name_stage(axes: Axes, start: float, name: str, room: float, per_epoch: float) -> None:
    if room < 15:
        return
    upright = room < 7.5 * min(len(name), 16) + 8
    text = style.drawable(shorten(name, 10 if upright else 16))
    axes.text(
        start + 5 / per_epoch,
        0.985,
        text,
        transform=axes.get_xaxis_transform(),
        ha="left",
        va="top",
        rotation=90 if upright else 0,
        fontsize=10,
        color=style.QUIET,
        style="italic",
        zorder=8,
    )


def _mark_lowest_loss(axes: Axes, history: History) -> None:
    known = [row for row in history.rows if math.isfinite(row.val_loss)]
    lines = []
    if known:
        lowest = min(known, key=lambda row: row.val_loss)
        style.ring(axes, lowest.epoch, lowest.val_loss, style.VALIDATION)
        text = f"validation minimum {lowest.val_loss:.3f}, epoch {lowest.epoch}"
        lines.append((text, style.VALIDATION))
    broken = [row.epoch for row in history.rows if not _losses_finite(row)]
    if broken:
        text = "not finite in epoch " + shorten(", ".join(map(str, broken)), 24)
        lines.append((text, style.VERDICT_COLOURS["overfitting"]))
    style.note_in_corner(axes, lines)


def _losses_finite(row: EpochRow) -> bool:
    return all(map(math.isfinite, (row.train_loss, row.probe_loss, row.val_loss)))


def _mark_baseline(axes: Axes, history: History, baseline: Baseline | None) -> None:
    """A dotted line at the baseline's macro-F1, named at the end that is farther from the curves.

    The line has many points, so that other words keep away from it.
    """
    if baseline is None:
        return
    left, right = axes.get_xlim()
    value = baseline.macro_f1
    xs = [left + (right - left) * part / LINE_POINTS for part in range(LINE_POINTS + 1)]
    axes.plot(xs, [value] * len(xs), ls=":", lw=1.8, color=style.INK, zorder=1.5)

    def room(row: EpochRow) -> float:
        near = (row.probe_accuracy, row.val_accuracy, row.val_macro_f1)
        return min((abs(score - value) for score in near if math.isfinite(score)), default=1.0)

    at_right = room(history.rows[-1]) >= room(history.rows[0])
    axes.annotate(
        f"linear head alone {value:.3f}",
        (right if at_right else left, value),
        xytext=(-4 if at_right else 4, 4),
        textcoords="offset points",
        ha="right" if at_right else "left",
        va="bottom",
        fontsize=9.5,
        color=style.INK,
        zorder=7,
        bbox={"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.8},
    )


def _mark_best_scores(axes: Axes, history: History) -> None:
    lines = []
    for key, name, colour in (
        ("val_accuracy", "accuracy", style.VALIDATION),
        ("val_macro_f1", "macro-F1", style.SCORE),
    ):
        known = [row for row in history.rows if math.isfinite(getattr(row, key))]
        if known:
            top = max(known, key=lambda row: float(getattr(row, key)))
            value = float(getattr(top, key))
            style.ring(axes, top.epoch, value, colour)
            lines.append((f"best {name} {value:.3f}, epoch {top.epoch}", colour))
    style.note_in_corner(axes, lines)


def _write_title(figure: Figure, history: History, note: str) -> None:
    fonts, missing = style.fonts_for([history.name, note])
    name = style.drawable(shorten_middle(history.name, 80) or "run", missing)
    figure.text(
        0.018, 0.972, name, fontsize=19, fontweight="bold", color=style.INK, va="top", family=fonts
    )
    last = history.rows[-1]
    where = f"epoch {last.epoch} of {planned_epochs(history)}, stage {last.stage}"
    figure.text(
        0.018,
        0.934,
        style.drawable(shorten(note or where, 150), missing),
        fontsize=12,
        color=style.QUIET,
        va="top",
        family=fonts,
    )
