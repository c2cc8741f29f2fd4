"""``espalier models``: which backbones there are, and which fit this machine."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from espalier.cli.output import AsJson, print_json, print_result


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("models")(models)


def models(
    pattern: Annotated[
        str | None, typer.Argument(help="Part of a name or a pattern, such as 'convnext*'.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many rows.")] = 40,
    as_json: AsJson = False,
) -> None:
    """List backbones with their sizes; without a pattern, those we recommend."""
    from espalier.models.listing import list_models
    from espalier.report.text import models_table
    from espalier.train.devices import detect_machine

    machine = detect_machine()
    rows = list_models(pattern, machine, limit=limit)
    if as_json:
        print_json(
            {
                "device": machine.device_name,
                "memory": machine.device_memory or machine.memory,
                "models": [dataclasses.asdict(row) for row in rows],
            }
        )
    else:
        print_result(models_table(rows))
