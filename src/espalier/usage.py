"""What is done with a run once it is there: evaluate, predict, plot, compare; and manifests.

What needs torch is imported where it is used, so that drawing a run needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from espalier import runs
from espalier.data.catalog import build_labelled, read_catalog
from espalier.data.manifests import write_manifest as write_manifest_file
from espalier.data.sources import find_images, inspect_files
from espalier.errors import CheckpointError, DataError
from espalier.evaluate.evaluation import Evaluation, evaluate_predictions, write_predictions
from espalier.records import SPLITS, Catalog, History, Predictions, Sample
from espalier.report.compare import compare_runs
from espalier.report.confusion import draw_confusion
from espalier.report.context import NOTHING_KNOWN, Context, context_of
from espalier.report.curves import draw_curves
from espalier.runs import RunDir

if TYPE_CHECKING:
    from espalier.evaluate.predictor import Predictor

Note = Callable[[str], None]
SHOWN = 5


def evaluate(
    run: RunDir, data: str | None = None, *, device: str = "auto", note: Note | None = None
) -> list[Evaluation]:
    """Judge a run's best weights on its own validation and test images, or on other ones.

    Args:
        run: The run folder.
        data: A folder of class folders or a manifest; its classes must be those of the run. Of
            one that has a test part only that is judged, of any other all images.
        device: Where to compute.
        note: Told what a person should know of an old checkpoint.

    Raises:
        DataError: There is nothing to judge.
        ResumeError: The label mapping of the run is no longer that of its weights.
    """
    from espalier.train.resume import check_label_mapping

    predictor = open_predictor(run, device, note)
    if data is None:
        catalog = read_catalog(run.require(run.catalog_file))
        check_label_mapping(run, predictor.classes, catalog.classes)
        chosen = {split: catalog.in_split(split) for split in ("val", "test")}
    else:
        labelled = build_labelled(data, root=None, classes=predictor.classes, progress=None)
        chosen = {name_of(data): labelled.in_split("test")}
    found = []
    for name, samples in chosen.items():
        if samples:
            predictions = predictor.predict(samples)
            write_predictions(run.path / "predictions" / f"{name}.parquet", predictions)
            found.append(evaluate_predictions(predictions, name))
    if not found:
        raise DataError(
            f"{data or run.path} has no validation and no test images to judge",
            hint=f"espalier evaluate {run.path} --data FOLDER with other labelled photographs",
        )
    draw_confusion(
        found[-1].confusion,
        predictor.classes,
        confusion_file(run, data),
        title=f"Confusion matrix, {found[-1].split}",
    )
    return found


def open_predictor(run: RunDir | Path | str, device: str, note: Note | None) -> Predictor:
    """The classifier of a run, once what should be known of it has been told."""
    from espalier.evaluate.predictor import Predictor

    predictor = Predictor(run, device)
    if note is not None:
        for text in predictor.notes:
            note(text)
    return predictor


def name_of(data: str) -> str:
    """What predictions on other data are called: as their folder, but never as those of a run."""
    place = Path(data).resolve()
    # A folder called test would replace the run's own predictions, one called run its name in JSON.
    taken = {*SPLITS, "run"}
    return f"{place.parent.name}-{place.name}" if place.name in taken else place.name


def confusion_file(run: RunDir, data: str | None) -> Path:
    """Other data get a picture of their own: that of the run stays."""
    if data is None:
        return run.confusion_matrix
    return run.path / f"confusion_matrix_{name_of(data)}.png"


def predict(
    run: RunDir | Path | str,
    images: Sequence[str],
    *,
    device: str = "auto",
    note: Note | None = None,
) -> tuple[Predictions, tuple[Sample, ...]]:
    """Classify image files, folders and globs.

    Args:
        run: A run folder, or a checkpoint file.
        images: Files, folders, patterns with ``*``.
        device: Where to compute.
        note: Told what a person should know of an old checkpoint.

    Returns:
        The predictions, and the files that could not be read, each with its reason.
    """
    predictor = open_predictor(run, device, note)
    samples = inspect_files(find_images(images))
    readable = [sample for sample in samples if sample.status == "ok"]
    if not readable:
        raise DataError(
            f"none of the {len(samples)} files could be read as a photograph",
            problems=[f"{sample.path}: {sample.reason}" for sample in samples[:SHOWN]],
            hint="espalier predict RUN FOLDER with photographs in it",
        )
    return predictor.predict(readable), tuple(s for s in samples if s.status == "unreadable")


def plot(path: Path, output: Path | None = None) -> Path:
    """Draw the curves of a run folder, or of the history inside a checkpoint file.

    Returns:
        The picture: ``output``, else ``curves.png`` in the run, else beside the checkpoint.

    Raises:
        CheckpointError: The checkpoint holds no history.
    """
    if path.is_file():
        picture = output or path.with_name(f"{path.stem}-curves.png")
        draw_curves(history_in(path), picture, context=known_of(path))
    else:
        run = runs.find_run(path)
        picture = output or run.curves
        draw_curves(run.history(), picture, context=context_of(run))
    return picture


def known_of(path: Path) -> Context:
    """What is known of a run beside its epochs; nothing of a checkpoint outside of its run."""
    if path.is_file() and not (path.parent.parent / "recipe.yaml").exists():
        return NOTHING_KNOWN
    return context_of(runs.find_run(path))


def history_in(checkpoint_file: Path) -> History:
    """The history that a checkpoint carries.

    Raises:
        CheckpointError: It carries none, as old checkpoints do not.
    """
    from espalier.models.checkpoints import load_checkpoint, recipe_of

    checkpoint = load_checkpoint(checkpoint_file)
    rows = tuple(runs.epoch_row(row) for row in checkpoint.get("state", {}).get("rows", ()))
    if not rows:
        raise CheckpointError(
            f"{checkpoint_file} holds no history: it was saved before the first epoch ended, "
            "or by a version that kept none; its weights can still be used",
            hint=f"espalier predict {checkpoint_file} IMAGES",
            problems=checkpoint["notes"],
        )
    recipe = recipe_of(checkpoint)
    return History(
        rows, runs.stage_spans(recipe, rows), checkpoint_file.stem, runs.run_facts(recipe)
    )


def compare(paths: Sequence[Path], output: Path) -> list[History]:
    """Lay runs (or checkpoint files) side by side in one picture; one run by its stages."""
    histories = [history_in(p) if p.is_file() else runs.find_run(p).history() for p in paths]
    compare_runs(histories, output, [known_of(path) for path in paths])
    return histories


def write_manifest(catalog: Catalog, path: Path) -> None:
    """Write the readable images as a manifest ``path,label,split,group``.

    Raises:
        DataError: The file exists already.
    """
    if path.exists():
        raise DataError(f"{path} exists, and nothing is overwritten", hint="-o another-name.csv")
    write_manifest_file(catalog.samples, path)
