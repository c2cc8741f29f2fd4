"""Checkpoint files: written whole or not at all, read without running any code in them."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch
from pydantic import ValidationError
from torch import Tensor

from espalier.errors import CheckpointError
from espalier.files import write_whole
from espalier.models.build import Classifier, build_model, set_image_size
from espalier.models.facts import size_argument
from espalier.models.weight_files import first_line, unsafe_file
from espalier.recipe.schema import Recipe
from espalier.runs import FORMAT_VERSION


class Checkpoint(TypedDict):
    """What a checkpoint file holds: tensors, and plain values.

    Attributes:
        format: Version of this layout.
        epoch: Finished epochs of the run.
        step: Finished optimizer steps of the run.
        stage_index: The stage that trains, from 0.
        model: State dict of the ``Classifier``.
        optimizer: State dict of the optimizer.
        scaler: State of the gradient scaler; empty without fp16.
        val_macro_f1: Validation macro-F1 at this point; None before the first epoch ended.
        model_name: timm's name, or ``small-cnn``.
        num_classes: How many logits.
        classes: The label mapping.
        recipe: The resolved recipe as JSON.
        history: Per epoch: losses, accuracies, macro-F1, learning rate.
        imgsz: Pixels the backbone was set to; without it, those of the stage.
        adjustment: What prediction does for rare classes: ``bias`` to add to the logits, and the
            state of another ``head`` (empty: the model's own); absent where nothing is done.
        state: Position in the run, for resuming; absent in a file that cannot be resumed.
        notes: Filled in by ``load_checkpoint``: what a person should know of an old file.
    """

    format: int
    epoch: int
    step: int
    stage_index: int
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    val_macro_f1: float | None
    model_name: str
    num_classes: int
    classes: list[str]
    recipe: str
    history: list[dict[str, Any]]
    imgsz: NotRequired[int]
    adjustment: NotRequired[dict[str, Any]]
    state: NotRequired[dict[str, Any]]
    notes: NotRequired[list[str]]


NEEDED = ("format", "epoch", "model", "model_name", "num_classes", "classes", "recipe")
_MISSING_DEFAULTS: Mapping[str, Any] = {
    "step": 0,
    "stage_index": 0,
    "val_macro_f1": None,
}
NO_HISTORY = (
    "this checkpoint is of an older kind and holds no history: it can predict, but the curves of "
    "its epochs cannot be drawn"
)
NO_STATE = (
    "this checkpoint is of an older kind and holds no position: it can predict, but the run "
    "cannot be resumed from it"
)


def save_checkpoint(path: Path, payload: Mapping[str, Any]) -> None:
    """Writes a checkpoint whole: to a file beside it, flushed to disk, then renamed.

    Raises:
        DiskError: Disk full or folder not writable; an earlier file at ``path`` is intact.
    """
    write_whole(path, lambda partial: _write(partial, dict(payload)))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint as ``Checkpoint`` describes it, on the CPU; nothing in it is executed.

    ``history`` is empty and ``notes`` says so where an old file has none.

    Raises:
        CheckpointError: Missing, truncated, unsafe, of another program or a newer version.
    """
    content = _read(path)
    _require_layout(path, content)
    lacking = {"history": NO_HISTORY, "state": NO_STATE}
    notes = [note for key, note in lacking.items() if key not in content]
    filled = {"history": [], "optimizer": {}, "scaler": {}, "notes": notes}
    return {**_MISSING_DEFAULTS, **filled, **content}


def recipe_of(checkpoint: Mapping[str, Any]) -> Recipe:
    """The resolved recipe of the run that a checkpoint belongs to.

    Raises:
        CheckpointError: It was written by a version with other keys.
    """
    try:
        return Recipe.model_validate_json(checkpoint["recipe"])
    except ValidationError as error:
        raise CheckpointError(
            "The recipe in the checkpoint cannot be read by this version.",
            hint="use the version of espalier that wrote it",
            problems=[f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()],
        ) from error


def rebuild_model(checkpoint: Mapping[str, Any]) -> Classifier:
    """The classifier that a checkpoint holds, with its weights, at the image size it had.

    Raises:
        CheckpointError: Recipe and weights in the file contradict each other.
        ModelError: This version of timm does not know the model.
    """
    recipe = recipe_of(checkpoint)
    section = recipe.model.model_copy(update={"weights": "none"})
    name, classes = checkpoint["model_name"], int(checkpoint["num_classes"])
    if section.name != name or len(checkpoint["classes"]) != classes:
        raise CheckpointError(
            f"The checkpoint contradicts itself: {name} with {classes} classes, but its recipe "
            f"names {section.name} and its label mapping has {len(checkpoint['classes'])}.",
            hint="use another checkpoint of that run",
        )
    with torch.random.fork_rng(devices=[]):
        model, _ = build_model(section, classes, imgsz=_sizes(checkpoint, recipe)[0])
    restore_weights(model, checkpoint)
    return model


def restore_weights(model: Classifier, checkpoint: Mapping[str, Any]) -> None:
    """Fills a classifier from a checkpoint of the same model and classes, in place.

    A backbone of fixed size is set to the size it had in the checkpoint.

    Raises:
        CheckpointError: The checkpoint is of another model, head or number of classes.
    """
    theirs = (str(checkpoint["model_name"]), int(checkpoint["num_classes"]))
    if theirs != (model.name, model.classes):
        raise CheckpointError(
            f"The checkpoint is of {theirs[0]} with {theirs[1]} classes; the model here is "
            f"{model.name} with {model.classes} classes.",
            hint=f"--model {theirs[0]} and the data it was trained on, or another checkpoint",
        )
    state: Mapping[str, Tensor] = checkpoint["model"]
    if size_argument(model.name, model.imgsz):
        _set_size_of(model, checkpoint, state)
    problems = _differences(model, state)
    if problems:
        raise CheckpointError(
            f"The weights in the checkpoint do not fit {model.name}: {len(problems)} tensors "
            "differ.",
            hint="use the recipe of that run: its model section decides the layers",
            problems=problems[:8],
        )
    model.load_state_dict(dict(state))


def _write(path: Path, payload: dict[str, Any]) -> None:
    try:
        with path.open("wb") as file:
            torch.save(payload, file)
            file.flush()
            os.fsync(file.fileno())
    except RuntimeError as error:
        # torch's zip writer reports a failed write (disk full, quota) as a RuntimeError.
        cause = error.__context__ if isinstance(error.__context__, OSError) else None
        raise cause or OSError(first_line(error)) from error


def _read(path: Path) -> Any:
    if not path.is_file():
        raise CheckpointError(
            f"There is no checkpoint {path}" + (": it is a folder." if path.is_dir() else "."),
            hint=_checkpoints_near(path),
        )
    if path.suffix == ".safetensors":
        raise _only_weights(path)
    try:
        with warnings.catch_warnings():
            # torch warns of pickles of other kinds, which it then refuses.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise unsafe_file(path, error, CheckpointError) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        size = path.stat().st_size
        raise CheckpointError(
            f"{path} ({size:,} bytes) is truncated or damaged, or no checkpoint.",
            hint=_checkpoints_near(path),
            problems=[first_line(error)],
        ) from error


def _checkpoints_near(path: Path) -> str:
    folder = path if path.is_dir() else path.parent
    others = sorted(str(file) for file in folder.glob("*.pt") if file != path)
    return f"use {' or '.join(others[:3])}" if others else "name a run folder, or its best.pt"


def _require_layout(path: Path, content: Any) -> None:
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, not a checkpoint of Espalier.",
            hint="name a run folder, or its best.pt",
        )
    missing = [key for key in NEEDED if key not in content]
    if "format" in missing and len(missing) > 1:
        raise _only_weights(path)
    if missing:
        raise CheckpointError(
            f"{path} lacks {', '.join(missing)}; a checkpoint needs {', '.join(NEEDED)}.",
            hint=_checkpoints_near(path),
        )
    version = content["format"]
    if not isinstance(version, int) or not 1 <= version <= FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format {version!r}; this version reads 1 to {FORMAT_VERSION}.",
            hint="install a newer espalier",
        )


def _only_weights(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} is no checkpoint of Espalier: it may hold weights, but not the recipe, the "
        "label mapping and the position of a run.",
        hint=f"espalier train DATA --weights {path} starts a run from such weights",
    )


def _sizes(checkpoint: Mapping[str, Any], recipe: Recipe) -> list[int]:
    """Image sizes the backbone may have been set to, the likeliest first."""
    stages = recipe.stages
    index = min(int(checkpoint.get("stage_index", 0)), len(stages) - 1)
    current = [stages[index].imgsz] if stages else []
    sizes = [checkpoint.get("imgsz"), *current, recipe.training.imgsz, *(s.imgsz for s in stages)]
    found = list(dict.fromkeys(size for size in sizes if isinstance(size, int)))
    if not found:
        raise CheckpointError(
            "The checkpoint does not say at which image size its model works.",
            hint="use a checkpoint with a resolved recipe",
        )
    return found


def _set_size_of(
    model: Classifier, checkpoint: Mapping[str, Any], state: Mapping[str, Tensor]
) -> None:
    """Tries the sizes of the run until the shapes fit; position tables give the size away."""
    if not _differences(model, state) and checkpoint.get("imgsz", model.imgsz) == model.imgsz:
        return
    for size in _sizes(checkpoint, recipe_of(checkpoint)):
        set_image_size(model, size)
        if not _differences(model, state):
            return


def _differences(model: Classifier, state: Mapping[str, Tensor]) -> list[str]:
    own = model.state_dict()
    missing = [f"missing: {name}" for name in own if name not in state]
    unknown = [f"unknown: {name}" for name in state if name not in own]
    shapes = [
        f"{name}: checkpoint {list(state[name].shape)}, model {list(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    return shapes + missing + unknown
