"""``espalier audit``: what a data set is, what is wrong with it, and what to do about it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from espalier.cli.output import AsJson, print_json, print_result, say
from espalier.cli.places import check_places
from espalier.cli.recipe_flags import DATA, MODEL, RECIPE, Typed, takes_recipe
from espalier.errors import EXIT_FOUND_SOMETHING, EXIT_INTERRUPTED, DataError

if TYPE_CHECKING:
    from espalier.auditing.gather import Audit
    from espalier.auditing.write import AuditFiles
    from espalier.recipe.schema import Recipe

EPILOG = (
    "PHOTOS as for train. Nothing of yours is changed: what the audit suggests stands in "
    "corrections.csv, and `espalier train PHOTOS --corrections corrections.csv` follows what you "
    "accept there."
)


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("audit", epilog=EPILOG)(audit)


@takes_recipe(RECIPE, DATA, MODEL)
def audit(
    typed: Typed,
    features: Annotated[
        bool, typer.Option(help="Let a frozen backbone look, too: suspect labels, hard classes.")
    ] = True,
    visualize: Annotated[bool, typer.Option(help="Draw pictures and write audit.html.")] = True,
    augmented: Annotated[
        bool, typer.Option("--augmented", help="Also show photographs as each policy makes them.")
    ] = False,
    quarantine: Annotated[
        Path | None, typer.Option(help="List unreadable files here, as corrections to apply.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the audit's folder.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the audits.")] = Path("runs/audit"),
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 where there is a warning or an error.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what a data set is and what is wrong with it, before an epoch is spent."""
    started = time.perf_counter()
    recipe = typed.recipe()
    check_out(recipe, out)
    if quarantine is not None:
        from espalier.data.corrections import require_new

        require_new(quarantine)
    with interruptible():
        found, written = look(recipe, features, out, name, visualize, augmented)
    if quarantine is not None:
        from espalier.data.corrections import write_quarantine

        write_quarantine(found.audited.catalog.unreadable, quarantine)
    show(found, written, time.perf_counter() - started, as_json)
    if strict and found.report.verdict in ("warning", "error"):
        raise typer.Exit(EXIT_FOUND_SOMETHING)


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C ends the command with a line that says how to go on, and code 130."""
    try:
        yield
    except KeyboardInterrupt:
        say("interrupted; the same command goes on from what was kept")
        raise typer.Exit(EXIT_INTERRUPTED) from None


def check_out(recipe: Recipe, out: Path) -> None:
    """Refuse missing photographs, and a folder of audits among the photographs.

    Raises:
        DataError: Photographs would be found where pictures of them are written.
    """
    check_places(recipe, "audit")
    source = Path(recipe.data.source or "").resolve()
    if source.is_dir() and (source == out.resolve() or source in out.resolve().parents):
        raise DataError(
            f"--out {out} lies inside of the photographs in {source}, where the next command would "
            "take the audit's pictures for photographs",
            hint=f"--out {source.parent / 'audits'}",
        )


def look(
    recipe: Recipe, features: bool, out: Path, name: str | None, visualize: bool, augmented: bool
) -> tuple[Audit, AuditFiles]:
    """Audit with a screen that watches, and write what was found."""
    from espalier.auditing.gather import audit_photos
    from espalier.auditing.write import default_name, open_folder, write_audit
    from espalier.cli.screen import open_screen

    with open_screen() as screen:
        found = audit_photos(
            recipe,
            features=features,
            note=screen.on_note,
            progress={
                "read": screen.on_scan,
                "look": screen.counter("looking"),
                "compare": screen.counter("comparing"),
            },
        )
        folder = open_folder(out, name or default_name(recipe))
        written = write_audit(found, folder, visualize=visualize, augmented=augmented)
    return found, written


def show(found: Audit, written: AuditFiles, seconds: float, as_json: bool) -> None:
    """What was found, and where it stands; the object alone on standard output with JSON."""
    from espalier.auditing.write import report_json
    from espalier.report.audit_galleries import relative_path
    from espalier.report.findings_text import findings_lines
    from espalier.report.numbers import duration

    if as_json:
        print_json({**report_json(found), "folder": str(written.folder)})
        return
    catalog = found.audited.catalog
    paths = {s.sample_id: relative_path(s.path, catalog.source) for s in catalog.samples}
    for line in findings_lines(found.report, paths=paths):
        print_result(line)
    say("")
    for line in written.lines():
        say(line)
    say(f"took {duration(seconds)}")
