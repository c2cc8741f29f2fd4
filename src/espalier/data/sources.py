"""From what a person names (folder, manifest, torchvision set, glob) to images, each looked at."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from espalier.data import torchvision_sets
from espalier.data.folders import image_files, is_image_name, read_folder
from espalier.data.images import IMAGE_SUFFIXES, Inspection, inspect_image
from espalier.data.manifests import is_manifest, read_manifest
from espalier.errors import DataError
from espalier.records import Sample

Progress = Callable[[int, int], None]


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


def read_source(source: str, *, root: str | None, progress: Progress | None) -> Source:
    """List a source's images and look at each: hash, size, whether it decodes.

    Args:
        source: A folder, a manifest, or ``torchvision:NAME``.
        root: Where torchvision keeps or puts its files; None: its cache folder.
        progress: Called with (images done, images in all).

    Raises:
        DataError: The source does not exist, is empty, or is not understood.
    """
    samples, folder, notes = _list_source(source, root)
    samples = sorted(samples, key=lambda sample: sample.path)
    return Source(tuple(_with_ids(_inspected(samples, progress))), folder, tuple(notes))


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
    return _with_ids(_inspected([Sample("", path, None) for path in paths], None))


def _list_source(source: str, root: str | None) -> tuple[list[Sample], str | None, list[str]]:
    if torchvision_sets.is_address(source):
        members = torchvision_sets.open_set(source, root)
        return [Sample("", m.address, m.label, split=m.split) for m in members], None, []
    path = Path(os.path.abspath(os.path.expanduser(source)))
    if is_manifest(path):
        return read_manifest(path), str(path.parent), []
    samples, notes = read_folder(path)
    return samples, str(path), notes


def _inspected(samples: Sequence[Sample], progress: Progress | None) -> list[Sample]:
    """Look at all files with a few threads: hashing and decoding release the GIL."""
    found: list[Sample] = []
    pool = ThreadPoolExecutor(max_workers=max(2, _cores()), thread_name_prefix="inspect")
    try:
        for sample, seen in zip(
            samples, pool.map(inspect_image, [s.path for s in samples]), strict=True
        ):
            found.append(_seen(sample, seen))
            if progress is not None:
                progress(len(found), len(samples))
    finally:
        # Ctrl-C must not wait for the rest of the folder.
        pool.shutdown(cancel_futures=True)
    return found


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
