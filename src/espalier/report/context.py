"""What a run folder knows beside its epochs: the baseline, and how much validation can say."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espalier.records import EpochRow
from espalier.runs import RunDir

# A gap of 5 points is then less than its own standard error.
FEWEST_VALIDATION_IMAGES = 50
# Standard errors above chance that a score must be, to be more than luck.
BEYOND_LUCK = 2.0


@dataclass(frozen=True)
class Baseline:
    """What a linear head on the frozen backbone scores, cross-validated on training images.

    Attributes:
        macro_f1: In [0, 1].
        low: Lower end of its 95 % interval.
        high: Upper end.
        folds: Parts that took turns in being held out.
        images: How many images were judged.
        per_class: F1 of each class that was judged, lowest first.
        notes: What a person should know of it.
    """

    macro_f1: float
    low: float
    high: float
    folds: int
    images: int
    per_class: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def half(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Context:
    """What is known of a run beside its history; None where it is not.

    Attributes:
        baseline: Of ``baseline.json``.
        val_images: How many images validation has.
        classes: How many classes there are.
    """

    baseline: Baseline | None = None
    val_images: int | None = None
    classes: int | None = None

    def at_chance(self, row: EpochRow) -> bool:
        """Whether an epoch's macro-F1 is not beyond that of guessing.

        Guessing each class as often as it occurs gives 1 / K, any other guessing less or hardly
        more. The noise is that of an accuracy of 1 / K on so many images.
        """
        if not self.classes or not self.val_images:
            return False
        chance = 1 / self.classes
        noise = math.sqrt(chance * (1 - chance) / self.val_images)
        return row.val_macro_f1 <= chance + BEYOND_LUCK * noise

    def has_few_images(self) -> bool:
        """Whether validation is too small to tell a good gap from a bad one."""
        return self.val_images is not None and self.val_images < FEWEST_VALIDATION_IMAGES


NOTHING_KNOWN = Context()


def context_of(run: RunDir) -> Context:
    """What the files of a run say; what is missing or cannot be read is left out."""
    return Context(
        read_baseline(run.baseline_file),
        _validation_images(run.catalog_file),
        _classes(run.class_weights_file),
    )


def read_baseline(path: Path) -> Baseline | None:
    """The baseline on record; None where there is none, or none that can be read."""
    try:
        return baseline_from(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def baseline_from(record: Mapping[str, Any]) -> Baseline:
    """A baseline as ``baseline.json`` holds it."""
    low, high = record["macro_f1_interval"]
    judged = [entry for entry in record.get("per_class", ()) if entry["support"]]
    return Baseline(
        macro_f1=float(record["macro_f1"]),
        low=float(low),
        high=float(high),
        folds=int(record["folds"]),
        images=int(record["images"]),
        per_class={entry["class"]: float(entry["f1"]) for entry in judged},
        notes=tuple(record.get("notes", ())),
    )


def _validation_images(catalog: Path) -> int | None:
    rows = _rows(catalog)
    if not rows or not {"split", "status"} <= rows[0].keys():
        return None
    return sum((row["split"], row["status"]) == ("val", "ok") for row in rows)


def _classes(class_weights: Path) -> int | None:
    return len(_rows(class_weights)) or None


def _rows(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV file; none where it is missing or damaged."""
    try:
        with file.open(encoding="utf-8", newline="") as opened:
            return list(csv.DictReader(opened))
    except (OSError, ValueError, csv.Error):
        return []
