"""``espalier compare``: several runs side by side, or the stages of one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from espalier.cli.output import AsJson, print_json, print_result


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("compare")(compare)


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; one: its stages.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write (.png).")] = Path(
        "comparison.png"
    ),
    as_json: AsJson = False,
) -> None:
    """Lay runs side by side in one picture and one table; a single run is shown by stages."""
    from espalier import usage
    from espalier.report.compare import comparison_rows
    from espalier.report.text import comparison_table

    histories = usage.compare(runs, output)
    rows = comparison_rows(histories, [usage.known_of(run) for run in runs])
    if as_json:
        print_json({"picture": str(output), "runs": rows})
    else:
        print_result(comparison_table(rows))
        print_result(f"\n{output}")
