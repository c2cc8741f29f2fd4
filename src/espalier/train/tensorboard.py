"""TensorBoard event files, for those who asked for them (``espalier[logs]``)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from espalier.errors import RecipeError
from espalier.records import EpochRow, History
from espalier.train.watch import Unwatched


def require_tensorboard() -> None:
    """Raise before a run folder is made where TensorBoard is wanted but not installed.

    Raises:
        RecipeError: The package is missing.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise RecipeError(
            "logging.tensorboard is on, but the package tensorboard is not installed",
            hint="pip install 'espalier[logs]', or --set logging.tensorboard=false",
        )


class TensorBoardWatch(Unwatched):
    """Writes losses, accuracies, macro-F1 and learning rates, one point per epoch.

    The x-axis is the global optimizer step.
    """

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder))

    def on_epoch(self, row: EpochRow, history: History) -> None:
        """Write the epoch, and flush it so that a page shows it at once."""
        points = {
            "loss/train": row.train_loss,
            "loss/train_clean": row.probe_loss,
            "loss/val": row.val_loss,
            "accuracy/train": row.train_accuracy,
            "accuracy/train_clean": row.probe_accuracy,
            "accuracy/val": row.val_accuracy,
            "macro_f1/val": row.val_macro_f1,
            "learning_rate/head": row.learning_rate,
            "learning_rate/backbone": row.backbone_learning_rate,
            "grad_norm/mean": row.mean_grad_norm,
        }
        for name, value in points.items():
            self.writer.add_scalar(name, value, row.step)
        self.writer.flush()
