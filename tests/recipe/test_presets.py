"""Each preset holds the facts of its recipe; the guide and the whole recipes are up to date."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from espalier.recipe.load import load_recipe, presets
from espalier.recipe.reference import markdown
from espalier.recipe.schema import Recipe

ROOT = Path(__file__).parents[2]


def plan(recipe: Recipe) -> list[tuple[object, int, float, float | None]]:
    return [(stage.train, stage.epochs, stage.lr, stage.backbone_lr) for stage in recipe.stages]


def test_standard_is_the_default_and_comes_first() -> None:
    assert next(iter(presets())) == "standard"
    assert load_recipe().preset == "standard"


def test_standard_and_quick_solve_a_head_and_go_on_with_kept_features() -> None:
    standard, quick = load_recipe(), load_recipe("quick")
    assert [(stage.train, stage.solve) for stage in standard.stages] == [
        ("head", True),
        (0.8, False),
    ]
    assert [(stage.train, stage.solve) for stage in quick.stages] == [("head", True), (0.2, False)]
    assert sum(stage.epochs for stage in quick.stages) < sum(
        stage.epochs for stage in standard.stages
    )
    assert {recipe.features.keep for recipe in (standard, quick)} == {"auto"}


@pytest.mark.parametrize("name", sorted(presets()))
def test_a_stage_that_is_solved_has_one_epoch_of_the_head(name: str) -> None:
    for stage in load_recipe(name).stages:
        assert not stage.solve or (stage.train, stage.epochs) == ("head", 1)


def test_three_stage() -> None:
    recipe = load_recipe("three-stage")
    assert plan(recipe) == [
        ("head", 5, 1e-3, None),
        ("top", 10, 1e-4, None),
        ("all", 10, 5e-5, 1e-5),
    ]
    assert (recipe.schedule.name, recipe.schedule.min_lr) == ("cosine", 1e-7)
    assert (recipe.model.head, recipe.model.hidden, recipe.model.dropout) == ("mlp", 512, 0.3)
    optimizer = recipe.optimizer
    assert (optimizer.name, optimizer.weight_decay, optimizer.betas) == (
        "adamw",
        1e-4,
        (0.9, 0.999),
    )
    assert (optimizer.clip_norm, recipe.loss.label_smoothing) == (1.0, 0.1)
    assert (recipe.early_stopping.patience, recipe.early_stopping.monitor) == (5, "macro_f1")


def test_two_stage() -> None:
    recipe = load_recipe("two-stage")
    assert plan(recipe) == [("head", 10, 1e-3, None), ("all", 40, 3e-4, None)]
    assert (recipe.training.imgsz, recipe.augment.policy) == (320, "strong")
    assert recipe.class_weighting.strategy == "sqrt"


def test_before_and_after() -> None:
    after, before = load_recipe("improved"), load_recipe("baseline")
    assert plan(after) == [("all", 50, 5e-4, None)]
    assert plan(before) == [("all", 50, 1e-4, None)]
    assert (after.model.name, after.optimizer.name, after.training.batch) == (
        "resnet50",
        "adamw",
        32,
    )
    schedule = after.schedule
    assert (schedule.name, schedule.warmup_epochs, schedule.warmup_start, schedule.min_lr) == (
        "warmup-cosine",
        5,
        0.02,
        1e-6,
    )
    assert (before.schedule.name, before.schedule.warmup_epochs) == ("cosine", 0)
    assert before.training.batch == 64
    assert (before.model, before.augment, before.loss) == (after.model, after.augment, after.loss)


def test_cifar100() -> None:
    recipe = load_recipe("cifar100")
    assert (recipe.training.batch, recipe.stages[0].epochs) == (512, 120)
    assert recipe.data.source == "torchvision:CIFAR100"


def test_low_medium_high() -> None:
    low, medium, high = (load_recipe(name) for name in ("low", "medium", "high"))
    assert (low.model.name, low.training.batch) == ("mobilenetv3_small_100", 8)
    assert (low.training.accumulate, low.training.max_batches) == (4, 50)
    assert (low.early_stopping.patience, low.data.workers, low.stages[0].epochs) == (3, 2, 15)
    assert (medium.model.name, medium.model.weights) == ("small-cnn", "none")
    assert (medium.training.batch, medium.stages[0].epochs) == (16, 10)
    assert (high.model.name, high.training.batch, high.data.workers) == ("resnet50", 32, 8)
    assert high.stages[0].epochs == 50
    assert {recipe.augment.policy for recipe in (low, medium, high)} == {"e8"}


@pytest.mark.parametrize("name", sorted(presets()))
def test_headers_say_what_for_and_how(name: str) -> None:
    text = (files("espalier.recipe") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    header = [line for line in text.splitlines() if line.startswith("#")]
    assert header[0].startswith(f"# {name}: ")
    assert any("espalier train" in line or "espalier demo" in line for line in header)
    assert all(line.split(":")[0] for line in header)


def test_the_guide_is_up_to_date() -> None:
    written = (ROOT / "docs" / "guide" / "recipes.md").read_text(encoding="utf-8")
    assert written == markdown(), "python -m espalier.recipe.reference > docs/guide/recipes.md"


def test_the_guide_explains_every_key() -> None:
    rows = [line for line in markdown().splitlines() if line.startswith("| `")]
    assert all(cell.strip() for row in rows for cell in row.strip("|").split("|"))


def test_the_whole_recipe_is_its_preset() -> None:
    whole = load_recipe(file=ROOT / "recipes" / "three-stage.yaml")
    preset = load_recipe("three-stage")
    assert whole.model_copy(update={"why": {}}) == preset.model_copy(update={"why": {}})
