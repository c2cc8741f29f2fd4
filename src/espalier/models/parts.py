"""The parts of any backbone, in the order that an image passes through them.

timm's models have no common shape: blocks sit in ``Sequential`` containers, in lists, in stage
modules, or side by side. Here each model becomes a stem, blocks, and a tail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_BLOCK_LISTS = ("blocks", "layers", "stages")
_NEVER_CONTAINERS = ("stem", "patch_embed", "head", "head_dist")
_FEWEST_BLOCKS = 4


@dataclass(frozen=True)
class Block:
    """A stretch of the backbone that thaws as a whole.

    Attributes:
        name: Its main module, relative to the backbone, such as ``layer3.0``.
        prefixes: All modules in it: ``name``, and what stands between it and the block before.
    """

    name: str
    prefixes: tuple[str, ...]


@dataclass(frozen=True)
class Anatomy:
    """A backbone as stem, blocks and tail.

    Attributes:
        blocks: In forward order.
        depths: Of each module prefix: 0 in the stem, i in the i-th block (from 1), n + 1 behind
            the last of n blocks.
    """

    blocks: tuple[Block, ...]
    depths: Mapping[str, int]

    def depth(self, parameter: str) -> int:
        """Depth of a parameter by its name; 0 for those of the backbone itself (tokens)."""
        prefix = parameter
        while prefix:
            if prefix in self.depths:
                return self.depths[prefix]
            prefix = prefix.rpartition(".")[0]
        return 0


@dataclass(frozen=True)
class _Unit:
    """A module that is not looked into; ``block`` where its place says that it is a block."""

    name: str
    parameters: int
    simple: bool
    block: bool


def blocks(backbone: nn.Module) -> tuple[Block, ...]:
    """The blocks in forward order; stem and tail are what no block holds."""
    return anatomy(backbone).blocks


def anatomy(backbone: nn.Module) -> Anatomy:
    """Stem, blocks and tail of any backbone."""
    units, names = _units_and_blocks(backbone)
    found: list[Block] = []
    depths: dict[str, int] = {}
    waiting: list[str] = []
    for unit in units:
        if unit.name in names:
            # What stands between two blocks (a downsampling, a norm) goes with the one behind.
            links = tuple(waiting) if found else ()
            found.append(Block(unit.name, (*links, unit.name)))
            depths.update(dict.fromkeys(found[-1].prefixes, len(found)))
            waiting = []
        else:
            depths[unit.name] = 0 if not found else len(names) + 1
            waiting.append(unit.name)
    return Anatomy(tuple(found), depths)


def _units_and_blocks(backbone: nn.Module) -> tuple[list[_Unit], set[str]]:
    """All units, and the names of those that are blocks.

    Blocks are what containers hold; in models without such (Inception), all compound modules;
    in models of single layers (VGG), the layers with weights of two or more dimensions.
    """
    units = [
        unit for name, child in backbone.named_children() for unit in _expand(name, child, False)
    ]
    everything = sum(unit.parameters for unit in units)
    held = [unit for unit in units if unit.block and not unit.simple]
    if held and 2 * sum(unit.parameters for unit in held) >= everything:
        return units, {unit.name for unit in held}
    compound = [unit for unit in units if not unit.simple]
    if len(compound) >= _FEWEST_BLOCKS:
        return units, {unit.name for unit in compound}
    layers = _single_layers(backbone)
    return layers, {layer.name for layer in layers if layer.block}


def _expand(name: str, module: nn.Module, block: bool) -> list[_Unit]:
    size = sum(parameter.numel() for parameter in module.parameters())
    if size == 0:
        return []
    if name in _NEVER_CONTAINERS or not _is_container(module):
        return [_Unit(name, size, _is_simple(module), block)]
    listed = [key for key in _BLOCK_LISTS if _is_block_list(getattr(module, key, None))]
    plain = isinstance(module, _CONTAINERS)
    return [
        unit
        for key, child in module.named_children()
        for unit in _expand(f"{name}.{key}", child, plain or not listed)
    ]


def _is_container(module: nn.Module) -> bool:
    """Whether a module only strings blocks together."""
    if isinstance(module, _CONTAINERS) or type(module).__name__.endswith("Stage"):
        return any(not _is_simple(child) for child in module.children())
    return any(_is_block_list(getattr(module, key, None)) for key in _BLOCK_LISTS)


def _is_block_list(module: object) -> bool:
    return isinstance(module, _CONTAINERS) and any(not _is_simple(m) for m in module.children())


def _is_simple(module: nn.Module) -> bool:
    """A single layer: none of its children has parameters."""
    return all(next(child.parameters(), None) is None for child in module.children())


def _single_layers(backbone: nn.Module) -> list[_Unit]:
    found: list[_Unit] = []
    for name, module in backbone.named_modules():
        own = list(module.parameters(recurse=False))
        if name and own:
            size = sum(parameter.numel() for parameter in own)
            found.append(_Unit(name, size, True, max(p.ndim for p in own) > 1))
    return found
