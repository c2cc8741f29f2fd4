"""A small long-tailed set of leaf photographs, drawn by the program, to try everything on.

Seven conditions on leaves of many kinds, before many backgrounds, in any light. Every picture is
decided by the seed, its class and its number alone, so the same call writes the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from espalier.data.synthetic.folders import Progress, write_folder
from espalier.data.synthetic.lesions import CONDITIONS
from espalier.data.synthetic.photograph import photograph
from espalier.errors import DataError

LEAF_CLASSES: tuple[str, ...] = tuple(CONDITIONS)
"""From the most frequent class to the rarest."""

_FEWEST_PER_CLASS = 3
_SMALLEST = 32
_LARGEST = 1024
_JPEG_QUALITY = 90


def write_leaves(
    folder: Path,
    *,
    images: int,
    ratio: float,
    seed: int,
    imgsz: int,
    progress: Progress | None = None,
) -> Path:
    """A folder of class folders with JPEG files such as ``healthy/healthy_0001.jpg``.

    Args:
        folder: New or empty; nothing is ever overwritten.
        images: Of all classes together.
        ratio: Images of the most frequent class to those of the rarest; 1 for a balanced set.
        seed: Another seed gives other pictures.
        imgsz: Pixels across and down.
        progress: Called with images written so far and ``images``.

    Raises:
        DataError: The folder is occupied, or the numbers cannot hold.
        DiskError: A file could not be written; nothing is left behind.
    """
    _check_numbers(seed, imgsz)
    counts = leaf_counts(images, ratio)
    return write_folder(
        folder, _files(counts, seed, imgsz), total=sum(counts.values()), progress=progress
    )


def leaf_counts(images: int, ratio: float) -> dict[str, int]:
    """Images per class, falling by the same factor from class to class, ``images`` in all.

    Raises:
        DataError: ``ratio`` is below 1, or the rarest class would have fewer than 3 images.
    """
    if not (np.isfinite(ratio) and ratio >= 1):
        raise DataError(
            f"ratio is {ratio:g}; it must be 1 (all classes alike) or more", hint="ratio=20"
        )
    steps = len(LEAF_CLASSES) - 1
    profile = ratio ** (np.arange(steps, -1, -1) / steps)
    least = int(np.ceil(_FEWEST_PER_CLASS * profile.sum()))
    if images < least:
        raise DataError(
            f"images is {images}; a ratio of {ratio:g} : 1 over {len(LEAF_CLASSES)} classes needs "
            f"at least {least}, so that the rarest class has {_FEWEST_PER_CLASS}",
            hint=f"images={least}, or a smaller ratio",
        )
    return dict(zip(LEAF_CLASSES, _share_out(images, profile), strict=True))


def _share_out(images: int, profile: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[int]:
    """Whole numbers nearest to the profile that sum to ``images``, by largest remainder."""
    exact = images * profile / profile.sum()
    counts = np.floor(exact).astype(int)
    rest = images - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:rest]] += 1
    return [int(count) for count in counts]


def _check_numbers(seed: int, imgsz: int) -> None:
    problems = []
    if seed < 0:
        problems.append(f"seed is {seed}; it must be 0 or more")
    if not _SMALLEST <= imgsz <= _LARGEST:
        problems.append(f"imgsz is {imgsz}; it must be from {_SMALLEST} to {_LARGEST}")
    if problems:
        raise DataError(
            "the leaves cannot be drawn like this", problems=problems, hint="seed=0 imgsz=160"
        )


def _files(counts: dict[str, int], seed: int, imgsz: int) -> Iterator[tuple[str, partial[bytes]]]:
    for condition, count in counts.items():
        for number in range(1, count + 1):
            name = f"{condition}/{condition}_{number:04d}.jpg"
            yield name, partial(leaf_jpeg, condition, number, seed=seed, imgsz=imgsz)


def leaf_jpeg(condition: str, number: int, *, seed: int, imgsz: int) -> bytes:
    """One photograph of the set as the bytes of a JPEG file.

    Args:
        condition: One of ``LEAF_CLASSES``.
        number: Of the image within its class.
        seed: Of the set.
        imgsz: Pixels across and down.
    """
    rng = np.random.default_rng((seed, LEAF_CLASSES.index(condition), number))
    picture = photograph(condition, imgsz=imgsz, rng=rng)
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))
    return bytes(encoded)
