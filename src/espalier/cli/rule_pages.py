"""Writes docs/rules from the rules themselves: ``python -m espalier.cli.rule_pages FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from espalier.cli.rules import EARNED, all_rules, earned_words, thresholds_of
from espalier.rules import Rule

HEADING = """# Rules

Written by `make docs` from the rules. Those called `AUD` look at photographs (`espalier audit`),
all others at runs (`espalier diagnose`). `espalier rules NAME` shows a page in the terminal. Faults
are called by the letters of our catalogue, as in the table of the fault benchmark.
"""


def page(rule: Rule[Any]) -> str:
    """The page of one rule, as Markdown."""
    parts = [f"# {rule.code} {rule.name}", f"{rule.title}."]
    for heading, text in rule.page.items():
        parts += [f"## {heading}", text]
    if limits := thresholds_of(rule):
        rows = [f"| {name} | {value:g} | {unit} | {about} |" for name, value, unit, about in limits]
        head = ["| threshold | value | unit | bounds |", "|---|---|---|---|"]
        parts += ["## Thresholds", "\n".join([*head, *rows])]
    if words := earned_words(rule):
        parts += [f"## {EARNED}", words]
    return "\n\n".join(parts) + "\n"


def write_pages(folder: Path) -> None:
    """Write a page per rule and the list of all; pages of rules that are gone go."""
    folder.mkdir(parents=True, exist_ok=True)
    rules = all_rules()
    for old in folder.glob("*.md"):
        old.unlink()
    for rule in rules:
        (folder / f"{rule.name}.md").write_text(page(rule), encoding="utf-8")
    rows = [f"| {r.code} | [{r.name}]({r.name}.md) | {r.title} |" for r in rules]
    table = "\n".join(["| code | rule | what it says |", "|---|---|---|", *rows])
    (folder / "README.md").write_text(f"{HEADING}\n{table}\n", encoding="utf-8")


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
