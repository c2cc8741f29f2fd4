"""The run folder: where everything about one training run lies, and how it is written and read.

Every file is either written whole (``.partial``, flushed, then renamed) or append-only, so that a
run can be read while it trains and after it was killed. Needs no torch.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock

from espalier import files
from espalier.errors import RunError
from espalier.recipe.load import read_recipe
from espalier.recipe.schema import Recipe
from espalier.records import EpochRow, History, Split, StageSpan

FORMAT_VERSION = 1
DIAGNOSTICS_VARIABLE = "DIAGNOSTICS_DIR"
FIELD_TYPES = {f.name: f.type for f in dataclasses.fields(EpochRow)}
REQUIRED = {f.name for f in dataclasses.fields(EpochRow) if f.default is dataclasses.MISSING}


class RunDir:
    """One run folder; a cheap view that reads and writes, and keeps nothing in memory."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"RunDir({str(self.path)!r})"

    @property
    def name(self) -> str:
        """The folder's own name; ``latest`` is followed to the run it points at."""
        return self.path.resolve().name

    @property
    def recipe_file(self) -> Path:
        """The resolved recipe, with the reason of every choice."""
        return self.path / "recipe.yaml"

    @property
    def environment_file(self) -> Path:
        """Versions, device, command, commit, format version."""
        return self.path / "environment.json"

    @property
    def catalog_file(self) -> Path:
        """Every image with its label and split."""
        return self.path / "catalog.csv"

    @property
    def class_weights_file(self) -> Path:
        """The class weights that the loss uses."""
        return self.path / "class_weights.csv"

    @property
    def results_file(self) -> Path:
        """One row per epoch."""
        return self.path / "results.csv"

    @property
    def curves(self) -> Path:
        """The picture that is redrawn after every epoch."""
        return self.path / "curves.png"

    @property
    def confusion_matrix(self) -> Path:
        """Picture of the test (else validation) confusion matrix."""
        return self.path / "confusion_matrix.png"

    @property
    def train_batch(self) -> Path:
        """The first training images exactly as the network sees them."""
        return self.path / "train_batch.jpg"

    @property
    def best(self) -> Path:
        """Weights with the best validation score."""
        return self.path / "checkpoints" / "best.pt"

    @property
    def last(self) -> Path:
        """The newest state, to resume from."""
        return self.path / "checkpoints" / "last.pt"

    @property
    def baseline_file(self) -> Path:
        """What a linear head on the frozen backbone scores, cross-validated on training images."""
        return self.path / "baseline.json"

    @property
    def adjustment_file(self) -> Path:
        """What was tried for rare classes after training, and whether it was adopted."""
        return self.path / "adjustment.json"

    @property
    def audit_file(self) -> Path:
        """What was found wrong with the data when training began."""
        return self.path / "audit.json"

    @property
    def embeddings(self) -> Path:
        """Features of the training images from the frozen backbone, with their sample ids."""
        return self.path / "embeddings.npz"

    @property
    def tensorboard(self) -> Path:
        """Event files, where asked for."""
        return self.path / "tensorboard"

    def predictions(self, split: Split) -> Path:
        """Logits of one split, one row per image."""
        return self.path / "predictions" / f"{split}.parquet"

    @property
    def diagnostics(self) -> Path:
        """Folder of the JSONL files; elsewhere when the run was made with ``DIAGNOSTICS_DIR``."""
        elsewhere = self.environment().get("diagnostics")
        return Path(elsewhere) if elsewhere else self.path / "diagnostics"

    @property
    def train_diagnostics(self) -> Path:
        """One JSON line per epoch about training."""
        return self.diagnostics / "train_diagnostics.jsonl"

    @property
    def val_diagnostics(self) -> Path:
        """One JSON line per epoch about validation."""
        return self.diagnostics / "val_diagnostics.jsonl"

    @property
    def steps_file(self) -> Path:
        """Vital signs at sampled optimizer steps."""
        return self.diagnostics / "steps.jsonl"

    def environment(self) -> dict[str, Any]:
        """What ``environment.json`` says; empty where there is none."""
        try:
            content = json.loads(self.environment_file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
            return {}
        return content if isinstance(content, dict) else {}

    def recipe(self) -> Recipe:
        """The resolved recipe of this run."""
        self.require(self.recipe_file)
        return read_recipe(self.recipe_file)

    def require(self, file: Path) -> Path:
        """The file itself, or a ``RunError`` that says what is missing and what is there."""
        if file.exists():
            return file
        if not self.path.is_dir():
            raise RunError(
                f"{self.path} is not a run folder: it does not exist",
                hint=_known_runs(self.path.parent),
            )
        raise RunError(
            f"{self.path} has no {file.name}: it is not a run folder, or the run ended too early",
            hint=_known_runs(self.path.parent),
        )

    def history(self) -> History:
        """All finished epochs and the planned stages; reads a living run as well as a dead one."""
        self.require(self.recipe_file)
        recipe = self.recipe()
        rows = read_results(self.results_file)
        return History(rows, stage_spans(recipe, rows), self.name, run_facts(recipe))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process; another one that trains in it gets a ``RunError``."""
        lock = filelock.FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout as error:
            raise RunError(
                f"{self.path} is in use: another process trains in it",
                hint="wait for it to end, or stop it with Ctrl-C, then resume again",
            ) from error
        try:
            yield
        finally:
            lock.release()


def create_run(out: Path, name: str) -> RunDir:
    """Make a new run folder ``out/name``, or ``name-2``, ``name-3`` ... where it is taken.

    Raises:
        RunError: The folder cannot be written to, or the name is no plain folder name.
    """
    path = make_folder(out, name)
    for folder in ("checkpoints", "predictions"):
        (path / folder).mkdir()
    _point_latest_at(path)
    return RunDir(path)


def make_folder(out: Path, name: str) -> Path:
    """Make ``out/name``, or ``name-2``, ``name-3`` ... where it is taken.

    Raises:
        RunError: The folder cannot be written to, or the name is no plain folder name.
    """
    if not name or name in (".", "..", "latest") or Path(name).name != name:
        raise RunError(
            f"name {name!r} is no name for a run: a plain folder name is allowed, not 'latest'",
            hint=f"--name first --out {out}",
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        return _make_first_free(out, name)
    except OSError as error:
        raise RunError(
            f"cannot write runs into {out}: {error.strerror}",
            hint="--out FOLDER with a folder you may write to",
        ) from error


def _make_first_free(out: Path, name: str) -> Path:
    number = 1
    while True:
        path = out / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
        else:
            return path


def _point_latest_at(path: Path) -> None:
    latest, fresh = path.parent / "latest", path.parent / f".latest-{os.getpid()}"
    # A file system without links only loses the convenience.
    with contextlib.suppress(OSError):
        if latest.is_symlink() or not latest.exists():
            fresh.symlink_to(path.name)
            os.replace(fresh, latest)


def choose_diagnostics(run: RunDir) -> Path:
    """The folder for JSONL files: ``DIAGNOSTICS_DIR`` where set, else inside the run.

    Raises:
        RunError: The folder already holds the files of another run.
    """
    wanted = os.environ.get(DIAGNOSTICS_VARIABLE, "")
    folder = Path(wanted).absolute() if wanted else run.path / "diagnostics"
    if (folder / "train_diagnostics.jsonl").exists():
        raise RunError(
            f"{DIAGNOSTICS_VARIABLE}={wanted} already holds the diagnostics of another run",
            hint=f"export {DIAGNOSTICS_VARIABLE}={wanted.rstrip('/')}/{run.name}",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"cannot write diagnostics into {folder}: {error.strerror}",
            hint=f"unset {DIAGNOSTICS_VARIABLE}",
        ) from error
    return folder


def find_run(path: Path | str) -> RunDir:
    """The run at a path; a checkpoint file inside a run names the run as well.

    Raises:
        RunError: There is no run folder; the hint lists the runs beside it.
    """
    place = Path(path)
    if place.is_file() and place.parent.name == "checkpoints":
        place = place.parent.parent
    run = RunDir(place)
    run.require(run.recipe_file)
    return run


def _known_runs(folder: Path) -> str:
    if not folder.is_dir():
        return "ls runs/train"
    names = sorted(p.parent.name for p in folder.glob("*/recipe.yaml"))
    return f"one of {', '.join(names)} in {folder}" if names else "ls runs/train"


def write_results(path: Path, rows: Sequence[EpochRow]) -> None:
    """Write ``results.csv`` whole: one row per epoch, columns as in ``EpochRow``."""
    files.write_whole(path, lambda partial: _write_rows(partial, rows))


def _write_rows(path: Path, rows: Sequence[EpochRow]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(FIELD_TYPES))
        writer.writeheader()
        writer.writerows(dataclasses.asdict(row) for row in rows)


def read_results(path: Path) -> tuple[EpochRow, ...]:
    """Rows of ``results.csv``; empty while no epoch is finished."""
    if not path.exists():
        return ()
    with path.open(encoding="utf-8", newline="") as file:
        return tuple(epoch_row(row) for row in csv.DictReader(file))


def epoch_row(values: Mapping[str, Any]) -> EpochRow:
    """An ``EpochRow`` from text or plain values, as in a CSV file or a checkpoint."""
    convert: dict[str, Callable[[Any], Any]] = {
        "str": str,
        "int": int,
        "float": float,
        "bool": _to_bool,
    }
    # Runs of older versions lack the columns that came later; these have defaults.
    known = {key: kind for key, kind in FIELD_TYPES.items() if key in values or key in REQUIRED}
    return EpochRow(**{key: convert[str(kind)](values[key]) for key, kind in known.items()})


def _to_bool(value: Any) -> bool:
    return value if isinstance(value, bool) else str(value) == "True"


def stage_spans(recipe: Recipe, rows: Sequence[EpochRow] = ()) -> tuple[StageSpan, ...]:
    """Where the stages lie: as run where finished (early stopping shortens), as planned beyond."""
    spans: list[StageSpan] = []
    first = 1
    reached = max((row.stage_index for row in rows), default=-1)
    for index, stage in enumerate(recipe.stages):
        epochs = sum(row.stage_index == index for row in rows) if index < reached else stage.epochs
        spans.append(
            StageSpan(stage.name, first, first + epochs - 1, float(stage.warmup_epochs or 0))
        )
        first += epochs
    return tuple(spans)


def run_facts(recipe: Recipe) -> dict[str, str]:
    """What the summary box of a picture says about a run."""
    return {
        "model": recipe.model.name,
        "preset": recipe.preset or "",
        "data": Path(recipe.data.source or "").name,
        "pixels": str(recipe.training.imgsz),
    }
