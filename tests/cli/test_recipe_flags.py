"""One declaration of the recipe's flags: the same in every command, and true to the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from espalier.cli import app
from espalier.cli.recipe_flags import DATA, EVERY_GROUP, FLAGS, MODEL, RECIPE
from espalier.cli.reference import commands
from espalier.errors import DataError, EspalierError, RecipeError
from espalier.recipe.keys import DAILY, choices
from espalier.recipe.load import presets
from espalier.recipe.policies import POLICIES

GROUPS = {
    "train": EVERY_GROUP,
    "check": EVERY_GROUP,
    "audit": (RECIPE, DATA, MODEL),
}


def options(command: str) -> dict[str, tuple[str, str, str]]:
    """Flags that stand under a heading of the recipe: name -> heading, metavar, help."""
    context: Any = next(context for name, _, context in commands() if name == f"espalier {command}")
    return {
        option.opts[0]: (option.rich_help_panel, option.metavar, option.help)
        for option in context.command.get_params(context)
        if getattr(option, "rich_help_panel", None) in EVERY_GROUP
    }


@pytest.mark.parametrize("command", GROUPS)
def test_commands_offer_the_same_flags_in_the_same_words(command: str) -> None:
    wanted = {
        f"--{flag.name.replace('_', '-')}": (flag.group, flag.metavar, flag.help)
        for flag in FLAGS
        if flag.group in GROUPS[command]
    }
    assert options(command) == wanted


def test_every_flag_is_a_daily_word_of_the_recipe() -> None:
    names = {flag.name for flag in FLAGS} - {"preset", "config", "set"}
    assert names <= set(DAILY)


@pytest.mark.parametrize(
    ("flag", "allowed"),
    [
        ("preset", presets()),
        ("augment", POLICIES),
        ("optimizer", choices("optimizer.name")),
        ("schedule", choices("schedule.name")),
        ("fit", choices("data.fit")),
        ("precision", choices("training.precision")),
    ],
)
def test_help_names_every_choice(flag: str, allowed: Any) -> None:
    text = next(each.help for each in FLAGS if each.name == flag)
    assert all(name in text for name in allowed)


@pytest.mark.parametrize("columns", ["80", "120"])
def test_help_has_a_heading_for_each_group(columns: str) -> None:
    shown = CliRunner().invoke(app, ["train", "--help"], env={"COLUMNS": columns}).output
    places = [shown.index(f" {group} ─") for group in EVERY_GROUP]
    assert places == sorted(places)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my photos").mkdir()
    (tmp_path / "audits").mkdir()
    (tmp_path / "audits" / "corrections.csv").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "my photos"


def refusal(*words: str) -> EspalierError:
    error = CliRunner().invoke(app, list(words)).exception
    assert isinstance(error, EspalierError)
    return error


@pytest.mark.parametrize("command", ["train", "check", "audit", "split"])
def test_a_misspelt_folder_is_answered_by_the_same_command_with_the_right_one(
    photos: Path, command: str
) -> None:
    error = refusal(command, "my photso")
    assert isinstance(error, DataError)
    assert error.hint == f"espalier {command} 'my photos'"


def test_what_is_there_is_listed_where_nothing_is_alike(photos: Path) -> None:
    assert refusal("train", "nowhere/deep").hint == "ls ."
    assert refusal("train", str(photos / "xyz" / "deep")).hint == f"ls '{photos}'"


def test_a_name_in_two_words_is_put_into_quotes(photos: Path) -> None:
    error = refusal("check", "my", "photos")
    assert isinstance(error, RecipeError)
    assert error.hint == "espalier check 'my photos'"


def test_a_folder_given_for_a_table_is_completed(photos: Path) -> None:
    error = refusal("train", str(photos), "--corrections", "audits")
    assert error.hint == "--corrections audits/corrections.csv"
    assert "there is no file of corrections" in str(
        refusal("audit", str(photos), "--corrections", "none.csv")
    )


def test_a_number_that_is_none_is_refused_with_its_value_and_what_is_allowed(photos: Path) -> None:
    error = refusal("train", str(photos), "--epochs", "ten", "--seed", "x", "--print-config")
    assert "epochs is ten (--epochs ten); allowed: a whole number of at least 1" in str(error)
    assert "training.seed is x (--seed x); allowed: a whole number" in str(error)


def test_values_of_flags_are_numbers_in_the_recipe(photos: Path) -> None:
    words = ["--lr", "1e-3", "--seed", "7", "--workers", "2", "--epochs", "3", "--preset", "quick"]
    shown = CliRunner().invoke(app, ["train", str(photos), *words, "--print-config"])
    assert shown.exit_code == 0
    assert {"  seed: 7", "  workers: 2"} <= set(shown.stdout.splitlines())


def test_hints_of_single_values_can_be_typed(photos: Path) -> None:
    assert refusal("treat", "run", "--budget", "x").hint == "--budget 20m"
    assert refusal("split", str(photos), "--val", "2").hint == "--val 0.1 --test 0.1"
    assert refusal("rules", "overfiting").hint.startswith("espalier rules overfitting")
    assert refusal("rules", "zzzzzzzz").hint == "espalier rules"
