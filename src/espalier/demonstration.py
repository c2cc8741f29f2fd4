"""The demo: draw diseased leaves, train on them, judge, and classify one leaf."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espalier import pipeline
from espalier.data.catalog import read_catalog
from espalier.data.synthetic.leaves import write_leaves
from espalier.errors import DataError
from espalier.evaluate.predictor import Predictor
from espalier.files import write_text
from espalier.pipeline import TrainResult
from espalier.preparation import Progress
from espalier.recipe.load import load_recipe
from espalier.records import Catalog, Predictions, Sample
from espalier.report.text import place_lines, verdict_lines
from espalier.train.watch import Unwatched, Watch

IMAGES = 1200
RATIO = 20.0
PIXELS = 160
BEST_GUESSES = 3


@dataclass(frozen=True)
class Shown:
    """What the demo did.

    Attributes:
        leaves: The folder of pictures.
        result: The training run.
        prediction: What it says of one test image.
    """

    leaves: Path
    result: TrainResult
    prediction: Predictions

    @property
    def image(self) -> Path:
        """The classified image, as a person here would name it."""
        return self.leaves.joinpath(*Path(self.prediction.paths[0]).parts[-2:])

    @property
    def drawn_as(self) -> str:
        """What is on that image."""
        return self.prediction.classes[int(self.prediction.labels[0])]

    def guesses(self) -> list[tuple[str, float]]:
        """The most likely classes with their probabilities, best first."""
        probabilities = self.prediction.probabilities[0]
        best = np.argsort(-probabilities, kind="stable")[:BEST_GUESSES]
        return [(self.prediction.classes[i], float(probabilities[i])) for i in best]

    def lines(self) -> Sequence[str]:
        """Scores, worst classes, the prediction, where things are, and what to type next."""
        result = self.result
        guesses = ", ".join(f"{name} {probability:.2f}" for name, probability in self.guesses())
        return [
            *verdict_lines(result.val, result.test, result.ended, result.seconds),
            "",
            f"one test image, drawn as {self.drawn_as}: {self.image}",
            f"  looks like {guesses}",
            "",
            f"leaves  {self.leaves}",
            *place_lines(result.run),
            "",
            "now your own photographs, in one folder per class:",
            "  espalier train PHOTOS",
        ]

    def to_json(self) -> dict[str, Any]:
        """The training result, and the pictures and the prediction beside it."""
        label, probability = self.guesses()[0]
        return {
            **self.result.to_json(),
            "leaves": str(self.leaves),
            "prediction": {
                "path": str(self.image),
                "label": label,
                "probability": round(probability, 6),
                "drawn_as": self.drawn_as,
            },
        }


def run(
    folder: Path,
    *,
    seed: int = 0,
    watch: Watch | None = None,
    drawing: Progress | None = None,
    reading: Progress | None = None,
) -> Shown:
    """Draw leaves into ``folder/leaves-SEED``, train in ``folder/runs``, classify a test leaf.

    Args:
        folder: Made where it does not exist.
        seed: Of the pictures and of the training.
        watch: Told what happens while it trains.
        drawing: Told ``(done, total)`` while pictures are drawn.
        reading: Told ``(done, total)`` while they are read.

    Raises:
        DataError: The folder of leaves exists and is not what this demo draws.
        DiskError: The pictures cannot be written.
    """
    watch = watch or Unwatched()
    leaves = draw(folder, seed, watch, drawing)
    recipe = load_recipe(
        preset="demo",
        file=None,
        sets=[],
        flags={"source": str(leaves), "out": str(folder / "runs"), "name": "leaves", "seed": seed},
        words=[],
    )
    result = pipeline.train(recipe, watch=watch, progress=reading)
    return Shown(leaves, result, classify_one(result))


def draw(folder: Path, seed: int, watch: Watch, progress: Progress | None = None) -> Path:
    """The drawn leaves; those of an earlier demo with the same seed are used again."""
    leaves = folder / f"leaves-{seed}"
    wanted = json.dumps({"images": IMAGES, "ratio": RATIO, "seed": seed, "imgsz": PIXELS}) + "\n"
    record = folder / f"{leaves.name}.json"
    if leaves.is_dir() and record.is_file() and record.read_text(encoding="utf-8") == wanted:
        watch.on_note(f"the leaves of an earlier demo are used again: {leaves}")
        return leaves
    if leaves.exists():
        raise DataError(
            f"{leaves} exists, and holds other pictures than this demo draws",
            hint=f"rm -r {leaves}, or espalier demo --out another-folder",
        )
    watch.on_note(f"drawing {IMAGES:,} leaves into {leaves}")
    write_leaves(leaves, images=IMAGES, ratio=RATIO, seed=seed, imgsz=PIXELS, progress=progress)
    write_text(record, wanted)
    return leaves


def classify_one(result: TrainResult) -> Predictions:
    """Classify one test image, as a person would next."""
    return Predictor(result.run).predict([typical_image(read_catalog(result.run.catalog_file))])


def typical_image(catalog: Catalog) -> Sample:
    """The first test image of the class that is neither frequent nor rare."""
    counts = catalog.counts("test")
    present = sorted((name for name in counts if counts[name]), key=lambda name: counts[name])
    middle = present[len(present) // 2]
    return next(sample for sample in catalog.in_split("test") if sample.label == middle)
