"""macro-F1 over CPU-seconds, one panel per data set: ``docs/pictures/speed.png``."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.speed import ratios
from benchmarks.speed.contenders import CONTENDERS
from espalier.report.style import DASHES, FAINT, INK, PALETTE, QUIET, new_figure, save_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Record = dict[str, Any]
WIDTH, HEIGHT = 1300, 620
COLOURS = {"espalier": PALETTE[1], "plain": PALETTE[0], "timm": PALETTE[2], "fastai": PALETTE[3]}
MARKS = ("o", "s", "^")
# A head that has just begun to learn would squeeze what matters into the top of the picture.
LOWEST = 0.5


def draw(runs: list[Record], path: Path) -> Path:
    """Validation scores over time as lines, test scores at the end as marks; PNG."""
    found = ratios.judged(runs)
    figure = new_figure(WIDTH, HEIGHT)
    panels = figure.subplots(1, max(1, len(found)), squeeze=False, sharey=True)[0]
    for axes, (data, contenders) in zip(panels, found.items(), strict=False):
        panel(axes, data, contenders)
    panels[0].set_ylabel("macro-F1", color=INK)
    handles = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="lower center", ncols=4, frameon=False, fontsize=10
    )
    figure.suptitle(
        "CPU-seconds to a macro-F1, from process start, one thread\n"
        "lines: validation after each epoch; marks: test at the end of the process",
        fontsize=12,
        color=INK,
    )
    figure.subplots_adjust(left=0.06, right=0.985, top=0.84, bottom=0.22, wspace=0.06)
    path.parent.mkdir(parents=True, exist_ok=True)
    return save_picture(figure, path)


def panel(axes: Axes, data: str, found: dict[str, list[Record]]) -> None:
    """One data set: every contender, and the scores that the ratios are taken at."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    of_family: dict[str, int] = {}
    for contender in CONTENDERS:
        turn = of_family.get(contender.family, 0)
        of_family[contender.family] = turn + 1
        if contender.name in found:
            colour = COLOURS[contender.family]
            one_contender(axes, found[contender.name], contender.label, colour, turn)
    for score in ratios.SCORES.get(data, ()):
        axes.axhline(score, color=QUIET, linewidth=0.8, linestyle=(0, (1, 3)), zorder=0)
        axes.annotate(
            f"{score:.3f}",
            (0.01, score),
            xycoords=("axes fraction", "data"),
            ha="left",
            va="bottom",
            fontsize=8,
            color=QUIET,
        )
    axes.set_xscale("log")
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_major_formatter(plain)
    axes.xaxis.set_minor_locator(minor_ticks())
    axes.xaxis.set_minor_formatter(plain)
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="both", labelsize=9, colors=INK)
    axes.set_ylim(LOWEST, 1.0)
    axes.grid(color=FAINT, which="both")
    axes.set_axisbelow(True)
    axes.set_title(data, fontsize=11, color=INK)
    axes.set_xlabel("CPU-seconds (log)", color=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def minor_ticks() -> Any:
    from matplotlib.ticker import LogLocator

    return LogLocator(subs=(2.0, 5.0))


def one_contender(axes: Axes, runs: list[Record], label: str, colour: str, turn: int) -> None:
    """Its line over the epochs, and its mark with the range over the seeds."""
    length = min(len(run["epochs"]) for run in runs)
    epochs = [[run["epochs"][index] for run in runs] for index in range(length)]
    scores = [run["test_macro_f1"] for run in runs]
    middle = statistics.fmean(scores)
    axes.plot(
        [ratios.mean(rows, "cpu_seconds") for rows in epochs],
        [ratios.mean(rows, "val_macro_f1") for rows in epochs],
        color=colour,
        linestyle=DASHES[turn % len(DASHES)],
        linewidth=1.6,
        alpha=0.75,
    )
    axes.errorbar(
        [ratios.mean(runs, "cpu_seconds")],
        [middle],
        yerr=[[middle - min(scores)], [max(scores) - middle]],
        color=colour,
        marker=MARKS[turn % len(MARKS)],
        markersize=9,
        markeredgecolor="white",
        capsize=3,
        linestyle="none",
        label=label,
        zorder=3,
    )
