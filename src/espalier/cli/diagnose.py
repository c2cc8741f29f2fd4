"""``espalier diagnose``: what is wrong with a run, why, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from espalier.cli.output import AsJson, print_json, print_result, say
from espalier.errors import EXIT_FOUND_SOMETHING, RunError

if TYPE_CHECKING:
    from espalier.diagnosing import Diagnosis

EPILOG = (
    "RUN is a run folder, living, finished or dead, or the record of another tool. Findings and "
    "page go into a run folder of Espalier's; nothing is written beside the record of another "
    "tool, unless --out says where."
)


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("diagnose", epilog=EPILOG)(diagnose)


def diagnose(
    run: Annotated[Path, typer.Argument(help="A run folder, or another tool's record.")],
    maps: Annotated[
        list[str] | None,
        typer.Option("--map", help="SIGN=COLUMN[,...] where columns have unknown names."),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="An earlier run: say what is gone and what is new.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for findings.json and report.html.")
    ] = None,
    probe: Annotated[
        bool,
        typer.Option(
            "--probe", help="Also try what the record cannot decide, on copies, within a minute."
        ),
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Name every check, also those in order.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Only the verdict, the causes and what to do.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 where there is a warning or an error.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what is wrong with a training run, why, what follows from it, and what to do."""
    from espalier import diagnosing

    mapping = read_mapping(maps or [])
    found = diagnosing.diagnose(run, mapping, probe=probe, tell=lambda name: say(f"trying {name}"))
    changes = None
    if against is not None:
        earlier = diagnosing.diagnose(against, mapping)
        changes = diagnosing.changed_since(found.report, earlier.report)
    written = diagnosing.write_diagnosis(found, out)
    if as_json:
        extra = {} if changes is None else {"against": {"run": str(against), **changes}}
        print_json({**found.to_json(), **extra})
    else:
        show(found, everything, quiet)
        show_tried(found, quiet)
        show_changes(changes, against)
        show_files(written)
    if strict and found.report.verdict in ("warning", "error"):
        raise typer.Exit(EXIT_FOUND_SOMETHING)


def read_mapping(words: Sequence[str]) -> dict[str, str] | None:
    """``SIGN=COLUMN`` pairs, parted by commas or given one by one; None for none.

    Raises:
        RunError: A pair has no equals sign, or nothing on one of its sides.
    """
    mapping = {}
    # A column may have a comma in its name: only one before the next sign parts.
    for pair in (pair for word in words for pair in re.split(r",(?=\w+=)", word)):
        sign, _, column = pair.partition("=")
        if not sign or not column:
            raise RunError(
                f"--map {pair} names no sign and its column, joined by an equals sign",
                hint="--map val_accuracy=Acc",
            )
        mapping[sign] = column
    return mapping or None


def show(found: Diagnosis, everything: bool, quiet: bool) -> None:
    """The report, on standard output."""
    from espalier.report.diagnosis_text import diagnosis_lines, short_lines

    known: dict[str, Any] = {"about": found.about, "commands": found.commands}
    if quiet:
        lines = short_lines(found.report, **known)
    else:
        lines = diagnosis_lines(
            found.report, families=found.families, everything=everything, **known
        )
    print_result("\n".join(lines))


def show_tried(found: Diagnosis, quiet: bool) -> None:
    """What was tried, what came of it, and which checks changed their word by it.

    Quietly only that nothing could be tried.
    """
    from espalier.active_tests.results import result_lines
    from espalier.report.findings_text import rule_text

    if found.tests is not None and (found.tests.reason or not quiet):
        decided = tuple(map(rule_text, found.decided))
        print_result("\n".join(["", *result_lines(found.tests, decided)]))


def show_changes(changes: dict[str, list[str]] | None, against: Path | None) -> None:
    """What is gone, new and still there since the earlier run."""
    from espalier.report.findings_text import rule_text
    from espalier.report.paragraphs import wrapped

    if changes is None:
        return
    parts = [
        f"{word}: {', '.join(map(rule_text, rules))}" for word, rules in changes.items() if rules
    ]
    text = "; ".join(parts) or "nothing wrong then, and nothing now"
    print_result("\n".join(["", *wrapped(f"against {against}: {text}")]))


def show_files(written: Sequence[Path]) -> None:
    """Where the files are; on standard error, like all that is no result."""
    if written:
        say("")
    for name, path in zip(("findings", "page", "probe"), written, strict=False):
        say(f"{name:<9} {path}")
