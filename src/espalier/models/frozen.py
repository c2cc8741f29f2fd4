"""Frozen layers, run as fast as layers can be that nobody will ever differentiate through."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from espalier.models.cut import Piece
from espalier.models.grouped import keep_grouped_in_fp32
from espalier.models.inference import autocast, memory_format

_PROBE_IMAGES = 2
_PROBE_PIXELS = 64
_TOLERANCE = 1e-4


class FrozenLayers:
    """The pieces before the cut as a function of images; what it gives is no part of any graph.

    The weights are copied, and BatchNorm is folded into the convolution before it: 1.2 times faster
    for MobileNetV2 in fp32, 2.1 times together with bf16 (one core with AVX-512 bf16, 128 px).

    Args:
        pieces: In forward order; they must rest, and go on resting.
        precision: ``fp32``, ``bf16`` or ``fp16``: of the arithmetic.
        channels_last: Memory layout of images and weights.
        device: Where the images will be.

    Attributes:
        engine: What runs them, with its version where what they give may depend on that.
    """

    def __init__(
        self, pieces: Sequence[Piece], *, precision: str, channels_last: bool, device: torch.device
    ) -> None:
        self.engine = "eager"
        self.precision = precision
        self.device = device
        self.layout = memory_format(channels_last)
        plain = nn.Sequential(*(piece.module for piece in pieces))
        self.layers = fold_batch_norm(plain).to(memory_format=self.layout)

    def __call__(self, images: Tensor) -> Tensor:
        """Activations at the cut, fp32 [B, ...], of normalised images [B, 3, H, W]."""
        return self.eager(images, self.precision)

    def shape(self, imgsz: int) -> tuple[int, ...]:
        """Shape of the activations of one image [3, imgsz, imgsz]."""
        image = torch.zeros(1, 3, imgsz, imgsz, device=self.device)
        return tuple(self.eager(image, self.precision).shape[1:])

    def eager(self, images: Tensor, precision: str) -> Tensor:
        """The same in another precision, and whatever else runs the layers: in eager torch."""
        with torch.inference_mode(), autocast(self.device, precision):
            found: Tensor = self.layers(images.contiguous(memory_format=self.layout)).float()
        # An inference tensor cannot enter a graph, not even as a constant.
        return found.clone()


def fold_batch_norm(layers: nn.Module) -> nn.Module:
    """A copy of frozen layers in evaluation mode, each BatchNorm folded into its convolution.

    Where folding would change the result (a BatchNorm that is declared behind a convolution and
    does not follow it), a copy as it was.
    """
    plain = copy.deepcopy(layers).eval().requires_grad_(False)
    # In fp32 they train faster; without a backward pass they are faster in bf16 as all else.
    keep_grouped_in_fp32(plain, False)
    if not any(isinstance(module, _BatchNorm) for module in plain.modules()):
        return plain
    folded = copy.deepcopy(plain)
    _fold(folded)
    return folded if _gives_the_same(plain, folded) else plain


def _fold(module: nn.Module) -> None:
    children = list(module.named_children())
    for (name, first), (after, second) in itertools.pairwise(children):
        if isinstance(first, nn.Conv2d) and isinstance(second, _BatchNorm):
            setattr(module, name, fuse_conv_bn_eval(first, second))
            # timm's norms carry the activation that follows them.
            setattr(module, after, getattr(second, "act", nn.Identity()))
    for _, child in children:
        _fold(child)


@torch.inference_mode()
def _gives_the_same(plain: nn.Module, folded: nn.Module) -> bool:
    generator = torch.Generator().manual_seed(0)
    first = cast(Tensor, next(plain.parameters()))
    images = torch.randn(_PROBE_IMAGES, 3, _PROBE_PIXELS, _PROBE_PIXELS, generator=generator)
    images = images.to(first.device)
    try:
        wanted, found = plain(images), folded(images)
    except (RuntimeError, AssertionError, AttributeError):
        # A backbone of a fixed size has no BatchNorm worth the trouble.
        return False
    error = float((found - wanted).abs().max())
    return error <= _TOLERANCE * max(1e-6, float(wanted.abs().max()))
