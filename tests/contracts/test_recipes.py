"""Every recipe in the repository loads, and says in its first lines how to run it."""

from __future__ import annotations

from pathlib import Path

import pytest

from espalier.recipe import reference
from espalier.recipe.load import load_recipe, presets

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(
    path for path in (ROOT / "recipes").rglob("*") if path.suffix in {".yaml", ".yml", ".json"}
)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_recipe_loads(path: Path) -> None:
    recipe = load_recipe(None, path, [], {}, [])
    assert recipe.stages


@pytest.mark.parametrize("path", [path for path in RECIPES if path.suffix != ".json"], ids=name_of)
def test_recipe_says_how_to_run_it(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    header = [line for line in lines[:12] if line.startswith("#")]
    assert any("espalier train" in line for line in header)


@pytest.mark.parametrize("preset", sorted(presets()))
def test_preset_loads(preset: str) -> None:
    assert load_recipe(preset, None, [], {}, []).stages


def test_reference_page_of_recipes_is_up_to_date() -> None:
    page = ROOT / "docs" / "guide" / "recipes.md"
    fresh = page.read_text(encoding="utf-8") == reference.markdown()
    assert fresh, "docs/guide/recipes.md is not what the schema says; run `make docs`"
