"""The command line: one file per command, and the one boundary where errors become messages.

Commands import what they need when they run, so that ``espalier --help`` needs no torch.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

import typer

from espalier.errors import EspalierError

# Spinning OpenMP threads cost 4-5 times the CPU when a neighbour is busy; must be set before torch.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

app = typer.Typer(
    name="espalier",
    help="Train image classifiers on your own photographs, in stages, with everything on record.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done; 1 found something (--strict); 2 you must change something; "
    "130/143 stopped by Ctrl-C/SIGTERM.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from espalier.environment import versions

        typer.echo(f"espalier {versions()['espalier']}")
        raise typer.Exit


@app.callback()
def _espalier(
    version: bool = typer.Option(
        False, "--version", help="Print the version.", callback=_show_version, is_eager=True
    ),
) -> None:
    """Train image classifiers on your own photographs, in stages, with everything on record."""


def _add_commands() -> None:
    from espalier.cli import (
        audit,
        check,
        compare,
        demo,
        diagnose,
        evaluate,
        models,
        plot,
        predict,
        rules,
        split,
        synth,
        train,
        treat,
    )

    data = (audit, split, synth, check)
    runs = (train, evaluate, predict, plot, compare, diagnose, treat)
    for module in (*data, *runs, rules, models, demo):
        module.add_to(app)


_add_commands()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code.

    Every ``EspalierError`` becomes one message on standard error (and, with ``--json``, one object
    on standard output); anything else is a bug and keeps its traceback.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(args=words, prog_name="espalier")
    except EspalierError as error:
        sys.exit(_report(error, as_json="--json" in words))


def _report(error: EspalierError, *, as_json: bool) -> int:
    typer.echo(f"espalier: {error}", err=True)
    if as_json:
        record = {
            "error": error.message,
            "problems": list(error.problems),
            "hint": error.hint,
            "exit_code": error.exit_code,
        }
        typer.echo(json.dumps({"error": record}, ensure_ascii=False))
    return error.exit_code
