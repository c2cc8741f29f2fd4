"""Run a classifier over batches of stored pixels: the one place that turns pixels into logits."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

LARGEST_BATCH = 64
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_KEPT_BYTES = 2**31 - 1


def keep_freed_memory() -> None:
    """Let glibc keep freed activations for the next step, where it is the allocator.

    By default each large tensor is mapped from and returned to the system at every step. Measured
    for MobileNetV2 at 128 px, batch 32, one core: 0.22-0.25 s of 0.74 s a step in page faults
    without this, 0.01 s with it; 6 % more memory at the peak.
    """
    mallopt = _glibc("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def return_freed_memory() -> None:
    """Give kept memory back to the system, between kinds of work with tensors of other sizes.

    Without it, training and validation in turn leave holes: ResNet-50 at 224 px peaked at 4.4 GB
    instead of 3.0. It costs 1-2 s of CPU for such a model, once an epoch.
    """
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _glibc(name: str) -> Callable[..., int] | None:
    """A function of the C library, where that is glibc."""
    if sys.platform != "linux":
        return None
    function: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    return function


class PixelBatch(Protocol):
    """What a loader yields: uint8 images [B, 3, H, W] and their positions in the sample list."""

    @property
    def images(self) -> Tensor:
        """uint8 [B, 3, H, W]."""

    @property
    def positions(self) -> Tensor:
        """int64 [B]."""


class Normalizer(nn.Module):
    """Turns uint8 pixels into what a backbone was trained on: ``(x / 255 - mean) / std``.

    Once per batch and on the device, because it costs 0.4 ms per image on the host.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("scale", 1 / (255 * torch.tensor(std).view(1, 3, 1, 1)))
        self.register_buffer("shift", -(torch.tensor(mean) / torch.tensor(std)).view(1, 3, 1, 1))
        self.scale: Tensor
        self.shift: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """Float images [B, 3, H, W] from uint8 ones, in the same memory format."""
        return torch.addcmul(self.shift, images.to(self.scale.dtype), self.scale)


def memory_format(channels_last: bool) -> torch.memory_format:
    """The layout of images and weights that the recipe chose."""
    return torch.channels_last if channels_last else torch.contiguous_format


def laid_out(images: Tensor, layout: torch.memory_format) -> Tensor:
    """Images or maps [B, C, H, W] in a layout; vectors and tokens have no other than their own."""
    return images.contiguous(memory_format=layout) if images.ndim == 4 else images.contiguous()


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[object]:
    """Mixed precision as in training, so that a prediction is what validation saw.

    A CPU has no useful fp16, so an fp16 run is predicted there in fp32.
    """
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    if dtype is None or (dtype is torch.float16 and device.type == "cpu"):
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def judging_batch(imgsz: int) -> int:
    """Images per batch where nothing is kept for a backward pass: so many pixels, at most 64."""
    return max(1, min(LARGEST_BATCH, LARGEST_BATCH * 224**2 // imgsz**2))


@torch.inference_mode()
def predict_logits(
    model: nn.Module,
    batches: Iterable[PixelBatch],
    count: int,
    *,
    normalizer: nn.Module,
    device: torch.device,
    precision: str,
    channels_last: bool,
) -> npt.NDArray[np.float32]:
    """Logits [count, K] in sample order, each sample once; every module is left in its mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    rows: list[npt.NDArray[np.float32]] = []
    places: list[npt.NDArray[np.int64]] = []
    layout = memory_format(channels_last)
    for batch in batches:
        pixels = batch.images.to(device, non_blocking=True)
        with autocast(device, precision):
            logits = model(laid_out(normalizer(pixels), layout))
        rows.append(logits.float().cpu().numpy())
        places.append(batch.positions.numpy())
    # One by one: a model that trains in parts has its frozen modules in evaluation mode.
    for module, training in modes:
        module.training = training
    found = np.concatenate(rows)
    ordered = np.empty((count, found.shape[1]), dtype=np.float32)
    ordered[np.concatenate(places)] = found
    return ordered
