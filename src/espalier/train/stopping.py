"""Early stopping: whether a stage still gains, judged by one validation score per epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, TypedDict, cast

Monitor = Literal["macro_f1", "accuracy", "loss"]


class StoppingState(TypedDict):
    """What early stopping remembers, as plain values."""

    best_score: float | None
    epochs_without_gain: int
    improved: bool


class EarlyStopping:
    """Stops after ``patience`` epochs in a row without gain.

    Args:
        patience: Epochs without gain after which to stop; None: never.
        min_delta: A gain must be larger than this, in units of the score.
        monitor: ``macro_f1`` and ``accuracy`` gain by rising, ``loss`` by falling.

    Attributes:
        best_score: The best score so far, as it was given; None before the first.
        improved: Whether the latest score was a gain.
        epochs_without_gain: How many scores have come since the best one.
    """

    def __init__(self, *, patience: int | None, min_delta: float, monitor: Monitor) -> None:
        self.patience = patience
        self.min_delta = min_delta
        self.monitor = monitor
        self.best_score: float | None = None
        self.improved = False
        self.epochs_without_gain = 0

    def step(self, metric: float) -> bool:
        """Take the score of an epoch; whether to stop now. NaN is never a gain."""
        self.improved = self._is_gain(metric)
        if self.improved:
            self.best_score, self.epochs_without_gain = float(metric), 0
        else:
            self.epochs_without_gain += 1
        return self.patience is not None and self.epochs_without_gain >= self.patience

    def state_dict(self) -> StoppingState:
        """What a checkpoint must hold: numbers, a bool and None only."""
        return {
            "best_score": self.best_score,
            "epochs_without_gain": self.epochs_without_gain,
            "improved": self.improved,
        }

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take up what ``state_dict`` gave; patience, delta and monitor stay as they are."""
        held = cast(StoppingState, state)
        self.best_score = held["best_score"]
        self.epochs_without_gain = held["epochs_without_gain"]
        self.improved = held["improved"]

    def _is_gain(self, metric: float) -> bool:
        if math.isnan(metric):
            return False
        if self.best_score is None:
            return True
        gain = metric - self.best_score
        return (-gain if self.monitor == "loss" else gain) > self.min_delta
