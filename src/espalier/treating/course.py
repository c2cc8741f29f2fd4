"""The course of a treatment: diagnose, change, train, compare, keep the better, and again.

Nothing of the run is touched but a line in ``treatments.jsonl``: each treatment is a run of its
own, from the start, on the same split, and the original stays unless one is better beyond noise.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from espalier.diagnose.treat import Change
from espalier.evaluate.paired import Paired, compare_paired
from espalier.records import Predictions
from espalier.report.treatment_text import trial_text
from espalier.runs import RunDir
from espalier.train.watch import Unwatched, Watch
from espalier.treating.proposal import Proposal, propose, require_own
from espalier.treating.trial import Bench, Trial, macro_f1_of, validation_of

ROUNDS = 3
"""Treatments one after the other, where nothing else ends them."""
REPEATS = 2
"""Further seeds of what is or may be better, where the budget has room."""

Ended = Literal[
    "healthy",
    "too little on record",
    "by hand",
    "out of ideas",
    "out of budget",
    "out of rounds",
    "declined",
]
Consent = Callable[[Proposal], Sequence[Change]]
"""Which of the proposed changes to make; none of them ends the treatment."""


@dataclass(frozen=True)
class Course:
    """A treatment from beginning to end.

    Attributes:
        original: The run that was sick.
        kept: The best run: the original, unless another one is better beyond noise.
        score: Macro-F1 of the original on validation; None where it kept no weights to judge.
        trials: What was tried, in order.
        repeats: Runs of the recipe that was better, with other seeds.
        paired: The original against the best that was tried, over all its seeds; None where there
            is nothing to compare.
        ended: Why the treatment ended.
        last: What would come next; what is left to do stands in it.
    """

    original: RunDir
    kept: RunDir
    score: float | None
    trials: tuple[Trial, ...]
    repeats: tuple[Trial, ...]
    paired: Paired | None
    ended: Ended
    last: Proposal

    def to_json(self) -> dict[str, Any]:
        """The object of ``treat --json``."""
        treatment = self.last.treatment
        return {
            "original": str(self.original.path),
            "kept": str(self.kept.path),
            "score": None if self.score is None else round(self.score, 6),
            "paired": self.paired.to_json() if self.paired else None,
            "ended": self.ended,
            "trials": [trial.to_json() for trial in self.trials],
            "repeats": [trial.to_json() for trial in self.repeats],
            "verdict": self.last.diagnosis.report.verdict,
            "proposed": [change.to_json() for change in treatment.changes],
            "left_out": [dataclasses.asdict(entry) for entry in treatment.left_out],
            "by_hand": [finding.to_json() for finding in treatment.by_hand],
        }


def treat(
    path: Path | str,
    consent: Consent,
    *,
    budget: float | None = None,
    rounds: int = ROUNDS,
    watch: Watch | None = None,
) -> Course:
    """Treat a run until it is healthy, or nothing more can be done.

    Args:
        path: A run folder of Espalier's own.
        consent: Asked before each run.
        budget: Seconds for all of it: nothing is begun that would not end in them, as far as can
            be told. None: no limit, and no repeats with other seeds.
        rounds: Most treatments, one after the other.
        watch: Told what happens.

    Raises:
        RunError: There is no run, another tool made it, or it cannot be judged.
        TrainingInterrupted: Ctrl-C or SIGTERM; the run under way is saved, the original stays.
    """
    original = require_own(path)
    deadline = math.inf if budget is None else time.monotonic() + budget
    patient = _Patient(Bench(original, deadline, watch or Unwatched()))
    for _ in range(rounds):
        proposal = propose(patient.next, patient.tried)
        ended = _no_reason_to_train(proposal, deadline)
        if ended is not None:
            return _closed(patient, ended, proposal)
        changes = consent(proposal)
        if not changes:
            return _closed(patient, "declined", proposal)
        patient.treat(changes)
    proposal = propose(patient.next, patient.tried)
    return _closed(patient, "healthy" if proposal.healthy else "out of rounds", proposal)


def _no_reason_to_train(proposal: Proposal, deadline: float) -> Ended | None:
    """Why the treatment ends here; None where there is something to try."""
    treatment = proposal.treatment
    if not proposal.sick:
        return "healthy" if proposal.healthy else "too little on record"
    if not treatment.changes:
        return "by hand" if treatment.by_hand else "out of ideas"
    # Where nothing tells how long a run takes, it begins, and ends with the budget.
    if time.monotonic() + (0.0 if math.isnan(proposal.seconds) else proposal.seconds) > deadline:
        return "out of budget"
    return None


@dataclass
class _Patient:
    """Where a treatment stands.

    Attributes:
        bench: Trains and compares.
        next: The run that is diagnosed next.
        best: The run that is kept so far.
        known: What its best weights say of the validation images.
        tried: Changes that made things worse.
    """

    bench: Bench
    tried: set[tuple[str, str]] = field(default_factory=set)
    trials: list[Trial] = field(default_factory=list)
    repeats: list[Trial] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.next = self.best = self.bench.original
        self.known = self.first = validation_of(self.bench.original)

    def treat(self, changes: Sequence[Change]) -> None:
        """Train the recipe of the next run with changes, and see whose turn it is then."""
        trial, found = self.bench.try_changes(self.next, changes, self.known)
        self.trials.append(trial)
        self.bench.watch.on_note(trial_text(trial))
        if trial.kept:
            self.next = self.best = trial.run
            self.known = found
        elif trial.outcome == "no difference" or (self.known is None and trial.run.path.is_dir()):
            # No better, yet another recipe: its own diagnosis says where to go from there.
            self.next = trial.run
        else:
            self.tried |= {(change.key, change.shown) for change in changes}
            self.next = self.best


def _closed(patient: _Patient, ended: Ended, last: Proposal) -> Course:
    """The course as it ended; what may be better is repeated first, where there is time."""
    original, first, kept = patient.bench.original, patient.first, patient.best
    paired: Paired | None = None
    contender = _contender(patient)
    found = None if contender is None else validation_of(contender.run)
    if contender is not None and first is not None and found is not None:
        paired = compare_paired(first, found, _repeated(patient, contender))
        kept = contender.run if paired.verdict == "better" else original
    course = Course(
        original=original,
        kept=kept,
        score=None if first is None else macro_f1_of(first),
        trials=tuple(patient.trials),
        repeats=tuple(patient.repeats),
        paired=paired,
        ended=ended,
        last=last,
    )
    if patient.trials:
        closing = course.to_json()
        patient.bench.note({k: closing[k] for k in ("original", "kept", "ended", "paired")})
    return course


def _contender(patient: _Patient) -> Trial | None:
    """What was better than the original, else what may be, and further seeds could tell."""
    best = [trial for trial in patient.trials if trial.run is patient.best]
    hopeful = [
        trial
        for trial in patient.trials
        if trial.outcome == "no difference" and trial.paired and trial.paired.difference > 0
    ]
    return max(best or hopeful, key=lambda trial: trial.score or 0.0, default=None)


def _repeated(patient: _Patient, contender: Trial) -> list[Predictions]:
    """What its recipe says of the validation images with other seeds, as time allows."""
    deadline, found = patient.bench.deadline, []
    for number in range(1, REPEATS + 1):
        if math.isinf(deadline) or time.monotonic() + contender.seconds > deadline:
            break
        trial, predictions = patient.bench.repeat(contender.run, number)
        patient.repeats.append(trial)
        if predictions is not None:
            found.append(predictions)
    return found
