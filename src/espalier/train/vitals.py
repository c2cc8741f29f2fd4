"""Vital signs of a step: gradient norms before clipping and how far each part really moved.

Read from ``parameter.grad`` and the parameters themselves, never through hooks, and from the
device only at sampled steps: norms by ``torch._foreach_norm`` cost 0.1-0.6 % of a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

EVERY_STEP_UNTIL = 20


class Vitals:
    """Measures one optimizer step in every ``every``, and each of the first 20.

    Args:
        parts: Part name -> its trainable parameters, in forward order.
        every: Steps between two measurements.
    """

    def __init__(self, parts: Mapping[str, Sequence[Tensor]], every: int) -> None:
        self.parts = {name: list(tensors) for name, tensors in parts.items() if tensors}
        self.every = every
        self._before: dict[str, list[Tensor]] = {}
        self._grads: dict[str, Tensor] = {}

    def due(self, step: int) -> bool:
        """Whether the step with this global number is measured."""
        return step < EVERY_STEP_UNTIL or step % self.every == 0

    @torch.no_grad()
    def before_step(self) -> None:
        """Keep the weights and the norms of the true gradients, before these are clipped."""
        self._before = {
            name: [tensor.detach().clone() for tensor in tensors]
            for name, tensors in self.parts.items()
        }
        self._grads = {
            name: total_norm([t.grad for t in tensors]).to(tensors[0].device)
            for name, tensors in self.parts.items()
        }

    @torch.no_grad()
    def after_step(self) -> tuple[dict[str, dict[str, float]], float]:
        """Per part ``{"grad_norm", "update_ratio"}``, and the norm of the whole update.

        ``update_ratio`` is the median over the part's weight tensors of norm(change) /
        norm(weight before): about 1e-3 is usual, 0 means that it did not move.
        """
        found: dict[str, dict[str, float]] = {}
        changes: list[Tensor] = []
        for name, tensors in self.parts.items():
            before = self._before[name]
            delta = torch._foreach_sub([t.detach() for t in tensors], before)
            moved = torch.stack(list(torch._foreach_norm(delta)))
            size = torch.stack(list(torch._foreach_norm(before)))
            weights = torch.tensor([t.ndim > 1 for t in tensors], device=moved.device)
            chosen = weights if bool(weights.any()) else torch.ones_like(weights)
            ratio = (moved / size.clamp_min(1e-12))[chosen].median()
            values = torch.stack([self._grads[name], ratio]).tolist()
            found[name] = {"grad_norm": values[0], "update_ratio": values[1]}
            changes.append(moved.norm())
        self._before, self._grads = {}, {}
        return found, float(torch.stack(changes).norm())


def total_norm(tensors: Sequence[Tensor | None]) -> Tensor:
    """Euclidean norm over all elements of all tensors, as a scalar on their device; 0 of none."""
    present = [tensor for tensor in tensors if tensor is not None]
    if not present:
        return torch.zeros(())
    norm: Tensor = torch.stack(list(torch._foreach_norm(present))).norm()
    return norm


def step_row(
    *, step: int, stage: str, epoch: int, loss: float, rate: float, norm: float, clip: float | None
) -> dict[str, Any]:
    """The fields of a row of ``steps.jsonl`` that are the same for every part."""
    return {
        "step": step,
        "epoch": epoch,
        "stage": stage,
        "loss": loss,
        "learning_rate": rate,
        "grad_norm": norm,
        "clipped": clip is not None and norm > clip,
    }
