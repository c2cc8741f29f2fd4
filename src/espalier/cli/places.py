"""Whether the photographs and files that a recipe names are there, before anything slow starts."""

from __future__ import annotations

import difflib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from espalier.errors import DataError, WeightsError

if TYPE_CHECKING:
    from espalier.recipe.schema import Recipe


def check_places(recipe: Recipe, command: str) -> None:
    """Refuse missing photographs, corrections and weights; hints repeat the ``command``.

    Raises:
        DataError: No photographs were named, or they or their corrections are not there.
        WeightsError: The file of weights is not there.
    """
    source = check_source(recipe.data.source, command)
    if recipe.data.corrections is not None:
        _require_table("corrections", recipe.data.corrections, f"espalier audit {source}")
    if recipe.data.synthetic is not None:
        _require_table("synthetic", recipe.data.synthetic, f"espalier synth dirty {source}")
    weights = recipe.model.weights
    if weights not in ("pretrained", "none") and not Path(weights).expanduser().is_file():
        raise WeightsError(
            f"there is no file of weights {weights}; allowed: a .safetensors or .pth file, "
            "pretrained, none",
            hint="--weights none trains from scratch",
        )


def check_source(source: str | None, command: str) -> str:
    """The photographs as a word of a command line, where they are there.

    Raises:
        DataError: None were named, or they are not there; the hint repeats the ``command``.
    """
    if source is None:
        raise DataError(
            "no photographs were named: PHOTOS is a folder of class folders, a CSV or Parquet "
            "manifest, or torchvision:NAME",
            hint=f"espalier {command} PHOTOS, or espalier demo",
        )
    if not source.startswith("torchvision:") and not Path(source).expanduser().exists():
        raise DataError(
            f"{source} does not exist; a folder of photographs or a manifest is wanted",
            hint=_instead(Path(source).expanduser(), command),
        )
    return shlex.quote(source)


def _instead(missing: Path, command: str) -> str:
    """The same command with the name that is there and most alike, or a look at what is there."""
    folder = next(parent for parent in missing.absolute().parents if parent.is_dir())
    # Seen from where the person is, as it was typed.
    shown = folder if missing.is_absolute() else Path(*missing.parts[: _depth(missing, folder)])
    if folder == missing.absolute().parent:
        names = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
        near = difflib.get_close_matches(missing.name, names, n=1)
        if near:
            return f"espalier {command} {shlex.quote(str(shown / near[0]))}"
    return f"ls {shlex.quote(str(shown))}"


def _depth(missing: Path, folder: Path) -> int:
    return len(missing.parts) - (len(missing.absolute().parts) - len(folder.parts))


def _require_table(name: str, given: str, writer: str) -> None:
    """Refuse what is no file; a folder that holds the table is named with it."""
    path = Path(given).expanduser()
    if path.is_file():
        return
    within = Path(given) / f"{name}.csv"
    if within.expanduser().is_file():
        raise DataError(f"--{name} {given} is a folder, not a table", hint=f"--{name} {within}")
    words = {"corrections": "file of corrections", "synthetic": "table of painted pictures"}
    raise DataError(f"there is no {words[name]} {given}", hint=f"{writer} writes one")
