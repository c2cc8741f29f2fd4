"""What data sets of anybody's loop hold: pixels after the transform, labels, exact copies.

Images are taken from the data set and not from its loader, so that no order is drawn, no worker is
started, and the same image can be drawn twice.
"""

from __future__ import annotations

import copy
import hashlib
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset, TensorDataset, WeightedRandomSampler

from espalier.run_record import DataFacts, SplitPixels
from espalier.vitals.pixels import (
    DRAWS,
    PIXEL_IMAGES,
    REDRAWN_IMAGES,
    split_pixels,
    spread_positions,
)

_BATCH = 32
# Hashing more than this is no longer a matter of seconds.
_MOST_FILES, _MOST_ROWS, _MOST_DRAWN = 20_000, 200_000, 2_000
_DEPTH = 3
_GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)


@dataclass(frozen=True)
class Split:
    """One split of a loop: its data set, and what its loader says.

    Attributes:
        dataset: Indexable; its items are ``(image, label)``.
        loader: Where it came in one.
    """

    dataset: Any
    loader: Any = None

    def __len__(self) -> int:
        return len(self.dataset)

    def image(self, index: int) -> Tensor:
        """The image [C, H, W] of one item, as its transform gives it."""
        return torch.as_tensor(self.dataset[index][0]).float()


def split_of(given: Any) -> Split | None:
    """A loader, a data set, or ``(images, labels)`` as a split; None where it cannot be indexed."""
    if given is None:
        return None
    if isinstance(given, tuple) and len(given) == 2:
        return Split(TensorDataset(torch.as_tensor(given[0]), torch.as_tensor(given[1])))
    dataset = getattr(given, "dataset", given)
    indexable = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
    if not indexable:
        return None
    return Split(dataset, given if dataset is not given else None)


def loader_facts(split: Split) -> dict[str, Any]:
    """Fields of ``RunFacts`` that a training loader and its data set tell."""
    facts: dict[str, Any] = {}
    if (transform := getattr(split.dataset, "transform", None)) is not None:
        facts["train_transform"] = repr(transform)
    size = getattr(split.loader, "batch_size", None)
    if size is not None:
        facts["batch"] = int(size)
        facts["steps_per_epoch"] = len(split.loader)
    sampler = getattr(split.loader, "sampler", None)
    if sampler is not None:
        facts["sampler"] = "weighted" if isinstance(sampler, WeightedRandomSampler) else "none"
    return facts


def class_names(split: Split) -> tuple[str, ...] | None:
    """Class names in index order, where the data set has them."""
    base = split.dataset
    while isinstance(base, Subset):
        base = base.dataset
    names = getattr(base, "classes", None)
    return tuple(str(name) for name in names) if names else None


def label_counts(split: Split, classes: int | None) -> tuple[int, ...] | None:
    """Images per class; None where the data set does not list its labels."""
    labels = labels_of(split.dataset)
    if labels is None or not labels:
        return None
    found = Counter(labels)
    return tuple(found[index] for index in range(max(classes or 0, max(found) + 1)))


def labels_of(dataset: Any) -> list[int] | None:
    """Class indices of all items without reading an image; None where that cannot be done."""
    if isinstance(dataset, Subset):
        inner = labels_of(dataset.dataset)
        return None if inner is None else [inner[index] for index in dataset.indices]
    if isinstance(dataset, TensorDataset):
        return _whole(dataset.tensors[1]) if len(dataset.tensors) > 1 else None
    for name in ("targets", "labels", "y"):
        if (found := _whole(getattr(dataset, name, None))) is not None:
            return found if len(found) == len(dataset) else None
    samples = getattr(dataset, "samples", None)
    return _whole([pair[1] for pair in samples]) if isinstance(samples, list) else None


def _whole(values: Any) -> list[int] | None:
    try:
        array = np.asarray(values.cpu() if isinstance(values, Tensor) else values)
    except (TypeError, ValueError):
        return None
    usable = array.ndim == 1 and array.dtype.kind in "iu"
    return [int(value) for value in array] if usable else None


def data_facts(train: Split | None, val: Split | None) -> DataFacts:
    """Pixels of both splits, exact copies within training, exact overlap between them."""
    seen = {name: _pixels(split) for name, split in (("train", train), ("val", val))}
    fixed = [p is not None and p.redraw_change == 0 for p in seen.values()]
    held = [_hashes(split, still) for split, still in zip((train, val), fixed, strict=True)]
    ours, theirs = held
    # Hashes of different things, files and arrays say, never agree and would look like no overlap.
    comparable = ours is not None and theirs is not None and ours[0] == theirs[0]
    overlap = None
    if comparable and ours is not None and theirs is not None:
        known = set(ours[1])
        overlap = sum(value in known for value in theirs[1])
    return DataFacts(
        train=seen["train"],
        val=seen["val"],
        overlap=overlap,
        val_images=None if val is None else len(val),
        train_copies=None if ours is None else len(ours[1]) - len(set(ours[1])),
        train_images=None if train is None else len(train),
    )


def _pixels(split: Split | None) -> SplitPixels | None:
    if split is None or not len(split):
        return None
    try:
        with same_generators(split.dataset):
            few = spread_positions(len(split), REDRAWN_IMAGES)
            draws = [torch.stack([split.image(i) for i in few]) for _ in range(DRAWS)]
            return split_pixels(_batches(split, PIXEL_IMAGES), draws)
    except (TypeError, ValueError, KeyError, IndexError, RuntimeError):
        # Items that are no (image, label), or images of many sizes: nothing is known of them.
        return None


def _batches(split: Split, most: int) -> Iterator[Tensor]:
    chosen = spread_positions(len(split), most)
    for first in range(0, len(chosen), _BATCH):
        yield torch.stack([split.image(index) for index in chosen[first : first + _BATCH]])


@contextmanager
def same_generators(thing: Any) -> Iterator[None]:
    """Random generators that a data set or its transforms own are as they were afterwards."""
    held = [(generator, copy.deepcopy(_state(generator))) for generator in _owned(thing, _DEPTH)]
    try:
        yield
    finally:
        for generator, state in held:
            _restore(generator, state)


def _owned(thing: Any, depth: int) -> Iterator[Any]:
    if isinstance(thing, _GENERATORS):
        yield thing
    elif depth and hasattr(thing, "__dict__") and not isinstance(thing, type | Tensor):
        for value in vars(thing).values():
            yield from _owned(value, depth - 1)
    elif depth and isinstance(thing, list | tuple) and len(thing) < 50:
        for value in thing:
            yield from _owned(value, depth - 1)


def _state(generator: Any) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.getstate() if isinstance(generator, random.Random) else generator.get_state()


def _restore(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.set_state(state)


Hashes = tuple[str, list[bytes]]


def _hashes(split: Split | None, fixed: bool) -> Hashes | None:
    """What is hashed (files, arrays, what the transform gives) and a hash of each item."""
    if split is None:
        return None
    found = _stored_hashes(split.dataset)
    if found is not None or not fixed or len(split) > _MOST_DRAWN:
        return found
    return "views", [_digest(split.image(index).numpy()) for index in range(len(split))]


def _stored_hashes(dataset: Any) -> Hashes | None:
    if isinstance(dataset, Subset):
        inner = _stored_hashes(dataset.dataset)
        return None if inner is None else (inner[0], [inner[1][i] for i in dataset.indices])
    files = getattr(dataset, "samples", None)
    if isinstance(files, list) and files and isinstance(files[0], tuple):
        return _file_hashes([str(entry[0]) for entry in files])
    rows = dataset.tensors[0] if isinstance(dataset, TensorDataset) else getattr(dataset, "data", 0)
    if isinstance(rows, Tensor):
        rows = rows.detach().cpu().numpy()
    if isinstance(rows, np.ndarray) and len(rows) == len(dataset) <= _MOST_ROWS:
        return "arrays", [_digest(row) for row in rows]
    return None


def _file_hashes(paths: Sequence[str]) -> Hashes | None:
    if len(paths) > _MOST_FILES:
        return None
    try:
        return "files", [hashlib.sha256(Path(path).read_bytes()).digest() for path in paths]
    except OSError:
        return None


def _digest(row: Any) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(row).tobytes()).digest()


def fixed_batch(split: Split, most: int) -> tuple[Tensor, Tensor] | None:
    """Up to ``most`` evenly spread images and labels; None where items are no (image, label)."""
    chosen = spread_positions(len(split), most)
    try:
        with same_generators(split.dataset):
            items = [split.dataset[index] for index in chosen]
        images = torch.stack([torch.as_tensor(item[0]) for item in items])
        return images, torch.as_tensor([int(item[1]) for item in items])
    except (TypeError, ValueError, KeyError, IndexError, RuntimeError):
        return None
