"""Vital signs of a Hugging Face training: ``VitalTrainer`` in place of ``Trainer``.

A ``TrainerCallback`` never sees the loss of a step, nor gradients before they are clipped: so the
one line that needs them stands behind ``training_step``, and a callback does the rest.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import Trainer, TrainerCallback

from espalier import Vitals


class VitalTrainer(Trainer):
    """A ``Trainer`` that knows ``vital_signs``: the folder, and what ``Vitals`` takes behind it."""

    def __init__(self, *args: Any, vital_signs: tuple[str, dict[str, Any]], **more: Any) -> None:
        super().__init__(*args, **more)
        self.vitals: Vitals | None = None
        self.loss: torch.Tensor | float = 0.0
        self.vital_signs = vital_signs
        self.add_callback(_Epochs(self))

    def training_step(self, model: Any, inputs: Any, *args: Any, **more: Any) -> Any:
        """The step as ever, and its signs where the optimizer steps next."""
        folder, known = self.vital_signs
        if self.vitals is None:
            known = {"forward": lambda images: model(pixel_values=images).logits, **known}
            self.vitals = Vitals(model, self.optimizer, folder, **known)
        loss = super().training_step(model, inputs, *args, **more)
        # Of batches that are accumulated each gives its part, as in the loss that `Trainer` logs.
        self.loss = self.loss + loss
        if self.accelerator.sync_gradients:
            self.vitals.step(self.loss, inputs.get("labels"))
            self.loss = 0.0
        return loss

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, *args: Any, **more: Any
    ) -> Any:
        """The prediction as ever, kept until the evaluation ends."""
        # Also where nobody asked for metrics: without logits there is no confusion matrix.
        loss, logits, labels = super().prediction_step(model, inputs, False, *args, **more)
        if logits is not None and labels is not None:
            self.judged.append((labels.cpu(), logits.float().cpu()))
        return (loss, None, None) if prediction_loss_only else (loss, logits, labels)


class _Epochs(TrainerCallback):
    """Takes the signs of each evaluation."""

    def __init__(self, trainer: VitalTrainer) -> None:
        self.trainer = trainer
        trainer.judged = []

    def on_evaluate(self, *args: Any, **more: Any) -> None:
        trainer = self.trainer
        # An evaluation after training belongs to no epoch.
        if trainer.is_in_train and trainer.vitals is not None and trainer.judged:
            columns = [torch.cat(column) for column in zip(*trainer.judged, strict=True)]
            trainer.vitals.epoch(val=tuple(columns))
        trainer.judged = []

    def on_train_end(self, *args: Any, **more: Any) -> None:
        if self.trainer.vitals is not None:
            self.trainer.vitals.close()
