"""One look at each file: light, sharpness and colour, and a thumbnail to find its copies by."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from espalier.audited import Look
from espalier.data import images
from espalier.data.images import Pixels
from espalier.data.torchvision_sets import is_address
from espalier.errors import DiskError, UnreadableImageError
from espalier.files import write_whole
from espalier.records import Sample

Progress = Callable[[int, int], None]
THUMBNAIL = 32
_SHARPNESS_SIDE = 128
# Of the short side: what noise and JPEG blocks leave of a blurred picture is finer than this.
_SMOOTHED = 1 / 128
# Below this, the sharpness of a flat picture would be that of its rounding.
_FLAT = 1 / 255
_AHEAD = 64
# 2 MB a file: a kill loses no more than some seconds of work, and 100,000 images are 50 files.
_KEPT_TOGETHER = 2048
_VERSION = 2
_FORM_LENGTH = 12
_RECORD = np.dtype(
    [
        ("content", "S16"),
        ("form", f"S{_FORM_LENGTH}"),
        ("orientation", np.uint8),
        ("measures", np.float64, (4,)),
        ("thumbnail", np.uint8, (THUMBNAIL, THUMBNAIL)),
    ]
)


@dataclass(frozen=True)
class Hashes:
    """What near copies are looked for by.

    Attributes:
        sample_ids: Length N, in catalog order.
        thumbnails: Luma of the whole picture, squeezed to [N, 32, 32], uint8.
    """

    sample_ids: tuple[str, ...]
    thumbnails: npt.NDArray[np.uint8]


class _Seen(NamedTuple):
    look: Look
    thumbnail: npt.NDArray[np.uint8]


def look_at_all(
    samples: Sequence[Sample],
    *,
    folder: Path | None,
    progress: Progress | None,
    side: int = 160,
) -> tuple[dict[str, Look], Hashes]:
    """Look once at every readable image; exact copies share one look.

    Args:
        samples: Unreadable ones, and those that have become so since, are left out.
        folder: Where looks are kept by the hash of the bytes, so that a second audit decodes
            nothing and an interrupted one goes on; None: nothing is kept.
        progress: Called with (images done, images in all).
        side: Pixels of the short side that are decoded at least, where the picture has them.

    Returns:
        ``sample_id`` -> look, and the hashes of the same images.
    """
    readable = [sample for sample in samples if sample.status == "ok"]
    place = None if folder is None else folder / f"looks-{_VERSION}-{side}"
    seen = {} if place is None else _read_kept(place)
    missing = {s.content: s.path for s in readable if s.content not in seen}
    done = sum(1 for s in readable if s.content in seen)
    copies = len(readable) - done - len(missing)
    if progress is not None and readable:
        progress(done + copies, len(readable))
    fresh = _fresh(missing, side)
    for content, one in fresh if place is None else _keeping(fresh, place):
        if one is not None:
            seen[content] = one
        done += 1
        if progress is not None:
            progress(done + copies, len(readable))
    return _gathered(readable, seen)


def look_at(path: str, side: int = 160) -> tuple[Look, npt.NDArray[np.uint8]]:
    """The look at one file, and its thumbnail [32, 32].

    Raises:
        UnreadableImageError: As in ``images.read_image``.
    """
    if is_address(path):
        # Pictures of these sets come decoded: there are no bytes of a file to name a format of.
        return _measured(images.read_image(path), "", 1)
    data = images.read_bytes(path)
    pixels = images.decode_picture(data, "", at_least=side).pixels
    return _measured(images.reduced(pixels, side), *images.read_header(data))


def _measured(pixels: Pixels, form: str, orientation: int) -> tuple[Look, npt.NDArray[np.uint8]]:
    luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    mean, deviation = cv2.meanStdDev(luma)
    contrast = float(deviation[0, 0]) / 255
    look = Look(
        form=form,
        orientation=orientation,
        brightness=float(mean[0, 0]) / 255,
        contrast=contrast,
        sharpness=_sharpness(luma, contrast),
        colour=_colour(pixels),
    )
    size = (THUMBNAIL, THUMBNAIL)
    return look, np.asarray(cv2.resize(luma, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _sharpness(luma: npt.NDArray[Any], contrast: float) -> float:
    if contrast < _FLAT:
        return 0.0
    height, width = luma.shape
    share = _SHARPNESS_SIDE / min(height, width)
    if share < 1:
        size = max(1, round(width * share)), max(1, round(height * share))
        luma = cv2.resize(luma, size, interpolation=cv2.INTER_AREA)
    width = _SMOOTHED * min(luma.shape)
    smooth = cv2.GaussianBlur(luma.astype(np.float32), (0, 0), width)
    edges = cv2.Laplacian(smooth, cv2.CV_32F)
    return float(edges.std()) / 255 / contrast


def _colour(pixels: Pixels) -> float:
    """Mean over the pixels of the distance between the strongest and the weakest channel."""
    red, green, blue = cv2.split(pixels)
    strongest = cv2.max(cv2.max(red, green), blue)
    weakest = cv2.min(cv2.min(red, green), blue)
    return float(cv2.mean(cv2.subtract(strongest, weakest))[0]) / 255


def _fresh(paths: Mapping[str, str], side: int) -> Iterator[tuple[str, _Seen | None]]:
    """Content and look of each file, in order; None where it cannot be read any more."""
    # OpenCV's own threads would compete with ours for the same cores.
    cv2.setNumThreads(1)
    pool = ThreadPoolExecutor(max_workers=max(2, _cores()), thread_name_prefix="look")
    waiting: deque[tuple[str, Future[_Seen | None]]] = deque()
    try:
        for content, path in paths.items():
            waiting.append((content, pool.submit(_look_or_none, path, side)))
            if len(waiting) > _AHEAD:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _look_or_none(path: str, side: int) -> _Seen | None:
    try:
        return _Seen(*look_at(path, side))
    except UnreadableImageError:
        return None


def _keeping(
    fresh: Iterable[tuple[str, _Seen | None]], place: Path
) -> Iterator[tuple[str, _Seen | None]]:
    """The same, written to files on the way, and also when the audit is interrupted."""
    waiting: dict[str, _Seen] = {}
    try:
        for content, one in fresh:
            if one is not None:
                waiting[content] = one
            if len(waiting) >= _KEPT_TOGETHER:
                _keep(waiting, place)
                waiting = {}
            yield content, one
    finally:
        _keep(waiting, place)


def _keep(seen: Mapping[str, _Seen], place: Path) -> None:
    if not seen:
        return
    records = np.zeros(len(seen), dtype=_RECORD)
    for number, (content, (look, thumbnail)) in enumerate(seen.items()):
        measures = (look.brightness, look.contrast, look.sharpness, look.colour)
        row = (content.encode(), look.form.encode(), look.orientation, measures, thumbnail)
        records[number] = row
    # Looks are kept to save time only: an audit on a full disk goes on without.
    with contextlib.suppress(DiskError):
        write_whole(place / f"{next(iter(seen))}.npy", lambda partial: np.save(partial, records))


def _read_kept(place: Path) -> dict[str, _Seen]:
    """All looks that were kept; a damaged file is as good as none."""
    seen: dict[str, _Seen] = {}
    for file in sorted(place.glob("*.npy")):
        if file.name.startswith("."):
            continue
        with contextlib.suppress(OSError, ValueError, EOFError):
            records = np.load(file, allow_pickle=False)
            if records.dtype == _RECORD:
                seen.update((record["content"].decode(), _seen(record)) for record in records)
    return seen


def _seen(record: np.void) -> _Seen:
    form, measures = record["form"].decode(), (float(value) for value in record["measures"])
    return _Seen(Look(form, int(record["orientation"]), *measures), record["thumbnail"])


def _gathered(
    readable: Sequence[Sample], seen: Mapping[str, _Seen]
) -> tuple[dict[str, Look], Hashes]:
    found = [sample for sample in readable if sample.content in seen]
    looks = {sample.sample_id: seen[sample.content].look for sample in found}
    thumbnails = np.empty((len(found), THUMBNAIL, THUMBNAIL), dtype=np.uint8)
    for row, sample in zip(itertools.count(), found):
        thumbnails[row] = seen[sample.content].thumbnail
    return looks, Hashes(tuple(looks), thumbnails)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
