"""Faults in the data, the labels and the transforms: (loop, severity) -> nothing, it is changed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from benchmarks.faults.loop import Loop, View
from benchmarks.faults.pictures import Split

LoopFault = Callable[[Loop, int], None]


def shuffled_labels(loop: Loop, severity: int) -> None:
    """85 % or all of the training labels are dealt out anew."""
    share = (0.85, 1.0)[severity - 1]
    loop.train = Split(loop.train.pixels, _dealt(loop, share))


def _dealt(loop: Loop, share: float) -> Tensor:
    labels = loop.train.labels.clone()
    hit = torch.from_numpy(loop.rng.random(len(labels)) < share).nonzero()[:, 0]
    labels[hit] = labels[hit][torch.from_numpy(loop.rng.permutation(len(hit)))]
    return labels


def noisy_labels(loop: Loop, severity: int) -> None:
    flip_some(loop, (0.2, 0.4)[severity - 1])


def flip_some(loop: Loop, share: float) -> None:
    """Each training label is another one with this probability."""
    labels, classes = loop.train.labels, len(loop.pictures.classes)
    hit = torch.from_numpy(loop.rng.random(len(labels)) < share)
    shift = torch.from_numpy(loop.rng.integers(1, classes, len(labels)))
    loop.train = Split(loop.train.pixels, torch.where(hit, (labels + shift) % classes, labels))


def pair_flips(loop: Loop, severity: int) -> None:
    """35 or 45 % of the first class are called as the second, in training and validation."""
    share = (0.35, 0.45)[severity - 1]
    for name in ("train", "val"):
        split: Split = getattr(loop, name)
        hit = torch.from_numpy(loop.rng.random(len(split)) < share) & (split.labels == 0)
        setattr(loop, name, Split(split.pixels, torch.where(hit, 1, split.labels)))


def class_order(loop: Loop, severity: int) -> None:
    """The folders of validation were sorted otherwise: some, or all, of its classes move."""
    classes = len(loop.pictures.classes)
    moved = torch.arange(classes)
    moved[: (5, classes)[severity - 1]] = moved[: (5, classes)[severity - 1]].roll(1)
    loop.val = Split(loop.val.pixels, moved[loop.val.labels])


def leak(loop: Loop, severity: int) -> None:
    """30 % or all of the validation pictures are in the training set too."""
    share = (0.3, 1.0)[severity - 1]
    loop.train = loop.train.joined(loop.val.take(torch.arange(int(share * len(loop.val)))))


def val_augmented(loop: Loop, severity: int) -> None:
    """Validation pictures go through the training transform; the second time a heavy one."""
    heavy = "heavy" if severity == 2 else "light"
    for view in (loop.train_view, loop.val_view):
        view.augment = heavy
    loop.val_view.flips = loop.train_view.flips
    loop.val_view.generator.manual_seed(loop.seed + 1)


def val_not_normalised(loop: Loop, severity: int) -> None:
    view = loop.val_view
    if severity == 1:
        loop.val_view = View(view.mean, view.std / 2.5)
    else:
        loop.val_view = View(torch.zeros(3), torch.ones(3))


def wrong_pixels(loop: Loop, severity: int) -> None:
    """Pixels in 0..255, or normalised twice, for both splits."""
    mean, std = loop.train_view.mean, loop.train_view.std
    for view in (loop.train_view, loop.val_view):
        if severity == 1:
            view.mean, view.std = mean + mean * std, std * std
        else:
            view.mean, view.std = torch.zeros(3), torch.full((3,), 1 / 255)


def sorted_classes(loop: Loop, severity: int) -> None:
    """No shuffling, and the files lie class by class."""
    order = torch.argsort(loop.train.labels, stable=True)
    loop.order = lambda: order


def imbalance(loop: Loop, severity: int) -> None:
    """One class has all its images, the others one in 30 or one in 100 of that, at least two."""
    ratio = (0.03, 0.01)[severity - 1]
    thin_out(loop, [1.0] + [max(ratio, 0.02)] * 9)
    keep_all(loop)


def thin_out(loop: Loop, shares: list[float]) -> None:
    chosen = []
    for label, share in enumerate(shares):
        places = (loop.train.labels == label).nonzero()[:, 0]
        chosen.append(places[: max(2, round(share * len(places)))])
    loop.train = loop.train.take(torch.cat(chosen).sort().values)


def keep_all(loop: Loop) -> None:
    """The big class is drawn ten times as often, as a set of 100 : 1 would have it."""
    big = (loop.train.labels == 0).nonzero()[:, 0]
    noise = 0.02 * torch.from_numpy(loop.rng.normal(size=(4, 1, 1, 1, 1))).float()
    more = [loop.train.pixels[big].roll(k + 1, dims=3) + noise[k] for k in range(4)]
    pixels = torch.cat(more).clamp(0, 1)
    loop.train = loop.train.joined(Split(pixels, loop.train.labels[big].repeat(4)))


def broken_pixels(loop: Loop, severity: int) -> None:
    """One picture in a hundred, or a single one, has a value that is no number."""
    pixels = loop.train.pixels.clone()
    every = (len(pixels), 100)[severity - 1]
    pixels[every // 2 :: every, 0, 3, 3] = float("nan")
    loop.train = Split(pixels, loop.train.labels)


def few_drawn(loop: Loop, severity: int) -> None:
    """The sampler draws from the same tenth, or twentieth, of the images in every epoch."""
    share = (0.1, 0.04)[severity - 1]
    size = len(loop.train)
    few = loop.rng.permutation(size)[: int(share * size)]
    loop.order = lambda: torch.from_numpy(np.resize(loop.rng.permutation(few), size))


def class_absent(loop: Loop, severity: int) -> None:
    """One or three classes are not in the training set."""
    gone = (1, 3)[severity - 1]
    loop.train = loop.train.take((loop.train.labels >= gone).nonzero()[:, 0])


def small_val_pixels(loop: Loop, severity: int) -> None:
    """Validation pictures were shrunk and blown up: less is seen on them than in training."""
    side = loop.val.pixels.shape[-1] // (2, 4)[severity - 1]
    small = torch.nn.functional.interpolate(loop.val.pixels, side, mode="area")
    loop.val = Split(small, loop.val.labels)
