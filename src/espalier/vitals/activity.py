"""Dead units: channels behind a ReLU that are hardly ever above 0, seen during one forward pass.

A torch function mode sees ``nn.ReLU`` and ``F.relu`` alike, and nothing stays on the model: no
backward hooks, no hooks on training steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from espalier.vitals.parts import part_of_modules

# A channel is dead that is above 0 at less than this share of the images and places.
ACTIVE_SHARE = 0.01
_RELUS = (
    functional.relu, functional.relu_, functional.relu6, torch.relu, torch.relu_, Tensor.relu,
    Tensor.relu_,
)  # fmt: skip


class ActivityWatch(TorchFunctionMode):
    """Counts active channels of each part while ``watching`` a forward pass.

    Args:
        model: The network, or the part of it that runs.
        parts: Part name -> parameters.
    """

    def __init__(self, model: nn.Module, parts: Mapping[str, Sequence[Tensor]]) -> None:
        super().__init__()
        modules = dict(model.named_modules())
        self._homes = [(modules[n], part) for n, part in part_of_modules(model, parts).items()]
        # Before the first known layer nothing is counted: frozen layers may run as copies.
        self._part = ""
        self._shares: list[tuple[str, Tensor]] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Let the function do its work, and look at what a ReLU gives."""
        result = func(*args, **(kwargs or {}))
        if not self._part:
            return result
        if func in _RELUS or (func is functional.hardtanh and _cuts_at_zero(args, kwargs or {})):
            self._shares.append((self._part, active_shares(result)))
        return result

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the forward passes inside; the part is that of the last layer with weights."""
        hooks = [
            module.register_forward_pre_hook(self._enter(part)) for module, part in self._homes
        ]
        try:
            with self:
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, part: str) -> Callable[[nn.Module, Any], None]:
        def enter(module: nn.Module, inputs: Any) -> None:
            self._part = part

        return enter

    def dead(self) -> dict[str, float]:
        """Part -> share of its channels that are dead; parts without a ReLU are left out."""
        found: dict[str, list[Tensor]] = {}
        for part, shares in self._shares:
            found.setdefault(part, []).append(shares)
        return {
            part: float((torch.cat(shares) < ACTIVE_SHARE).float().mean())
            for part, shares in found.items()
        }


def _cuts_at_zero(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether a hardtanh is a ReLU6."""
    lowest = args[1] if len(args) > 1 else kwargs.get("min_val", -1.0)
    return float(lowest) == 0.0


def active_shares(output: Tensor) -> Tensor:
    """Share of images and places at which each channel is above 0 [C]; channels last of tokens."""
    channel = output.ndim - 1 if output.ndim == 3 else 1
    if output.ndim < 2:
        return torch.empty(0)
    others = [axis for axis in range(output.ndim) if axis != channel]
    return (output.detach() > 0).float().mean(dim=others).cpu()


class FirstBatchWatched(nn.Module):
    """A model whose first forward pass is watched; otherwise as it is."""

    def __init__(self, model: nn.Module, watch: ActivityWatch) -> None:
        super().__init__()
        self.model = model
        self._watch = watch
        self._seen = False

    def forward(self, images: Tensor) -> Tensor:
        """What the model gives."""
        if self._seen:
            return torch.as_tensor(self.model(images))
        self._seen = True
        with self._watch.watching():
            return torch.as_tensor(self.model(images))
