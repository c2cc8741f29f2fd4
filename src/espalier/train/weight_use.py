"""Whether the loss really used the class weights: its own sums per class, computed once more."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from espalier.recipe.schema import Loss
from espalier.train.losses import build_loss

# Relative; sums of float32 over an epoch differ by 1e-6.
TOLERANCE = 1e-3


class WeightUse:
    """Sums of an epoch, per class: what the loss counted, and what it would count unweighted.

    Kept on the device. With mixed images a loss belongs to no single class, and only the sum over
    all classes is compared.

    Args:
        section: Of the recipe.
        weights: Per class [K], as the recipe wants them.
        counts: Training images per class as drawn [K].
        device: Where logits are.
    """

    def __init__(
        self,
        section: Loss,
        weights: npt.NDArray[np.float64],
        counts: list[float],
        device: torch.device,
    ) -> None:
        self.weights = weights
        self._plain = build_loss(section, class_weights=None, class_counts=counts).to(device)
        self._unweighted = torch.zeros(len(weights), device=device)
        self._counted = torch.zeros(len(weights), device=device)
        self._mixed = False
        self._images = 0

    @property
    def weighted(self) -> bool:
        """Whether the weights differ at all."""
        used = self.weights[self.weights > 0]
        return bool(len(used)) and bool(used.max() > used.min() * (1 + TOLERANCE))

    @torch.no_grad()
    def add(self, logits: Tensor, targets: Tensor, losses: Tensor) -> None:
        """Count a batch.

        Args:
            logits: [B, K].
            targets: Class indices [B], or shares [B, K].
            losses: What the loss gave for each image [B].
        """
        self._images += len(losses)
        if targets.ndim == 2:
            self._mixed = True
            shares = targets.float()
            self._unweighted += (self._plain.of_each_class(logits) * shares).sum(dim=0)
            self._counted[0] += losses.float().sum()
            return
        self._unweighted.index_add_(0, targets, self._plain(logits, targets))
        self._counted.index_add_(0, targets, losses.float())

    def verdict(self) -> dict[str, Any]:
        """Fields of ``checks`` in ``run.json``; ``weights_used`` is None without a verdict."""
        if not self.weighted or not self._images:
            why = "all class weights are alike" if not self.weighted else "no step was taken"
            return {"weights_used": None, "weights_deviation": None, "weights_note": why}
        wanted = self._unweighted.double().cpu().numpy() * self.weights
        counted = self._counted.double().cpu().numpy()
        if self._mixed:
            wanted, counted = wanted.sum(keepdims=True), counted.sum(keepdims=True)
        # A class that costs next to nothing has a relative error of rounding alone.
        scale = np.maximum(wanted, 1e-6 * max(float(wanted.sum()), 1e-12))
        deviation = float((np.abs(counted - wanted) / scale).max())
        used = deviation <= TOLERANCE
        note = (
            f"per class, the loss counted what the class weights ask for, to {deviation:.1e}"
            if used
            else f"the loss does not use the class weights: it is off by up to {deviation:.1%}"
        )
        return {"weights_used": used, "weights_deviation": deviation, "weights_note": note}
