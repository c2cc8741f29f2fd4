"""A measured step of anybody's loop on its way: from ``vitals.step`` to the optimizer's own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from espalier.errors import RunError
from espalier.vitals.steps import PartFigures, label_entropy, total_norm

# Less than this share of a norm is rounding, and no clipping.
CLIPPED = 1e-3


def misplaced(what: str) -> RunError:
    """The error of a call at the wrong place."""
    return RunError(
        f"{what}: vitals.step(loss) belongs between loss.backward() and optimizer.step()",
        hint="loss.backward(); vitals.step(loss, labels); optimizer.step()",
    )


@dataclass
class OpenStep:
    """What is known of a step before its optimizer has stepped.

    Attributes:
        loss: On the device.
        entropy: Of the labels, in nats.
        scale: Of the loss; NaN without a scaler.
        divisor: What gradients must be divided by to be true when the step was opened.
        empty: Whether no gradient was there at all.
        rate: Of the head.
        norm: Of the gradients that the optimizer would get, unscaled; NaN where there are none yet.
        stepped_norm: Of the gradients that the optimizer got.
    """

    loss: Tensor
    entropy: float
    scale: float
    divisor: float
    empty: bool
    rate: float
    norm: float = math.nan
    stepped_norm: float = math.nan

    @classmethod
    def begin(
        cls, loss: Tensor, labels: Tensor | None, scaler: Any, optimizer: Any, *, rate: float
    ) -> OpenStep:
        """Open a step whose gradients are fresh."""
        scale = float(scaler.get_scale()) if scaler is not None else math.nan
        scaled = scaler is not None and not is_unscaled(scaler, optimizer)
        divisor = scale if scaled else 1.0
        grads = [p.grad for p in parameters_of(optimizer) if p.grad is not None]
        return cls(
            loss=loss,
            entropy=math.nan if labels is None else label_entropy(labels),
            scale=scale,
            divisor=divisor,
            rate=rate,
            empty=not grads,
            norm=float(total_norm(grads)) / divisor if grads else math.nan,
        )

    def stepping(self, optimizer: Any) -> None:
        """The optimizer begins its step: look at the gradients that it got.

        Raises:
            RunError: There are gradients now, and there were none.
        """
        grads = [p.grad for p in parameters_of(optimizer)]
        if self.empty and any(grad is not None for grad in grads):
            raise misplaced("there were no gradients yet when vitals.step(loss) was called")
        # Optimizers that unscale by themselves get scaled gradients, and the scale beside them.
        own_scale = getattr(optimizer, "grad_scale", None)
        self.stepped_norm = float(total_norm(grads)) / (float(own_scale) if own_scale else 1.0)

    def stepped(self, optimizer: Any) -> None:
        """The optimizer has stepped: with a closure, gradients were made only in between."""
        if math.isnan(self.stepped_norm):
            self.stepped_norm = float(total_norm([p.grad for p in parameters_of(optimizer)]))

    def row(
        self, parts: PartFigures, update: float, angle: float, *, stepped: bool
    ) -> dict[str, Any]:
        """Its fields of a row of ``steps.jsonl``."""
        for figures in parts.values():
            figures["grad_norm"] /= self.divisor
        norm = math.hypot(*(figures["grad_norm"] for figures in parts.values()))
        # What no optimizer holds has gradients as well, and is clipped by nobody.
        whole = norm if math.isnan(self.norm) else self.norm
        known = stepped and math.isfinite(self.stepped_norm) and math.isfinite(whole)
        has_scaler = not math.isnan(self.scale)
        return {
            "loss": float(self.loss),
            "learning_rate": self.rate,
            "grad_norm": norm,
            "clipped": self.stepped_norm < whole * (1 - CLIPPED) if known else None,
            "stepped_norm": self.stepped_norm,
            "scale": self.scale,
            "skipped": (not stepped) if has_scaler else None,
            "label_entropy": self.entropy,
            "cosine": angle,
            "parts": parts,
            "update_norm": update,
        }


def parameters_of(optimizer: Any) -> list[Tensor]:
    """All that it steps."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def is_unscaled(scaler: Any, optimizer: Any) -> bool:
    """Whether the loop has unscaled the gradients of this step already."""
    states = getattr(scaler, "_per_optimizer_states", {})
    # Asked of a copy: looking into the scaler's own would make an entry.
    stage = dict(states).get(id(optimizer), {}).get("stage")
    return getattr(stage, "name", "") == "UNSCALED"
