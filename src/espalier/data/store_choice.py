"""Whether photographs are stored, and where: decided before the first one is decoded.

Reading a stored picture takes 0.003 ms at 32 pixels and 0.02 ms at 320 x 240; decoding its JPEG
file takes 0.16 and 0.54 ms, storing it 0.02 and 0.14 ms (one core). So at every size the second
reading pays, and only space and the number of readings speak against a store.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from espalier.cache import GIB, cache_folder, free_bytes, used_bytes
from espalier.data.images import largest_reduced
from espalier.data.store import RESERVE, DiskStore, MemoryStore, PixelStore, store_side
from espalier.data.transforms import at_least_for
from espalier.errors import DiskError, RecipeError
from espalier.recipe.schema import Keep, Recipe

_MEMORY_SHARE = 0.5


@dataclass(frozen=True)
class Survey:
    """What a source holds, before its photographs are decoded.

    Attributes:
        images: Files that a store would hold; those inside a torchvision set are not stored.
        sizes: Width and height of some of them, evenly chosen, unreadable ones left out.
    """

    images: int
    sizes: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class StoreChoice:
    """Where photographs are kept, and why, as a sentence for the log."""

    mode: Literal["memory", "disk", "off"]
    reason: str


def choose_store(
    mode: Keep,
    survey: Survey,
    *,
    side: int,
    epochs: int,
    budget: int,
    free_disk: int,
    free_memory: int,
) -> StoreChoice:
    """Decide ``auto``, and hold what was asked for to the space there is.

    Args:
        mode: As in the recipe.
        survey: Of the photographs.
        side: Of the store, in pixels.
        epochs: How often each photograph will be read.
        budget: Bytes that the store may take.
        free_disk: Bytes free for it, what it takes already included; see ``disk_for_store``.
        free_memory: Bytes of memory that are free now.

    Raises:
        DiskError: ``disk`` was asked for and does not fit.
        RecipeError: ``memory`` was asked for and does not fit.
    """
    if mode == "off":
        return StoreChoice("off", "store off: as the recipe says")
    needed = store_bytes(survey, side)
    disk = min(budget, max(0, free_disk - RESERVE))
    memory = min(budget, int(free_memory * _MEMORY_SHARE))
    if mode == "auto":
        return _chosen(survey.images, needed, disk, memory, epochs)
    room = disk if mode == "disk" else memory
    if needed > room:
        raise _too_large(mode, needed, room, budget)
    return StoreChoice(mode, f"store on {mode}: up to {_gib(needed)}, as the recipe says")


def side_for(recipe: Recipe) -> int:
    """Pixels of the short side to which a run reduces its photographs, stored or not.

    One for training, validation and prediction; it follows from the recipe alone, so that whoever
    reads the run later sees the same pixels.

    Args:
        recipe: Its image sizes must be decided.
    """
    sizes = {cast(int, stage.imgsz) for stage in recipe.stages}
    rising = {stage.imgsz_from for stage in recipe.stages if stage.imgsz_from is not None}
    tested = recipe.training.test_imgsz
    return store_side(at_least_for(recipe, sizes | rising, sizes if tested is None else [tested]))


def store_bytes(survey: Survey, side: int) -> int:
    """Bytes that a store of a side takes at most, from the sizes that were looked at."""
    if not survey.sizes:
        return 0
    total = sum(largest_reduced(width, height, side) for width, height in survey.sizes)
    return survey.images * total // len(survey.sizes)


def disk_for_store() -> int:
    """Bytes on the disk of the cache that a store may use: what is free, and what stores hold."""
    folder = cache_folder("pixels")
    return free_bytes(folder) + used_bytes(folder)


def open_store(choice: StoreChoice, *, side: int, budget: int, required: bool) -> PixelStore | None:
    """The store that was chosen, with what earlier runs left in it; None where it is off.

    Args:
        choice: From ``choose_store``.
        side: Of the store, in pixels.
        budget: Bytes that it may take.
        required: Whether a disk that cannot be written to is an error: the recipe says ``disk``.
    """
    if choice.mode == "off":
        return None
    if choice.mode == "memory":
        return MemoryStore(side, budget)
    return DiskStore(cache_folder("pixels"), side, budget, required=required)


def _chosen(images: int, needed: int, disk: int, memory: int, epochs: int) -> StoreChoice:
    if images == 0:
        return StoreChoice("off", "store off: there are no photographs in files")
    if epochs <= 1:
        return StoreChoice("off", "store off: one epoch reads every photograph once")
    if needed <= disk:
        return StoreChoice("disk", f"store on disk: up to {_gib(needed)}, decoded once")
    if needed <= memory:
        return StoreChoice("memory", f"store in memory: {_gib(needed)}, and the disk has less room")
    return StoreChoice(
        "off",
        f"store off: it would take {_gib(needed)}; the budget and the free space allow "
        f"{_gib(disk)} on disk and {_gib(memory)} in memory",
    )


def _too_large(mode: Literal["memory", "disk"], needed: int, room: int, budget: int) -> Exception:
    message = (
        f"data.store `{mode}` would take {_gib(needed)}; the free {mode} and the budget of "
        f"{_gib(budget)} allow {_gib(room)}"
    )
    hint = "--set data.store=auto"
    if needed > budget:
        hint += f", or --set data.store_gib={needed / GIB * 1.1:.0f}"
    return (DiskError if mode == "disk" else RecipeError)(message, hint=hint)


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
