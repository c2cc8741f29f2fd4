"""Painted pictures among photographs: they train beside their original, and never judge."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from espalier.errors import DataError
from espalier.records import Sample

_NEEDED = ("path", "label", "group", "synthetic")


def read_synthetic(path: Path) -> list[Sample]:
    """The rows of a ``synthetic.csv`` as training samples, not yet opened.

    Raises:
        DataError: The table is missing, is not one of ``espalier synth``, or names missing files.
    """
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = list(csv.DictReader(file))
        samples = [_sample(path, row) for row in rows]
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise DataError(
            f"{path} is not a table of synthetic photographs: {error!r}",
            hint="name the synthetic.csv that `espalier synth` wrote",
        ) from error
    missing = [sample.path for sample in samples if not Path(sample.path).is_file()]
    if missing:
        raise DataError(
            f"{len(missing):,} of the {len(samples):,} pictures of {path} are not there",
            problems=missing[:10],
            hint="type the command that made them again: it makes what is missing",
        )
    return samples


def _sample(table: Path, row: dict[str, str]) -> Sample:
    path, label, origin, synthetic = (row[name] for name in _NEEDED)
    if synthetic != "yes" or not (path and label and origin):
        raise ValueError(f"no painted picture: {path}")
    file = (table.absolute().parent / path).resolve()
    return Sample("", str(file), label, split="train", origin=origin)


def place_synthetic(
    photographs: Sequence[Sample], painted: Sequence[Sample]
) -> tuple[tuple[Sample, ...], tuple[str, ...]]:
    """All samples by path, painted ones in train or dropped; and notes.

    A painted picture trains where its original trains or is not among the photographs. Where the
    original validates or tests it is dropped: a model that has seen it painted has seen it.

    Args:
        photographs: With their split.
        painted: With ``origin``, whatever their split.
    """
    home = {s.content: s.split for s in photographs if s.status == "ok"}
    group = {s.content: s.group for s in photographs}
    kept = []
    for sample in painted:
        part = home.get(sample.origin, "train")
        mine = replace(sample, split="train", group=group.get(sample.origin))
        if part != "train" and sample.status == "ok":
            mine = replace(mine, status="dropped", reason=f"its photograph is in {part}")
        kept.append(mine)
    notes = []
    if training := sum(sample.status == "ok" for sample in kept):
        notes.append(f"{training:,} images are painted (synthetic): they train only")
    if held_out := sum(sample.status == "dropped" for sample in kept):
        notes.append(f"{held_out:,} painted images are left out: their photograph is held out")
    every = sorted((*photographs, *kept), key=lambda sample: sample.path)
    return tuple(every), tuple(notes)
