"""``espalier check``: seconds of checks before hours of training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from espalier.cli.output import print_json, print_result
from espalier.cli.train import check_places, read_recipe, sort_words
from espalier.errors import EXIT_FOUND_SOMETHING

EPILOG = (
    "PHOTOS and key=value are as in espalier train: what is checked is what train would do with "
    "the same words. Marks: ✓ in order, ✗ not in order, - does not apply, with the reason."
)


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("check", epilog=EPILOG)(check)


def check(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="PHOTOS [key=value ...]", show_default=False)
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Recipe to start from.")] = None,
    config: Annotated[Path | None, typer.Option(help="Recipe file (YAML or JSON).")] = None,
    model: Annotated[str | None, typer.Option(help="Any timm model, or small-cnn.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="pretrained, none, or a .safetensors/.pth file.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs in all, shared by stages.")] = None,
    lr: Annotated[float | None, typer.Option(help="Largest peak rate; others follow.")] = None,
    batch: Annotated[str | None, typer.Option(help="Images per step, or auto.")] = None,
    imgsz: Annotated[str | None, typer.Option(help="Pixels across and down, or auto.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="adamw, adam or sgd.")] = None,
    schedule: Annotated[
        str | None, typer.Option(help="warmup-cosine, cosine, step, one-cycle, constant, plateau.")
    ] = None,
    augment: Annotated[str | None, typer.Option(help="Augmentation policy.")] = None,
    fit: Annotated[str | None, typer.Option(help="crop, pad or squash.")] = None,
    group_by: Annotated[
        str | None, typer.Option(help="Regular expression on the path: groups stay together.")
    ] = None,
    split_from: Annotated[str | None, typer.Option(help="Run whose split to use again.")] = None,
    corrections: Annotated[
        str | None, typer.Option(help="Accepted corrections of an audit (.csv).")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same result.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16, fp16.")] = None,
    workers: Annotated[int | None, typer.Option(help="Threads that read images.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Batches per optimizer step.")] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value, any recipe value.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Earlier run whose label order must hold.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the first batch as the network sees it (JPEG).")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit code 1 when something is not in order.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One object on standard output, nothing else.")
    ] = False,
) -> None:
    """Check data, pictures, network, gradients and loss with the parts that training uses."""
    flags = {
        "preset": preset, "config": config, "model": model, "weights": weights, "epochs": epochs,
        "lr": lr, "batch": batch, "imgsz": imgsz, "optimizer": optimizer, "schedule": schedule,
        "augment": augment, "fit": fit, "group_by": group_by, "split_from": split_from,
        "corrections": corrections, "seed": seed, "device": device, "precision": precision,
        "workers": workers, "accumulate": accumulate,
    }  # fmt: skip
    given: dict[str, Any] = {key: value for key, value in flags.items() if value is not None}
    source, pairs = sort_words(words or [])
    if source is not None:
        given["source"] = source
    recipe = read_recipe(given, sets or [], pairs)
    check_places(recipe)

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
