"""What a stage is meant to train, worked out apart from the code that thaws it."""

from __future__ import annotations

import math
from collections.abc import Callable

from espalier.models.build import Classifier
from espalier.models.parts import anatomy
from espalier.models.stages import TOP_SHARE
from espalier.recipe.schema import Stage

# Where `top` goes by the names of the blocks and not by a share of them.
_TOP_OF_RESNET50 = ("backbone.layer3", "backbone.layer4", "head")


def misplaced(model: Classifier, stage: Stage) -> tuple[str, ...]:
    """Parameters that are thawed or frozen against the words of the stage, in model order."""
    wanted = _wanted(model, stage)
    return tuple(
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad is not wanted(name)
    )


def _wanted(model: Classifier, stage: Stage) -> Callable[[str], bool]:
    """Whether a parameter of a name shall learn."""
    train = stage.train
    if train == "all":
        return lambda name: True
    if train == "head":
        return _within(("head",))
    if isinstance(train, tuple):
        return _within((*train, *(f"backbone.{part}" for part in train)))
    if train == "top" and model.name.partition(".")[0] == "resnet50":
        return _within(_TOP_OF_RESNET50)
    return _in_last(model, TOP_SHARE if train == "top" else float(train))


def _within(places: tuple[str, ...]) -> Callable[[str], bool]:
    return lambda name: any(f"{name}.".startswith(f"{place}.") for place in places)


def _in_last(model: Classifier, share: float) -> Callable[[str], bool]:
    """The head, and what does not lie before the last blocks, so many of them."""
    structure = anatomy(model.backbone)
    frozen = len(structure.blocks) - max(1, math.ceil(round(share * len(structure.blocks), 6)))

    def wanted(name: str) -> bool:
        half, _, inner = name.partition(".")
        return half == "head" or share >= 1 or structure.depth(inner) > frozen

    return wanted
