"""The lines of an epoch: what its steps summed up, the probe, and validation."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from espalier.vitals.judged import Judged
from espalier.vitals.network import weight_norm
from espalier.vitals.parts import NormStatistics, drift
from espalier.vitals.probing import ProbeFigures, loss_quantiles


class EpochSums:
    """Sums over the steps of an epoch of anybody's loop; tensors stay on the device."""

    def __init__(self) -> None:
        self.steps = 0
        self._started = time.perf_counter()
        self._loss: Tensor | float = 0.0
        self._labels: list[Tensor] = []
        self._ids: list[Any] = []
        self._norms: list[float] = []
        self._updates: list[float] = []
        self._waited = math.nan

    def add(self, loss: Tensor, labels: Tensor | None, ids: Any) -> None:
        """Count one step."""
        self.steps += 1
        self._loss = self._loss + loss.float()
        # Kept as they are: counting would wait for the device in every step.
        if labels is not None and labels.ndim == 1:
            self._labels.append(labels.detach())
        if ids is not None:
            self._ids.append(ids)

    def measured(self, norm: float, update: float) -> None:
        """Keep the norms of a measured step."""
        self._norms.append(norm)
        self._updates.append(update)

    def wait(self, seconds: float) -> None:
        """Count time without data."""
        self._waited = seconds + (0.0 if math.isnan(self._waited) else self._waited)

    def label_counts(self, classes: int) -> tuple[int, ...] | None:
        """Images per class as far as batches came with class indices."""
        if not self._labels:
            return None
        found = torch.bincount(torch.cat(self._labels).clamp_min(0), minlength=classes)
        return tuple(int(count) for count in found.tolist())

    def _drawn(self) -> int:
        """How many different images there were, as far as batches came with ids."""
        lists = (ids.tolist() if isinstance(ids, Tensor) else ids for ids in self._ids)
        return len({image for ids in lists for image in ids})

    def line(self, images: int | None) -> dict[str, Any]:
        """Their fields of a line of ``train_diagnostics.jsonl``."""
        norms = [norm for norm in self._norms if math.isfinite(norm)]
        return {
            "loss": float(self._loss) / self.steps if self.steps else math.nan,
            "mean_grad_norm": float(np.mean(norms)) if norms else math.nan,
            "min_grad_norm": min(norms, default=math.nan),
            "max_grad_norm": max(norms, default=math.nan),
            "mean_weight_update": float(np.mean(self._updates)) if self._updates else math.nan,
            "batches": self.steps,
            "seconds": time.perf_counter() - self._started,
            "wait_seconds": self._waited,
            "drawn_share": self._drawn() / images if images and self._ids else math.nan,
        }


def probe_fields(found: ProbeFigures | None) -> dict[str, Any]:
    """What the probe gives to a line of ``train_diagnostics.jsonl``."""
    if found is None:
        return {}
    return {
        "clean_loss": found.loss,
        "clean_accuracy": found.accuracy,
        "busy_loss": found.busy_loss,
        "busy_accuracy": found.busy_accuracy,
        "loss_quantiles": loss_quantiles(found.losses),
        "dead": dict(found.dead),
    }


def train_line(
    sums: EpochSums,
    trained: Judged,
    probe: ProbeFigures | None,
    *,
    start_norms: Mapping[str, NormStatistics],
    norms: Mapping[str, NormStatistics],
    learning: Sequence[Tensor],
    images: int | None,
    seconds: float | None,
) -> dict[str, Any]:
    """A line of ``train_diagnostics.jsonl``, but for its place and its rates."""
    line = sums.line(images)
    if not math.isnan(trained.loss):
        line["loss"] = trained.loss
    if seconds is not None:
        line["seconds"] = seconds
    return {
        **line,
        "accuracy": trained.accuracy,
        **probe_fields(probe),
        "weight_norm": weight_norm(learning),
        "drift": drift(start_norms, norms),
    }


def val_line(
    judged: Judged, *, best: bool, ema_accuracy: float, normed: int | None
) -> dict[str, Any]:
    """A line of ``val_diagnostics.jsonl``, but for its place and its rate."""
    return {
        "loss": judged.loss,
        "accuracy": judged.accuracy,
        "macro_f1": judged.macro_f1,
        "best": best,
        "recall": judged.recall,
        "predicted": judged.predicted,
        "ema_accuracy": ema_accuracy,
        "normed_in_validation": normed,
    }
