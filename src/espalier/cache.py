"""What can be computed again and is kept to save time: its folder, its budget, its eviction by age.

Nothing here is ever needed: whoever reads from the cache makes a thing anew where it is missing, so
a person may delete all of it at any time, also while a run trains.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Collection
from pathlib import Path

GIB = 2**30


def cache_root() -> Path:
    """``$ESPALIER_CACHE``, else ``espalier`` in the cache folder that the system gives a user."""
    if chosen := os.environ.get("ESPALIER_CACHE"):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        place = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        place = "~/Library/Caches"
    else:
        place = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(place).expanduser().absolute() / "espalier"


def cache_folder(kind: str) -> Path:
    """The folder of one kind of kept things, such as ``pixels``; it may not exist yet."""
    return cache_root() / kind


def free_bytes(folder: Path) -> int:
    """Bytes that can still be written where a folder is or would be; 0 where nobody can tell."""
    for place in (folder, *folder.parents):
        with contextlib.suppress(OSError):
            return shutil.disk_usage(place).free
    return 0


def used_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; 0 where there is none."""
    return sum(size for _, size, _ in _files(folder))


def mark_used(path: Path) -> None:
    """Remember that a file was used just now: eviction takes the longest unused first."""
    with contextlib.suppress(OSError):
        os.utime(path)


def evict(folder: Path, budget: int, keep: Collection[Path] = ()) -> int:
    """Remove the files of a folder that were not used for longest, until the rest fits.

    Args:
        folder: All below it counts.
        budget: Bytes that may stay.
        keep: Files that stay whatever the budget says.

    Returns:
        Bytes that were freed.
    """
    files = sorted(_files(folder))
    over = sum(size for _, size, _ in files) - budget
    freed = 0
    for _, size, path in files:
        if over - freed <= 0:
            break
        if path in keep:
            continue
        with contextlib.suppress(OSError):
            path.unlink()
            freed += size
    return freed


def _files(folder: Path) -> list[tuple[float, int, Path]]:
    """Time of last use, bytes and path of each file; what vanishes meanwhile is left out."""
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file():
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
    return found
