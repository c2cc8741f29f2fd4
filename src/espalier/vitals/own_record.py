"""The folder of anybody's run: never that of another, and a full disk ends the record alone."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from espalier import files
from espalier.errors import DiskError, RunError
from espalier.run_record import to_plain
from espalier.vitals.folder import About, SignsFolder

_TRAIN, _VAL, _STEPS = "train_diagnostics.jsonl", "val_diagnostics.jsonl", "steps.jsonl"


class OwnRecord:
    """Writes what is known of a run; after an error of the disk it only keeps it in memory.

    Args:
        folder: As wanted; ``folder`` of the record is the one that is used.
        about: What is known when it begins.

    Raises:
        RunError: The folder cannot be written to.
    """

    def __init__(self, folder: Path, about: About) -> None:
        self.folder = free_folder(folder)
        self.about = about
        self._signs = SignsFolder(self.folder / "diagnostics")
        self._writing = True

    def change(self, **changes: Any) -> None:
        """Change what is known, and write it."""
        self.about = replace(self.about, **changes)
        self._write(lambda: self._signs.write(self.about))

    def step(self, row: Mapping[str, Any]) -> None:
        """Append a measured step, and note the first whose figures are not finite."""
        self._append(_STEPS, row)
        # A scaler looks for the scale that just fits: its steps with infinite norms are no fault.
        if row["skipped"] or "first_non_finite" in self.about.checks:
            return
        for what in ("loss", "grad_norm"):
            if not math.isfinite(row[what]):
                broken = {"step": row["step"], "what": what, "value": str(row[what])}
                self.change(checks={**self.about.checks, "first_non_finite": broken})
                return

    def epoch(self, train: Mapping[str, Any], val: Mapping[str, Any]) -> None:
        """Append the lines of an epoch."""
        self._append(_TRAIN, train)
        self._append(_VAL, val)

    def confusion(self, epoch: int, counts: list[list[int]]) -> None:
        """Write the confusion matrix of the last validation."""
        names = self.about.facts.classes or range(len(counts))
        self._write(lambda: self._signs.write_confusion(epoch, [str(n) for n in names], counts))

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        self._write(lambda: files.append_row(self._signs.path / name, to_plain(row)))

    def _write(self, write: Callable[[], None]) -> None:
        if not self._writing:
            return
        try:
            write()
        except DiskError as error:
            self._writing = False
            warnings.warn(f"vital signs end here, training goes on: {error}", stacklevel=4)


def free_folder(folder: Path) -> Path:
    """The folder itself, or ``-2``, ``-3`` ... where it holds the signs of another run.

    Raises:
        RunError: It cannot be written to.
    """
    number = 1
    while True:
        path = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        try:
            path.mkdir(parents=True, exist_ok=True)
            (path / "diagnostics").mkdir()
        except FileExistsError as error:
            if not path.is_dir():
                raise RunError(
                    f"cannot write vital signs into {path}: it is a file",
                    hint=f'Vitals(model, optimizer, "{folder.with_name(folder.name + "-signs")}")',
                ) from error
            number += 1
        except OSError as error:
            raise RunError(
                f"cannot write vital signs into {path}: {error.strerror}",
                hint="Vitals(model, optimizer, FOLDER) with a folder you may write to",
            ) from error
        else:
            return path
