"""The flags that make a recipe: declared once, for every command that reads one."""

from __future__ import annotations

import functools
import inspect
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from espalier.errors import RecipeError

if TYPE_CHECKING:
    from espalier.recipe.schema import Recipe

RECIPE, DATA, MODEL, TRAINING, MACHINE, FOLDER = (
    "Recipe", "Data", "Model", "Training", "Machine", "Run folder",
)  # fmt: skip
EVERY_GROUP = (RECIPE, DATA, MODEL, TRAINING, MACHINE, FOLDER)
Command = Callable[..., None]


class Flag(NamedTuple):
    """One flag of a recipe; its value stays text, which the recipe reads and judges like any other.

    Attributes:
        group: Heading of the help that it stands under.
        name: The recipe's daily word for it, and with dashes the flag.
        metavar: What the help shows for the value.
        help: What it is for, and what is allowed.
    """

    group: str
    name: str
    metavar: str
    help: str


PRESETS = (
    "Recipe to start from: quick, standard (the default), three-stage, two-stage, low, medium, "
    "high, baseline, improved, cifar100, demo."
)
POLICIES = (
    "How photographs are varied: none, light, standard, strong, heavy, e8, randaugment, "
    "trivialaugment."
)
SCHEDULES = "warmup-cosine, cosine, step, one-cycle, constant, plateau."
FLAGS = (
    Flag(RECIPE, "preset", "NAME", PRESETS),
    Flag(RECIPE, "config", "FILE", "YAML or JSON, such as recipe.yaml of a run."),
    Flag(RECIPE, "set", "KEY=VALUE", "Any recipe value, by section.key; repeatable."),
    Flag(DATA, "group_by", "REGEX", "Regular expression on the path: groups stay together."),
    Flag(DATA, "split_from", "RUN", "Run whose split to use again."),
    Flag(DATA, "corrections", "FILE", "Accepted corrections of an audit (.csv)."),
    Flag(DATA, "synthetic", "FILE", "synthetic.csv of espalier synth: trains, never judges."),
    Flag(DATA, "seed", "N", "Same seed, same split and same result."),
    Flag(MODEL, "model", "NAME", "Backbone: any of espalier models, or small-cnn."),
    Flag(MODEL, "weights", "WORD|FILE", "pretrained, none, or a .safetensors/.pth file."),
    Flag(MODEL, "imgsz", "N|auto", "Pixels across and down."),
    Flag(TRAINING, "epochs", "N", "Epochs in all, shared by stages."),
    Flag(TRAINING, "lr", "RATE", "Largest peak rate; others follow."),
    Flag(TRAINING, "batch", "N|auto", "Images per step."),
    Flag(TRAINING, "accumulate", "N", "Batches per optimizer step."),
    Flag(TRAINING, "optimizer", "NAME", "adamw, adam or sgd."),
    Flag(TRAINING, "schedule", "NAME", SCHEDULES),
    Flag(TRAINING, "augment", "NAME", POLICIES),
    Flag(TRAINING, "fit", "NAME", "crop, pad or squash: how a photograph becomes a square."),
    Flag(TRAINING, "patience", "N", "Epochs without gain to stop."),
    Flag(TRAINING, "max_batches", "N", "At most N batches an epoch."),
    Flag(TRAINING, "time", "TIME", "Stop in good order after 20m, 1.5h, 90s."),
    Flag(MACHINE, "device", "NAME", "auto, cpu, cuda, cuda:1, mps."),
    Flag(MACHINE, "precision", "NAME", "auto, fp32, bf16, fp16."),
    Flag(MACHINE, "workers", "N", "Threads that read images."),
    Flag(FOLDER, "name", "NAME", "Name of the run."),
    Flag(FOLDER, "out", "FOLDER", "Folder of the runs."),
)  # fmt: skip
PHOTOS = (
    "Folder of class folders, manifest, or torchvision:NAME; then recipe values, such as epochs=10."
)
Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="PHOTOS [key=value ...]", help=PHOTOS, show_default=False),
]


@dataclass(frozen=True)
class Typed:
    """What was typed of a recipe.

    Attributes:
        command: Name of the command that it was typed for.
        flags: Those that were given, by name, and ``source`` where photographs were named.
        sets: What ``--set`` was given.
        pairs: The ``key=value`` words.
    """

    command: str
    flags: Mapping[str, Any]
    sets: Sequence[str]
    pairs: Sequence[str]

    def recipe(self) -> Recipe:
        """The recipe as it was typed, not resolved yet."""
        from espalier.recipe.load import load_recipe

        flags = dict(self.flags)
        return load_recipe(
            preset=flags.pop("preset", None),
            file=flags.pop("config", None),
            sets=self.sets,
            flags=flags,
            words=self.pairs,
        )


def takes_recipe(*groups: str) -> Callable[[Command], Command]:
    """Gives a command photographs and the flags of these groups.

    The command's first argument is what was typed of them, a ``Typed``; flags of its own follow.
    """
    flags = [flag for flag in FLAGS if flag.group in groups]

    def give(command: Command) -> Command:
        _, *own = inspect.signature(command, eval_str=True).parameters.values()

        @functools.wraps(command)
        def run(**values: Any) -> None:
            words = values.pop("words") or []
            given = {flag.name: values.pop(flag.name) for flag in flags}
            command(_typed(command.__name__, words, given), **values)

        parameters = [_parameter("words", Words), *map(_of_flag, flags), *own]
        # Both are what typer reads: the one for order, names and defaults, the other for types.
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
        )
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return give


def flag_of(name: str) -> Any:
    """One of these flags, for a command that takes no recipe but means the same by it."""
    flag = next(flag for flag in FLAGS if flag.name == name)
    return typer.Option(help=flag.help, metavar=flag.metavar)


def _of_flag(flag: Flag) -> inspect.Parameter:
    several = flag.name == "set"
    spelled = f"--{flag.name.replace('_', '-')}"
    option = typer.Option(spelled, help=flag.help, metavar=flag.metavar, rich_help_panel=flag.group)
    return _parameter(flag.name, Annotated[(list[str] if several else str) | None, option])


def _parameter(name: str, annotation: object) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def _typed(command: str, words: Sequence[str], flags: Mapping[str, Any]) -> Typed:
    """Photographs told from ``key=value`` words, and flags without gaps."""
    given = {name: value for name, value in flags.items() if value is not None}
    sets = given.pop("set", [])
    pairs = [word for word in words if "=" in word and not Path(word).exists()]
    sources = [word for word in words if word not in pairs]
    if len(sources) > 1:
        raise RecipeError(
            f"one source of photographs is allowed, got {len(sources)}: {', '.join(sources)}",
            hint=f"espalier {command} {_one_of(sources)}",
        )
    if sources:
        given["source"] = sources[0]
    return Typed(command, given, sets, pairs)


def _one_of(sources: Sequence[str]) -> str:
    """What was probably meant: one name with spaces in it, or the first that is there."""
    whole = " ".join(sources)
    there = (source for source in sources if Path(source).exists())
    return shlex.quote(whole if Path(whole).exists() else next(there, sources[0]))
