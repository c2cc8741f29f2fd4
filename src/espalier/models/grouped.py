"""Grouped convolutions in fp32 where all else computes in bf16: depthwise nets train faster so."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from espalier.errors import ModelError

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class _InFp32:
    """Marks the classes made here; ``kind`` is the class that the convolution had before."""

    kind: ClassVar[type[nn.Module]]


def grouped_convolutions(model: nn.Module) -> Iterator[nn.Module]:
    """Every convolution with more than one group, depthwise ones among them."""
    for module in model.modules():
        if isinstance(module, _CONVOLUTIONS) and module.groups > 1:
            yield module


def has_grouped_convolutions(model: nn.Module) -> bool:
    """Whether ``keep_grouped_in_fp32`` would change anything."""
    return next(grouped_convolutions(model), None) is not None


def keep_grouped_in_fp32(model: nn.Module, on: bool) -> None:
    """Let grouped convolutions compute in fp32 in a bf16 region of autocast, or as all else again.

    The bf16 gradients of depthwise convolutions are slow on CPUs: MobileNetV2 at 128 px trains at
    60 img/s in bf16, 74 in fp32, 90 in bf16 with those layers in fp32 (batch 32, channels-last, one
    core with AVX-512 bf16; benchmarks/plan.py). Parameters, their names and hooks stay as they are.

    Raises:
        ModelError: It is to be switched on, and the model has no grouped convolution.
    """
    if on and not has_grouped_convolutions(model):
        name = getattr(model, "name", type(model).__name__)
        raise ModelError(
            f"training.grouped_fp32 is true, but {name} has no grouped convolutions; "
            "allowed: auto, false",
            hint="--set training.grouped_fp32=auto",
        )
    for module in grouped_convolutions(model):
        # The class and not the instance: a forward set on the instance would go on computing with
        # the weights of the original after a deep copy.
        kind: Any = type(module)
        if issubclass(kind, _InFp32):
            module.__class__ = kind if on else kind.kind
        elif on:
            module.__class__ = _in_fp32(kind)


@functools.cache
def _in_fp32(kind: type[Any]) -> type[Any]:
    """A subclass that leaves autocast for its forward pass, and the backward pass with it."""

    def forward(self: Any, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            output: Tensor = kind.forward(self, images.to(self.weight.dtype))
        return output

    members = {"forward": forward, "kind": kind, "__module__": kind.__module__}
    return type(f"{kind.__name__}InFp32", (_InFp32, kind), members)
