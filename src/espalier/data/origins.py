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
        # A spreadsheet may have put its mark at the start.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
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
    original, or a copy of it, validates or tests it is dropped: a model that has seen it painted
    has seen it. Where a person left the original out, as a copy of a test image or as no example of
    its class, what is painted on it goes, too.

    Args:
        photographs: With their split.
        painted: With ``origin``, whatever their split.
    """
    held_out = _why_held_out(photographs)
    group = {s.content: s.group for s in photographs}
    kept = []
    for sample in painted:
        mine = replace(sample, split="train", group=group.get(sample.origin))
        if sample.origin in held_out and sample.status == "ok":
            mine = replace(mine, status="dropped", reason=held_out[sample.origin])
        kept.append(mine)
    notes = []
    if training := sum(sample.status == "ok" for sample in kept):
        notes.append(f"{training:,} images are painted (synthetic): they train only")
    if idle := sum(sample.status == "dropped" for sample in kept):
        notes.append(f"{idle:,} painted images are left out: so is their photograph, or it judges")
    every = sorted((*photographs, *kept), key=lambda sample: sample.path)
    return tuple(every), tuple(notes)


def _why_held_out(photographs: Sequence[Sample]) -> dict[str, str]:
    """Content -> why nothing that is painted on it trains."""
    used = {s.content for s in photographs if s.status == "ok"}
    judging = [s for s in photographs if s.status == "ok" and s.split not in (None, "train")]
    left_out = [s for s in photographs if s.status == "dropped" and s.content not in used]
    return {
        **{s.content: "its photograph is left out" for s in left_out},
        **{s.content: f"its photograph is in {s.split}" for s in judging},
    }
