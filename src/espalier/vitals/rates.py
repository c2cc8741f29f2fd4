"""The rates that a torch scheduler will give, found by stepping a copy of it beforehand."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, Literal

from espalier.vitals.steps import EVERY_STEP_UNTIL

Rates = tuple[tuple[int, float], ...]
MOST_POINTS = 200


def sampled_steps(steps: int, every: int) -> list[int]:
    """Up to about 200 of the first ``steps`` steps, from 0, all of which are measured."""
    first = list(range(min(steps, EVERY_STEP_UNTIL)))
    later = [step for step in range(EVERY_STEP_UNTIL, steps) if step % every == 0]
    thinned = later[:: max(1, len(later) // MOST_POINTS)]
    return first + thinned


def rates_at(plan: Callable[[int], float] | Sequence[float], steps: int, every: int) -> Rates:
    """(step, rate), with steps counted from 1 as in ``steps.jsonl``.

    Args:
        plan: Rate of each step from 0, as a function or a list.
        steps: How many there are.
        every: Steps between two measured ones.
    """
    if callable(plan):
        return tuple((s + 1, float(plan(s))) for s in sampled_steps(steps, every))
    known = min(steps, len(plan))
    return tuple((s + 1, float(plan[s])) for s in sampled_steps(known, every))


def scheduled_rates(
    scheduler: Any, interval: Literal["step", "epoch"], steps: int, steps_per_epoch: int, every: int
) -> Rates | None:
    """What a torch scheduler will give the fastest group; None where nobody can know (plateau).

    Args:
        scheduler: Not stepped, nor is its optimizer touched.
        interval: What it is stepped after.
        steps: Optimizer steps of the run.
        steps_per_epoch: Of them, in an epoch.
        every: Steps between two measured ones.
    """
    if "Plateau" in type(scheduler).__name__:
        return None
    stand_in = _stand_in(scheduler.optimizer)
    twin = _twin(scheduler, stand_in)
    found: list[float] = []
    try:
        # Of its warnings none is about the loop that this stands for.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for step in range(steps):
                found.append(max(float(group["lr"]) for group in stand_in.param_groups))
                if interval == "step" or (step + 1) % steps_per_epoch == 0:
                    twin.step()
    except (ValueError, TypeError, AttributeError, KeyError):
        # OneCycleLR refuses steps beyond its end; others may need what a stand-in has not.
        pass
    return rates_at(found, len(found), every)


def _stand_in(optimizer: Any) -> Any:
    def step() -> None:
        """Nothing moves."""

    # torch asks these of an optimizer whose order of calls it checks.
    step._wrapped_by_lr_sched = True  # type: ignore[attr-defined]
    groups = [
        {key: copy.copy(value) for key, value in group.items() if key != "params"}
        for group in optimizer.param_groups
    ]
    return SimpleNamespace(
        param_groups=groups, step=step, defaults=optimizer.defaults, _opt_called=True
    )


def _twin(scheduler: Any, optimizer: Any) -> Any:
    """A copy that steps another optimizer; schedulers inside it are copied as well."""
    twin = copy.copy(scheduler)
    twin.__dict__ = {k: copy.copy(v) for k, v in vars(scheduler).items() if k != "optimizer"}
    twin.optimizer = optimizer
    if "_schedulers" in vars(twin):
        twin._schedulers = [_twin(inner, optimizer) for inner in scheduler._schedulers]
    return twin
