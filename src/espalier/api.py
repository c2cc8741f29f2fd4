"""Espalier from Python: the same few verbs as on the command line.

    import espalier

    result = espalier.train_classifier("photos", preset="three-stage", epochs=12)
    print(result.test.scores["macro_f1"])
    predictions, unreadable = espalier.predict_images(result.run, ["new.jpg"])

The names differ from those of the packages ``espalier.train`` and ``espalier.evaluate``: Python
would put the package in a function's place as soon as it is imported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from espalier import pipeline, runs, usage
from espalier.evaluate.evaluation import Evaluation
from espalier.pipeline import TrainResult
from espalier.recipe.load import change_recipe, load_recipe
from espalier.records import History, Predictions, Sample
from espalier.runs import RunDir
from espalier.train.watch import Watch


def train_classifier(
    photos: str | Path,
    *,
    preset: str | None = None,
    config: str | Path | None = None,
    values: Mapping[str, Any] | None = None,
    watch: Watch | None = None,
    **daily: Any,
) -> TrainResult:
    """Train a classifier on photographs and judge it on images it never saw.

    Args:
        photos: A folder of class folders, a folder with train/ val/ test/, a manifest, or
            ``torchvision:NAME``.
        preset: Recipe to start from; ``standard`` when neither this nor ``config`` is given.
        config: A recipe file.
        values: Any recipe value by its dotted key, as ``--set`` on the command line.
        watch: Told what happens while it trains.
        **daily: The daily flags: ``model``, ``weights``, ``epochs``, ``lr``, ``batch``,
            ``imgsz``, ``seed``, ``name``, ``out``, ``device`` ...

    Raises:
        EspalierError: Anything you must change; the message says what and how.
    """
    recipe = load_recipe(
        preset=preset,
        file=Path(config) if config is not None else None,
        sets=[f"{key}={as_text(value)}" for key, value in (values or {}).items()],
        flags={"source": str(photos), **daily},
        words=[],
    )
    return pipeline.train(recipe, watch=watch)


def resume_run(
    run: str | Path | RunDir,
    *,
    epochs: int | None = None,
    watch: Watch | None = None,
    **daily: Any,
) -> TrainResult:
    """Continue a run exactly where it was stopped; with ``epochs`` extend it to so many in all.

    Args:
        run: The run folder.
        epochs: Epochs the run shall have in all; None: as planned.
        watch: Told what happens while it trains.
        **daily: The few values that may change: ``device``, ``workers``, ``time``.

    Raises:
        EspalierError: A value that cannot change, or nothing is left to do.
    """
    found = as_run(run)
    recipe = change_recipe(found.recipe(), flags=daily)
    return pipeline.resume(found, recipe, epochs=epochs, watch=watch)


def evaluate_run(
    run: str | Path | RunDir, data: str | None = None, *, device: str = "auto"
) -> list[Evaluation]:
    """Scores with 95 % intervals on the run's own validation and test images, or on others."""
    return usage.evaluate(as_run(run), data, device=device)


def predict_images(
    run: str | Path | RunDir, images: str | Path | Sequence[str | Path], *, device: str = "auto"
) -> tuple[Predictions, tuple[Sample, ...]]:
    """Classify files, folders and globs; the second part lists what could not be read."""
    chosen = [images] if isinstance(images, str | Path) else images
    return usage.predict(run, [str(image) for image in chosen], device=device)


def read_history(run: str | Path | RunDir) -> History:
    """The epochs of a run so far, living or dead."""
    return as_run(run).history()


def as_text(value: object) -> str:
    """A recipe value as it would be typed behind ``--set key=``."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def as_run(run: str | Path | RunDir) -> RunDir:
    """The run folder at a path."""
    return run if isinstance(run, RunDir) else runs.find_run(run)
