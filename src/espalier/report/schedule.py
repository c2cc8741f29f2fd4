"""The learning rates that a run will use, as a picture for ``train --dry-run``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from espalier.errors import RecipeError
from espalier.records import StageSpan
from espalier.report import style
from espalier.report.names import shorten
from espalier.report.numbers import rate_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT, PANEL_PIXELS = 1400, 700, 1260


class PlannedRate(NamedTuple):
    """The rates of one optimizer step; steps count from 0 over the run, epochs from 1.

    ``backbone`` is the fastest rate of the backbone, 0 while it is frozen.
    """

    step: int
    epoch: int
    head: float
    backbone: float


def draw_schedule(
    rows: Sequence[tuple[int, int, float, float]],
    stages: Sequence[StageSpan],
    path: Path,
    *,
    name: str = "Planned learning rates",
) -> Path:
    """Draw planned rates on a logarithmic axis, with stages and warmups, into a PNG file.

    Args:
        rows: As ``PlannedRate``, in order; not every step must be there.
        stages: As planned, epochs counted from 1.
        path: The file to write, whole.
        name: Title of the picture.

    Raises:
        RecipeError: Nothing is planned.
        DiskError: The file could not be written.
    """
    from matplotlib.ticker import MaxNLocator

    if not rows:
        raise RecipeError("0 steps are planned; at least 1 is needed", hint="--epochs 1")
    plan = [PlannedRate(*row) for row in rows]
    figure = style.new_figure(WIDTH, HEIGHT)
    axes = figure.add_axes((0.062, 0.105, 0.92, 0.70))
    style.dress(axes, "Learning rate per optimizer step")
    axes.set_xlim(plan[0].step - 0.5, max(plan[-1].step, plan[0].step + 1) + 0.5)
    style.log_rates(axes, [rate for row in plan for rate in (row.head, row.backbone)])
    # Room for the names of the stages above the highest rate.
    axes.set_ylim(top=axes.get_ylim()[1] * 2)
    for number, stage in enumerate(stages):
        _draw_stage(axes, plan, stage, first=number == 0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True))
    axes.set_xlabel("optimizer step", fontsize=10, color=style.QUIET)
    style.legend_above(axes, 4)
    _write_title(figure, plan, stages, name)
    return style.save_picture(figure, path)


def _draw_stage(axes: Axes, plan: Sequence[PlannedRate], stage: StageSpan, *, first: bool) -> None:
    rows = [row for row in plan if stage.first_epoch <= row.epoch <= stage.last_epoch]
    if not rows:
        return
    # Equal rates stay visible: the head's line is the wider one, underneath.
    for key, colour, width, label in (
        ("head", style.PALETTE[3], 4.0, "head"),
        ("backbone", style.PALETTE[4], 1.8, "backbone, fastest block"),
    ):
        rates = [rate if rate > 0 else math.nan for rate in (getattr(row, key) for row in rows)]
        marker = "o" if len(rows) < 3 else ""
        axes.plot(
            [row.step for row in rows],
            rates,
            color=colour,
            lw=width,
            marker=marker,
            label=label if first else None,
        )
    start = rows[0].step - 0.5
    if not first:
        axes.axvline(start, color="#8b949e", lw=1.2, ls=(0, (5, 4)))
    _mark_warmup(axes, rows, stage, start, first=first)
    _write_stage(axes, rows, stage, start)


def _mark_warmup(
    axes: Axes, rows: Sequence[PlannedRate], stage: StageSpan, start: float, *, first: bool
) -> None:
    if stage.warmup_epochs <= 0:
        return
    epochs = stage.last_epoch - stage.first_epoch + 1
    steps = rows[-1].step - rows[0].step + 1
    end = start + steps * min(1.0, stage.warmup_epochs / epochs)
    known = any(text == "warmup" for text in axes.get_legend_handles_labels()[1])
    axes.axvspan(start, end, color="#fff1c9", lw=0, zorder=0, label=None if known else "warmup")
    axes.axvline(end, color="#b58900", lw=1.2, ls=":")


def _write_stage(axes: Axes, rows: Sequence[PlannedRate], stage: StageSpan, start: float) -> None:
    left, right = axes.get_xlim()
    per_step = PANEL_PIXELS / (right - left)
    room = (rows[-1].step - start) * per_step
    epochs = stage.last_epoch - stage.first_epoch + 1
    lines = [shorten(stage.name, 24), _count(epochs, "epoch")]
    if room < 20:
        return
    upright = room < 7.5 * max(map(len, lines)) + 10
    axes.text(
        max(start, left) + 6 / per_step,
        0.985,
        style.drawable(", ".join(lines)) if upright else "\n".join(map(style.drawable, lines)),
        transform=axes.get_xaxis_transform(),
        va="top",
        rotation=90 if upright else 0,
        fontsize=10,
        style="italic",
        color=style.QUIET,
    )


def _write_title(
    figure: Figure, plan: Sequence[PlannedRate], stages: Sequence[StageSpan], name: str
) -> None:
    fonts, missing = style.fonts_for([name])
    text = style.drawable(shorten(name, 80), missing)
    figure.text(0.02, 0.965, text, fontsize=18, weight="bold", va="top", family=fonts)
    peaks = f"head at most {rate_text(max(row.head for row in plan))}"
    backbone = max(row.backbone for row in plan)
    peaks += f", backbone at most {rate_text(backbone)}" if backbone > 0 else ", backbone frozen"
    epochs = max((stage.last_epoch for stage in stages), default=plan[-1].epoch)
    below = ", ".join(
        (
            _count(plan[-1].step - plan[0].step + 1, "step"),
            _count(epochs, "epoch"),
            _count(len(stages), "stage"),
        )
    )
    figure.text(0.02, 0.912, f"{below}: {peaks}", fontsize=12, color=style.QUIET, va="top")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' if number != 1 else ''}"
