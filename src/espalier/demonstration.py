"""The demo: draw diseased leaves, train on them, judge, and classify one leaf."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espalier import pipeline
from espalier.data.synthetic.leaves import write_leaves
from espalier.errors import DataError
from espalier.files import write_text
from espalier.pipeline import Progress, TrainResult
from espalier.recipe.load import load_recipe
from espalier.records import Predictions
from espalier.report.text import closing_lines
from espalier.train.watch import Unwatched, Watch

IMAGES = 900
RATIO = 20.0
PIXELS = 160


@dataclass(frozen=True)
class Shown:
    """What the demo did: the training run, and one classified test image."""

    result: TrainResult
    prediction: Predictions

    def lines(self) -> Sequence[str]:
        """Scores, worst classes, where things are, and the prediction."""
        result = self.result
        answer = self.prediction.classes[self.prediction.predicted[0]]
        truth = self.prediction.classes[self.prediction.labels[0]]
        probability = float(self.prediction.probabilities.max())
        return [
            *closing_lines(result.run, result.val, result.test, result.ended, result.seconds),
            "",
            f"one test image: {self.prediction.paths[0]}",
            f"  looks like {answer} ({probability:.0%}); it was drawn as {truth}",
            f"the picture of the training: {result.run.curves}",
        ]

    def to_json(self) -> dict[str, Any]:
        """The training result, and the prediction beside it."""
        return {
            **self.result.to_json(),
            "prediction": {
                "path": self.prediction.paths[0],
                "label": self.prediction.classes[self.prediction.predicted[0]],
                "probability": round(float(self.prediction.probabilities.max()), 6),
                "drawn_as": self.prediction.classes[self.prediction.labels[0]],
            },
        }


def run(
    folder: Path,
    *,
    seed: int = 0,
    watch: Watch | None = None,
    progress: Progress | None = None,
) -> Shown:
    """Draw leaves into ``folder/leaves-SEED``, train in ``folder/runs``, classify a test leaf.

    Raises:
        DataError: The folder of leaves exists and is not one the demo wrote.
    """
    watch = watch or Unwatched()
    leaves = draw(folder, seed, watch)
    recipe = load_recipe(
        preset="demo",
        file=None,
        sets=[],
        flags={"source": str(leaves), "out": str(folder / "runs"), "name": "leaves", "seed": seed},
        words=[],
    )
    result = pipeline.train(recipe, watch=watch, progress=progress)
    return Shown(result, classify_one(result))


def draw(folder: Path, seed: int, watch: Watch) -> Path:
    """The drawn leaves; those of an earlier demo with the same seed are used again."""
    leaves = folder / f"leaves-{seed}"
    wanted = {"images": IMAGES, "ratio": RATIO, "seed": seed, "imgsz": PIXELS}
    record = folder / f"{leaves.name}.json"
    if record.exists() and json.loads(record.read_text(encoding="utf-8")) == wanted:
        watch.on_note(f"leaves drawn earlier are used again: {leaves}")
        return leaves
    if leaves.exists():
        raise DataError(
            f"{leaves} exists, and no finished demo is on record for it",
            hint=f"rm -r {leaves}, or espalier demo --out another-folder",
        )
    watch.on_note(f"drawing {IMAGES} leaves into {leaves}")
    write_leaves(leaves, images=IMAGES, ratio=RATIO, seed=seed, imgsz=PIXELS)
    write_text(record, json.dumps(wanted) + "\n")
    return leaves


def classify_one(result: TrainResult) -> Predictions:
    """Classify the first test image of the rarest class that has one, as a person would next."""
    from espalier.data.catalog import read_catalog
    from espalier.evaluate.predictor import Predictor

    catalog = read_catalog(result.run.catalog_file)
    counts = catalog.counts("train")
    test = sorted(catalog.in_split("test"), key=lambda s: (counts.get(s.label or "", 0), s.path))
    return Predictor(result.run).predict(test[:1])
