"""What the machine has, and Lightning Fabric on it."""

from __future__ import annotations

import logging
import math
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, cast

import psutil
import torch
from lightning_fabric import Fabric

from espalier.models.inference import keep_freed_memory
from espalier.recipe.schema import Recipe
from espalier.records import Machine

FABRIC_PRECISION: Mapping[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "fp32": "32-true",
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
}


def detect_machine() -> Machine:
    """The best device here, and the cores and memory this process may really use."""
    cores, memory = usable_cores(), usable_memory()
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        count = torch.cuda.device_count()
        return Machine(
            "cuda",
            properties.name,
            cores,
            memory,
            properties.total_memory,
            count,
            bf16=torch.cuda.is_bf16_supported(),
        )
    if torch.backends.mps.is_available():
        return Machine("mps", "Apple GPU", cores, memory, memory, 1)
    return Machine("cpu", cpu_name(), cores, memory)


def cpu_name() -> str:
    """The processor as its maker names it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Cores by affinity and cgroup quota: a container's limit is not in ``os.cpu_count()``."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else (os.cpu_count() or 1)
    quota = Path("/sys/fs/cgroup/cpu.max")
    if quota.exists():
        allowed, _, period = quota.read_text(encoding="ascii").partition(" ")
        if allowed != "max":
            cores = min(cores, max(1, math.ceil(int(allowed) / int(period))))
    return cores


def usable_memory() -> int:
    """Bytes of memory, as the machine or the cgroup limits it."""
    total = int(psutil.virtual_memory().total)
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists():
        text = limit.read_text(encoding="ascii").strip()
        if text != "max":
            total = min(total, int(text))
    return total


def open_fabric(recipe: Recipe) -> Fabric:
    """Lightning Fabric for the device and precision of a resolved recipe."""
    device = torch.device(recipe.training.device)
    keep_freed_memory()
    torch.set_num_threads(cast(int, recipe.training.threads))
    devices: int | list[int] = 1 if device.index is None else [device.index]
    with _quiet(logging.getLogger("lightning_fabric")):
        return Fabric(
            accelerator=device.type,
            devices=devices,
            precision=FABRIC_PRECISION[recipe.training.precision],
        )


@contextmanager
def _quiet(log: logging.Logger) -> Iterator[None]:
    """No news from a library that repeats to a person what the recipe says already."""
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(level)
