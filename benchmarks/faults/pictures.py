"""The pictures of the small recipes: digits made hard, and a small set of photographs."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import load_digits
from torch import Tensor

SHARED = Path(os.environ.get("ESPALIER_SHARED", Path(__file__).resolve().parents[3] / "shared"))
PHOTOS = SHARED / "datasets" / "cifar10_small"
DIGIT_SIDE = 16


@dataclass(frozen=True)
class Split:
    """Pictures and their labels: [N, 3, S, S] in [0, 1], and [N]."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: Tensor) -> Split:
        """Some of them, by position."""
        return Split(self.pixels[chosen], self.labels[chosen])

    def joined(self, other: Split) -> Split:
        """These and others."""
        return Split(torch.cat([self.pixels, other.pixels]), torch.cat([self.labels, other.labels]))


@dataclass(frozen=True)
class Pictures:
    """What a recipe trains on, and what the truth is told by."""

    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    elsewhere: Split | None
    mean: tuple[float, ...]
    std: tuple[float, ...]


@cache
def digits() -> Pictures:
    """Handwritten digits, turned, scaled, coloured, with distractors and noise, 16 px.

    ``elsewhere`` is a part of them that only pretraining sees.
    """
    images, labels = load_digits(return_X_y=True)
    rng = np.random.default_rng(20_240)
    order = rng.permutation(len(images))
    drawn = np.stack([_harder(images[i].reshape(8, 8), rng) for i in order])
    whole = Split(torch.from_numpy(drawn), torch.from_numpy(labels[order]).long())
    ends = (0, 560, 1_160, 1_400, len(whole))
    elsewhere, train, val, test = (
        whole.take(torch.arange(a, b)) for a, b in itertools.pairwise(ends)
    )
    names = tuple(str(digit) for digit in range(10))
    return Pictures(names, train, val, test, elsewhere, *_moments(train))


def _harder(digit: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """One digit [8, 8] in 0..16 as a coloured picture [3, 16, 16] in 0..1."""
    side = DIGIT_SIDE
    turn = cv2.getRotationMatrix2D((3.5, 3.5), rng.uniform(-20, 20), rng.uniform(1.3, 1.9))
    turn[:, 2] += (side - 8) / 2 + rng.uniform(-1.5, 1.5, 2)
    ink = cv2.warpAffine((digit / 16).astype(np.float32), turn, (side, side))
    paper, colour = rng.uniform(0, 0.45, 3), rng.uniform(0.55, 1, 3)
    picture = paper + ink[..., None] * (colour - paper)
    for _ in range(2):
        x, y = rng.integers(0, side, 2)
        picture[y : y + 2, x : x + 3] = rng.uniform(0, 1, 3)
    picture += rng.normal(0, 0.08, picture.shape)
    return np.ascontiguousarray(picture.clip(0, 1).transpose(2, 0, 1), dtype=np.float32)


@cache
def photos() -> Pictures:
    """1,500 training photographs of ten classes at 32 px, 400 of validation, 1,000 of the test."""
    names = tuple(sorted(entry.name for entry in (PHOTOS / "train").iterdir() if entry.is_dir()))
    train = _read(names, "train", 0, 150)
    val = _read(names, "train", 150, 190)
    test = _read(names, "test", 0, 100)
    return Pictures(names, train, val, test, None, *_moments(train))


def _read(names: tuple[str, ...], split: str, first: int, last: int) -> Split:
    pixels, labels = [], []
    for label, name in enumerate(names):
        for path in sorted((PHOTOS / split / name).iterdir())[first:last]:
            image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
            pixels.append(np.float32(image.transpose(2, 0, 1)) / 255)
            labels.append(label)
    return Split(torch.from_numpy(np.stack(pixels)), torch.tensor(labels))


def _moments(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    mean = split.pixels.mean(dim=(0, 2, 3))
    std = split.pixels.std(dim=(0, 2, 3))
    return tuple(mean.tolist()), tuple(std.tolist())
