"""What is done with a run once it is there: evaluate, predict, plot, compare; and manifests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from espalier import runs
from espalier.data.catalog import build_labelled, read_catalog
from espalier.data.manifests import write_manifest as write_manifest_file
from espalier.data.sources import find_images, inspect_files
from espalier.errors import CheckpointError, DataError
from espalier.evaluate.evaluation import Evaluation, evaluate_predictions, write_predictions
from espalier.evaluate.predictor import Predictor
from espalier.models.checkpoints import load_checkpoint
from espalier.recipe.schema import Recipe
from espalier.records import Catalog, History, Predictions, Sample
from espalier.report.compare import compare_runs
from espalier.report.confusion import draw_confusion
from espalier.report.curves import draw_curves
from espalier.runs import RunDir


def evaluate(run: RunDir, data: str | None = None, *, device: str = "auto") -> list[Evaluation]:
    """Judge a run's best weights on its own validation and test images, or on other ones.

    Args:
        run: The run folder.
        data: A folder of class folders or a manifest; its classes must be those of the run. Where
            it has splits of its own, only its test (else validation) images are judged.
        device: Where to compute.
    """
    predictor = Predictor(run, device)
    if data is None:
        catalog = read_catalog(run.require(run.catalog_file))
        chosen = {split: catalog.in_split(split) for split in ("val", "test")}
    else:
        labelled = build_labelled(data, root=None, classes=predictor.classes, progress=None)
        chosen = {Path(data).name: labelled.in_split("test")}
    found = []
    for name, samples in chosen.items():
        if samples:
            predictions = predictor.predict(samples)
            write_predictions(run.path / "predictions" / f"{name}.parquet", predictions)
            found.append(evaluate_predictions(predictions, name))
    if found:
        draw_confusion(found[-1].confusion, predictor.classes, confusion_file(run, data))
    return found


def confusion_file(run: RunDir, data: str | None) -> Path:
    """Other data get a picture of their own: that of the run stays."""
    if data is None:
        return run.confusion_matrix
    return run.path / f"confusion_matrix_{Path(data).name}.png"


def predict(
    run: RunDir | Path | str, images: Sequence[str], *, device: str = "auto"
) -> tuple[Predictions, tuple[Sample, ...]]:
    """Classify image files, folders and globs.

    Returns:
        The predictions, and the files that could not be read, each with its reason.
    """
    predictor = Predictor(run, device)
    samples = inspect_files(find_images(images))
    readable = [sample for sample in samples if sample.status == "ok"]
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
        draw_curves(history_in(path), picture)
    else:
        run = runs.find_run(path)
        picture = output or run.curves
        draw_curves(run.history(), picture)
    return picture


def history_in(checkpoint_file: Path) -> History:
    """The history that a checkpoint carries.

    Raises:
        CheckpointError: It carries none, as old checkpoints do not.
    """
    checkpoint = load_checkpoint(checkpoint_file)
    rows = tuple(runs.epoch_row(row) for row in checkpoint.get("state", {}).get("rows", ()))
    if not rows:
        raise CheckpointError(
            f"{checkpoint_file} holds no history: it was saved before the first epoch ended, "
            "or by a version that kept none; its weights can still be used",
            hint=f"espalier predict {checkpoint_file} IMAGES",
        )
    recipe = Recipe.model_validate_json(checkpoint["recipe"])
    return History(
        rows, runs.stage_spans(recipe, rows), checkpoint_file.stem, runs.run_facts(recipe)
    )


def compare(paths: Sequence[Path], output: Path) -> list[History]:
    """Lay runs (or checkpoint files) side by side in one picture; one run by its stages."""
    histories = [history_in(p) if p.is_file() else runs.find_run(p).history() for p in paths]
    compare_runs(histories, output)
    return histories


def write_manifest(catalog: Catalog, path: Path) -> None:
    """Write the readable images as a manifest ``path,label,split,group``.

    Raises:
        DataError: The file exists already.
    """
    if path.exists():
        raise DataError(f"{path} exists, and nothing is overwritten", hint="-o another-name.csv")
    write_manifest_file(catalog.samples, path)
