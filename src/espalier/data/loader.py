"""Batches of pixels from threads: in a fixed order, reproducible, never more than a few ahead.

Threads and not processes: decoding, warping and colour all release the interpreter's lock, threads
start at once, and nothing is copied between them.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, Protocol, cast

import cv2
import numpy as np
import numpy.typing as npt
import torch

from espalier.data.augment_device import DeviceAugment
from espalier.data.images import Picture, read_picture
from espalier.data.store import PixelStore, read_reduced
from espalier.data.torchvision_sets import is_address
from espalier.data.transforms import Drawn, Transform
from espalier.errors import DataError, DiskError, UnreadableImageError
from espalier.records import Sample

_CHUNK = 4
_BATCHES_AHEAD = 2


class Batch(NamedTuple):
    """Images and what they are.

    Attributes:
        images: uint8 [B, 3, H, W], channels last in memory; on the host, unless a device renders
            the views.
        labels: Class indices, int64 [B]; -1 where an image has no known label.
        positions: Indices into the loader's samples, int64 [B].
    """

    images: torch.Tensor
    labels: torch.Tensor
    positions: torch.Tensor


@dataclass(frozen=True, slots=True)
class _Draw:
    """One image of an epoch: which sample, and the how-manieth time this epoch draws it."""

    position: int
    repeat: int


class _Views(Protocol):
    """The images of one batch on their way: put in by threads, taken out as one tensor."""

    def put(self, row: int, image: npt.NDArray[np.uint8], rng: np.random.Generator) -> None:
        """Take in one photograph [H, W, 3]."""

    def images(self) -> torch.Tensor:
        """All of them, uint8 [B, 3, H, W]."""


class _MadeViews:
    """Each view is made in the thread that read its photograph."""

    def __init__(self, transform: Transform, count: int) -> None:
        self.transform = transform
        self.pixels = np.empty((count, transform.imgsz, transform.imgsz, 3), dtype=np.uint8)

    def put(self, row: int, image: npt.NDArray[np.uint8], rng: np.random.Generator) -> None:
        self.pixels[row] = self.transform(image, rng)

    def images(self) -> torch.Tensor:
        return torch.from_numpy(self.pixels).permute(0, 3, 1, 2)


class _DrawnViews:
    """Threads read and draw; the device renders the batch when it is asked for."""

    def __init__(self, augment: DeviceAugment, count: int) -> None:
        self.augment = augment
        self.rows: list[tuple[npt.NDArray[np.uint8], Drawn] | None] = [None] * count

    def put(self, row: int, image: npt.NDArray[np.uint8], rng: np.random.Generator) -> None:
        drawn = self.augment.transform.draw(image.shape[1], image.shape[0], rng)
        self.rows[row] = (image, drawn)

    def images(self) -> torch.Tensor:
        pictures, drawn = zip(
            *cast(list[tuple[npt.NDArray[np.uint8], Drawn]], self.rows), strict=True
        )
        return self.augment.views(pictures, drawn)


class Loader:
    """Reads and transforms samples in batches.

    What is drawn for an image depends on the seed, the epoch, its ``sample_id`` and how often the
    epoch has drawn it before; not on threads, batch size or its place in the order.

    Args:
        samples: What positions refer to.
        class_index: Label to index; a sample without a label, or with one not in here, gets -1.
        transform: One of ``transforms``; it is called from several threads at once.
        batch: Images per batch.
        workers: Threads that read and transform; 0 does it in the calling thread.
        seed: Of everything random.
        store: Where decoded photographs are read from, and put where they are missing.
        side: Short side in pixels to which photographs are reduced, with a store or without, so
            that both give the same batches; None: the store's, and without one they are not
            reduced.
        augment: Renders the views of ``transform`` on a device, from the same random choices; None:
            the threads make them.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        class_index: Mapping[str, int],
        transform: Transform,
        *,
        batch: int,
        workers: int,
        seed: int,
        store: PixelStore | None = None,
        side: int | None = None,
        augment: DeviceAugment | None = None,
    ) -> None:
        self.samples = tuple(samples)
        self.transform = transform
        self.batch = batch
        self.workers = workers
        self.seed = seed
        self.store = store
        self.side = side if store is None else store.side
        self.augment = augment
        self.labels = np.array(
            [class_index.get(sample.label or "", -1) for sample in self.samples], dtype=np.int64
        )

    def epoch(
        self, order: npt.NDArray[np.int64], epoch: int, start_batch: int = 0
    ) -> Iterator[Batch]:
        """Training batches in the given order of positions, from ``start_batch`` on.

        A single image left over joins the batch before it, because batch normalisation cannot
        train on one image; ``batch_count`` counts in the same way. Starting later yields exactly
        the later batches of the whole epoch.

        Raises:
            DataError: A file cannot be read any more.
        """
        bounds = batch_bounds(len(order), self.batch, join_last=True)
        return self._batches(order, epoch, bounds[start_batch:])

    def in_order(self) -> Iterator[Batch]:
        """Every sample once, in its own order; the last batch may be short.

        Raises:
            DataError: A file cannot be read any more.
        """
        bounds = batch_bounds(len(self.samples), self.batch, join_last=False)
        return self._batches(np.arange(len(self.samples), dtype=np.int64), 0, bounds)

    def _batches(
        self, order: npt.NDArray[np.int64], epoch: int, bounds: Sequence[tuple[int, int]]
    ) -> Iterator[Batch]:
        # OpenCV's own threads would compete with ours for the same cores.
        cv2.setNumThreads(1)
        repeats = count_repeats(order)
        draws = [_Draw(int(p), int(r)) for p, r in zip(order, repeats, strict=True)]
        chosen = (draws[start:stop] for start, stop in bounds)
        if self.workers == 0:
            return (self._read_here(batch, epoch) for batch in chosen)
        return self._read_ahead(chosen, epoch)

    def _read_here(self, draws: Sequence[_Draw], epoch: int) -> Batch:
        views = self._views(len(draws))
        self._fill(views, 0, draws, epoch)
        return self._finish(views, draws)

    def _read_ahead(self, batches: Iterator[Sequence[_Draw]], epoch: int) -> Iterator[Batch]:
        """Batches in order, read by threads that stay a few batches ahead."""
        ahead = _BATCHES_AHEAD + self.workers * _CHUNK // self.batch
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="espalier-loader")
        waiting: deque[tuple[Callable[[], Batch], list[Future[None]]]] = deque()
        try:
            for draws in batches:
                waiting.append(self._submit(pool, draws, epoch))
                if len(waiting) > ahead:
                    yield _collect(*waiting.popleft())
            while waiting:
                yield _collect(*waiting.popleft())
        finally:
            # Also on an error, on Ctrl-C and when the caller leaves the loop early.
            pool.shutdown(wait=True, cancel_futures=True)

    def _submit(
        self, pool: ThreadPoolExecutor, draws: Sequence[_Draw], epoch: int
    ) -> tuple[Callable[[], Batch], list[Future[None]]]:
        views = self._views(len(draws))
        jobs = [
            pool.submit(self._fill, views, i, draws[i : i + _CHUNK], epoch)
            for i in range(0, len(draws), _CHUNK)
        ]
        return lambda: self._finish(views, draws), jobs

    def _views(self, count: int) -> _Views:
        if self.augment is None:
            return _MadeViews(self.transform, count)
        return _DrawnViews(self.augment, count)

    def _fill(self, views: _Views, first: int, draws: Sequence[_Draw], epoch: int) -> None:
        """Read the photographs of consecutive draws, the first of which has row ``first``."""
        for row, draw in enumerate(draws, first):
            sample = self.samples[draw.position]
            image = self._pixels(sample)
            views.put(row, image, image_rng(self.seed, epoch, sample, draw.repeat))

    def _pixels(self, sample: Sample) -> npt.NDArray[np.uint8]:
        """The photograph as it is stored, or decoded in the same way."""
        if self.store is not None:
            stored = self.store.get(sample.content)
            if stored is not None:
                return stored
        picture = _read(sample, self.side, self.transform.at_least)
        if self.store is not None and not is_address(sample.path):
            # The photograph is at hand: a full disk is no reason to stop training.
            with contextlib.suppress(DiskError):
                self.store.put(picture)
        return picture.pixels

    def _finish(self, views: _Views, draws: Sequence[_Draw]) -> Batch:
        positions = np.array([draw.position for draw in draws], dtype=np.int64)
        return Batch(
            images=views.images(),
            labels=torch.from_numpy(self.labels[positions]),
            positions=torch.from_numpy(positions),
        )


def batch_count(images: int, batch: int) -> int:
    """Batches that ``Loader.epoch`` makes of so many draws."""
    return len(batch_bounds(images, batch, join_last=True))


def batch_bounds(images: int, batch: int, *, join_last: bool) -> list[tuple[int, int]]:
    """First and one past the last image of each batch.

    Args:
        images: How many in all.
        batch: Images per batch; the last one may have fewer.
        join_last: A single image left over makes the batch before it one larger.
    """
    starts = list(range(0, images, batch))
    if join_last and batch > 1 and images > batch and images % batch == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], images], strict=True)) if starts else []


def count_repeats(order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """For each place in an order, how often its value came before."""
    ranked = np.argsort(order, kind="stable")
    grouped = order[ranked]
    first = np.searchsorted(grouped, grouped, side="left")
    repeats = np.empty(len(order), dtype=np.int64)
    repeats[ranked] = np.arange(len(order)) - first
    return repeats


def image_rng(seed: int, epoch: int, sample: Sample, repeat: int) -> np.random.Generator:
    """The random numbers of one draw of one image, the same on every machine."""
    key = f"{seed}/{epoch}/{repeat}/{sample.sample_id}".encode()
    digest = hashlib.blake2b(key, digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))


def _read(sample: Sample, side: int | None, at_least: int) -> Picture:
    """The photograph reduced to ``side``, or where that is None with ``at_least`` so many pixels.

    Raises:
        DataError: It is no longer what it was when the catalog was made.
    """
    try:
        if side is None:
            picture = read_picture(sample.path, at_least=at_least)
        else:
            picture = read_reduced(sample.path, side)
    except UnreadableImageError as error:
        raise DataError(
            f"{sample.path} was readable when the catalog was made and is not now: {error.message}",
            hint="put the file back, or start a new run, which leaves unreadable files out",
        ) from error
    if picture.content != sample.content:
        raise DataError(
            f"{sample.path} is another photograph than when the catalog was made: its content "
            f"hash was {sample.content} and is {picture.content} now",
            hint="put the file back, or start a new run, which takes the photographs as they are",
        )
    return picture


def _collect(finish: Callable[[], Batch], jobs: Sequence[Future[None]]) -> Batch:
    """Wait for the parts of one batch; what went wrong in a thread is raised here."""
    for job in jobs:
        job.result()
    return finish()
