"""``espalier check``: seconds of checks before hours of training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from espalier.cli.output import AsJson, print_json, print_result
from espalier.cli.places import check_places
from espalier.cli.recipe_flags import EVERY_GROUP, Typed, takes_recipe
from espalier.errors import EXIT_FOUND_SOMETHING

EPILOG = (
    "PHOTOS and key=value are as in espalier train: what is checked is what train would do with "
    "the same words. Marks: ✓ in order, ✗ not in order, - does not apply, with the reason."
)


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("check", epilog=EPILOG)(check)


@takes_recipe(*EVERY_GROUP)
def check(
    typed: Typed,
    run: Annotated[
        Path | None, typer.Option(help="Earlier run whose label order must hold.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the first batch as the network sees it (JPEG).")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit code 1 when something is not in order.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check data, pictures, network, gradients and loss with the parts that training uses."""
    recipe = typed.recipe()
    check_places(recipe, typed.command)

    from espalier import runs
    from espalier.checking import check as run_checks
    from espalier.checking.report import report_lines
    from espalier.cli.screen import open_screen

    earlier = None if run is None else runs.find_run(run)
    with open_screen() as screen:
        report = run_checks(
            recipe, earlier=earlier, picture=picture, watch=screen, progress=screen.on_scan
        )
    if as_json:
        print_json(report.to_json())
    else:
        print_result("\n".join(report_lines(report)))
    if strict and not report.ok:
        raise typer.Exit(EXIT_FOUND_SOMETHING)
