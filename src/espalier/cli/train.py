"""``espalier train``: photographs in, a trained classifier and its run folder out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from espalier.cli.output import AsJson, print_json, print_result, say
from espalier.cli.places import check_places
from espalier.cli.recipe_flags import EVERY_GROUP, Typed, takes_recipe
from espalier.errors import RecipeError, ResumeError, RunError

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


@takes_recipe(*EVERY_GROUP)
def train(
    typed: Typed,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Continue this run; with epochs=N extend it.")
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
    as_json: AsJson = False,
) -> None:
    """Train a classifier on photographs, in stages, and judge it on images it never saw."""
    if resume is not None:
        finish(run_resume(resume, typed, stop_when_sick), as_json)
        return
    recipe = typed.recipe()
    if print_config:
        show_recipe(recipe)
    elif dry_run:
        from espalier.cli.dry_run import dry_run as show_plan

        show_plan(recipe, as_json)
    else:
        finish(run_train(recipe, stop_when_sick), as_json)


def show_recipe(recipe: Recipe) -> None:
    """Print the recipe as YAML: what ``--config`` reads again."""
    from espalier.recipe.load import dump_yaml

    print_result(dump_yaml(recipe).rstrip())


def run_train(recipe: Recipe, stop_when_sick: bool) -> TrainResult:
    """Train with a screen and a doctor that watch."""
    check_places(recipe, "train")
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


def timed(result: TrainResult, started: float, used: float) -> TrainResult:
    """The result with the times of the whole command, imports and reading of the data included."""
    import dataclasses

    return dataclasses.replace(
        result,
        seconds=time.perf_counter() - started,
        cpu_seconds=time.process_time() - used,
    )


def run_resume(folder: Path, typed: Typed, stop_when_sick: bool) -> TrainResult:
    """Continue a run, with the few changes that are possible."""
    from espalier import pipeline, runs
    from espalier.cli.screen import open_screen
    from espalier.recipe.load import change_recipe

    run = runs.find_run(folder)
    given, pairs = dict(typed.flags), list(typed.pairs)
    if "preset" in given or "config" in given:
        raise RunError(
            "--resume continues the recipe of the run: --preset and --config do not go with it",
            hint=f"espalier train --resume {folder}",
        )
    rates = [f"lr={given['lr']}"] if "lr" in given else []
    rates += [word for word in pairs if word.startswith("lr=")]
    if rates:
        raise ResumeError(
            "lr cannot change when a run is resumed: what was already trained depends on it",
            hint=f"espalier train --config {run.recipe_file} {rates[-1]} trains a new run",
        )
    totals = [f"epochs={given.pop('epochs')}"] if "epochs" in given else []
    totals += [word for word in pairs if word.startswith("epochs=")]
    pairs = [word for word in pairs if word not in totals]
    epochs = whole_number(totals[-1]) if totals else None
    recipe = change_recipe(run.recipe(), typed.sets, given, pairs)
    started, used = time.perf_counter(), time.process_time()
    with open_screen() as screen:
        watch = with_doctor(screen, run.path.resolve().parent, stop_when_sick)
        result = pipeline.resume(run, recipe, epochs=epochs, watch=watch)
    return timed(result, started, used)


def whole_number(word: str) -> int:
    """The number in ``epochs=40``."""
    value = word.partition("=")[2]
    if not value.isdigit() or int(value) == 0:
        raise RecipeError(
            f"epochs={value!r}: a whole number from 1 on is allowed",
            hint="epochs=40: of the whole run, what is done included",
        )
    return int(value)


def finish(result: TrainResult, as_json: bool) -> None:
    """Say what came out and what to type next; the object alone on standard output with JSON."""
    from espalier.report.text import closing_lines

    for line in closing_lines(result.run, result.val, result.test, result.ended, result.seconds):
        say(line)
    if as_json:
        print_json(result.to_json())
