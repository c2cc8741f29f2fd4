"""``espalier train``: photographs in, a trained classifier and its run folder out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from espalier.cli.output import print_json, print_result, say
from espalier.errors import DataError, RecipeError, ResumeError, RunError, WeightsError

if TYPE_CHECKING:
    from espalier.cli.screen import Screen
    from espalier.pipeline import TrainResult
    from espalier.recipe.schema import Recipe
    from espalier.train.watch import Watch

EPILOG = (
    "PHOTOS is a folder of class folders, a folder with train/ val/ test/, a CSV or Parquet "
    "manifest (path,label[,split,group]), or torchvision:NAME. Any recipe value can be set: "
    "key=value for the daily ones, --set section.key=value for all."
)


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("train", epilog=EPILOG)(train)


def train(
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
    patience: Annotated[int | None, typer.Option(help="Epochs without gain to stop.")] = None,
    augment: Annotated[str | None, typer.Option(help="Augmentation policy.")] = None,
    fit: Annotated[str | None, typer.Option(help="crop, pad or squash.")] = None,
    group_by: Annotated[
        str | None, typer.Option(help="Regular expression on the path: groups stay together.")
    ] = None,
    split_from: Annotated[str | None, typer.Option(help="Run whose split to use again.")] = None,
    corrections: Annotated[
        str | None, typer.Option(help="Accepted corrections of an audit (.csv).")
    ] = None,
    synthetic: Annotated[
        str | None, typer.Option(help="synthetic.csv of espalier synth: trains, never judges.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same result.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16, fp16.")] = None,
    workers: Annotated[int | None, typer.Option(help="Threads that read images.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Batches per optimizer step.")] = None,
    max_batches: Annotated[int | None, typer.Option(help="At most N batches an epoch.")] = None,
    time_limit: Annotated[
        str | None, typer.Option("--time", help="Stop in good order after 20m, 1.5h, 90s.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    out: Annotated[str | None, typer.Option(help="Folder of the runs.")] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value, any recipe value.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Continue this run; with epochs=N extend it.")
    ] = None,
    stop_when_sick: Annotated[
        bool, typer.Option("--stop-when-sick", help="Stop in good order when it cannot end well.")
    ] = False,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the recipe and stop.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and draw the rates; no training.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One object on standard output, nothing else.")
    ] = False,
) -> None:
    """Train a classifier on photographs, in stages, and judge it on images it never saw."""
    flags = {
        "preset": preset, "config": config, "model": model, "weights": weights, "epochs": epochs,
        "lr": lr, "batch": batch, "imgsz": imgsz, "optimizer": optimizer, "schedule": schedule,
        "patience": patience, "augment": augment, "fit": fit, "group_by": group_by,
        "split_from": split_from, "corrections": corrections, "synthetic": synthetic,
        "seed": seed, "device": device,
        "precision": precision, "workers": workers, "accumulate": accumulate,
        "max_batches": max_batches, "time": time_limit, "name": name, "out": out,
    }  # fmt: skip
    given = {key: value for key, value in flags.items() if value is not None}
    source, pairs = sort_words(words or [])
    if source is not None:
        given["source"] = source
    if resume is not None:
        finish(run_resume(resume, given, sets or [], pairs, stop_when_sick), as_json)
        return
    recipe = read_recipe(given, sets or [], pairs)
    if print_config:
        show_recipe(recipe)
    elif dry_run:
        from espalier.cli.dry_run import dry_run as show_plan

        show_plan(recipe, as_json)
    else:
        finish(run_train(recipe, stop_when_sick), as_json)


def sort_words(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """The photographs and the ``key=value`` words, told apart by the equals sign.

    Raises:
        RecipeError: More than one source was named.
    """
    pairs = [word for word in words if "=" in word and not Path(word).exists()]
    sources = [word for word in words if word not in pairs]
    if len(sources) > 1:
        raise RecipeError(
            f"one source of photographs is allowed, got {len(sources)}: {', '.join(sources)}",
            hint="espalier train PHOTOS key=value ...",
        )
    return (sources[0] if sources else None), pairs


def read_recipe(given: dict[str, Any], sets: Sequence[str], pairs: Sequence[str]) -> Recipe:
    """The recipe as the command line wants it, not resolved yet."""
    from espalier.recipe.load import load_recipe

    flags = dict(given)
    return load_recipe(
        preset=flags.pop("preset", None),
        file=flags.pop("config", None),
        sets=sets,
        flags=flags,
        words=pairs,
    )


def show_recipe(recipe: Recipe) -> None:
    """Print the recipe as YAML: what ``--config`` reads again."""
    from espalier.recipe.load import dump_yaml

    print_result(dump_yaml(recipe).rstrip())


def run_train(recipe: Recipe, stop_when_sick: bool) -> TrainResult:
    """Train with a screen and a doctor that watch."""
    check_places(recipe)
    from espalier import pipeline
    from espalier.cli.screen import open_screen

    started, used = time.perf_counter(), time.process_time()
    with open_screen() as screen:
        watch = with_doctor(screen, Path(recipe.logging.out), stop_when_sick)
        result = pipeline.train(recipe, watch=watch, progress=screen.on_scan)
    return timed(result, started, used)


def with_doctor(screen: Screen, out: Path, stop_when_sick: bool) -> Watch:
    """The screen, and who tells it of findings in runs below ``out`` once they are certain."""
    from espalier.diagnosing import live_findings
    from espalier.report.diagnosis_text import alarm_text
    from espalier.train.watch import Several

    live = live_findings(
        out, lambda finding: screen.on_note(alarm_text(finding)), stop=stop_when_sick
    )
    return Several(screen, live)


def check_places(recipe: Recipe) -> None:
    """Refuse missing photographs, corrections and weights before anything slow is imported.

    Raises:
        DataError: No photographs were named, or they or their corrections are not there.
        WeightsError: The file of weights is not there.
    """
    source, weights = recipe.data.source, recipe.model.weights
    if source is None:
        raise DataError(
            "no photographs were named: PHOTOS is a folder of class folders, a CSV or Parquet "
            "manifest, or torchvision:NAME",
            hint="espalier train PHOTOS, or espalier demo",
        )
    if not source.startswith("torchvision:") and not Path(source).expanduser().exists():
        raise DataError(
            f"{source} does not exist; a folder of photographs or a manifest is wanted",
            hint=f"ls {Path(source).parent}",
        )
    corrections = recipe.data.corrections
    if corrections is not None and not Path(corrections).expanduser().is_file():
        raise DataError(
            f"there is no file of corrections {corrections}",
            hint=f"espalier audit {source} writes one",
        )
    synthetic = recipe.data.synthetic
    if synthetic is not None and not Path(synthetic).expanduser().is_file():
        raise DataError(
            f"there is no table of painted pictures {synthetic}",
            hint="espalier synth writes synthetic.csv beside its pictures",
        )
    if weights not in ("pretrained", "none") and not Path(weights).expanduser().is_file():
        raise WeightsError(
            f"there is no file of weights {weights}; allowed: a .safetensors or .pth file, "
            "pretrained, none",
            hint="--weights none trains from scratch",
        )


def timed(result: TrainResult, started: float, used: float) -> TrainResult:
    """The result with the times of the whole command, imports and reading of the data included."""
    import dataclasses

    return dataclasses.replace(
        result,
        seconds=time.perf_counter() - started,
        cpu_seconds=time.process_time() - used,
    )


def run_resume(
    folder: Path,
    given: dict[str, Any],
    sets: Sequence[str],
    pairs: Sequence[str],
    stop_when_sick: bool,
) -> TrainResult:
    """Continue a run, with the few changes that are possible."""
    from espalier import pipeline, runs
    from espalier.cli.screen import open_screen
    from espalier.recipe.load import change_recipe

    run = runs.find_run(folder)
    if "preset" in given or "config" in given:
        raise RunError(
            "--resume continues the recipe of the run: --preset and --config do not go with it",
            hint=f"espalier train --resume {folder}",
        )
    pairs = list(pairs)
    if "lr" in given or any(word.startswith("lr=") for word in pairs):
        raise ResumeError(
            "lr cannot change when a run is resumed: what was already trained depends on it",
            hint=f"espalier train --config {run.recipe_file} lr=... trains a new run",
        )
    epochs = given.pop("epochs", None)
    for word in [word for word in pairs if word.startswith("epochs=")]:
        pairs.remove(word)
        epochs = whole_number(word)
    recipe = change_recipe(run.recipe(), sets, given, pairs)
    started, used = time.perf_counter(), time.process_time()
    with open_screen() as screen:
        watch = with_doctor(screen, run.path.resolve().parent, stop_when_sick)
        result = pipeline.resume(run, recipe, epochs=epochs, watch=watch)
    return timed(result, started, used)


def whole_number(word: str) -> int:
    """The number in ``epochs=40``."""
    value = word.partition("=")[2]
    if not value.isdigit() or int(value) == 0:
        raise RecipeError(f"epochs={value!r}: a whole number from 1 on is allowed")
    return int(value)


def finish(result: TrainResult, as_json: bool) -> None:
    """Say what came out and what to type next; the object alone on standard output with JSON."""
    from espalier.report.text import closing_lines

    for line in closing_lines(result.run, result.val, result.test, result.ended, result.seconds):
        say(line)
    if as_json:
        print_json(result.to_json())
