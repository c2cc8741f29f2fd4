"""``espalier split``: the split as a manifest; no photograph is copied or moved."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from espalier.cli.output import print_json, print_result, say


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("split")(split)


def split(
    photos: Annotated[str, typer.Argument(help="Folder, manifest, or torchvision:NAME.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Manifest to write (.csv).")
    ] = Path("split.csv"),
    val: Annotated[float, typer.Option(help="Share for validation.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share for the test.")] = 0.1,
    group_by: Annotated[
        str | None, typer.Option(help="Regular expression on the path: groups stay together.")
    ] = None,
    corrections: Annotated[
        str | None, typer.Option(help="Accepted corrections of an audit (.csv).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same split.")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="One object on standard output, nothing else.")
    ] = False,
) -> None:
    """Split photographs by class into train, val and test, and write that as a manifest."""
    from espalier import preparation, usage
    from espalier.cli.screen import open_screen
    from espalier.recipe.load import load_recipe
    from espalier.report.text import split_table

    flags = {
        "source": photos, "group_by": group_by, "corrections": corrections, "seed": seed,
    }  # fmt: skip
    recipe = load_recipe(
        preset=None,
        file=None,
        sets=[f"data.val_share={val}", f"data.test_share={test}"],
        flags={key: value for key, value in flags.items() if value is not None},
        words=[],
    )
    with open_screen() as screen:
        catalog = preparation.catalog_of(recipe, screen.on_scan)
    usage.write_manifest(catalog, output)
    for note in catalog.notes:
        say(note)
    if as_json:
        counts = {part: catalog.counts(part) for part in ("train", "val", "test")}
        print_json({"manifest": str(output), "counts": counts})
    else:
        print_result(split_table(catalog))
        print_result(f"\n{output}")
