"""Where words go: results to standard output, all else to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

AsJson = Annotated[
    bool, typer.Option("--json", help="One object on standard output, nothing else.")
]
"""The flag that every command with a result has."""


def say(text: str = "") -> None:
    """A line for the person, on standard error."""
    typer.echo(text, err=True)


def print_json(record: Mapping[str, Any]) -> None:
    """The one object on standard output."""
    json.dump(record, sys.stdout, ensure_ascii=False, indent=2, allow_nan=False)
    sys.stdout.write("\n")


def print_result(text: str) -> None:
    """A result, on standard output."""
    typer.echo(text)
