"""From what a person names (folder, manifest, torchvision set, glob) to images, each looked at."""

from __future__ import annotations

import glob
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import cv2

from espalier.data import torchvision_sets
from espalier.data.folders import image_files, is_image_name, read_folder
from espalier.data.images import IMAGE_SUFFIXES, Inspection, Picture, image_size, inspect_image
from espalier.data.manifests import is_manifest, read_manifest
from espalier.data.store import PixelStore, look_at
from espalier.data.store_choice import Survey
from espalier.errors import DataError
from espalier.records import Sample

Progress = Callable[[int, int], None]
# A picture that takes seconds to decode holds up all behind it, and each of those takes memory.
_AHEAD = 128
_SURVEYED = 100


@dataclass(frozen=True)
class Source:
    """What a source holds.

    Attributes:
        samples: One per image file, sorted by path; readable or not, unsplit or with given split.
        folder: What paths are relative to; None for a torchvision set.
        notes: What a person should know about how it was read.
    """

    samples: tuple[Sample, ...]
    folder: str | None
    notes: tuple[str, ...]


def read_source(
    source: str, *, root: str | None, progress: Progress | None, store: PixelStore | None = None
) -> Source:
    """List a source's images and look at each: hash, size, whether it decodes.

    Args:
        source: A folder, a manifest, or ``torchvision:NAME``.
        root: Where torchvision keeps or puts its files; None: its cache folder.
        progress: Called with (images done, images in all).
        store: Keeps what is decoded; what it has already is hashed only.

    Raises:
        DataError: The source does not exist, is empty, or is not understood.
        DiskError: The store was asked for explicitly and cannot be written.
    """
    samples, folder, notes = _list_source(source, root)
    samples = sorted(samples, key=lambda sample: sample.path)
    return Source(tuple(inspected(samples, progress, store)), folder, tuple(notes))


def survey_source(source: str, *, root: str | None) -> Survey:
    """How many files a source has, and the sizes of some: milliseconds, nothing is decoded.

    Raises:
        DataError: As in ``read_source``.
    """
    if torchvision_sets.is_address(source):
        return Survey(0, ())
    paths = [sample.path for sample in _list_source(source, root)[0]]
    sizes = (image_size(path) for path in paths[:: max(1, len(paths) // _SURVEYED)])
    return Survey(len(paths), tuple(size for size in sizes if size is not None))


def find_images(paths: Sequence[str]) -> list[str]:
    """Image files named by files, folders (with all below them) and globs, each once, in order.

    Raises:
        DataError: Naming every argument that matched nothing.
    """
    found: dict[str, None] = {}
    problems = []
    for text in paths:
        matches = _matches(text)
        found.update(dict.fromkeys(matches))
        if not matches:
            what = (
                "no image in it" if os.path.isdir(os.path.expanduser(text)) else "matches nothing"
            )
            problems.append(f"`{text}`: {what}")
    if problems or not found:
        raise DataError(
            "no images found" if not found else "some of the images were not found",
            problems=problems,
            hint=f"name files, folders or globs; suffixes: {' '.join(sorted(IMAGE_SUFFIXES))}",
        )
    return list(found)


def inspect_files(paths: Sequence[str]) -> list[Sample]:
    """Unlabelled samples of image files, each looked at; what cannot be read says why."""
    return inspected([Sample("", path, None) for path in paths])


def inspected(
    samples: Sequence[Sample], progress: Progress | None = None, store: PixelStore | None = None
) -> list[Sample]:
    """The samples with all that one look at each file tells: hash, size, whether it decodes."""
    return _with_ids(_looked_at(samples, progress, store))


def _list_source(source: str, root: str | None) -> tuple[list[Sample], str | None, list[str]]:
    if torchvision_sets.is_address(source):
        members = torchvision_sets.open_set(source, root)
        return [Sample("", m.address, m.label, split=m.split) for m in members], None, []
    path = Path(os.path.abspath(os.path.expanduser(source)))
    if is_manifest(path):
        return read_manifest(path), str(path.parent), []
    samples, notes = read_folder(path)
    return samples, str(path), notes


def _looked_at(
    samples: Sequence[Sample], progress: Progress | None, store: PixelStore | None
) -> list[Sample]:
    """Look at all files with a few threads: hashing and decoding release the GIL."""
    # OpenCV's own threads would compete with ours for the same cores.
    cv2.setNumThreads(1)
    found: list[Sample] = []
    pool = ThreadPoolExecutor(max_workers=max(2, _cores()), thread_name_prefix="inspect")
    try:
        looks = _looks(pool, [sample.path for sample in samples], store)
        for sample, (seen, picture) in zip(samples, looks, strict=True):
            # In their order: two runs that start together then write the same packs.
            if store is not None and picture is not None:
                store.put(picture)
            found.append(_seen(sample, seen))
            if progress is not None:
                progress(len(found), len(samples))
    finally:
        # Ctrl-C must not wait for the rest of the folder, and what is done is kept.
        pool.shutdown(cancel_futures=True)
        if store is not None:
            store.publish()
    return found


def _looks(
    pool: ThreadPoolExecutor, paths: Sequence[str], store: PixelStore | None
) -> Iterator[tuple[Inspection, Picture | None]]:
    """What is seen of each file, in order; only a few pictures wait in memory."""

    def look(path: str) -> tuple[Inspection, Picture | None]:
        return (inspect_image(path), None) if store is None else look_at(path, store)

    waiting: deque[Future[tuple[Inspection, Picture | None]]] = deque()
    for path in paths:
        waiting.append(pool.submit(look, path))
        if len(waiting) > _AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _seen(sample: Sample, seen: Inspection) -> Sample:
    return replace(
        sample,
        sample_id=seen.content,
        width=seen.width,
        height=seen.height,
        status="unreadable" if seen.reason else "ok",
        reason=seen.reason,
    )


def _with_ids(samples: Sequence[Sample]) -> list[Sample]:
    """Number the later exact copies, so that every ``sample_id`` is unique."""
    times: dict[str, int] = {}
    found = []
    for sample in samples:
        times[sample.content] = copy = times.get(sample.content, 0) + 1
        name = sample.content if copy == 1 else f"{sample.content}~{copy}"
        found.append(replace(sample, sample_id=name))
    return found


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _matches(text: str) -> list[str]:
    path = os.path.abspath(os.path.expanduser(text))
    if os.path.isfile(path):
        return [path]
    if os.path.isdir(path):
        return image_files(path)
    found: list[str] = []
    # The pattern is not made absolute first: a current folder named `a[1]` would become a pattern.
    for name in sorted(glob.glob(os.path.expanduser(text), recursive=True)):
        match = os.path.abspath(name)
        if os.path.isdir(match):
            found += image_files(match)
        elif is_image_name(match):
            found.append(match)
    return found
