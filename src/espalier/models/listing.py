"""The rows of ``espalier models``: sizes, and what fits the machine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import timm
import torch
from torch import Tensor, nn

from espalier.errors import ModelError
from espalier.models.facts import check_name, nearest_names, outline
from espalier.models.small_cnn import SMALL_CNN, SMALL_CNN_IMGSZ
from espalier.records import Machine

RECOMMENDED = (
    "resnet50",
    "efficientnet_b0",
    "mobilenetv3_small_100",
    "mobilenetv2_100",
    "mobilenetv3_large_100",
    "mobilenetv4_conv_small",
    "resnet18",
    "resnet34",
    "regnety_016",
    "efficientnet_b3",
    "efficientnetv2_rw_s",
    "convnext_tiny",
    "convnextv2_nano",
    "deit_tiny_patch16_224",
    "vit_small_patch16_224",
    "swin_tiny_patch4_window7_224",
    SMALL_CNN,
)
BATCH = 32
_BYTES = 4
# Weights, their gradients, and two moments of AdamW.
_COPIES_OF_WEIGHTS = 4
# Libraries, decoded images and the allocator's slack; measured at 0.5 to 0.8 GB on a CPU.
_SURROUNDINGS = 700e6


@dataclass(frozen=True)
class ModelRow:
    """One model of the list.

    Attributes:
        name: What ``--model`` takes.
        parameters: Of the backbone, in millions.
        size_mb: Of its weights as float32, in MB.
        imgsz: Pixels across that it was made for.
        memory_gb: Estimate for training all of it in float32 at that size, batch 32, in GB.
        fits: Whether that estimate is within the memory of the machine.
        pretrained: Whether timm offers weights.
    """

    name: str
    parameters: float
    size_mb: float
    imgsz: int
    memory_gb: float
    fits: bool
    pretrained: bool


def list_models(pattern: str | None, machine: Machine, *, limit: int) -> list[ModelRow]:
    """Models with their sizes: the recommended ones, or those of all timm that match.

    Args:
        pattern: Part of a name, or a pattern with ``*``; None for the recommended ones.
        machine: Whose memory decides what fits.
        limit: At most so many rows.

    Raises:
        ModelError: Nothing matches; the hint has the nearest names.
    """
    names = list(RECOMMENDED) if pattern is None else matching(pattern)
    rows = [_row(name, machine) for name in names[:limit]]
    return [row for row in rows if row is not None]


def matching(pattern: str) -> list[str]:
    """Names that contain ``pattern`` or match it with ``*``; recommended ones first.

    Raises:
        ModelError: Nothing matches.
    """
    text = pattern.lower().replace(" ", "")
    found: list[str] = timm.list_models(text if "*" in text else f"*{text}*")
    if text.strip("*") in SMALL_CNN:
        found = [*found, SMALL_CNN]
    if not found:
        near = ", ".join(nearest_names(pattern.strip("*")))
        raise ModelError(
            f"No model matches '{pattern}'. Allowed: part of a name, or a pattern with *.",
            hint=f"espalier models with one of: {near}" if near else "espalier models 'resnet*'",
        )
    first = [name for name in RECOMMENDED if name in found]
    return first + [name for name in found if name not in first]


def _row(name: str, machine: Machine) -> ModelRow | None:
    """None for the few entries of timm that are no backbone for classification."""
    try:
        cost = _cost(name)
    except (ModelError, RuntimeError, TypeError, ValueError, AssertionError):
        return None
    needed = cost.training_bytes(BATCH)
    return ModelRow(
        name=name,
        parameters=round(cost.parameters / 1e6, 2),
        size_mb=round(cost.parameters * _BYTES / 1e6, 1),
        imgsz=cost.imgsz,
        memory_gb=round(needed / 1e9, 2),
        fits=needed <= (machine.device_memory or machine.memory),
        pretrained=name != SMALL_CNN and timm.models.is_model_pretrained(name),
    )


class _Cost(NamedTuple):
    """What a model needs: its size, and the numbers that all its layers put out for one image."""

    imgsz: int
    parameters: int
    kept: int

    def training_bytes(self, batch: int) -> float:
        weights = self.parameters * _BYTES * _COPIES_OF_WEIGHTS
        return weights + self.kept * _BYTES * batch + _SURROUNDINGS


def training_bytes(name: str, batch: int = BATCH) -> float:
    """Estimated bytes to train the whole model in float32 with AdamW at its own image size.

    Counts what every layer puts out (kept for the backward pass), weights, gradients and
    moments, and a constant for the surroundings; frozen stages need far less. Within 16 % of the
    peak measured on a CPU for MobileNetV2, MobileNetV3-S, ResNet-18, ConvNeXt-T and a tiny ViT.
    """
    return _cost(name).training_bytes(batch)


@lru_cache(maxsize=256)
def _cost(name: str) -> _Cost:
    """From one outline and one pass: which sizes a model accepts would take several of each."""
    check_name(name)
    module, settings = outline(name)
    imgsz = int(settings.get("input_size", (3, SMALL_CNN_IMGSZ, SMALL_CNN_IMGSZ))[-1])
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return _Cost(imgsz, parameters, _kept_values(name, module, imgsz))


def _kept_values(name: str, module: nn.Module, imgsz: int) -> int:
    """Numbers that all single layers put out for one image."""
    counts: list[int] = []

    def count(layer: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            counts.append(output.numel())

    for layer in module.modules():
        # These hand on what they get; at rate 0, dropout does too.
        passes_on = isinstance(layer, nn.Identity | nn.Dropout | nn.Flatten)
        has_own = next(layer.parameters(recurse=False), None) is not None
        if has_own or (next(layer.children(), None) is None and not passes_on):
            layer.register_forward_hook(count)
    with torch.no_grad():
        output = module(torch.empty(1, 3, imgsz, imgsz, device="meta"))
    if not isinstance(output, Tensor) or output.ndim != 2:
        raise ModelError(f"{name} does not give one vector per image")
    return sum(counts)
