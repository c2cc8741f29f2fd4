"""Vital signs of a step: gradients before clipping, and how far each part really moved.

Read from ``parameter.grad`` and the parameters themselves, never through hooks, and from the
device only at sampled steps: norms by ``torch._foreach_norm`` cost 0.1-0.6 % of a step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

EVERY_STEP_UNTIL = 20
PartFigures = dict[str, dict[str, Any]]


class StepGauge:
    """Measures one optimizer step in every ``every``, and each of the first 20.

    Args:
        parts: Part name -> its parameters, in forward order; those that do not learn are passed
            over.
        every: Steps between two measurements.
    """

    def __init__(self, parts: Mapping[str, Sequence[Tensor]], every: int) -> None:
        self.parts = {name: list(tensors) for name, tensors in parts.items() if tensors}
        self.every = every
        self._learning: dict[str, list[Tensor]] = {}
        self._before: dict[str, list[Tensor]] = {}
        self._figures: dict[str, Tensor] = {}
        self._has_grad: dict[str, bool] = {}
        self._earlier: tuple[int, list[Tensor]] | None = None
        self._cosine: Tensor | None = None

    def due(self, step: int) -> bool:
        """Whether the step with this global number, from 0, is measured."""
        return step < EVERY_STEP_UNTIL or step % self.every == 0

    @torch.no_grad()
    def before_step(self, step: int = EVERY_STEP_UNTIL) -> None:
        """Keep the weights and the figures of the true gradients, before these are clipped.

        Args:
            step: Its global number, from 0. Only of the first 20 are gradients kept, to compare
                each with the one before.
        """
        learning = {n: [t for t in ts if t.requires_grad] for n, ts in self.parts.items()}
        self._learning = {name: tensors for name, tensors in learning.items() if tensors}
        self._has_grad = {n: all(t.grad is not None for t in ts) for n, ts in learning.items()}
        self._before = {n: [t.detach().clone() for t in ts] for n, ts in self._learning.items()}
        self._figures = {name: gradient_figures(ts) for name, ts in self._learning.items()}
        self._compare(step)

    def _compare(self, step: int) -> None:
        """The cosine with the gradient of the step right before, where that was kept."""
        self._cosine, earlier = None, self._earlier
        self._earlier = None
        if step >= EVERY_STEP_UNTIL:
            return
        grads = [t.grad for ts in self._learning.values() for t in ts if t.grad is not None]
        here = [dense(grad).detach().clone() for grad in grads]
        if earlier is not None and earlier[0] == step - 1:
            self._cosine = cosine(earlier[1], here)
        self._earlier = (step, here)

    @torch.no_grad()
    def after_step(self) -> tuple[PartFigures, float, float]:
        """Per part its figures, the norm of the whole update, and the cosine of the gradients.

        Figures are ``grad_norm``, ``update_ratio``, ``zero_share``, ``changed`` and ``has_grad``.
        ``update_ratio`` is the median over the part's weight tensors of norm(change) /
        norm(weight before): about 1e-3 is usual, 0 means that it did not move. The cosine is that
        with the gradients of the step before; NaN where these were not kept.
        """
        held = [
            torch.cat((self._figures[name], movement(tensors, self._before[name])))
            for name, tensors in self._learning.items()
        ]
        if not held:
            return {}, 0.0, math.nan
        place = held[0].device
        compared = torch.full((1,), math.nan) if self._cosine is None else self._cosine.reshape(1)
        # Everything in one read from the device.
        values = torch.cat([compared.to(place), *(part.to(place) for part in held)]).tolist()
        found: PartFigures = {}
        moved = []
        for place_of, name in enumerate(self._learning):
            norm, zeros, ratio, change = values[1 + 4 * place_of : 5 + 4 * place_of]
            moved.append(change)
            found[name] = {
                "grad_norm": norm,
                "update_ratio": ratio,
                "zero_share": zeros,
                "changed": change != 0,
                "has_grad": self._has_grad[name],
            }
        self._before, self._figures = {}, {}
        return found, math.hypot(*moved), values[0]


def dense(grad: Tensor) -> Tensor:
    """The stored values of a gradient that may be sparse."""
    return grad.coalesce().values() if grad.is_sparse else grad


def gradient_figures(tensors: Sequence[Tensor]) -> Tensor:
    """Norm of the gradients, and the share of their elements that are exactly 0 [2]."""
    place = tensors[0].device
    grads = [dense(t.grad).to(place) for t in tensors if t.grad is not None]
    elements = sum(grad.numel() for grad in grads)
    if not elements:
        return torch.tensor([0.0, math.nan], device=place)
    filled = torch.stack([torch.count_nonzero(grad) for grad in grads]).sum()
    return torch.stack((total_norm(grads).float(), 1 - filled.float() / elements))


def movement(tensors: Sequence[Tensor], before: Sequence[Tensor]) -> Tensor:
    """Median over weight tensors of norm(change) / norm(before), and norm of the change [2]."""
    place = tensors[0].device
    delta = torch._foreach_sub([t.detach() for t in tensors], list(before))
    moved = torch.stack([norm.to(place) for norm in torch._foreach_norm(delta)]).float()
    size = torch.stack([norm.to(place) for norm in torch._foreach_norm(list(before))]).float()
    weights = [index for index, t in enumerate(tensors) if t.ndim > 1]
    chosen = weights or list(range(len(tensors)))
    ratio = (moved / size.clamp_min(1e-12))[chosen].median()
    return torch.stack((ratio, moved.norm()))


def cosine(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """Cosine of the angle between two lists of gradients; NaN where their shapes differ."""
    if [t.shape for t in first] != [t.shape for t in second] or not first:
        return torch.tensor(math.nan)
    place = first[0].device
    products = [(a * b).sum().to(place) for a, b in zip(first, second, strict=True)]
    scale = total_norm(first) * total_norm(second)
    # Without gradients there is no angle: 0 / 0 is NaN, as it should be.
    return torch.stack(products).sum() / scale


def total_norm(tensors: Sequence[Tensor | None]) -> Tensor:
    """Euclidean norm over all elements of all tensors, as a scalar on their device; 0 of none."""
    present = [dense(tensor) for tensor in tensors if tensor is not None]
    if not present:
        return torch.zeros(())
    norms = [norm.to(present[0].device) for norm in torch._foreach_norm(present)]
    norm: Tensor = torch.stack(norms).norm()
    return norm


def label_entropy(labels: Tensor) -> float:
    """Entropy in nats of the classes in a batch; soft labels [B, K] count with their shares."""
    if labels.ndim == 2:
        shares = labels.detach().float().mean(dim=0)
    else:
        shares = torch.bincount(labels.detach().flatten().clamp_min(0)).float() / labels.numel()
    return float(torch.special.entr(shares).sum())


def step_row(
    *,
    step: int,
    stage: str,
    epoch: int,
    loss: float,
    rate: float,
    norm: float,
    clip: float | None,
    entropy: float = math.nan,
    cosine: float = math.nan,
    scale: float = math.nan,
    skipped: bool | None = None,
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
        "scale": scale,
        "skipped": skipped,
        "label_entropy": entropy,
        "cosine": cosine,
    }
