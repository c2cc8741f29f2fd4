"""A trained classifier, ready to classify: rebuilt from a run with its own preprocessing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch

from espalier.data.loader import Loader
from espalier.data.store_choice import side_for
from espalier.data.transforms import transform_for
from espalier.errors import ModelError
from espalier.models.checkpoints import load_checkpoint, rebuild_model, recipe_of
from espalier.models.grouped import keep_grouped_in_fp32
from espalier.models.inference import (
    Normalizer,
    judging_batch,
    keep_freed_memory,
    memory_format,
    predict_logits,
)
from espalier.records import Predictions, Sample
from espalier.runs import RunDir, find_run


class Predictor:
    """Classifies samples with the best weights of a run (the last ones where no best is kept).

    Args:
        run: A run folder, or a checkpoint file.
        device: ``auto``, ``cpu``, ``cuda`` ...; ``auto`` takes the best that is here.

    Attributes:
        classes: The label mapping.
        imgsz: Pixels across and down at which the weights were judged.
        notes: What a person should know of an old checkpoint; mostly empty.

    Raises:
        RunError: There is no such run, or it has no checkpoint yet.
        CheckpointError: The checkpoint is damaged, unsafe, or no checkpoint of Espalier's.
    """

    def __init__(self, run: RunDir | Path | str, device: str = "auto") -> None:
        keep_freed_memory()
        checkpoint = load_checkpoint(checkpoint_of(run))
        self.recipe = recipe_of(checkpoint)
        self.classes: tuple[str, ...] = tuple(checkpoint["classes"])
        self.notes: tuple[str, ...] = tuple(checkpoint["notes"])
        self.device = choose_device(device)
        self.model = rebuild_model(checkpoint).eval()
        keep_grouped_in_fp32(self.model, self.recipe.training.grouped_fp32 is True)
        adjustment = checkpoint.get("adjustment", {})
        if head := adjustment.get("head"):
            self.model.head.load_state_dict(head)
        # Added to the logits, in favour of rare classes; chosen on validation after training.
        self.bias = np.array(adjustment.get("bias", 0.0), dtype=np.float32)
        # The weights are used at the resolution of the stage that they come from.
        self.imgsz = self.model.imgsz
        self.channels_last = cast(bool, self.recipe.training.channels_last)
        self.model.to(self.device, memory_format=memory_format(self.channels_last))  # type: ignore[call-overload]
        self.normalizer = Normalizer(
            cast(Sequence[float], self.recipe.data.mean),
            cast(Sequence[float], self.recipe.data.std),
        ).to(self.device)

    def predict(self, samples: Sequence[Sample]) -> Predictions:
        """Logits for every sample, in their order; samples without a known label get -1."""
        index = {name: i for i, name in enumerate(self.classes)}
        loader = Loader(
            samples,
            index,
            transform_for("test", self.recipe, self.imgsz),
            batch=judging_batch(self.imgsz),
            workers=cast(int, self.recipe.data.workers),
            seed=0,
            side=side_for(self.recipe),
        )
        if not samples:
            logits = np.empty((0, len(self.classes)), dtype=np.float32)
        else:
            logits = predict_logits(
                self.model,
                loader.in_order(),
                len(samples),
                normalizer=self.normalizer,
                device=self.device,
                precision=self.recipe.training.precision,
                channels_last=self.channels_last,
            )
            logits = logits + self.bias
        return Predictions(
            tuple(sample.sample_id for sample in samples),
            tuple(sample.path for sample in samples),
            np.array([index.get(s.label or "", -1) for s in samples], dtype=np.int64),
            logits,
            self.classes,
        )


def checkpoint_of(run: RunDir | Path | str) -> Path:
    """The checkpoint to predict with: the file itself, else the run's best, else its last."""
    if not isinstance(run, RunDir):
        if Path(run).is_file():
            return Path(run)
        run = find_run(run)
    return run.best if run.best.exists() else run.require(run.last)


def choose_device(wanted: str) -> torch.device:
    """The device by name; ``auto`` is CUDA, else Apple's, else the CPU.

    Raises:
        ModelError: The device is not on this machine.
    """
    have = ["cpu"]
    if torch.backends.mps.is_available():
        have = ["mps", "mps:0", *have]
    if torch.cuda.is_available():
        have = ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count())), *have]
    if wanted == "auto":
        return torch.device(have[0])
    if wanted not in have:
        raise ModelError(
            f"device {wanted!r} is not on this machine, which has {', '.join(have)}",
            hint="--device auto",
        )
    return torch.device(wanted)
