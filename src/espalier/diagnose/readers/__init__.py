"""Readers of other tools' records: each turns files into a ``RunRecord``."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

from espalier.diagnose.readers import (
    espalier_run,
    fastai,
    huggingface,
    keras,
    lightning,
    table,
    tensorboard,
    timm,
    ultralytics,
)
from espalier.diagnose.readers.columns import map_option
from espalier.diagnose.readers.detect import Entry, find_records, tables_in
from espalier.diagnose.readers.tables import Dialect
from espalier.errors import RunError
from espalier.run_record import RunRecord

__all__ = ["Entry", "find_records", "read_record"]

KNOWN = (
    "a run folder of Espalier, trainer_state.json of Hugging Face, results.csv of Ultralytics, "
    "metrics.csv of Lightning, the CSVLogger files of Keras and fastai, summary.csv of timm, "
    "event files of TensorBoard, any CSV or JSON lines"
)
_TABLES: dict[str, Callable[[Path, Dialect], RunRecord]] = {
    "ultralytics": ultralytics.read,
    "timm": timm.read,
    "keras": keras.read,
    "fastai": fastai.read,
    "lightning": lightning.read,
}


def read_record(path: Path | str, mapping: Mapping[str, str] | None = None) -> RunRecord:
    """The one training run at a path, whoever wrote it, living or dead.

    Args:
        path: A run folder, a file of another tool, or a folder that holds one run.
        mapping: Sign -> column of a table, such as ``{"val_loss": "validation/nll"}``.

    Raises:
        RunError: There is no record, more than one (all are listed), nothing in it yet, or none of
            its columns is known (a mapping is proposed).
    """
    place = Path(path)
    found = find_records(place, mapping)
    if not found:
        raise _nothing(place, mapping)
    if len(found) > 1:
        raise RunError(
            f"{place} holds {len(found)} records; one is diagnosed at a time",
            problems=[f"{entry.path} ({entry.tool})" for entry in found[:20]],
            hint=f"espalier diagnose {shlex.quote(str(found[0].path))}",
        )
    record = _read(found[0], mapping)
    if not record.epochs and not record.steps:
        raise RunError(
            f"{found[0].path} holds no finished epoch yet: no row has a number in a column that is "
            "read",
            hint="wait until the first epoch is done, then ask again",
        )
    return record


def _read(entry: Entry, mapping: Mapping[str, str] | None) -> RunRecord:
    if entry.tool == "espalier":
        return espalier_run.read(entry.path)
    if entry.tool == "huggingface":
        return huggingface.read(entry.path)
    if entry.tool == "tensorboard":
        return tensorboard.read(entry.files, entry.path)
    if entry.dialect is None:
        raise RunError(
            f"{entry.path} is no table", hint=f"head -c 300 {shlex.quote(str(entry.path))}"
        )
    if entry.tool in _TABLES:
        return _TABLES[entry.tool](entry.path, entry.dialect)
    return table.read(entry.path, entry.dialect, mapping)


def _nothing(place: Path, mapping: Mapping[str, str] | None) -> RunError:
    """What to say where no record is: what there is instead, and what would help."""
    tables = tables_in(place)
    if tables and place.is_file() and not mapping:
        return table.unknown_columns(*tables[0])
    if place.is_file() and place.stat().st_size == 0:
        return RunError(f"{place} is empty", hint=f"ls -l {shlex.quote(str(place.parent))}")
    if tables:
        file, dialect = tables[0]
        return RunError(
            f"{place} has tables, but none with known columns",
            problems=[f"{f}: {', '.join(c for c in d.columns if c)}" for f, d in tables[:10]],
            hint=f"espalier diagnose {shlex.quote(str(file))} {map_option(dialect.columns)}",
        )
    inside = sorted(p.name for p in place.iterdir())[:10] if place.is_dir() else []
    listed = f"; it holds {', '.join(inside)}" if inside else ""
    return RunError(
        f"{place} is no record of a training run{listed}. What is read: {KNOWN}",
        hint="espalier diagnose runs/train/latest",
    )
