"""What every peer is told on its command line."""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import nn


@dataclass(frozen=True)
class Job:
    """One training, as asked for.

    Attributes:
        data: Folder with train, val and test, each with a folder per class.
        model: A timm name.
        weights: A file; None: random.
        imgsz: Pixels across and down.
        batch: Images per step.
        epochs: Of each phase.
        seed: Of everything random.
        workers: Processes that read images.
        max_batches: Of an epoch; None: all. With a bound nothing is judged.
        log: Where the lines go.
        out: Folder for what the peer itself writes.
    """

    data: Path
    model: str
    weights: Path | None
    imgsz: int
    batch: int
    epochs: list[int]
    seed: int
    workers: int
    max_batches: int | None
    log: Path
    out: Path

    @property
    def classes(self) -> int:
        """How many there are."""
        return sum(folder.is_dir() for folder in (self.data / "train").iterdir())

    @property
    def starting_weights(self) -> dict[str, Any]:
        """As ``timm.create_model`` takes them."""
        if self.weights is None:
            return {"pretrained": False}
        return {"pretrained": True, "pretrained_cfg_overlay": {"file": str(self.weights)}}


def read_job() -> Job:
    """The job of this process; seeds it and sets its threads to one."""
    parser = argparse.ArgumentParser()
    for name in ("data", "log", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--imgsz", type=int, required=True)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--epochs", type=int, nargs="+", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--max-batches", type=int)
    job = Job(**vars(parser.parse_args()))
    torch.set_num_threads(1)
    random.seed(job.seed)
    np.random.seed(job.seed)  # fastai draws from this one
    torch.manual_seed(job.seed)
    return job


def create_model(job: Job) -> nn.Module:
    """The backbone with its weights and the head that timm gives it."""
    model: nn.Module = timm.create_model(job.model, num_classes=job.classes, **job.starting_weights)
    return model


def predict(model: nn.Module, loader: Any) -> tuple[Any, Any]:
    """Labels and predicted classes, [N] each, of all images of a loader."""
    model.eval()
    labels, predicted = [], []
    with torch.inference_mode():
        for images, targets in loader:
            predicted.append(model(images).argmax(dim=1).numpy())
            labels.append(np.asarray(targets))
    return np.concatenate(labels), np.concatenate(predicted)
