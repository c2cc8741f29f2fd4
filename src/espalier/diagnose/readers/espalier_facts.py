"""What the files of a run folder say that was decided before training: recipe, catalog, weights."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from espalier.errors import EspalierError
from espalier.recipe.schema import Recipe, Stage
from espalier.run_record import EpochSigns, RunFacts, StageFacts
from espalier.runs import RunDir

Value = TypeVar("Value")
BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error)


def facts_of_run(run: RunDir, epochs: Sequence[EpochSigns], notes: list[str]) -> RunFacts:
    """Facts of a run folder; what cannot be read is noted and left out."""
    found: dict[str, Any] = {}
    for source in (_recipe_facts, _class_facts, _weight_facts, _split_counts, _baseline):
        try:
            found.update(source(run, found))
        except EspalierError as error:
            notes.append(error.message)
        except BROKEN as error:
            notes.append(f"{source.__name__.strip('_').replace('_', ' ')}: {error}")
    found["kept_epoch"] = _kept_epoch(found.get("kept"), epochs)
    return RunFacts(**found)


def _recipe_facts(run: RunDir, found: Mapping[str, Any]) -> dict[str, Any]:
    if not run.recipe_file.is_file():
        return {}
    recipe = run.recipe()
    return {**_model_facts(recipe), **_optimization(recipe), **_stopping(recipe)}


def _model_facts(recipe: Recipe) -> dict[str, Any]:
    sizes = [stage.imgsz for stage in recipe.stages if stage.imgsz]
    trained = recipe.training.imgsz
    size = sizes[-1] if sizes else trained if isinstance(trained, int) else None
    return {
        "classes": recipe.data.classes,
        "head_classes": recipe.data.num_classes,
        "dropout": recipe.model.dropout,
        "pretrained": recipe.model.weights != "none",
        "augment": recipe.augment.policy,
        "mixup": recipe.augment.mixup,
        "cutmix": recipe.augment.cutmix,
        "input_mean": recipe.data.mean,
        "input_std": recipe.data.std,
        "imgsz": size,
        "val_imgsz": recipe.training.test_imgsz or size,
        "seed": recipe.training.seed,
    }


def _optimization(recipe: Recipe) -> dict[str, Any]:
    optimizer, training = recipe.optimizer, recipe.training
    adam = optimizer.name in ("adam", "adamw")
    precision = training.precision if training.precision != "auto" else None
    micro = training.batch if isinstance(training.batch, int) else None
    return {
        "loss": recipe.loss.name,
        "label_smoothing": recipe.loss.label_smoothing,
        "sampler": recipe.class_weighting.sampler,
        "optimizer": optimizer.name,
        "momentum": None if adam else optimizer.momentum,
        "betas": optimizer.betas if adam else None,
        "weight_decay": optimizer.weight_decay,
        "decoupled_decay": optimizer.name == "adamw",
        "batch": micro * training.accumulate if micro else None,
        "accumulate": training.accumulate,
        "clip_norm": optimizer.clip_norm or 0.0,
        "precision": precision,
        "loss_scaled": None if precision is None else precision == "fp16",
        "epochs": sum(stage.epochs for stage in recipe.stages),
        "stages": tuple(_stage(recipe, stage) for stage in recipe.stages),
    }


def _stage(recipe: Recipe, stage: Stage) -> StageFacts:
    warmup = stage.warmup_epochs
    slow = stage.backbone_lr if stage.backbone_lr is not None else stage.lr
    return StageFacts(
        name=stage.name,
        epochs=stage.epochs,
        learning_rate=stage.lr,
        backbone_learning_rate=0.0 if stage.train == "head" else slow,
        schedule=stage.schedule or recipe.schedule.name,
        warmup_epochs=recipe.schedule.warmup_epochs if warmup is None else warmup,
        solved=stage.solve,
    )


def _stopping(recipe: Recipe) -> dict[str, Any]:
    return {
        "patience": recipe.early_stopping.patience or 0,
        "monitor": recipe.checkpointing.monitor,
        "kept": "best" if recipe.checkpointing.save_best else "last",
        "ema_decay": 0.0,
    }


def _kept_epoch(kept: str | None, epochs: Sequence[EpochSigns]) -> int | None:
    if kept == "last":
        return epochs[-1].epoch if epochs else None
    return max((row.epoch for row in epochs if row.best), default=None)


def _class_facts(run: RunDir, found: Mapping[str, Any]) -> dict[str, Any]:
    rows = _csv_rows(run.class_weights_file)
    if not rows:
        return {}
    return {
        "classes": found.get("classes") or tuple(row["class"] for row in rows),
        "class_weights": tuple(float(row["weight"]) for row in rows),
        "train_counts": tuple(int(row["images"]) for row in rows),
    }


def _weight_facts(run: RunDir, found: Mapping[str, Any]) -> dict[str, Any]:
    environment = run.environment()
    losses = environment.get("reference_losses") or {}
    weights = environment.get("weights") or {}
    return {
        "chance_loss": _read(losses, "chance", float),
        "prior_loss": _read(losses, "prior", float),
        "floor_loss": _read(losses, "floor", float),
        "loaded_share": _read(weights, "share", float),
    }


def _read(values: Mapping[str, Any], key: str, of: Callable[[Any], Value]) -> Value | None:
    value = values.get(key)
    return None if value is None else of(value)


def _split_counts(run: RunDir, found: Mapping[str, Any]) -> dict[str, Any]:
    """Images per class and split, counted row by row: a catalog may have a million."""
    classes = found.get("classes")
    if not classes or not run.catalog_file.is_file():
        return {}
    counts: Counter[tuple[str, str]] = Counter()
    # The first row holds the notes of the whole data set.
    csv.field_size_limit(1 << 27)
    with run.catalog_file.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["status"] == "ok":
                counts[row["split"], row["label"]] += 1
    return {
        f"{split}_counts": tuple(counts[split, name] for name in classes)
        for split in ("train", "val")
        if any(part == split for part, _ in counts)
    }


def _baseline(run: RunDir, found: Mapping[str, Any]) -> dict[str, Any]:
    if not run.baseline_file.is_file():
        return {}
    score = float(json.loads(run.baseline_file.read_text(encoding="utf-8"))["macro_f1"])
    return {"baseline_macro_f1": score} if math.isfinite(score) else {}


def _csv_rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
