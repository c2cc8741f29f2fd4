"""Whether the features of frozen layers are kept in a stage, where, and in how many views."""

from __future__ import annotations

from dataclasses import dataclass

from espalier.recipe.schema import Features

GIB = 2**30
AUTO_VIEWS = 4
# Of the memory that is free: the rest belongs to training and to other programs.
MEMORY_SHARE = 0.25


@dataclass(frozen=True)
class Keeping:
    """What is decided for one stage.

    Attributes:
        where: ``disk``, ``memory``, or ``off``: frozen layers run live, in every epoch.
        views: Augmented views of each training image; 0 where nothing is kept.
        reason: For the log, as a sentence.
    """

    where: str
    views: int
    reason: str


@dataclass(frozen=True)
class Demand:
    """What a stage would need.

    Attributes:
        images: Training images.
        other_images: Images whose one fixed view is kept too: validation and the probe.
        image_bytes: Of one view of one image at the cut.
        draws: Training images that the stage draws, over all its epochs.
        epochs: Of the stage.
        obstacle: Why kept features would not be what is wanted, such as CutMix; empty: nothing.
    """

    images: int
    other_images: int
    image_bytes: int
    draws: int
    epochs: int
    obstacle: str = ""

    def bytes_for(self, views: int) -> int:
        """Bytes of so many views of every training image, and of the other images."""
        return (self.images * views + self.other_images) * self.image_bytes


def plan_keeping(section: Features, demand: Demand, *, free_memory: int, free_disk: int) -> Keeping:
    """Decide where the features of a stage are kept, or that they are not, and why."""
    if section.keep == "off":
        return Keeping("off", 0, "features.keep is off")
    if demand.obstacle:
        return Keeping("off", 0, demand.obstacle)
    views, why = _views(section, demand)
    if views == 0:
        return Keeping("off", 0, why)
    size = demand.bytes_for(views)
    if size > section.budget_gib * GIB:
        return Keeping(
            "off",
            0,
            f"{views} views take {_gib(size)}, over features.budget_gib={section.budget_gib:g}",
        )
    where, why_not = _place(section.keep, size, free_memory=free_memory, free_disk=free_disk)
    if not where:
        return Keeping("off", 0, f"{views} views take {_gib(size)}; {why_not}")
    return Keeping(where, views, f"{views} views of each image, {_gib(size)}, {_on(where)}")


def _views(section: Features, demand: Demand) -> tuple[int, str]:
    if section.views != "auto":
        return section.views, ""
    views = min(demand.epochs, AUTO_VIEWS)
    if views * demand.images >= demand.draws:
        return 0, "each view would be used once"
    return views, ""


def _place(keep: str, size: int, *, free_memory: int, free_disk: int) -> tuple[str, str]:
    """``disk`` or ``memory``, whichever is wanted and has room; else nothing, and why."""
    # Twice the size: a disk must never be filled to its end for a cache.
    if keep in ("auto", "disk") and 2 * size <= free_disk:
        return "disk", ""
    if keep in ("auto", "memory") and size <= MEMORY_SHARE * free_memory:
        return "memory", ""
    free = {
        "auto": f"{_gib(free_memory)} of memory and {_gib(free_disk)} of disk are free",
        "memory": f"{_gib(free_memory)} of memory are free, a quarter of which may be taken",
        "disk": f"{_gib(free_disk)} of disk are free, half of which may be taken",
    }
    return "", free[keep]


def _on(where: str) -> str:
    return "on disk" if where == "disk" else "in memory"


def _gib(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"
