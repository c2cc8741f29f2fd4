"""``espalier demo``: the whole job on pictures that Espalier draws itself, and example curves."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Annotated

import typer

from espalier.cli.output import AsJson, print_json, print_result, say
from espalier.cli.train import timed


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    demo = typer.Typer(
        help="Try Espalier without photographs of your own.", invoke_without_command=True
    )
    demo.callback()(run_demo)
    demo.command("curves")(curves)
    app.add_typer(demo, name="demo")


def run_demo(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for pictures and runs.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Of the pictures and of the training.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Draw a long-tailed set of diseased leaves, train on it, show scores, predict one image."""
    if context.invoked_subcommand is not None:
        return
    # Said before torch is imported, which takes seconds.
    say("Draws leaves, trains on them and judges itself: 2 to 3 minutes on two cores.")
    started, used = time.perf_counter(), time.process_time()
    from espalier import demonstration
    from espalier.cli.screen import open_screen

    with open_screen() as screen:
        shown = demonstration.run(
            out, seed=seed, watch=screen, drawing=screen.on_draw, reading=screen.on_scan
        )
    shown = dataclasses.replace(shown, result=timed(shown.result, started, used))
    for line in shown.lines():
        say(line)
    if as_json:
        print_json(shown.to_json())


def curves(
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("demo-curves"),
    as_json: AsJson = False,
) -> None:
    """Draw what good, overfitting and underfitting curves look like."""
    from espalier.report.demo_curves import demo_curves

    pictures = demo_curves(out)
    if as_json:
        print_json({"pictures": [str(picture) for picture in pictures]})
    else:
        for picture in pictures:
            print_result(str(picture))
