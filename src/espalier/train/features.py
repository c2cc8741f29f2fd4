"""What frozen layers give, computed once for each view of an image and kept for all epochs.

A kept view is the view that live training draws in the epoch of the same number, so that kept and
live features differ by rounding only. Views are made whole, in catalog order, when an epoch first
asks for them: what is kept does not depend on the order of training, and a resumed run makes again
what it cannot find.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from espalier import cache
from espalier.data.loader import Batch, Loader, batch_bounds, count_repeats
from espalier.errors import DataError
from espalier.models.cut import Piece
from espalier.records import Sample

FORMAT = 1
Note = Callable[[str], None]


class Batches(Protocol):
    """What the loop needs of a loader."""

    @property
    def samples(self) -> tuple[Sample, ...]:
        """What positions refer to."""

    def epoch(
        self, order: npt.NDArray[np.int64], epoch: int, start_batch: int = 0
    ) -> Iterator[Batch]:
        """Training batches in the given order."""

    def in_order(self) -> Iterator[Batch]:
        """Every sample once, in its own order."""


class Widen(nn.Module):
    """Stands where pixels are normalised: kept features only become fp32 again."""

    def forward(self, features: Tensor) -> Tensor:
        """Features [B, ...] in fp32."""
        return features.float()


@dataclass(frozen=True)
class Shelf:
    """Where and how features are kept.

    Attributes:
        stored: ``bf16`` or ``fp32``.
        key: Everything that the features depend on; two shelves with equal keys hold the same.
        folder: None: in memory only.
        budget: Bytes that all features in the folder may take.
        note: Told what a person should know.
        pause: Called between batches; may raise to stop in good order.
    """

    stored: str
    key: Mapping[str, Any]
    folder: Path | None
    budget: int
    note: Note
    pause: Callable[[], None]

    def file(self, view: int) -> Path | None:
        """The file of one view."""
        if self.folder is None:
            return None
        text = json.dumps({**self.key, "stored": self.stored, "view": view}, sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.features"


class KeptFeatures:
    """Batches of kept features in place of pixels: reads like a ``Loader``.

    Args:
        live: The loader whose pixels the frozen layers see.
        frozen: Features [B, ...] of the uint8 pixels of a batch.
        views: How many augmented views there are; 0 for one fixed view, as in validation.
        shelf: Where they are kept.
    """

    def __init__(
        self, live: Loader, frozen: Callable[[Tensor], Tensor], views: int, shelf: Shelf
    ) -> None:
        self.live = live
        self.frozen = frozen
        self.views = views
        self.shelf = shelf
        self._kept: dict[int, npt.NDArray[Any]] = {}

    @property
    def samples(self) -> tuple[Sample, ...]:
        """What positions refer to."""
        return self.live.samples

    def epoch(
        self, order: npt.NDArray[np.int64], epoch: int, start_batch: int = 0
    ) -> Iterator[Batch]:
        """Training batches in the given order; epochs, and repeats within one, take turns.

        Raises:
            DataError: A file cannot be read any more, or features are not finite.
        """
        turn = (count_repeats(order) + epoch) % self.views
        for view in np.unique(turn).tolist():
            self.view(view)
        bounds = batch_bounds(len(order), self.live.batch, join_last=True)
        return (self._batch(order[a:b], turn[a:b]) for a, b in bounds[start_batch:])

    def in_order(self) -> Iterator[Batch]:
        """Every sample once, in its own order.

        Raises:
            DataError: A file cannot be read any more, or features are not finite.
        """
        self.view(0)
        every = np.arange(len(self.samples), dtype=np.int64)
        bounds = batch_bounds(len(every), self.live.batch, join_last=False)
        return (self._batch(every[a:b], np.zeros(b - a, dtype=np.int64)) for a, b in bounds)

    def view(self, view: int) -> npt.NDArray[Any]:
        """One view of every sample [N, ...] as it is stored: from memory, from disk, or made."""
        if view not in self._kept:
            path = self.shelf.file(view)
            found = None if path is None else read_view(path, len(self.samples))
            if found is None:
                found = self._make(view, path)
            elif path is not None:
                cache.mark_used(path)
            self._kept[view] = found
        return self._kept[view]

    def matrix(self) -> npt.NDArray[np.float32]:
        """The fixed view as fp32 [N, ...]."""
        every = np.arange(len(self.samples))
        return widened(self.view(0), every).float().numpy()

    def _batch(self, positions: npt.NDArray[np.int64], turn: npt.NDArray[np.int64]) -> Batch:
        parts = {view: widened(self.view(view), positions) for view in np.unique(turn).tolist()}
        features = next(iter(parts.values()))
        for view, other in parts.items():
            features[torch.from_numpy(turn == view)] = other[torch.from_numpy(turn == view)]
        return Batch(
            features,
            torch.from_numpy(self.live.labels[positions]),
            torch.from_numpy(positions),
        )

    def _make(self, view: int, path: Path | None) -> npt.NDArray[Any]:
        """Run the frozen layers over one view of every sample, and keep what they give."""
        if path is not None:
            try:
                self._write(view, path)
                cache.evict(path.parent, self.shelf.budget, keep=[path])
                found = read_view(path, len(self.samples))
                if found is not None:
                    return found
            except OSError as error:
                self.shelf.note(
                    f"kept features stay in memory: {path.parent} cannot be written "
                    f"({error.strerror or error})"
                )
        return np.concatenate([rows for rows in self._rows(view)])

    def _write(self, view: int, path: Path) -> None:
        """Write a view beside its place, then move it there: two runs never see half of one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.stem}.partial-{os.getpid()}")
        try:
            with partial.open("wb") as file:
                self._fill(file, view)
            os.replace(partial, path)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink()

    def _fill(self, file: BinaryIO, view: int) -> None:
        # Written, not mapped: a mapped file on a full disk kills the process without a word.
        for index, rows in enumerate(self._rows(view)):
            if index == 0:
                file.write(header_of(rows.dtype.name, rows.shape[1:], len(self.samples)))
            file.write(np.ascontiguousarray(rows).tobytes())

    def _rows(self, view: int) -> Iterator[npt.NDArray[Any]]:
        """What is stored, batch by batch, in sample order."""
        every = np.arange(len(self.samples), dtype=np.int64)
        batches = self.live.epoch(every, view) if self.views else self.live.in_order()
        for batch in batches:
            self.shelf.pause()
            features = self.frozen(batch.images)
            self._require_finite(features, batch.positions)
            yield narrowed(features.cpu(), self.shelf.stored)

    def _require_finite(self, features: Tensor, positions: Tensor) -> None:
        bad = ~torch.isfinite(features.flatten(1)).all(dim=1)
        if bool(bad.any()):
            first = self.samples[int(positions[bad.cpu()][0])]
            raise DataError(
                f"the frozen layers give features that are not finite for {int(bad.sum())} of "
                f"{len(bad)} images, {first.path} the first: the weights are damaged, or too "
                "large for the number format",
                hint="--set features.precision=fp32, or another --weights file",
            )


def narrowed(features: Tensor, stored: str) -> npt.NDArray[Any]:
    """Features as they are stored: fp32, or the upper 16 bits of it, rounded (bf16)."""
    features = features.contiguous()
    if stored == "fp32":
        return features.float().numpy()
    return features.to(torch.bfloat16).view(torch.int16).numpy()


def widened(view: npt.NDArray[Any], positions: npt.NDArray[np.int64]) -> Tensor:
    """Some rows of a stored view as a tensor, bf16 or fp32."""
    rows = torch.from_numpy(np.ascontiguousarray(view[positions]))
    return rows.view(torch.bfloat16) if rows.dtype == torch.int16 else rows


def header_of(dtype: str, shape: Sequence[int], count: int) -> bytes:
    """The first line of a file of features: what follows, padded to 256 bytes."""
    about = {"format": FORMAT, "dtype": dtype, "shape": list(shape), "count": count}
    return json.dumps(about).encode().ljust(255) + b"\n"


def read_view(path: Path, count: int) -> npt.NDArray[Any] | None:
    """A view [count, ...] from its file, mapped; None where it is missing, cut short or strange."""
    try:
        with path.open("rb") as file:
            about = json.loads(file.read(256))
        dtype, shape = np.dtype(about["dtype"]), (about["count"], *about["shape"])
        whole = 256 + dtype.itemsize * int(np.prod(shape))
        if about["format"] != FORMAT or shape[0] != count or path.stat().st_size != whole:
            return None
        return np.memmap(path, dtype=dtype, mode="r", offset=256, shape=shape)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def digest_of(pieces: Sequence[Piece]) -> str:
    """A hash of all weights and buffers of frozen pieces."""
    found = hashlib.sha256()
    for piece in pieces:
        for name, tensor in piece.module.state_dict().items():
            found.update(f"{piece.name}.{name}{tuple(tensor.shape)}".encode())
            found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
