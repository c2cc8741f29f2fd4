"""What a stage trains: which parameters thaw, which mode BatchNorm is in, at which rates."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from espalier.errors import ModelError
from espalier.models.build import Classifier
from espalier.models.parts import Block, anatomy, blocks
from espalier.recipe.schema import Stage

__all__ = [
    "TOP_SHARE",
    "Block",
    "Trainable",
    "blocks",
    "model_parts",
    "parameter_groups",
    "set_mode",
    "set_trainable",
]

TOP_SHARE = 0.3
_TOP_BY_NAME = {"resnet50": ("layer3", "layer4")}
_MOST_STAGES = 6
_FEWEST_STAGES = 4


@dataclass(frozen=True)
class Trainable:
    """What a stage trains.

    Attributes:
        trainable: Parameters (numbers) that learn.
        frozen: Parameters that do not.
        blocks: Names of the backbone's blocks that learn, in forward order.
        of: How many blocks the backbone has.
    """

    trainable: int
    frozen: int
    blocks: tuple[str, ...]
    of: int

    def __str__(self) -> str:
        total = self.trainable + self.frozen
        where = f"; {len(self.blocks)} of {self.of} blocks" if self.blocks else "; head only"
        if len(self.blocks) not in (0, self.of):
            where += f" ({self.blocks[0]} to {self.blocks[-1]})"
        return f"{self.trainable:,} of {total:,} parameters learn{where}"


def set_trainable(model: Classifier, stage: Stage) -> Trainable:
    """Thaws what the stage trains and freezes all else.

    ``head``, ``all``, ``top`` (by name for ResNet-50, else the last 30 % of the blocks, what
    follows them, and the head), a share of the blocks, or exactly the modules named.

    Raises:
        ModelError: A named module does not exist; lists those that do.
    """
    model.requires_grad_(False)
    for parameter in chosen_parameters(model, stage):
        parameter.requires_grad_(True)
    counts = {True: 0, False: 0}
    for parameter in model.parameters():
        counts[parameter.requires_grad] += parameter.numel()
    return Trainable(counts[True], counts[False], *_learning_blocks(model))


def set_mode(model: Classifier, stage: Stage) -> None:
    """Puts frozen layers in eval mode; call it after every ``model.train()``.

    Freezing alone does not stop BatchNorm's statistics nor dropout. ``batch_norm`` of the stage
    overrules it for BatchNorm layers: ``train`` or ``eval`` for all of them.
    """
    for half in (model.backbone, model.head):
        _rest_frozen(half)
    if stage.batch_norm in ("auto", "thawed"):
        return
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.train(stage.batch_norm == "train")


def parameter_groups(model: Classifier, stage: Stage, weight_decay: float) -> list[dict[str, Any]]:
    """Groups for an optimizer: every trainable parameter in exactly one.

    Norms, biases and what timm names (tokens, position tables) are not decayed. The last block
    learns at the backbone's rate, each block below at ``layer_decay`` times the one above it.

    Returns:
        Dictionaries with ``name``, ``params``, ``lr`` (the peak rate) and ``weight_decay``.
    """
    structure = anatomy(model.backbone)
    spared = _spared(model.backbone)
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        half, _, inner = name.partition(".")
        depth = structure.depth(inner) if half == "backbone" else None
        part, rate = _part_and_rate(stage, depth, len(structure.blocks))
        decayed = parameter.ndim > 1 and not name.endswith(".bias") and inner not in spared
        key = part if decayed else f"{part}.no_decay"
        group = groups.setdefault(
            key,
            {
                "name": key,
                "params": [],
                "lr": rate,
                "weight_decay": weight_decay if decayed else 0.0,
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


def model_parts(model: Classifier) -> dict[str, list[nn.Parameter]]:
    """All parameters by part in forward order: ``stem``, ``stage1`` ..., ``head``; 3 to 8 parts."""
    structure = anatomy(model.backbone)
    stage_of = _stage_numbers([block.name for block in structure.blocks])
    parts: dict[str, list[nn.Parameter]] = {"stem": []}
    parts.update({f"stage{number}": [] for number in sorted(set(stage_of))})
    for name, parameter in model.backbone.named_parameters():
        # The tail goes with the last stage: a norm alone says little.
        depth = min(structure.depth(name), len(stage_of))
        parts["stem" if depth == 0 else f"stage{stage_of[depth - 1]}"].append(parameter)
    parts["head"] = list(model.head.parameters())
    return {name: members for name, members in parts.items() if members}


def chosen_parameters(model: Classifier, stage: Stage) -> Iterable[nn.Parameter]:
    """The parameters that a stage is meant to train, whether or not they are thawed now.

    Raises:
        ModelError: A named module does not exist; lists those that do.
    """
    wanted: str | float | tuple[str, ...] = stage.train
    if wanted == "all":
        return list(model.parameters())
    if wanted == "head":
        return list(model.head.parameters())
    if wanted == "top":
        by_name = _TOP_BY_NAME.get(model.name.partition(".")[0])
        wanted = (*by_name, "head") if by_name else TOP_SHARE
    if isinstance(wanted, tuple):
        return _named(model, wanted)
    return _last_share(model, float(wanted))


def _last_share(model: Classifier, share: float) -> list[nn.Parameter]:
    if share >= 1:
        return list(model.parameters())
    structure = anatomy(model.backbone)
    number = len(structure.blocks)
    # Rounded to save 0.3 x 10 from becoming 4 blocks.
    first = number - max(1, math.ceil(round(share * number, 6))) + 1
    thawed = [
        parameter
        for name, parameter in model.backbone.named_parameters()
        if structure.depth(name) >= first
    ]
    return [*thawed, *model.head.parameters()]


def _named(model: Classifier, prefixes: tuple[str, ...]) -> list[nn.Parameter]:
    named = dict(model.named_parameters())
    chosen: dict[str, nn.Parameter] = {}
    unknown: list[str] = []
    for prefix in prefixes:
        found = [name for name in named if _lies_in(name, prefix)]
        if not found:
            unknown.append(prefix)
        chosen.update({name: named[name] for name in found})
    if unknown:
        raise _unknown_parts(model, unknown)
    return list(chosen.values())


def _lies_in(name: str, prefix: str) -> bool:
    """Whether a parameter lies in a module named within the model or within the backbone."""
    candidates = (prefix, f"backbone.{prefix}")
    return any(name == full or name.startswith(full + ".") for full in candidates)


def _unknown_parts(model: Classifier, unknown: list[str]) -> ModelError:
    children = model.backbone.named_children()
    known = [name for name, child in children if next(child.parameters(), None) is not None]
    listed = ", ".join(f"'{name}'" for name in unknown)
    return ModelError(
        f"{model.name} has no part {listed} to train. Its parts: {', '.join([*known, 'head'])}; "
        f"its blocks: {_shortened([block.name for block in blocks(model.backbone)])}.",
        hint=f"stages: train: [{known[-1]}, head], or `top`, or a share such as 0.3",
    )


def _shortened(names: list[str]) -> str:
    if len(names) <= 12:
        return ", ".join(names)
    return ", ".join([*names[:3], "...", *names[-3:]])


def _learning_blocks(model: Classifier) -> tuple[tuple[str, ...], int]:
    structure = anatomy(model.backbone)
    learning = {
        structure.depth(name)
        for name, parameter in model.backbone.named_parameters()
        if parameter.requires_grad
    }
    names = tuple(
        block.name for depth, block in enumerate(structure.blocks, 1) if depth in learning
    )
    return names, len(structure.blocks)


def _rest_frozen(half: nn.Module) -> None:
    """Eval mode for every module whose parameters are all frozen.

    A module without parameters (dropout, stochastic depth) rests when the layer before it does.
    """
    first = next(half.parameters(), None)
    resting = first is not None and not first.requires_grad
    for module in half.modules():
        learning = [parameter.requires_grad for parameter in module.parameters()]
        if learning:
            within_rests = not any(learning)
            module.training = not within_rests
            if next(module.parameters(recurse=False), None) is not None:
                resting = within_rests
        else:
            module.training = not resting


def _spared(backbone: nn.Module) -> set[str]:
    """Parameters that timm says are never decayed: tokens, position tables."""
    named = getattr(backbone, "no_weight_decay", None)
    return set(named()) if callable(named) else set()


def _part_and_rate(stage: Stage, depth: int | None, number: int) -> tuple[str, float]:
    if depth is None:
        return "head", stage.lr
    peak = stage.lr if stage.backbone_lr is None else stage.backbone_lr
    if stage.layer_decay == 1:
        return "backbone", peak
    below = max(0, number - depth)
    return f"backbone.{depth:02d}", peak * stage.layer_decay**below


def _stage_numbers(names: list[str]) -> list[int]:
    """A stage number from 1 for each block, by the container it is in; at most 6 in all."""
    runs = [list(run) for _, run in groupby(names, key=_container)]
    if len(runs) < 2:
        runs = [[name] for name in names]
        groups = min(_FEWEST_STAGES, len(runs))
    else:
        groups = min(_MOST_STAGES, len(runs))
    return [place * groups // len(runs) + 1 for place, run in enumerate(runs) for _ in run]


def _container(name: str) -> str:
    """``layer3`` of ``layer3.0``, ``stages.1`` of ``stages.1.blocks.2``; the name without dots."""
    above = name.rpartition(".")[0]
    return above.removesuffix(".blocks").removesuffix(".layers") if above else ""
