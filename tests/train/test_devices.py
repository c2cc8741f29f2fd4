import os
import types

import psutil
import pytest
import torch

from espalier.train import devices
from small_runs import small_recipe


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Files of the system, as a test wants them; those that it does not write are absent."""
    monkeypatch.setattr(devices, "Path", lambda place: tmp_path / place.lstrip("/"))

    def write(place, text):
        path = tmp_path / place.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return write


@pytest.mark.parametrize(
    ("quota", "cores"),
    [(None, 8), ("max 100000\n", 8), ("200000 100000\n", 2), ("150000 100000\n", 2),
     ("20000 100000\n", 1), ("9900000 100000\n", 8)],
)  # fmt: skip
def test_cores_are_those_that_affinity_and_quota_leave(system, monkeypatch, quota, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    if quota is not None:
        system("/sys/fs/cgroup/cpu.max", quota)
    assert devices.usable_cores() == cores


@pytest.mark.parametrize(("limit", "expected"), [(None, 64), ("max\n", 64), ("16\n", 16)])
def test_memory_is_what_the_container_leaves(system, monkeypatch, limit, expected):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: types.SimpleNamespace(total=64))
    if limit is not None:
        system("/sys/fs/cgroup/memory.max", limit)
    assert devices.usable_memory() == expected


def test_a_processor_is_named_as_its_maker_does(system):
    system("/proc/cpuinfo", "processor : 0\nmodel name\t: Some CPU @ 2 GHz\nflags : fast\n")
    assert devices.cpu_name() == "Some CPU @ 2 GHz"


def test_a_gpu_is_preferred_and_described(monkeypatch):
    card = types.SimpleNamespace(name="Some GPU", total_memory=24 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: card)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    machine = devices.detect_machine()
    assert (machine.device, machine.device_name, machine.devices) == ("cuda", "Some GPU", 2)
    assert machine.device_memory == 24 * 2**30
    assert not machine.bf16


@pytest.mark.parametrize(("precision", "expected"), [("fp32", "32-true"), ("bf16", "bf16-mixed")])
def test_fabric_computes_as_the_recipe_says(uneven, tmp_path, precision, expected, monkeypatch):
    used = []
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    recipe = small_recipe(uneven, tmp_path, "training.threads=3")
    training = recipe.training.model_copy(update={"precision": precision})
    fabric = devices.open_fabric(recipe.model_copy(update={"training": training}))
    assert fabric.strategy.precision.precision == expected
    assert fabric.device == torch.device("cpu")
    assert used == [3]


def test_the_machine_of_these_tests_is_described():
    machine = devices.detect_machine()
    assert machine.cores >= 1
    assert machine.memory > 2**28
    assert machine.device_name
