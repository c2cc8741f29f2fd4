"""Writes drawn pictures into a new folder, all of them or none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from espalier.errors import DataError, DiskError

Progress = Callable[[int, int], None]


def write_folder(
    folder: Path,
    files: Iterable[tuple[str, Callable[[], bytes]]],
    *,
    total: int,
    progress: Progress | None = None,
) -> Path:
    """The folder, holding every file; it does not exist, or stays empty, until all are written.

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
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        for done, (name, make) in enumerate(files, start=1):
            path = partial / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(make())
            if progress is not None:
                progress(done, total)
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    except OSError as error:
        raise DiskError(
            f"{folder}: the pictures could not be written ({error.strerror or error})",
            hint="free some space, or name a folder that you may write to",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _refuse_occupied(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if os.path.lexists(folder):
        what = "is not empty" if folder.is_dir() else "is a file"
        raise DataError(
            f"{folder}: {what}; pictures are written only into a new or empty folder",
            hint="name another folder, or remove this one yourself",
        )
