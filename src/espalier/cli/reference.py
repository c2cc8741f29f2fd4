"""Writes docs/cli.md from the commands themselves: ``python -m espalier.cli.reference``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any

# The command objects are typed Any: older typer takes them from click, newer brings its own copy.
Command = Any
Context = Any

INTRODUCTION = """\
# Command line

Written by `make docs` from the commands themselves; do not edit.
Results go to standard output, progress and notes to standard error. The meaning of each exit code
is in [exit codes](guide/exit-codes.md).
"""


def commands() -> Iterator[tuple[str, Command, Context]]:
    """Yields the program and each of its visible commands: full name, command, context."""
    from typer.main import get_command

    from espalier.cli import app

    root: Command = get_command(app)
    yield from _walk("espalier", root, None)


def _walk(name: str, command: Command, parent: Context) -> Iterator[tuple[str, Command, Context]]:
    context = command.make_context(
        name.rpartition(" ")[2], [], parent=parent, resilient_parsing=True
    )
    yield name, command, context
    if not hasattr(command, "list_commands"):
        return
    for child in command.list_commands(context):
        found = command.get_command(context, child)
        if found is not None and not found.hidden:
            yield from _walk(f"{name} {child}", found, context)


def option_lines() -> list[str]:
    """Returns one line per argument and option of each command, sorted, as they are typed."""
    lines = set()
    for name, command, context in commands():
        for parameter in command.get_params(context):
            # The parser takes the names of --help from a set, in any order.
            spelled = sorted([*parameter.opts, *parameter.secondary_opts], key=len, reverse=True)
            if parameter.param_type_name == "argument":
                spelled = [f"<{word.lower()}>" for word in spelled]
            lines.add(f"{name} {' '.join(spelled)}")
    return sorted(lines)


def markdown() -> str:
    """Returns the whole reference: each command with its usage, arguments and options."""
    return "\n".join([INTRODUCTION, *(_section(*entry) for entry in commands())])


def _section(name: str, command: Command, context: Context) -> str:
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    parts = [f"## {name}", _paragraphs(command.help), f"```console\n{usage}\n```"]
    visible = [p for p in command.get_params(context) if not getattr(p, "hidden", False)]
    for kind in ("argument", "option"):
        records = [p.get_help_record(context) for p in visible if p.param_type_name == kind]
        parts.append(_table(kind, [record for record in records if record]))
    parts.append(_paragraphs(command.epilog))
    return "\n\n".join(part for part in parts if part) + "\n"


def _paragraphs(text: str | None) -> str:
    return re.sub(r"[\b\f]\n?", "", text or "").strip()


def _table(kind: str, records: list[tuple[str, str]]) -> str:
    if not records:
        return ""
    rows = [_row(spelled, text) for spelled, text in records]
    return "\n".join([f"| {kind} | meaning | default |", "| --- | --- | --- |", *rows])


def _row(spelled: str, text: str) -> str:
    """One table row; the default is cut out of the help, where the parser puts it in brackets."""
    found = re.search(r"\[([^\[\]]*?)(?:; )?default: (.*?)(?:; ([^;\]]*))?\]$", text)
    default = f"`{found[2]}`" if found else ""
    if found:
        rest = "; ".join(part for part in (found[1], found[3]) if part)
        text = text[: found.start()] + (f"[{rest}]" if rest else "")
    cells = (f"`{spelled}`", " ".join(text.split()), default)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    wanted = "\n".join(option_lines()) + "\n" if "--options" in sys.argv[1:] else markdown()
    sys.stdout.write(wanted)
