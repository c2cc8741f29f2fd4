"""Who watches a training run: the terminal, a notebook, TensorBoard, or nobody."""

from __future__ import annotations

from typing import Protocol

from espalier.records import EpochRow, History


class Watch(Protocol):
    """What training tells while it happens. Implementations must not raise."""

    def on_note(self, text: str) -> None:
        """Something a person should read, once."""

    def on_stage(self, name: str, index: int, count: int, summary: str) -> None:
        """A stage begins; ``summary`` says what trains."""

    def on_step(self, done: int, total: int, loss: float | None) -> None:
        """``done`` of ``total`` steps of the run are made; loss where it was read anyway."""

    def on_epoch(self, row: EpochRow, history: History) -> None:
        """An epoch is finished and on record."""


class Unwatched:
    """Nobody watches."""

    def on_note(self, text: str) -> None:
        """Heard by nobody."""

    def on_stage(self, name: str, index: int, count: int, summary: str) -> None:
        """Seen by nobody."""

    def on_step(self, done: int, total: int, loss: float | None) -> None:
        """Counted by nobody."""

    def on_epoch(self, row: EpochRow, history: History) -> None:
        """Read by nobody."""


class Several:
    """Tells several watchers the same, in order."""

    def __init__(self, *watches: Watch) -> None:
        self.watches = watches

    def on_note(self, text: str) -> None:
        """Pass it on."""
        for watch in self.watches:
            watch.on_note(text)

    def on_stage(self, name: str, index: int, count: int, summary: str) -> None:
        """Pass it on."""
        for watch in self.watches:
            watch.on_stage(name, index, count, summary)

    def on_step(self, done: int, total: int, loss: float | None) -> None:
        """Pass it on."""
        for watch in self.watches:
            watch.on_step(done, total, loss)

    def on_epoch(self, row: EpochRow, history: History) -> None:
        """Pass it on."""
        for watch in self.watches:
            watch.on_epoch(row, history)
