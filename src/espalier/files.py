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


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file beside its place, then move it there: readers see the old or the new one.

    Raises:
        DiskError: The file could not be written; what was there before is untouched.
    """
    # The suffix stays last: libraries choose the format by it.
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise disk_error(path, error) from error


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
        hint="free some space, then: espalier train --resume RUN",
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
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return rows


def keep_rows_until(path: Path, step: int) -> None:
    """Drop the rows after a global step: a resumed run writes them again."""
    rows = read_rows(path)
    kept = [row for row in rows if int(row.get("step", 0)) <= step]
    if path.exists():
        write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))
