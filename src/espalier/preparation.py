"""Everything that is decided before a run folder is made: data, recipe, model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import psutil
import torch

from espalier import cache, environment, runs
from espalier.data.catalog import build_catalog
from espalier.data.sources import survey_source
from espalier.data.store import PixelStore
from espalier.data.store_choice import choose_store, disk_for_store, open_store, side_for
from espalier.errors import DataError
from espalier.models.build import Classifier, KeyReport, build_model, model_facts
from espalier.models.openvino_layers import openvino_version
from espalier.recipe.resolve import resolve, resolve_sizes
from espalier.recipe.schema import Recipe
from espalier.records import Catalog, Machine
from espalier.report.text import header_lines
from espalier.train.devices import detect_machine
from espalier.train.probing import measure_engine, measure_plan

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Prepared:
    """Everything decided, nothing trained yet."""

    recipe: Recipe
    catalog: Catalog
    machine: Machine
    store: PixelStore | None = None


def prepare(
    recipe: Recipe, *, note: Callable[[str], None] | None = None, progress: Progress | None = None
) -> Prepared:
    """Read the photographs, make the split, and decide everything that is still open."""
    machine = detect_machine()
    store, reason = open_pictures(recipe, machine)
    catalog = catalog_of(recipe, progress, store)
    resolved = settle(recipe, catalog, machine)
    lines = header_lines(environment.versions(), machine.device_name, catalog)
    full = [store.note] if store is not None and store.note else []
    for line in [*lines, *catalog.notes, reason, *full]:
        if note is not None:
            note(line)
    data = resolved.data.model_copy(update={"classes": catalog.classes})
    resolved = with_full_paths(resolved.model_copy(update={"data": data}))
    return Prepared(resolved, catalog, machine, store)


def open_pictures(recipe: Recipe, machine: Machine) -> tuple[PixelStore | None, str]:
    """The store of decoded photographs, or None, and why.

    Raises:
        DataError: No photographs were named.
        DiskError: The recipe asks for a store on disk, and there is no room.
        RecipeError: The recipe asks for a store in memory, and there is no room.
    """
    source = require_source(recipe)
    sized = resolve_sizes(recipe, machine=machine, facts_of=model_facts)
    data, side = recipe.data, side_for(sized)
    budget = int(data.store_gib * cache.GIB)
    choice = choose_store(
        data.store,
        survey_source(source, root=data.root),
        side=side,
        epochs=sum(stage.epochs for stage in sized.stages),
        budget=budget,
        free_disk=disk_for_store(),
        free_memory=psutil.virtual_memory().available,
    )
    store = open_store(choice, side=side, budget=budget, required=data.store == "disk")
    return store, choice.reason


def settle(recipe: Recipe, catalog: Catalog, machine: Machine) -> Recipe:
    """The recipe with everything decided that is still open."""
    return resolve(
        recipe,
        machine=machine,
        catalog_counts=catalog.counts("train"),
        facts_of=model_facts,
        measure=measure_plan,
        measure_engine=measure_engine if openvino_version() else None,
    )


def require_source(recipe: Recipe) -> str:
    """What names the photographs.

    Raises:
        DataError: Nothing does.
    """
    if recipe.data.source is None:
        raise DataError(
            "no photographs were named: a folder of class folders, a CSV or Parquet manifest, "
            "or torchvision:NAME is wanted",
            hint="espalier train PHOTOS, or espalier demo",
        )
    return recipe.data.source


def catalog_of(
    recipe: Recipe,
    progress: Progress | None = None,
    store: PixelStore | None = None,
    *,
    complete: bool = True,
) -> Catalog:
    """The catalog of the recipe's photographs; what is decoded on the way goes into the store.

    Args:
        recipe: Says where they are, and how they are split and corrected.
        progress: Called with (images done, images in all).
        store: Keeps what is decoded.
        complete: As for ``build_catalog``: whether it must be possible to train on them.
    """
    data, source = recipe.data, require_source(recipe)
    earlier = runs.find_run(data.split_from).catalog_file if data.split_from else None
    return build_catalog(
        source,
        root=data.root,
        classes=data.classes,
        val_share=data.val_share,
        test_share=data.test_share,
        group_by=data.group_by,
        split_from=earlier,
        corrections=Path(data.corrections).expanduser() if data.corrections else None,
        synthetic=Path(data.synthetic).expanduser() if data.synthetic else None,
        seed=recipe.training.seed,
        progress=progress,
        store=store,
        complete=complete,
    )


def with_full_paths(recipe: Recipe) -> Recipe:
    """The recipe so that it works from any folder."""
    data = {
        key: full_path(value)
        for key in ("source", "root", "split_from", "corrections", "synthetic")
        if (value := getattr(recipe.data, key)) is not None
    }
    weights = recipe.model.weights
    weights = weights if weights in ("pretrained", "none") else full_path(weights)
    return recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update=data),
            "model": recipe.model.model_copy(update={"weights": weights}),
        }
    )


def full_path(place: str) -> str:
    """The path from the root to a file or folder; the address of a data set as it is."""
    return place if place.startswith("torchvision:") else str(Path(place).expanduser().resolve())


def start_model(prepared: Prepared) -> tuple[Classifier, KeyReport | None]:
    """The model with its starting weights; what is drawn at random in it follows the seed."""
    recipe = prepared.recipe
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        return build_model(recipe.model, len(prepared.catalog.classes), imgsz=largest_imgsz(recipe))


def what_trains(recipe: Recipe) -> tuple[str, str]:
    """Model and weights; then preset, sizes and device."""
    training, model = recipe.training, recipe.model
    weights = model.weights if model.weights in ("pretrained", "none") else Path(model.weights).name
    epochs = sum(stage.epochs for stage in recipe.stages)
    return (
        f"model  {model.name} (weights: {weights}), {training.imgsz} px",
        f"recipe {recipe.preset or 'own'}, {epochs} epochs, batch {training.batch}, "
        f"{training.device} {training.precision}",
    )


def largest_imgsz(recipe: Recipe) -> int:
    """The largest resolution of any stage: models with fixed positions are built for it."""
    return max(cast(int, stage.imgsz) for stage in recipe.stages)
