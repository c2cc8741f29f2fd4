"""``espalier treat``: change the recipe of a sick run as diagnosed, and see whether it helps."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from espalier.cli.output import AsJson, print_json, print_result, say
from espalier.errors import RecipeError, RunError

if TYPE_CHECKING:
    from espalier.diagnose.treat import Change
    from espalier.treating import Course, Proposal

EPILOG = (
    "RUN is a run folder of Espalier's own. It stays as it is: each treatment trains a run of its "
    "own beside it, on the same split, and is compared on the same validation images. What was "
    "tried stands in treatments.jsonl of RUN."
)


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("treat", epilog=EPILOG)(treat)


def treat(
    run: Annotated[Path, typer.Argument(help="A run folder of Espalier's own.")],
    budget: Annotated[
        str | None, typer.Option(help="Time for all of it: 20m, 1.5h; room for other seeds.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Most treatments, one after another.")] = 3,
    yes: Annotated[bool, typer.Option("--yes", help="Make all safe changes unasked.")] = False,
    unsafe: Annotated[
        bool, typer.Option("--unsafe", help="Make the other changes unasked, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Apply what the diagnosis prescribes, train again, and keep whichever run is better."""
    from espalier import treating
    from espalier.cli.screen import open_screen
    from espalier.cli.train import with_doctor

    seconds = None if budget is None else seconds_of(budget)
    found = treating.require_own(run)
    asks = Asks(yes, unsafe, seconds)
    with open_screen() as screen:
        if screen.progress is not None:
            asks.still, asks.go_on = screen.progress.stop, screen.progress.start
        watch = with_doctor(screen, found.path.resolve().parent, stop_when_sick=False)
        course = treating.treat(run, asks.consent, budget=seconds, rounds=rounds, watch=watch)
    show(course, as_json)


def seconds_of(budget: str) -> float:
    """Seconds in ``20m``.

    Raises:
        RecipeError: It is no duration.
    """
    from espalier.recipe.load import parse_duration

    try:
        return parse_duration(budget)
    except RecipeError as error:
        raise RecipeError(f"--budget: {error.message}", hint="--budget 20m") from None


class Asks:
    """Shows what is proposed, and asks where nobody has said yes beforehand.

    Args:
        yes: Whether safe changes are agreed to.
        unsafe: Whether the others are.
        budget: Seconds for everything.
    """

    def __init__(self, yes: bool, unsafe: bool, budget: float | None) -> None:
        self.yes, self.unsafe, self.budget = yes, unsafe, budget
        self.started = time.monotonic()
        # A bar that is redrawn would write over the question.
        self.still: Callable[[], None] = lambda: None
        self.go_on: Callable[[], None] = lambda: None

    def consent(self, proposal: Proposal) -> Sequence[Change]:
        """The changes that are agreed to.

        Raises:
            RunError: There is nobody to ask.
        """
        self.still()
        for line in self.shown(proposal):
            say(line)
        treatment = proposal.treatment
        if not self.yes and not sys.stdin.isatty():
            raise RunError(
                "nothing was changed: there is no terminal to ask at",
                hint=f"espalier treat {proposal.run.path} --yes{self._unsafe_too(proposal)}",
            )
        chosen = list(treatment.safe)
        if chosen and not self.yes:
            noun = "this change" if len(chosen) == 1 else f"the {len(chosen)} safe changes"
            chosen = chosen if typer.confirm(f"Train a run with {noun}?", err=True) else []
        chosen += [change for change in treatment.unsafe if self._wanted(change)]
        self.go_on()
        return chosen

    def shown(self, proposal: Proposal) -> list[str]:
        """What is wrong, what would be changed, what it would cost."""
        from espalier.diagnose.treat import causes
        from espalier.report.treatment_text import proposal_lines, what_is_wrong

        wrong = what_is_wrong(causes(proposal.diagnosis.report))
        used = time.monotonic() - self.started
        return [
            "",
            *proposal_lines(
                proposal.treatment,
                about=f"{proposal.run.path}: {wrong}",
                score=proposal.score,
                seconds=proposal.seconds,
                seconds_left=None if self.budget is None else self.budget - used,
            ),
        ]

    def _wanted(self, change: Change) -> bool:
        if self.unsafe or not sys.stdin.isatty():
            return self.unsafe
        return typer.confirm(f"Also {change.key} = {change.shown}, which is not safe?", err=True)

    def _unsafe_too(self, proposal: Proposal) -> str:
        return "" if proposal.treatment.safe else " --unsafe"


def show(course: Course, as_json: bool) -> None:
    """What came of it; the object alone on standard output with JSON."""
    from espalier.report.treatment_text import course_lines

    if as_json:
        print_json(course.to_json())
        return
    say("")
    lines = course_lines(
        original=course.original,
        kept=course.kept,
        score=course.score,
        trials=course.trials,
        repeats=course.repeats,
        paired=course.paired,
        ended=course.ended,
        last=course.last.treatment,
        notes=course.last.diagnosis.report.notes,
    )
    print_result("\n".join(lines))
    if course.trials:
        say("")
        say(f"next:\n  espalier diagnose {course.kept.path}")
