"""What a person sees while it trains: a row per epoch, and a bar with the time left.

Everything goes to standard error. Without a terminal there is no bar, only plain lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from espalier.records import EpochRow, History
from espalier.report.paragraphs import wrapped
from espalier.report.text import EPOCH_LEGEND, epoch_header, epoch_line


class Screen:
    """Watches a run for a person at a terminal, or for a log file."""

    def __init__(self, console: Console, progress: Progress | None) -> None:
        self.console = console
        self.progress = progress
        self._counts: dict[str, TaskID] = {}
        self._steps: TaskID | None = None
        self._legend_shown = self._header_shown = False

    def line(self, text: str) -> None:
        """A line above the bar, as it stands: no markup, no wrapping of tables."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def on_scan(self, done: int, total: int) -> None:
        """Photographs are being read."""
        self._count("reading photographs", done, total)

    def on_draw(self, done: int, total: int) -> None:
        """Pictures are being drawn."""
        self._count("drawing", done, total)

    def counter(self, what: str) -> Callable[[int, int], None]:
        """A bar of its own for anything that is done one by one."""
        return lambda done, total: self._count(what, done, total)

    def _count(self, what: str, done: int, total: int) -> None:
        """Move a bar of its own, which goes when all is done."""
        if self.progress is None:
            return
        if what not in self._counts:
            self._counts[what] = self.progress.add_task(what, total=total)
        self.progress.update(self._counts[what], completed=done, total=total)
        if done >= total:
            self.progress.remove_task(self._counts.pop(what))

    def on_note(self, text: str) -> None:
        """Print it, in lines of at most 80 columns."""
        for line in wrapped(text):
            self.line(line)

    def on_stage(self, name: str, index: int, count: int, summary: str) -> None:
        """Print what trains from here on; the table of the stage begins with its first row."""
        self.line("")
        self.on_note(f"stage {index + 1} of {count}, {name}: {summary}")
        self._header_shown = False

    def on_step(self, done: int, total: int, loss: float | None) -> None:
        """Move the bar."""
        if self.progress is None:
            return
        if self._steps is None:
            # Started at what is done, so that a resumed run does not promise the past's pace.
            self._steps = self.progress.add_task("training", total=total, completed=done - 1)
        self.progress.update(self._steps, completed=done, total=total)

    def on_epoch(self, row: EpochRow, history: History) -> None:
        """Print the row, and before the first of a stage the heads of the columns."""
        if not self._header_shown:
            self._show_header()
        self.line(epoch_line(row))

    def _show_header(self) -> None:
        if not self._legend_shown:
            self.line(EPOCH_LEGEND)
        self.line(epoch_header())
        self._legend_shown = self._header_shown = True


@contextmanager
def open_screen() -> Iterator[Screen]:
    """A screen on standard error; its bar disappears at the end."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Screen(console, None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield Screen(console, progress)
