"""A loss that is not finite stops the run, before broken weights reach a checkpoint."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from espalier.errors import NonFiniteLossError
from espalier.train.job import Job
from espalier.train.session import Session
from espalier.train.state import State


def check_finite(job: Job, session: Session, state: State) -> None:
    """Look at every step since the last look, with one read from the device.

    Raises:
        NonFiniteLossError: A loss or a gradient norm is NaN or infinite; names the first such step.
    """
    held, state.totals.unchecked = state.totals.unchecked, []
    if not held:
        return
    figures = torch.stack([torch.stack((loss, norm)) for _, loss, norm in held])
    for (step, _, _), (loss, norm) in zip(held, figures.tolist(), strict=True):
        if not math.isfinite(loss):
            raise non_finite(job, session, state, f"the loss is {loss} at step {step}")
        # A loss scaler looks for the scale that just fits: its steps with infinite norms are left
        # out, and are no fault.
        if not math.isfinite(norm) and not has_scaler(job):
            raise non_finite(job, session, state, f"the gradient norm is {norm} at step {step}")


def check_judged(job: Job, session: Session, state: State, probe_loss: float) -> None:
    """Refuse an epoch whose weights give no finite loss on images that were trained on.

    Raises:
        NonFiniteLossError: The weights broke in the last step, which no later loss tells.
    """
    if not math.isfinite(probe_loss):
        text = f"the loss on training images is {probe_loss} after step {state.step}"
        raise non_finite(job, session, state, text)


def remember(state: State, loss: Tensor, norm: Tensor) -> None:
    """Keep the figures of the step under way on the device, for the next look."""
    # As everywhere, the step counts what is finished: this one is the state's next.
    state.totals.unchecked.append((state.step + 1, loss, norm.to(loss)))


def has_scaler(job: Job) -> bool:
    """Whether the loss is scaled, as under fp16."""
    return getattr(job.fabric.strategy.precision, "scaler", None) is not None


def non_finite(job: Job, session: Session, state: State, what: str) -> NonFiniteLossError:
    """The error, with the rate it happened at and what to look at."""
    groups = session.optimizer.param_groups
    rate, peak = (max(float(group[key]) for group in groups) for key in ("lr", "peak_lr"))
    kept = [path for path in (job.run.last, job.run.best) if path.exists()]
    return NonFiniteLossError(
        f"{what} (epoch {state.epoch + 1}, stage {session.stage.name}), learning rate "
        f"{rate:.3g}. The last good checkpoint is {kept[0] if kept else 'not kept'}",
        hint=f"a lower rate (lr={peak / 10:.2g}) or --precision fp32; "
        f"look at grad_norm in {job.run.steps_file}",
    )
