"""The names people import from espalier: a frozen list, all there, all documented."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import espalier

FROZEN = Path(__file__).with_name("public_names.txt")


def test_public_names_are_the_frozen_ones() -> None:
    frozen = FROZEN.read_text(encoding="utf-8").split()
    assert sorted(espalier.__all__) == sorted(frozen), (
        "the public names changed: a removed or renamed name breaks people's scripts. "
        f"If it is meant, say so in CHANGELOG.md and edit {FROZEN.relative_to(FROZEN.parents[2])}"
    )


def test_every_public_name_exists_and_is_documented() -> None:
    undocumented = []
    for name in espalier.__all__:
        thing = getattr(espalier, name)
        if (inspect.isclass(thing) or callable(thing)) and not inspect.getdoc(thing):
            undocumented.append(name)
    assert not undocumented


def test_no_public_name_is_a_module() -> None:
    assert not [name for name in espalier.__all__ if inspect.ismodule(getattr(espalier, name))]


def test_dir_lists_every_public_name() -> None:
    assert set(espalier.__all__) <= set(dir(espalier))


def test_public_names_stay_what_they_are_once_used() -> None:
    """A function named like a package turns into that package as soon as it is imported."""
    code = """
import importlib, pkgutil, espalier
before = {name: getattr(espalier, name) for name in espalier.__all__}
for module in pkgutil.iter_modules(espalier.__path__, "espalier."):
    importlib.import_module(module.name)
print(*[name for name in before if getattr(espalier, name) is not before[name]])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_importing_espalier_imports_no_torch() -> None:
    code = "import sys, espalier; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
