"""The active tests of a run, one after the other; one that cannot be tried never stops the rest."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from espalier.active_tests import learning, validating
from espalier.active_tests.bench import Bench, Clock
from espalier.active_tests.results import ActiveTests, Tried, position
from espalier.active_tests.validating import Outcome
from espalier.errors import EspalierError
from espalier.rules import CannotJudge
from espalier.run_record import Preflight, RunRecord
from espalier.runs import RunDir
from espalier.vitals.untouched import same_randomness

SECONDS = 12.0
"""Most that one test may take."""
SECONDS_IN_ALL = 60.0
Test = Callable[[Bench, Clock], Outcome]
TESTS: tuple[tuple[str, Test], ...] = (
    ("the outputs of the model", validating.outputs),
    ("the model without a picture", validating.zero_input),
    ("validation twice", validating.twice),
    ("validation with classes renamed", validating.renamed),
    ("validation in training mode", validating.modes),
    ("the first loss", learning.first_loss),
    ("a linear head on the frozen backbone", learning.linear_head),
    ("one batch learned by heart", learning.one_batch),
    ("rising learning rates", learning.rising_rates),
)


def try_run(
    run: RunDir,
    record: RunRecord,
    *,
    tell: Callable[[str], None] | None = None,
    seconds: float = SECONDS_IN_ALL,
) -> ActiveTests:
    """Try what the record of a run cannot decide; the run folder is only read.

    Args:
        run: A run that Espalier trained.
        record: The same, as read.
        tell: Told what is tried next.
        seconds: Most that all tests may take.

    Returns:
        A row for each test; one that could not be tried says why.
    """
    started = time.perf_counter()
    epochs, step = position(record)
    with tempfile.TemporaryDirectory(prefix="espalier-probe-") as folder, as_before():
        try:
            bench = Bench(run, Path(folder))
        except EspalierError as error:
            return ActiveTests(epochs=epochs, step=step, reason=error.message)
        figures: dict[str, Any] = {}
        rows = []
        for name, test in TESTS:
            (tell or (lambda text: None))(name)
            left = seconds - (time.perf_counter() - started)
            row, found = try_one(bench, name, test, left, seconds)
            rows.append(row)
            figures |= found
    took = time.perf_counter() - started
    return ActiveTests(tuple(rows), Preflight(**figures), took, epochs, step)


def try_one(
    bench: Bench, name: str, test: Test, left: float, seconds: float
) -> tuple[Tried, Mapping[str, Any]]:
    """One test within the time that is left; an error of Espalier's own is why it was not tried.

    Anything else that is raised is a bug, and is not caught.
    """
    if left <= 0:
        return Tried(name, "", reason=f"the {seconds:.0f} s for all tests were up"), {}
    clock = Clock(min(SECONDS, left))
    try:
        figures, text = test(bench, clock)
    except CannotJudge as reason:
        return Tried(name, "", clock.passed, str(reason)), {}
    except EspalierError as error:
        return Tried(name, "", clock.passed, error.message), {}
    return Tried(name, text, clock.passed), figures


@contextmanager
def as_before() -> Iterator[None]:
    """Random numbers and threads of the arithmetic are those of the caller again afterwards."""
    threads = torch.get_num_threads()
    try:
        with same_randomness(torch.device("cuda") if torch.cuda.is_available() else None):
            yield
    finally:
        torch.set_num_threads(threads)
