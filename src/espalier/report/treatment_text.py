"""A treatment as a person reads it: what would change, what was tried, what came of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

from espalier.findings import Finding
from espalier.report.diagnosis_text import cause_text
from espalier.report.names import one_line
from espalier.report.numbers import duration, plain
from espalier.report.paragraphs import wrapped
from espalier.report.tables import table
from espalier.runs import RunDir

_ENDINGS = {
    "healthy": "nothing wrong is left to treat",
    "too little on record": "too little is on record to say what is wrong",
    "by hand": "what is wrong here no change of the recipe mends",
    "out of ideas": "out of ideas: nothing is left to change",
    "out of budget": "out of budget: the next run would not end in time",
    "out of rounds": "as many treatments as were asked for",
    "declined": "nothing more was agreed to",
}


class ChangeRow(Protocol):
    """One value of a recipe, before and after."""

    @property
    def key(self) -> str:
        """Dotted key."""

    @property
    def before(self) -> Any:
        """As JSON knows it."""

    @property
    def shown(self) -> str:
        """The new value, as it is typed."""

    @property
    def because(self) -> str:
        """Why."""

    @property
    def safe(self) -> bool:
        """Whether it may be made without asking."""


class LeftOutRow(Protocol):
    """A prescribed change that is not made."""

    @property
    def key(self) -> str:
        """Dotted key."""

    @property
    def reason(self) -> str:
        """Why not."""


class Prescribed(Protocol):
    """What to change, and what no recipe changes."""

    @property
    def changes(self) -> Sequence[ChangeRow]:
        """To be made."""

    @property
    def left_out(self) -> Sequence[LeftOutRow]:
        """Not to be made."""

    @property
    def by_hand(self) -> Sequence[Finding]:
        """For a person to do."""


class Compared(Protocol):
    """Two runs on the same images."""

    @property
    def images(self) -> int:
        """How many."""

    @property
    def difference(self) -> float:
        """In macro-F1."""

    @property
    def low(self) -> float:
        """Of its interval."""

    @property
    def high(self) -> float:
        """Of its interval."""

    @property
    def seeds(self) -> int:
        """Runs of the second recipe."""

    @property
    def seed_noise(self) -> float:
        """From seed to seed."""


class Tried(Protocol):
    """A treatment that was tried."""

    @property
    def run(self) -> RunDir:
        """The run it made."""

    @property
    def outcome(self) -> str:
        """How it compares."""

    @property
    def paired(self) -> Compared | None:
        """The comparison."""

    @property
    def score(self) -> float | None:
        """Macro-F1."""

    @property
    def seconds(self) -> float:
        """Wall time."""

    @property
    def why(self) -> str:
        """How it ended."""


def proposal_lines(treatment: Prescribed, *, about: str, score: float | None, seconds: float,
                   seconds_left: float | None = None) -> list[str]:  # fmt: skip
    """What would be changed, why, and what trying it costs; in at most 80 columns but for keys.

    Args:
        treatment: What is prescribed.
        about: The run and what is wrong with it, in a line.
        score: Macro-F1 of the run on validation.
        seconds: About how long the run would take; NaN where nothing tells.
        seconds_left: Of the budget.
    """
    lines = [*wrapped(about), f"macro-F1 on validation: {plain(score)}"]
    if treatment.changes:
        lines += ["", *change_lines(treatment.changes), ""]
        left = "" if seconds_left is None else f", of {duration(max(0.0, seconds_left))} left"
        cost = (
            f"about {duration(seconds)}" if math.isfinite(seconds) else "for how long is not known"
        )
        lines += wrapped(f"a new run from the start, on the same split: {cost}{left}")
    return lines + undone_lines(treatment)


def change_lines(changes: Sequence[ChangeRow]) -> list[str]:
    """A table of changes: key, before, after, and whether each needs a yes of its own."""
    rows = [
        [one_line(c.key), _value(c.before), one_line(c.shown),
         one_line(c.because) + ("" if c.safe else " (to be asked for)")]
        for c in changes
    ]  # fmt: skip
    return table(["recipe", "before", "after", "because"], rows, words=(0, 1, 2, 3)).splitlines()


def undone_lines(treatment: Prescribed) -> list[str]:
    """What is prescribed and not changed, and what a person has to do."""
    lines: list[str] = []
    for entry in treatment.left_out:
        lines += wrapped(f"left as it is: {one_line(entry.key)}: {one_line(entry.reason)}")
    for finding in treatment.by_hand:
        lines += wrapped(f"for you to do: {_sentence(finding.cause)}")
        for text in finding.advice:
            lines += wrapped(f"  {one_line(text)}")
    return lines


def _value(value: Any) -> str:
    return one_line(f"{value:.6g}" if isinstance(value, float) else str(value))


def _sentence(text: str) -> str:
    line = one_line(text)
    return line[:1].upper() + line[1:]


def what_is_wrong(causes: Sequence[Finding]) -> str:
    """``The learning rate is too high [RUN101]; ...``: the causes among warnings and errors."""
    return "; ".join(map(cause_text, causes))


def difference_text(paired: Compared) -> str:
    """``better by 0.121 [0.083, 0.159] on 328 images``, or that there is no difference."""
    gain, low, high = paired.difference, paired.low, paired.high
    if low > 0:
        text = f"better by {gain:.3f} [{low:.3f}, {high:.3f}]"
    elif high < 0:
        text = f"worse by {-gain:.3f} [{-high:.3f}, {-low:.3f}]"
    else:
        text = f"no difference beyond noise: {gain:+.3f} [{low:+.3f}, {high:+.3f}]"
    return f"{text} on {paired.images:,} images"


def seeds_text(paired: Compared) -> str:
    """What is known of the noise of seeds."""
    if paired.seeds == 1:
        return (
            f"noise from seed to seed: {paired.seed_noise:.3f}, assumed (a --budget with room for "
            "it lets it be measured)"
        )
    return f"noise from seed to seed: {paired.seed_noise:.3f}, measured over {paired.seeds} seeds"


def trial_text(trial: Tried) -> str:
    """``first-treated: macro-F1 0.871, better by 0.121 [0.083, 0.159] on 328 images: kept``."""
    name, score = one_line(trial.run.name), f"macro-F1 {plain(trial.score)}"
    if trial.outcome == "first score":
        return f"{name}: {score}, where there was no score before: kept"
    if trial.paired is None:
        return f"{name}: no score ({one_line(trial.why)}): what was before stays"
    verdict = "kept" if trial.outcome == "better" else "what was before stays"
    return f"{name}: {score}, {difference_text(trial.paired)}: {verdict}"


def course_lines(
    *,
    original: RunDir,
    kept: RunDir,
    score: float | None,
    trials: Sequence[Tried],
    repeats: Sequence[Tried],
    paired: Compared | None,
    ended: str,
    last: Prescribed,
    notes: Sequence[str] = (),
) -> list[str]:
    """What a treatment came to: each run, the verdict, why it ended, and what is left to do.

    Args:
        original: The run that was treated.
        kept: The best run.
        score: Macro-F1 of the original.
        trials: What was tried.
        repeats: Runs of the best recipe with other seeds.
        paired: The original against what was best.
        ended: Why the treatment ended.
        last: What would come next.
        notes: Of the diagnosis; told where nothing was tried.
    """
    if not trials:
        told = [line for note in notes for line in wrapped(one_line(note))]
        ending = wrapped(f"{_ENDINGS[ended]}; {original.path} is as it was")
        return [*ending, *told, *undone_lines(last)]
    rows = [[original.name, plain(score), "-", "-"]]
    rows += [[t.run.name, plain(t.score), _gain(t), duration(t.seconds)] for t in trials]
    rows += [[t.run.name, plain(t.score), "-", duration(t.seconds)] for t in repeats]
    lines = table(["run", "macro-F1", "against the best before", "time"], rows).splitlines()
    lines += ["", *wrapped(_verdict(original, kept, paired, trials))]
    if paired is not None:
        lines += wrapped(seeds_text(paired))
    return [*lines, *wrapped(f"ended: {_ENDINGS[ended]}"), *undone_lines(last)]


def _gain(trial: Tried) -> str:
    paired = trial.paired
    if paired is None:
        return "-"
    return f"{paired.difference:+.3f} [{paired.low:+.3f}, {paired.high:+.3f}]"


def _verdict(
    original: RunDir, kept: RunDir, paired: Compared | None, trials: Sequence[Tried]
) -> str:
    if paired is not None:
        text = difference_text(paired)
        return (
            f"{text}: {kept.path} is kept" if kept is not original else f"{text}: " + _stays(kept)
        )
    if kept is not original:
        return f"a first score, where there was none: {kept.path} is kept"
    known = [trial.paired for trial in trials if trial.paired is not None]
    return f"{difference_text(known[-1])}: {_stays(kept)}" if known else f"no score: {_stays(kept)}"


def _stays(run: RunDir) -> str:
    return f"the original stays, {run.path}"
