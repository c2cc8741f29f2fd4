"""Where a run was made: versions, device, command and commit, as ``environment.json``."""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from espalier.files import write_text
from espalier.recipe.schema import Recipe
from espalier.records import Machine
from espalier.runs import FORMAT_VERSION, RunDir

PACKAGES = ("espalier", "torch", "torchvision", "timm", "lightning-fabric", "numpy", "pillow")


def versions() -> dict[str, str]:
    """Versions of what decides a result; read without importing any of it."""
    found = {"python": platform.python_version()}
    for name in (*PACKAGES, "opencv-python-headless"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit() -> str | None:
    """Commit of Espalier's own source, ``-dirty`` with changes; None when it is installed."""
    here = Path(__file__).resolve()
    # Installed into a folder inside somebody else's repository, that repository's commit says
    # nothing.
    if not _git(here.parent, "ls-files", here.name):
        return None
    return _git(here.parent, "describe", "--always", "--dirty", "--exclude", "*")


def _git(folder: Path, *words: str) -> str | None:
    try:
        text = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return text.strip() or None


def write(run: RunDir, machine: Machine, recipe: Recipe, diagnostics: Path) -> None:
    """Write ``environment.json`` of a new run."""
    elsewhere = None if diagnostics == run.path / "diagnostics" else str(diagnostics)
    record = {
        "format": FORMAT_VERSION,
        "created": now(),
        "commands": [shlex.join(sys.argv)],
        "versions": versions(),
        "commit": commit(),
        "platform": platform.platform(),
        "device": recipe.training.device,
        "device_name": machine.device_name,
        "cores": machine.cores,
        "memory_gb": round(machine.memory / 1e9, 1),
        "diagnostics": elsewhere,
    }
    write_text(run.environment_file, json.dumps(record, indent=2) + "\n")


def add(run: RunDir, more: Mapping[str, Any]) -> None:
    """Add to what ``environment.json`` says."""
    record = {**run.environment(), **more}
    write_text(run.environment_file, json.dumps(record, indent=2) + "\n")


def add_command(run: RunDir) -> None:
    """Note that the run was taken up again, and by which command."""
    earlier = list(run.environment().get("commands", []))
    add(run, {"commands": [*earlier, shlex.join(sys.argv)], "resumed": now()})


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
