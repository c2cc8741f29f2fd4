"""``espalier plot``: the curves of a run, living or dead, or of a checkpoint file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from espalier.cli.output import AsJson, print_json, print_result


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("plot")(plot)


def plot(
    run: Annotated[Path, typer.Argument(help="Run folder or checkpoint file.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Picture to write (.png).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Draw losses, accuracies, macro-F1, learning rate and gap over the epochs."""
    from espalier import usage

    picture = usage.plot(run, output)
    if as_json:
        print_json({"picture": str(picture)})
    else:
        print_result(str(picture))
