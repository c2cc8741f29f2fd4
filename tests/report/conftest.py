"""Made-up runs for the tests of pictures and tables."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from espalier.records import EpochRow, History, StageSpan

MakeRun = Callable[..., History]


def made_up_row(epoch: int, stage: str, index: int, **changes: object) -> EpochRow:
    """A plausible epoch; ``changes`` replace fields."""
    rise = 1 - math.exp(-epoch / 8)
    values: dict[str, object] = {
        "stage": stage,
        "stage_index": index,
        "epoch": epoch,
        "step": 100 * epoch,
        "learning_rate": 1e-3 / epoch,
        "backbone_learning_rate": 0.0 if index == 0 else 1e-4 / epoch,
        "train_loss": 2.5 - rise,
        "train_accuracy": 0.8 * rise,
        "probe_loss": 2.2 - 2 * rise,
        "probe_accuracy": 0.93 * rise,
        "val_loss": 2.3 - 2 * rise,
        "val_accuracy": 0.9 * rise,
        "val_macro_f1": 0.88 * rise,
        "mean_grad_norm": 1.0,
        "min_grad_norm": 0.5,
        "max_grad_norm": 2.0,
        "mean_update_norm": 1e-3,
        "batches": 100,
        "seconds": 30.0,
        "best": True,
    }
    return EpochRow(**(values | changes))  # type: ignore[arg-type]


@pytest.fixture
def make_run() -> MakeRun:
    """Makes a run of so many epochs and stages of equal length."""

    def make(epochs: int, stages: int = 1, name: str = "seedlings", **changes: object) -> History:
        length = math.ceil(epochs / stages)
        spans = tuple(
            StageSpan(f"stage-{i}", i * length + 1, (i + 1) * length, warmup_epochs=float(i))
            for i in range(stages)
        )
        rows = []
        for epoch in range(1, epochs + 1):
            index = (epoch - 1) // length
            rows.append(made_up_row(epoch, f"stage-{index}", index, **changes))
        return History(tuple(rows), spans, name, {"model": "mobilenetv2_100", "preset": ""})

    return make
