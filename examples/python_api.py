"""Train, judge and use a classifier from Python.

python examples/python_api.py            # on pictures drawn for the purpose, in seconds
python examples/python_api.py photos     # on your folder of class folders, with the defaults
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import espalier
from espalier.data.synthetic.tiny import write_tiny

QUICK = {"model": "small-cnn", "weights": "none", "imgsz": 32, "batch": 8, "epochs": 4}


def main(arguments: Sequence[str]) -> None:
    try:
        if arguments:
            use(Path(arguments[0]), {})
        else:
            with tempfile.TemporaryDirectory() as folder:
                photos = Path(folder, "photos")
                write_tiny(photos, classes=3, per_class=24, imgsz=40, seed=0)
                use(photos, {**QUICK, "out": str(Path(folder, "runs"))})
    except espalier.EspalierError as error:
        # The message says what happened, what is allowed, and after "try:" what to do.
        sys.exit(f"{error}")


def use(photos: Path, settings: Mapping[str, Any]) -> None:
    # Daily words of the command line; values={"loss.name": "focal"} would set any other value.
    result = espalier.train_classifier(photos, name="from-python", **settings)
    print(f"trained, {result.ended}: {result.run.path.name}")

    history = espalier.read_history(result.run)
    for row in history.rows:
        print(f"  epoch {row.epoch} ({row.stage}): macro-F1 {row.val_macro_f1:.3f} on validation")

    result = espalier.resume_run(result.run, epochs=len(history.rows) + 1)
    print(f"one epoch more: {result.history.rows[-1].val_macro_f1:.3f}")

    for judged in espalier.evaluate_run(result.run):
        score = judged.scores["macro_f1"]
        print(
            f"{judged.split}: macro-F1 {score.value:.3f}, 95 % in {score.low:.3f}-{score.high:.3f}"
        )
        worst = min(judged.per_class, key=lambda scores: scores.f1)
        print(f"  worst class: {worst.name}, F1 {worst.f1:.3f}")

    predictions, unreadable = espalier.predict_images(result.run, [photos])
    for i in range(min(3, len(predictions.paths))):
        label = predictions.classes[predictions.predicted[i]]
        print(
            f"{Path(predictions.paths[i]).name}: {label} ({predictions.probabilities[i].max():.0%})"
        )
    print(f"{len(predictions.paths)} images classified, {len(unreadable)} could not be read")


if __name__ == "__main__":
    main(sys.argv[1:])
