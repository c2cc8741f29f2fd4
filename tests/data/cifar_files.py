"""Writes data sets in CIFAR's own format: pickled batches that torchvision accepts."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torchvision.datasets

from espalier.data import torchvision_sets

NAMES = ["cat", "ship", "old oak"]


def write_cifar10(
    root: Path, monkeypatch: pytest.MonkeyPatch, *, train: int = 9, test: int = 6
) -> dict[str, npt.NDArray[np.uint8]]:
    """Small CIFAR-10 files of three classes, with the check sums torchvision will ask for.

    Returns:
        Pixels [N, 32, 32, 3] of ``train`` and ``test``; image i has class i % 3.
    """
    rng = np.random.default_rng(7)
    pixels = {
        part: rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        for part, count in (("train", train), ("test", test))
    }
    folder = root / torchvision.datasets.CIFAR10.base_folder
    folder.mkdir(parents=True)
    train_sum = _write(folder / "data_batch_1", _batch(pixels["train"]))
    test_sum = _write(folder / "test_batch", _batch(pixels["test"]))
    meta_sum = _write(folder / "batches.meta", {"label_names": NAMES})
    meta = {"filename": "batches.meta", "key": "label_names", "md5": meta_sum}
    kind = torchvision.datasets.CIFAR10
    monkeypatch.setattr(kind, "train_list", [["data_batch_1", train_sum]])
    monkeypatch.setattr(kind, "test_list", [["test_batch", test_sum]])
    monkeypatch.setattr(kind, "meta", meta)
    monkeypatch.setattr(torchvision_sets, "_roots", {})
    return pixels


def _batch(pixels: npt.NDArray[np.uint8]) -> dict[str, object]:
    planes = pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)
    return {"data": planes, "labels": [index % 3 for index in range(len(pixels))]}


def _write(path: Path, content: object) -> str:
    data = pickle.dumps(content)
    path.write_bytes(data)
    return hashlib.md5(data).hexdigest()
