"""The parts of any network, in forward order, and its BatchNorm layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

HEAD = "head"
_FEWEST, _MOST = 4, 8
_HEADS = ("head", "heads", "fc", "classifier", "head_dist")
# How wrappers (DDP, DataParallel, torch.compile, Fabric) call what they wrap.
_WRAPPED = ("module", "_orig_mod", "_forward_module")

Parts = dict[str, list[nn.Parameter]]
Unit = tuple[str, nn.Module]


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside the wrappers of distributed training and of ``torch.compile``."""
    while True:
        inner = next((getattr(model, n) for n in _WRAPPED if _is_wrapper(model, n)), None)
        if inner is None:
            return model
        model = inner


def _is_wrapper(model: nn.Module, name: str) -> bool:
    children = list(model.children())
    return len(children) == 1 and getattr(model, name, None) is children[0]


def network_parts(model: nn.Module) -> Parts:
    """All parameters of any network by part: up to 8 parts, in the order in which it holds them.

    A part has the name of its first module; the last is always called ``head``.
    """
    model = unwrapped(model)
    units = _units(model)
    runs = _grouped(units, _MOST)
    parts: Parts = {}
    seen: set[int] = set()
    loose = list(model.parameters(recurse=False))
    for index, run in enumerate(runs):
        name = HEAD if index == len(runs) - 1 else run[0][0]
        members = [p for _, module in run for p in module.parameters()]
        members = [*loose, *members] if index == 0 else members
        # A tensor that two parts share belongs to the first.
        own = {id(p): p for p in members if id(p) not in seen}
        seen |= own.keys()
        if own:
            parts[name] = list(own.values())
    return parts or ({HEAD: loose} if loose else {})


def _units(model: nn.Module) -> list[Unit]:
    """Modules with parameters: the children, of which the largest are opened while they are few."""
    units = _filled_children("", model)
    while len(units) < _FEWEST:
        opened = [(_size(module), i) for i, (name, module) in enumerate(units) if _many(module)]
        if not opened:
            break
        _, index = max(opened)
        units[index : index + 1] = _filled_children(units[index][0] + ".", units[index][1])
    heads = [unit for unit in units if unit[0].rpartition(".")[2] in _HEADS]
    return [unit for unit in units if unit not in heads] + heads


def _filled_children(prefix: str, module: nn.Module) -> list[Unit]:
    named = module.named_children()
    return [(prefix + name, child) for name, child in named if _size(child)]


def _many(module: nn.Module) -> bool:
    """Whether opening a module loses nothing, and gives something."""
    return not list(module.parameters(recurse=False)) and bool(_filled_children("", module))


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _grouped(units: Sequence[Unit], most: int) -> list[list[Unit]]:
    """Runs of consecutive units, at most so many; the last unit stays alone."""
    if not units:
        return []
    body, head = units[:-1], units[-1]
    number = min(most - 1, len(body))
    runs: list[list[Unit]] = [[] for _ in range(number)]
    for place, unit in enumerate(body):
        runs[place * number // len(body)].append(unit)
    return [*runs, [head]]


def part_of_modules(model: nn.Module, parts: Mapping[str, Sequence[Tensor]]) -> dict[str, str]:
    """Module name -> part, for each module that holds parameters of its own."""
    home = {id(tensor): part for part, tensors in parts.items() for tensor in tensors}
    found: dict[str, str] = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            if id(parameter) in home:
                found.setdefault(name, home[id(parameter)])
    return found


class NormStatistics(NamedTuple):
    """Running statistics of a BatchNorm layer, on the CPU: means [C] and standard deviations [C].

    Attributes:
        part: The part of the network it lies in.
    """

    part: str
    mean: Tensor
    std: Tensor


def norm_statistics(
    model: nn.Module, parts: Mapping[str, Sequence[Tensor]]
) -> dict[str, NormStatistics]:
    """Copies of the running statistics of all BatchNorm layers, by module name."""
    homes = part_of_modules(model, parts)
    found: dict[str, NormStatistics] = {}
    last = next(iter(parts), "")
    for name, module in model.named_modules():
        last = homes.get(name, last)
        if isinstance(module, _BatchNorm) and module.running_mean is not None:
            variance = cast(Tensor, module.running_var)
            std = (variance.detach().float() + module.eps).sqrt().cpu()
            mean = module.running_mean.detach().float().cpu().clone()
            found[name] = NormStatistics(last, mean, std)
    return found


def drift(
    start: Mapping[str, NormStatistics], now: Mapping[str, NormStatistics]
) -> dict[str, float]:
    """Per part, how far running means moved: mean over channels, in standard deviations then."""
    moved: dict[str, list[Tensor]] = {}
    for name, was in start.items():
        if name in now and now[name].mean.shape == was.mean.shape:
            moved.setdefault(was.part, []).append((now[name].mean - was.mean).abs() / was.std)
    return {part: float(torch.cat(changes).mean()) for part, changes in moved.items()}
