"""Rows of any record, put in order by the clock of the run: epochs whole, steps as a sample.

Ten million rows of four columns take 0.8 GB. Rows may come in any order, twice, or again after a
run was resumed: what was written later holds.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from espalier.diagnose.readers.columns import EPOCH_SIGNS
from espalier.diagnose.readers.sampling import MOST_NON_FINITE, MOST_STEPS, evenly
from espalier.diagnose.readers.tables import SPELLED_NAN
from espalier.run_record import EpochSigns, StepSigns

Floats = npt.NDArray[np.float64]
# From here on values are kept in single precision, to halve the memory.
SINGLE_PRECISION_FROM = 1_000_000
# More steps back than this are no resumed runs but rows in no order.
MOST_RESUMES = 1_000
# Epochs and steps beyond this are no counts: infinite, or damaged.
MOST_STEPS_EVER = 1e15
# Shares may lie above 1 by rounding; what is above that is percent.
MOST_SHARE = 1.001
# A NaN that comes and goes more often than this means "not measured in this row".
RARE = 0.1
SHARES = (
    "train_accuracy",
    "clean_accuracy",
    "busy_accuracy",
    "val_accuracy",
    "val_macro_f1",
    "ema_accuracy",
)
AVERAGED = ("train_loss", "train_accuracy", "mean_grad_norm")
OF_STEPS = ("loss", "learning_rate", "grad_norm", "scale")
Unit = Literal["share", "percent", "unknown"]


@dataclass(frozen=True)
class Timed:
    """What a timeline makes of its rows."""

    epochs: tuple[EpochSigns, ...]
    steps: tuple[StepSigns, ...]
    notes: tuple[str, ...]

    @property
    def steps_per_epoch(self) -> int | None:
        """Optimizer steps of a usual epoch; None where fewer than two epochs have steps."""
        ends = [row.step for row in self.epochs if row.step is not None]
        sizes = sorted(int(size) for size in np.diff(ends))
        return sizes[len(sizes) // 2] if sizes and sizes[0] > 0 else None


@dataclass(frozen=True)
class _Rows:
    """All rows: epoch from 1, finished steps, the time that orders them, and values by sign."""

    epochs: Floats
    steps: Floats
    moments: Floats
    values: Mapping[str, Any]


@dataclass(frozen=True)
class _Column:
    """The measured values of one sign, one per moment, in order."""

    moments: Floats
    epochs: Floats
    values: Floats


class Timeline:
    """Collects rows, then puts them in order.

    Args:
        signs: Sign of each value of a row; several values of one sign in a row: the largest holds.
        unit: Of accuracies and scores; ``unknown``: decided by their size, each column for itself.
        zero_based: Whether the tool counts epochs and steps from 0; None: as the smallest says.
    """

    def __init__(
        self, signs: Sequence[str], *, unit: Unit = "unknown", zero_based: bool | None = None
    ) -> None:
        self.signs = tuple(signs)
        self.unit = unit
        self.zero_based = zero_based
        self.notes: list[str] = []
        self._clock = (array("d"), array("d"))
        self._columns = [array("d") for _ in self.signs]
        self._breaks: list[int] = []

    def __len__(self) -> int:
        return len(self._clock[0])

    def add(self, epoch: float, step: float, values: Sequence[float]) -> None:
        """Add a row; NaN: not recorded, ``SPELLED_NAN``: recorded as NaN."""
        self._clock[0].append(epoch)
        self._clock[1].append(step)
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)
        if len(self) == SINGLE_PRECISION_FROM:
            self._columns = [array("f", column) for column in self._columns]

    def begin_again(self) -> None:
        """Note that the header stands here again."""
        self._breaks.append(len(self))

    def in_order(self) -> Timed:
        """The epochs and the sample of steps."""
        columns = [np.frombuffer(c, dtype=c.typecode) for c in self._columns]
        if not len(self):
            return Timed((), (), tuple(self.notes))
        epochs, steps = self._clocks()
        kept = self._last_run(epochs, steps, columns)
        if not kept.all():
            epochs, steps, columns = epochs[kept], steps[kept], [c[kept] for c in columns]
        epochs = self._filled(epochs, steps, columns)
        steps, moments = self._moments(epochs, steps)
        return self._timed(_Rows(epochs, steps, moments, self._by_sign(columns)))

    def _by_sign(self, columns: Sequence[Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for sign, column in zip(self.signs, columns, strict=True):
            if np.isnan(column).all():
                continue
            found[sign] = np.fmax(found[sign], column) if sign in found else column
        return found

    def _clocks(self) -> tuple[Floats, Floats]:
        """Epoch and step of each row, NaN where unknown; without any clock the row is the epoch."""
        epochs, steps = (np.frombuffer(clock, dtype=float) for clock in self._clock)
        for clock in (epochs, steps):
            clock[np.abs(clock) > MOST_STEPS_EVER] = math.nan
        if np.isnan(epochs).all() and np.isnan(steps).all():
            self.notes.append("no column says which epoch a row is: each row is taken as one")
            epochs = np.arange(1.0, len(epochs) + 1)
        if (np.diff(epochs)[np.diff(steps) < 0] > 0).any():
            return epochs, _global(epochs, steps)
        return epochs, steps

    def _last_run(
        self, epochs: Floats, steps: Floats, columns: Sequence[Any]
    ) -> npt.NDArray[np.bool_]:
        """Which rows hold: where a run goes back, what it had written beyond is void."""
        kept = np.ones(len(epochs), dtype=bool)
        clock = steps if not np.isnan(steps).any() else epochs
        back = np.flatnonzero(np.diff(clock) < 0) + 1
        places = sorted({*self._breaks, *(back.tolist() if len(back) <= MOST_RESUMES else ())})
        restarts = 0
        for place in places:
            if place >= len(clock) or clock[place] > clock[place - 1]:
                continue
            if place not in self._breaks and not _is_repeated(place, clock, columns):
                continue
            kept[:place] &= clock[:place] < clock[place]
            restarts += not kept[:place].any()
        if restarts:
            self.notes.append(
                f"the file holds {restarts + 1} runs, one after another: the last is read"
            )
        elif not kept.all():
            self.notes.append("the run was resumed: rows that were written again hold")
        return kept

    def _filled(self, epochs: Floats, steps: Floats, columns: Sequence[Any]) -> Floats:
        """The epoch of each row, counted from 1."""
        known = ~np.isnan(epochs)
        if not known.any():
            return self._epochs_of_steps(steps, columns)
        if not known.all() and np.isnan(steps).any():
            before = np.maximum.accumulate(np.where(known, np.arange(len(known)), 0))
            epochs = epochs[np.where(known[before], before, np.argmax(known))]
        elif not known.all():
            order = np.argsort(steps[known], kind="stable")
            places = np.searchsorted(steps[known][order], steps[~known], side="left")
            epochs = epochs.copy()
            epochs[~known] = epochs[known][order][np.minimum(places, len(order) - 1)]
        if (epochs != np.floor(epochs)).any():
            # Half an epoch into the second one is 1.5; the end of the first is 1.0 or 0.9996.
            whole: Floats = np.maximum(np.ceil(epochs - 0.01), 1.0)
            return whole
        return epochs + self._shift(epochs)

    def _shift(self, clock: Floats) -> float:
        from_zero = self.zero_based if self.zero_based is not None else clock.min() == 0
        return 1.0 if from_zero else 0.0

    def _epochs_of_steps(self, steps: Floats, columns: Sequence[Any]) -> Floats:
        """Epochs where only steps are known: each validation ends one."""
        judged = np.zeros(len(steps), dtype=bool)
        for sign, column in zip(self.signs, columns, strict=True):
            if sign.startswith("val_"):
                judged |= ~np.isnan(column)
        if not judged.any():
            self.notes.append("nothing says where epochs end: the whole record is taken as one")
            return np.ones(len(steps))
        self.notes.append("no column says which epoch a row is: each validation ends one")
        ends = np.unique(steps[judged])
        places: Floats = np.searchsorted(ends, steps, side="left").astype(float)
        return places + 1

    def _moments(self, epochs: Floats, steps: Floats) -> tuple[Floats, Floats]:
        """Finished steps (NaN where unknown), and the time by which values are put in order."""
        if not np.isnan(steps).any():
            steps = steps + self._shift(steps)
            return steps, steps
        if len(epochs) < 3 * len(np.unique(epochs)):
            return steps, epochs
        self.notes.append("no column counts steps: each row is taken as one")
        order = np.arange(1.0, len(epochs) + 1)
        return order, order

    def _timed(self, rows: _Rows) -> Timed:
        numbers = np.unique(rows.epochs)
        moments = _sampled(rows, len(numbers))
        of_epochs: dict[str, Floats] = {}
        of_steps: dict[str, Floats] = {}
        # One column at a time: all of them together would be too much memory.
        for sign in rows.values:
            column = self._column(sign, rows)
            of_epochs.update(_per_epoch(sign, column, numbers, rows.values))
            step_sign = "loss" if sign == "train_loss" and "loss" not in rows.values else sign
            if step_sign in OF_STEPS:
                of_steps[step_sign] = _at(column, moments)
        epochs = _epoch_signs(rows, numbers, of_epochs)
        return Timed(epochs, _step_signs(epochs, moments, of_steps), tuple(self.notes))

    def _column(self, sign: str, rows: _Rows) -> _Column:
        """The measured values of a sign, one per moment, in order; the later of two holds."""
        values, moments, epochs = rows.values[sign], rows.moments, rows.epochs
        present = ~np.isnan(values)
        if not present.all():
            values, moments, epochs = values[present], moments[present], epochs[present]
        if (moments[1:] < moments[:-1]).any():
            order = np.argsort(moments, kind="stable")
            values, moments, epochs = values[order], moments[order], epochs[order]
        last = np.append(moments[1:] > moments[:-1], len(moments) > 0)[: len(moments)]
        if not last.all():
            values, moments, epochs = values[last], moments[last], epochs[last]
        values = _honest(values.astype(float), sign)
        return _Column(moments, epochs, self._in_unit(sign, values))

    def _in_unit(self, sign: str, values: Floats) -> Floats:
        """Accuracies and scores as shares of one."""
        if sign not in SHARES:
            return values
        values = np.where(np.isfinite(values), values, math.nan)
        largest = np.nanmax(values, initial=0.0)
        if self.unit == "percent" or (self.unit == "unknown" and largest > MOST_SHARE):
            values, largest = values / 100, largest / 100
            if self.unit == "unknown":
                self.notes.append(f"{sign} is taken as percent: it goes up to {100 * largest:g}")
        if largest > MOST_SHARE or np.nanmin(values, initial=0.0) < 0:
            self.notes.append(f"{sign} is left out: it goes beyond 0 to 1 and 0 to 100")
            return np.full(len(values), math.nan)
        return values


def _per_epoch(
    sign: str, column: _Column, numbers: Floats, known: Collection[str]
) -> dict[str, Floats]:
    """What one sign says of each epoch; signs of steps also give means and the largest."""
    places = np.searchsorted(numbers, column.epochs)
    if sign == "loss":
        return {} if "train_loss" in known else {"train_loss": _means(places, column, numbers)}
    if sign == "grad_norm":
        largest = np.full(len(numbers), math.nan)
        np.fmax.at(largest, places, column.values)
        return {"mean_grad_norm": _means(places, column, numbers), "max_grad_norm": largest}
    if sign not in EPOCH_SIGNS:
        return {}
    if sign in AVERAGED:
        return {sign: _means(places, column, numbers)}
    found = np.full(len(numbers), math.nan)
    found[places] = column.values
    return {sign: found}


def _epoch_signs(
    rows: _Rows, numbers: Floats, table: Mapping[str, Floats]
) -> tuple[EpochSigns, ...]:
    last_step = np.full(len(numbers), -math.inf)
    known = ~np.isnan(rows.steps)
    np.maximum.at(last_step, np.searchsorted(numbers, rows.epochs[known]), rows.steps[known])
    return tuple(
        EpochSigns(
            epoch=int(number),
            step=int(last_step[place]) if math.isfinite(last_step[place]) else None,
            **{sign: float(values[place]) for sign, values in table.items()},  # type: ignore[arg-type]
        )
        for place, number in enumerate(numbers)
    )


def _step_signs(
    epochs: Sequence[EpochSigns], moments: Floats, table: Mapping[str, Floats]
) -> tuple[StepSigns, ...]:
    at = np.searchsorted([row.step or 0 for row in epochs], moments, side="left")
    return tuple(
        StepSigns(
            step=int(moment),
            epoch=epochs[min(int(at[place]), len(epochs) - 1)].epoch,
            **{sign: float(values[place]) for sign, values in table.items()},  # type: ignore[arg-type]
        )
        for place, moment in enumerate(moments)
    )


def _is_repeated(place: int, clock: Floats, columns: Sequence[Any]) -> bool:
    """Whether a row says again, at the same time, what an earlier row has said."""
    same = np.flatnonzero(clock[:place] == clock[place])
    return any(
        not np.isnan(column[place]) and not np.isnan(column[same]).all()
        for column in columns
        if len(same)
    )


def _global(epochs: Floats, steps: Floats) -> Floats:
    """Steps of the whole run, where they were counted anew in each epoch."""
    counted: Floats = steps + (epochs - epochs.min()) * (steps.max() - steps.min() + 1)
    return counted


def _honest(values: Floats, sign: str) -> Floats:
    """Recorded NaNs as what they mean.

    A loss or a gradient norm that was NaN is measured, and as bad as can be: it becomes infinite,
    because NaN means "not measured" in a record. In other columns, and where it comes and goes, NaN
    is how a tool writes "nothing".
    """
    broken = values == np.float32(SPELLED_NAN)
    broken |= values == SPELLED_NAN
    if not broken.any():
        return values
    whole = np.flatnonzero(np.isfinite(values) & ~broken)
    after = np.arange(len(values)) > (whole[-1] if len(whole) else -1)
    bad = sign.endswith("loss") or sign.endswith("grad_norm")
    meant = broken & (after | (broken.mean() <= RARE)) if bad else np.zeros_like(broken)
    return np.where(meant, math.inf, np.where(broken, math.nan, values))


def _means(places: npt.NDArray[np.intp], column: _Column, numbers: Floats) -> Floats:
    """Mean of the finite values of each epoch; infinite where most of them are not finite."""
    finite, count = np.isfinite(column.values), len(numbers)
    sums = np.bincount(places, np.where(finite, column.values, 0), minlength=count)
    good = np.bincount(places[finite], minlength=count)
    worst = np.where(np.isin(np.arange(count), places[column.values == math.inf]), 1, -1) * math.inf
    bad = np.bincount(places[np.isinf(column.values)], minlength=count)
    means = np.divide(sums, good, out=np.full(count, math.nan), where=good > 0)
    return np.where(bad > good, worst, means)


def _sampled(rows: _Rows, epochs: int) -> Floats:
    """Moments of the steps to keep: the first, an even sample, and such with infinite values.

    None where no more is known than one row per epoch.
    """
    present = {
        sign: ~np.isnan(values)
        for sign, values in rows.values.items()
        if sign in (*OF_STEPS, "train_loss") and not np.isnan(rows.steps).any()
    }
    fullest = max(present.values(), key=np.count_nonzero, default=np.zeros(0, dtype=bool))
    moments = np.unique(rows.moments[fullest]) if len(fullest) else np.zeros(0)
    if len(moments) <= epochs:
        return np.zeros(0)
    broken = [_broken_moments(rows, sign) for sign in present]
    room = MOST_STEPS - len(broken) * MOST_NON_FINITE
    return np.unique(np.concatenate([evenly(moments, room), *broken]))


def _broken_moments(rows: _Rows, sign: str) -> Floats:
    values = rows.values[sign]
    broken = np.isinf(values) | (values < SPELLED_NAN / 2)
    return rows.moments[np.flatnonzero(broken)[:MOST_NON_FINITE]]


def _at(column: _Column, moments: Floats) -> Floats:
    """Values at some moments, NaN where not measured then."""
    if not len(column.moments):
        return np.full(len(moments), math.nan)
    places = np.minimum(np.searchsorted(column.moments, moments), len(column.moments) - 1)
    return np.where(column.moments[places] == moments, column.values[places], math.nan)
