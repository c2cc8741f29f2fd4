"""``espalier split``: the split as a manifest; no photograph is copied or moved."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from espalier.cli.output import AsJson, print_json, print_result, say
from espalier.cli.places import check_source
from espalier.cli.recipe_flags import flag_of
from espalier.errors import RecipeError


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
    group_by: Annotated[str | None, flag_of("group_by")] = None,
    corrections: Annotated[str | None, flag_of("corrections")] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same split.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Split photographs by class into train, val and test, and write that as a manifest."""
    check_source(photos, "split")
    check_shares(val, test)
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


def check_shares(val: float, test: float) -> None:
    """Refuse shares that leave nothing to train on.

    Raises:
        RecipeError: One is below 0, or both together are 1 or more.
    """
    if min(val, test) < 0 or val + test >= 1:
        raise RecipeError(
            f"--val {val:g} and --test {test:g} leave no photograph for training; allowed: shares "
            "of at least 0 that are below 1 together",
            hint="--val 0.1 --test 0.1",
        )
