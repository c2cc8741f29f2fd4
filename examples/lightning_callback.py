"""Vital signs of a Lightning training, as a callback: ``Trainer(callbacks=[VitalSigns(...)])``.

Where ``validation_step`` returns ``{"labels": ..., "logits": ...}``, validation is on record, too.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from espalier import Vitals


class VitalSigns(Callback):
    """Takes what ``Vitals`` takes behind the optimizer."""

    def __init__(self, folder: str, **known: Any) -> None:
        self.folder, self.known = folder, known
        self.judged: list[tuple[torch.Tensor, torch.Tensor]] = []

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Begin the record."""
        known = {"epochs": trainer.max_epochs, **self.known}
        self.vitals = Vitals(module, trainer.optimizers[0], self.folder, **known)

    def on_before_backward(self, trainer: Trainer, module: LightningModule, loss: Any) -> None:
        """Keep the loss; Lightning divides it by the batches that it accumulates."""
        self.loss = loss.detach() * trainer.accumulate_grad_batches

    def on_before_optimizer_step(self, trainer: Trainer, module: Any, optimizer: Any) -> None:
        """Gradients are whole, and not clipped yet."""
        self.vitals.step(self.loss)

    def on_validation_batch_end(
        self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int, *more: Any
    ) -> None:
        """Keep what the module says of a batch."""
        if isinstance(outputs, dict) and "logits" in outputs and not trainer.sanity_checking:
            self.judged.append((outputs["labels"].cpu(), outputs["logits"].float().cpu()))

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Validation lies behind."""
        columns = [torch.cat(column) for column in zip(*self.judged, strict=True)]
        self.vitals.epoch(val=tuple(columns) if columns else None)
        self.judged = []

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """The run is finished."""
        self.vitals.close()

    def on_exception(self, trainer: Trainer, module: Any, exception: BaseException) -> None:
        """The run died."""
        self.vitals.close("died", repr(exception))
