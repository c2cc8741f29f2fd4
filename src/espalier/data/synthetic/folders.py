"""Writes drawn pictures into a new folder, all of them or none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from espalier.errors import DataError, DiskError

Progress = Callable[[int, int], None]

_MOST_THREADS = 8


def write_folder(
    folder: Path,
    files: Iterable[tuple[str, Callable[[], bytes]]],
    *,
    total: int,
    progress: Progress | None = None,
) -> Path:
    """The folder, holding every file; it does not exist, or stays empty, until all are drawn.

    Args:
        folder: New or empty.
        files: Path inside the folder, and what makes its bytes.
        total: Number of files, for ``progress``.
        progress: Called with files written so far and ``total``.

    Raises:
        DataError: The folder holds something already.
        DiskError: A file could not be written; nothing is left behind.
    """
    folder = Path(folder)
    _refuse_occupied(folder)
    place = folder.resolve()
    partial = place.with_name(f".{place.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        _write_all(partial, files, total, progress)
        _put_in_place(partial, place)
    except OSError as error:
        raise DiskError(
            f"{folder}: the pictures could not be written ({error.strerror or error})",
            hint="free some space, or name a folder that you may write to",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _write_all(
    folder: Path,
    files: Iterable[tuple[str, Callable[[], bytes]]],
    total: int,
    progress: Progress | None,
) -> None:
    def write(file: tuple[str, Callable[[], bytes]]) -> None:
        path = folder / file[0]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(file[1]())

    # OpenCV and NumPy let go of the interpreter lock, so threads draw side by side.
    with ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_THREADS)) as threads:
        for done, _ in enumerate(threads.map(write, files), start=1):
            if progress is not None:
                progress(done, total)


def _put_in_place(partial: Path, place: Path) -> None:
    # An empty folder is filled, not replaced: a shell or a container may be standing in it.
    if place.exists():
        for entry in sorted(partial.iterdir()):
            entry.rename(place / entry.name)
    else:
        partial.rename(place)


def _refuse_occupied(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if os.path.lexists(folder):
        what = "is not empty" if folder.is_dir() else "is a file"
        raise DataError(
            f"{folder}: {what}; pictures are written only into a new or empty folder",
            hint="name another folder, or remove this one yourself",
        )
