"""Looking without touching: random numbers, modes and buffers are as they were afterwards."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn


@contextmanager
def same_randomness(device: torch.device | None = None) -> Iterator[None]:
    """Whatever is drawn inside, from Python, numpy or torch, is as if it had not been drawn."""
    python, numbers = random.getstate(), np.random.get_state()
    on_device = device is not None and device.type not in ("cpu", "meta")
    devices = [device] if on_device else []
    kind = device.type if device is not None and on_device else "cuda"
    try:
        with torch.random.fork_rng(devices=devices, device_type=kind):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)


@contextmanager
def same_modes(model: nn.Module) -> Iterator[None]:
    """Every module is in its own mode again afterwards, one by one."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def same_buffers(model: nn.Module) -> Iterator[None]:
    """Buffers (running statistics of BatchNorm above all) have their values again afterwards."""
    held = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in held:
                buffer.copy_(value)
