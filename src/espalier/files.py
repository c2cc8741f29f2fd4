"""Files that a kill or a full disk cannot spoil: written whole, or only ever appended to."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from espalier.errors import DiskError


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place, then move it there: readers see the old or the new one.

    Raises:
        DiskError: The file could not be written; what was there before is untouched.
    """
    partial = partial_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        os.replace(partial, path)
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def partial_of(path: Path) -> Path:
    """Where a file grows until it is whole; of this process alone, so that two never share it."""
    # The suffix stays last: libraries choose the format by it.
    return path.with_name(f".{path.stem}.partial-{os.getpid()}{path.suffix}")


def remove_partials(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder and those below it."""
    for path in folder.rglob(".*.partial-*"):
        with contextlib.suppress(OSError):
            path.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    write_whole(path, lambda partial: _write_utf8(partial, text))


def _write_utf8(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(text)


def disk_error(path: Path, error: OSError) -> DiskError:
    """A ``DiskError`` that names the file, the cause and the space left."""
    free = ""
    with contextlib.suppress(OSError):
        free = f"; {shutil.disk_usage(path.parent).free / 1e6:,.0f} MB are free there"
    return DiskError(
        f"cannot write {path}: {error.strerror or error}{free}. What was there before is intact",
        hint="free some space there, then type the command again",
    )


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append one JSON line; numbers that are not finite are written as null."""
    line = json.dumps(_finite(row), ensure_ascii=False, allow_nan=False)
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise disk_error(path, error) from error


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file; a half-written last line is left out, a missing file is empty."""
    if not path.exists():
        return []
    rows = []
    # A line that is being written may end in the middle of a character.
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        with contextlib.suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return rows


def keep_rows_until(path: Path, last: int, *, clock: str) -> None:
    """Drop the rows after a ``step`` or ``epoch``: a resumed run writes them again."""
    kept = [row for row in read_rows(path) if int(row.get(clock, 0)) <= last]
    if path.exists():
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))
