"""Stopping in good order: Ctrl-C, SIGTERM and the time limit are looked at between two steps."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any


class Interrupts:
    """Context in which the first Ctrl-C or SIGTERM is only noted, and a second one is obeyed.

    Args:
        time_limit: Seconds from now after which training should end; None: no limit.
    """

    def __init__(self, time_limit: float | None = None) -> None:
        self.signal: int | None = None
        self.started = time.monotonic()
        self.time_limit = time_limit
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        # Python allows handlers in the main thread only; elsewhere the caller owns the signals.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def time_is_up(self, reserve: float = 0.0) -> bool:
        """Whether the limit is nearer than ``reserve`` seconds."""
        if self.time_limit is None:
            return False
        return time.monotonic() - self.started + reserve >= self.time_limit
