"""``espalier evaluate``: how good a trained classifier is, with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from espalier.cli.output import AsJson, print_json, print_result, say


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("evaluate")(evaluate)


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder, or runs/train/latest.")],
    data: Annotated[
        str | None, typer.Option(help="Other labelled photographs: a folder or a manifest.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Accuracy, macro-F1 and balanced accuracy with 95 % intervals; classes, worst first."""
    from espalier import runs, usage
    from espalier.report.text import per_class_table, scores_table

    found = runs.find_run(run)
    evaluations = usage.evaluate(found, data, device=device, note=say)
    if as_json:
        print_json(
            {
                "run": str(found.path),
                **{e.split: {**e.to_json(), "classes": e.per_class_json()} for e in evaluations},
            }
        )
        return
    print_result(scores_table({f"{e.split} ({e.images:,})": e.scores for e in evaluations}))
    last = evaluations[-1]
    print_result(f"\n{last.split}, {last.images:,} images:")
    print_result(per_class_table(last.per_class))
    say(f"\nconfusion matrix: {usage.confusion_file(found, data)}")
