"""What a history says before it is drawn or tabled: best rows, gaps and their verdict, stages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from espalier.errors import RunError
from espalier.records import EpochRow, History
from espalier.report.context import NOTHING_KNOWN, Context

GOOD_BELOW = 5.0
SLIGHT_UP_TO = 10.0


@dataclass(frozen=True)
class StageResult:
    """One stage as far as it has come.

    Attributes:
        name: Of the stage.
        rows: Its finished epochs, at least one.
        warmup_epochs: Planned, from the start of the stage.
        best: Its row with the highest validation macro-F1.
        gain: Best macro-F1 minus the best of all stages before; None for the first stage.
        seconds: Sum over its epochs.
    """

    name: str
    rows: tuple[EpochRow, ...]
    warmup_epochs: float
    best: EpochRow
    gain: float | None
    seconds: float

    @property
    def first(self) -> int:
        """Its first finished epoch, counted from 1 over the whole run."""
        return self.rows[0].epoch

    @property
    def last(self) -> int:
        """Its last finished epoch."""
        return self.rows[-1].epoch

    @property
    def solved(self) -> bool:
        """Whether its head was solved for: one epoch of one step, at no learning rate."""
        only = self.rows[0]
        return len(self.rows) == 1 and only.batches == 1 and only.learning_rate == 0


def gap_points(row: EpochRow) -> float:
    """Clean-train probe accuracy minus validation accuracy, in points (hundredths)."""
    return 100 * (row.probe_accuracy - row.val_accuracy)


def verdict(points: float) -> str:
    """``good`` below 5 points, ``slight`` up to 10, ``overfitting`` above, ``unknown`` for NaN."""
    if math.isnan(points):
        return "unknown"
    if points < GOOD_BELOW:
        return "good"
    return "slight" if points <= SLIGHT_UP_TO else "overfitting"


def gap_verdict(row: EpochRow, context: Context = NOTHING_KNOWN) -> str:
    """``verdict`` of an epoch's gap, where the gap says anything.

    ``unknown`` without validation images, ``unsure`` with fewer than 50 of them, and ``chance`` for
    a model that does no better than guessing: it has no gap, because it has learned nothing.
    """
    if context.val_images == 0:
        return "unknown"
    if context.at_chance(row):
        return "chance"
    return "unsure" if context.has_few_images() else verdict(gap_points(row))


def best_row(rows: Sequence[EpochRow]) -> EpochRow:
    """The row with the highest validation macro-F1, the first of equals; NaN never wins."""
    return max(rows, key=lambda row: _or_worst(row.val_macro_f1))


def _or_worst(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def total_seconds(rows: Sequence[EpochRow]) -> float:
    """Time of all epochs together; a missing time counts as none."""
    return sum(row.seconds for row in rows if math.isfinite(row.seconds))


def planned_epochs(history: History) -> int:
    """Epochs the run is planned to have; never fewer than it already has."""
    planned = max((span.last_epoch for span in history.stages), default=0)
    return max(planned, history.rows[-1].epoch)


def require_rows(history: History) -> None:
    """Raise where there is nothing to show yet.

    Raises:
        RunError: The history has no finished epoch.
    """
    if not history.rows:
        raise RunError(
            f"run {history.name!r} has 0 finished epochs; a picture or a table needs at least 1",
            hint="wait until the first epoch is done, then ask again",
        )


def stage_results(history: History) -> list[StageResult]:
    """The stages that have begun, in order."""
    results: list[StageResult] = []
    for index in sorted({row.stage_index for row in history.rows}):
        rows = tuple(row for row in history.rows if row.stage_index == index)
        warmup = history.stages[index].warmup_epochs if index < len(history.stages) else 0.0
        best = best_row(rows)
        gain = best.val_macro_f1 - _best_before(results) if results else None
        results.append(StageResult(rows[0].stage, rows, warmup, best, gain, total_seconds(rows)))
    return results


def _best_before(results: Sequence[StageResult]) -> float:
    return best_row([result.best for result in results]).val_macro_f1


def comparison_rows(
    histories: Sequence[History], contexts: Sequence[Context] = ()
) -> list[dict[str, Any]]:
    """What each run reached, as plain values; of one run alone: each of its stages, with its gain.

    Scores are those of the best epoch, ``gap_points`` that of the last; None where unknown.
    ``baseline`` is the macro-F1 of a linear head alone.

    Args:
        histories: At least one, each with at least one finished epoch.
        contexts: One per history, or none.
    """
    for history in histories:
        require_rows(history)
    known = contexts or [NOTHING_KNOWN] * len(histories)
    if len(histories) != 1:
        return [
            {"run": history.name, **_reached(history.rows, context)}
            for history, context in zip(histories, known, strict=True)
        ]
    return [
        {"stage": stage.name, **_reached(stage.rows, known[0]), "gain": _or_none(stage.gain)}
        for stage in stage_results(histories[0])
    ]


def _reached(rows: Sequence[EpochRow], context: Context) -> dict[str, Any]:
    best, last = best_row(rows), rows[-1]
    return {
        "macro_f1": _or_none(best.val_macro_f1),
        "best_epoch": best.epoch,
        "accuracy": _or_none(best.val_accuracy),
        "gap_points": _or_none(gap_points(last)),
        "verdict": gap_verdict(last, context),
        "baseline": _or_none(None if context.baseline is None else context.baseline.macro_f1),
        "seconds": round(total_seconds(rows), 3),
        "epochs": len(rows),
    }


def _or_none(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 6)
