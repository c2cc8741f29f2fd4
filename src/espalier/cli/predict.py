"""``espalier predict``: what is on these photographs?"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from espalier.cli.output import AsJson, print_json, print_result, say
from espalier.errors import EXIT_FOUND_SOMETHING

if TYPE_CHECKING:
    from espalier.records import Predictions


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("predict")(predict)


def predict(
    run: Annotated[Path, typer.Argument(help="Run folder or checkpoint file.")],
    images: Annotated[list[str], typer.Argument(help="Image files, folders, globs.")],
    top: Annotated[int, typer.Option(min=1, help="Classes to show for each image.")] = 3,
    form: Annotated[
        Literal["table", "csv", "jsonl"], typer.Option("--format", help="Form of the answer.")
    ] = "table",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    strict: Annotated[bool, typer.Option(help="Exit 1 when files could not be read.")] = False,
    as_json: AsJson = False,
) -> None:
    """Classify photographs; files that cannot be read are reported and skipped."""
    from espalier import usage

    predictions, unreadable = usage.predict(run, images, device=device, note=say)
    rows = list(answers(predictions, top))
    skipped = [{"path": sample.path, "reason": sample.reason} for sample in unreadable]
    if as_json:
        print_json({"run": str(run), "predictions": rows, "unreadable": skipped})
    else:
        write_rows(rows, form)
    if skipped:
        say(f"{len(skipped)} of {len(rows) + len(skipped)} files could not be read:")
        for entry in skipped:
            say(f"  {entry['path']}: {entry['reason']}")
        if strict:
            raise typer.Exit(EXIT_FOUND_SOMETHING)


def answers(predictions: Predictions, top: int) -> Iterator[dict[str, Any]]:
    """Per image: path, label, probability, and the ``top`` classes with theirs."""
    import numpy as np

    probabilities = predictions.probabilities
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    for path, row, best in zip(predictions.paths, probabilities, order, strict=True):
        ranked = [
            {"label": predictions.classes[i], "probability": round(float(row[i]), 6)} for i in best
        ]
        yield {"path": path, **ranked[0], "top": ranked}


def write_rows(rows: list[dict[str, Any]], form: str) -> None:
    """Print the answers as a table, as CSV or as JSON lines."""
    from espalier.report.text import predictions_table

    if form == "table":
        print_result(predictions_table(rows))
    elif form == "jsonl":
        for row in rows:
            print_result(json.dumps(row, ensure_ascii=False))
    else:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        width = max((len(row["top"]) for row in rows), default=1)
        numbers = range(1, width + 1)
        names = [name for i in numbers for name in (f"label_{i}", f"probability_{i}")]
        writer.writerow(["path", *names])
        for row in rows:
            cells = [cell for entry in row["top"] for cell in entry.values()]
            writer.writerow([row["path"], *cells])
