"""What a run decides on its way, put on record in its recipe: the store, and what a stage keeps.

The values stay ``auto``, because a run from the same file must decide again: it may have other
room, on another machine. What was decided stands under ``why``, as for all that was chosen.
"""

from __future__ import annotations

from espalier import files
from espalier.data.store import DiskStore, PixelStore
from espalier.errors import RecipeError, RunError
from espalier.recipe.load import dump_yaml
from espalier.recipe.merge import AUTO
from espalier.recipe.schema import Recipe
from espalier.train.job import Job
from espalier.train.keeping import Keeping

_KEEP, _VIEWS = "features.keep", "features.views"


def with_store(recipe: Recipe, store: PixelStore | None) -> Recipe:
    """The recipe with the store that was opened under ``why``, where that was left open."""
    if recipe.data.store != "auto":
        return recipe
    if store is None:
        decided = "off: every photograph is read once, or there is no room; the log says which"
    elif isinstance(store, DiskStore):
        decided = "disk: photographs are decoded once, for all runs"
    else:
        decided = "memory: photographs are decoded once; the disk has less room"
    return _with_why(recipe, {**recipe.why, "data.store": f"{AUTO}{decided}"})


def with_keeping(recipe: Recipe, stage: str, keeping: Keeping) -> Recipe:
    """The recipe with what one stage keeps under ``why``, where that was left open.

    The entries are ``features.keep.STAGE`` and ``features.views.STAGE``: stages differ.
    """
    keep, views = f"{_KEEP}.{stage}", f"{_VIEWS}.{stage}"
    why = {key: origin for key, origin in recipe.why.items() if key not in (keep, views)}
    if recipe.features.keep == "auto":
        why[keep] = f"{AUTO}{keeping.where}: {keeping.reason}"
    if recipe.features.views == "auto" and keeping.views:
        why[views] = f"{AUTO}{keeping.views}: {keeping.reason}"
    return _with_why(recipe, why)


def with_earlier(recipe: Recipe, earlier: Recipe) -> Recipe:
    """The recipe with what ``earlier`` says of its stages, for a run that is taken up again."""
    of_stages = (f"{_KEEP}.", f"{_VIEWS}.")
    kept = {key: text for key, text in earlier.why.items() if key.startswith(of_stages)}
    return _with_why(recipe, {**recipe.why, **kept})


def record_keeping(job: Job, stage: str, keeping: Keeping) -> None:
    """Write into the recipe of the run what one stage keeps, where that was left open.

    Where a person has edited that file since, it is left to them: their comments would be lost.
    """
    path = job.run.recipe_file
    recipe = _as_written(job)
    if recipe is None:
        job.watch.on_note(f"{path} was edited: what stage {stage} keeps is not written into it")
        return
    decided = with_keeping(recipe, stage, keeping)
    if decided != recipe:
        files.write_text(path, dump_yaml(decided))


def _as_written(job: Job) -> Recipe | None:
    """The recipe of the run; None where its file is not as a run writes it."""
    try:
        recipe = job.run.recipe()
        text = job.run.recipe_file.read_text(encoding="utf-8")
    except (RecipeError, RunError, OSError):
        return None
    return recipe if text == dump_yaml(recipe) else None


def _with_why(recipe: Recipe, why: dict[str, str]) -> Recipe:
    return recipe.model_copy(update={"why": why})
