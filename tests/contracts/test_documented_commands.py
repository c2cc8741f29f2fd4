"""Every ``espalier ...`` and ``make ...`` in the documents is one that exists."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from espalier.cli import app
from espalier.cli.reference import commands

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        # docs/cli.md is written from the commands themselves.
        *(page for page in (ROOT / "docs").rglob("*.md") if page.name != "cli.md"),
        *(ROOT / "recipes").rglob("*.y*ml"),
        *(ROOT / "examples").glob("*.py"),
    ]
)
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:[.\w/]*/)?espalier [^`\n]+)`")
AT_LINE_START = re.compile(r"^[#$\s]*(?:try: )?((?:[.\w/]*/)?espalier .+)$", re.MULTILINE)


def command_lines(page: Path) -> list[str]:
    """Command lines of fenced blocks, of inline code, and, outside Markdown, of comments."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    if page.suffix != ".md":
        return [found for found in AT_LINE_START.findall(text) if re.search(r" -|=|\.\.?/", found)]
    blocks = "\n".join(FENCE.findall(text))
    return AT_LINE_START.findall(blocks) + INLINE.findall(FENCE.sub("", text))


def words(line: str) -> list[str]:
    """The words given to espalier: up to a pipe, redirection, comment or second command."""
    line = re.split(r" \|| >| 2>| && |;|  +#| # |\.\.\.$", f"{line} ")[0]
    return shlex.split(re.sub(r"[\[\]]|\\(?=\|)|…|\.\.\.", "", line))[1:]


@cache
def known() -> dict[str, tuple[Any, Any]]:
    return {name: (command, context) for name, command, context in commands()}


def parse(arguments: list[str]) -> None:
    """Reads the words as the command would, without running it; raises what it would raise."""
    name, rest = "espalier", list(arguments)
    while rest and f"{name} {rest[0]}" in known():
        name = f"{name} {rest.pop(0)}"
    command, context = known()[name]
    if hasattr(command, "list_commands") and rest and not rest[0].startswith("-"):
        raise ValueError(f"no command {rest[0]!r} in {name!r}")
    context.resilient_parsing = False
    try:
        _, left_over, _ = command.make_parser(context).parse_args(args=rest)
    finally:
        context.resilient_parsing = True
    if left_over and not (context.allow_extra_args or hasattr(command, "list_commands")):
        raise ValueError(f"{name} takes no {left_over}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_documented_commands_exist(page: Path) -> None:
    wrong = []
    for line in command_lines(page):
        try:
            parse(words(line))
        except Exception as error:
            wrong.append(f"{line}: {type(error).__name__}: {error}")
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_documented_recipe_values_exist(page: Path) -> None:
    """Presets, keys and values of every documented ``espalier train`` make a recipe."""
    wrong = []
    for line in command_lines(page):
        arguments = words(line)
        if arguments[:1] != ["train"] or {"--resume", "--config", "--help"} & set(arguments):
            continue
        done = CliRunner().invoke(app, [*arguments, "--print-config"])
        if done.exit_code != 0:
            wrong.append(f"{line}: {done.exception}")
    assert not wrong


def test_documented_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    unknown = {
        f"{page.name}: make {target}"
        for page in PAGES
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text("utf-8"), re.MULTILINE)
        if target not in targets
    }
    assert not unknown


@pytest.mark.parametrize(
    "line", ["espalier trian photos", "espalier train photos --no-such-option 3"]
)
def test_a_wrong_command_line_is_noticed(line: str) -> None:
    with pytest.raises(Exception, match=r"(?i)no "):
        parse(words(line))
