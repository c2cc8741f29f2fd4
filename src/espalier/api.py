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

from espalier import checking, diagnosing, pipeline, runs, treating, usage
from espalier.checking import CheckReport
from espalier.data.transforms import Transform
from espalier.diagnose.treat import Change
from espalier.diagnosing import Diagnosis
from espalier.evaluate.evaluation import Evaluation
from espalier.pipeline import TrainResult
from espalier.recipe.load import change_recipe, load_recipe
from espalier.recipe.schema import Recipe
from espalier.records import History, Predictions, Sample
from espalier.runs import RunDir
from espalier.train.watch import Watch
from espalier.treating import Course, Proposal


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
    return pipeline.train(recipe_of(photos, preset, config, values, daily), watch=watch)


def check_training(
    photos: str | Path,
    *,
    preset: str | None = None,
    config: str | Path | None = None,
    values: Mapping[str, Any] | None = None,
    val_transform: Transform | None = None,
    earlier: str | Path | RunDir | None = None,
    picture: str | Path | None = None,
    watch: Watch | None = None,
    **daily: Any,
) -> CheckReport:
    """Check in seconds what ``train_classifier`` would do with the same words; trains nothing.

    Args:
        photos: As in ``train_classifier``.
        preset: As in ``train_classifier``.
        config: As in ``train_classifier``.
        values: As in ``train_classifier``.
        val_transform: How validation shall see a photograph: ``imgsz``, ``at_least`` and a call
            with pixels [H, W, 3] and a random generator; None: as training has it.
        earlier: A run whose label order must hold.
        picture: Where to draw the first batch exactly as the network sees it (JPEG).
        watch: Told what a person should know of data and machine.
        **daily: The daily flags, as in ``train_classifier``.

    Raises:
        EspalierError: Data, recipe, model or weights allow no training at all.
    """
    return checking.check(
        recipe_of(photos, preset, config, values, daily),
        val_transform=val_transform,
        earlier=None if earlier is None else as_run(earlier),
        picture=None if picture is None else Path(picture),
        watch=watch,
    )


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


def diagnose_run(
    run: str | Path | RunDir,
    *,
    columns: Mapping[str, str] | None = None,
    probe: bool = False,
    out: str | Path | None = None,
    write: bool = True,
) -> Diagnosis:
    """Say what is wrong with a run, why, and what to do: ``report`` of what comes back has it all.

    Args:
        run: A run folder, living, finished or dead, or the record of another tool.
        columns: Sign -> column of such a record, where its name does not say what it holds.
        probe: Whether to try, within a minute, what the record cannot decide; needs a run of
            Espalier's, its photographs and its weights.
        out: Folder for ``findings.json`` and ``report.html``; None: the run's own, and nothing is
            written beside the record of another tool.
        write: Whether to write them at all.

    Raises:
        EspalierError: There is no run, or nothing in it that can be read.
    """
    found = diagnosing.diagnose(run.path if isinstance(run, RunDir) else run, columns, probe=probe)
    if write:
        diagnosing.write_diagnosis(found, None if out is None else Path(out))
    return found


def treat_run(
    run: str | Path | RunDir,
    *,
    budget: float | None = None,
    rounds: int = 3,
    unsafe: bool = False,
    watch: Watch | None = None,
) -> Course:
    """Change the recipe of a sick run as diagnosed, train again, and keep whichever run is better.

    Nobody is asked: safe changes are made. The run itself stays as it is.

    Args:
        run: A run folder of Espalier's own.
        budget: Seconds for all of it, other seeds among them; None: no limit, one seed.
        rounds: Most treatments, one after the other.
        unsafe: Whether to make changes, too, that a person should want.
        watch: Told what happens while it trains.

    Raises:
        EspalierError: There is no such run, another tool made it, or nothing judges it.
    """

    def agreed(proposal: Proposal) -> list[Change]:
        treatment = proposal.treatment
        return [change for change in treatment.changes if change.safe or unsafe]

    place = run.path if isinstance(run, RunDir) else run
    return treating.treat(place, agreed, budget=budget, rounds=rounds, watch=watch)


def read_history(run: str | Path | RunDir) -> History:
    """The epochs of a run so far, living or dead."""
    return as_run(run).history()


def recipe_of(
    photos: str | Path,
    preset: str | None,
    config: str | Path | None,
    values: Mapping[str, Any] | None,
    daily: Mapping[str, Any],
) -> Recipe:
    """The recipe that the arguments ask for, not resolved yet."""
    return load_recipe(
        preset=preset,
        file=Path(config) if config is not None else None,
        sets=[f"{key}={as_text(value)}" for key, value in (values or {}).items()],
        flags={"source": str(photos), **daily},
        words=[],
    )


def as_text(value: object) -> str:
    """A recipe value as it would be typed behind ``--set key=``."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def as_run(run: str | Path | RunDir) -> RunDir:
    """The run folder at a path."""
    return run if isinstance(run, RunDir) else runs.find_run(run)
