"""Findings while a run trains: told once they are certain, and a reason to end it."""

from __future__ import annotations

import pytest

from espalier.findings import Edit, Finding, Severity
from espalier.records import EpochRow, History
from espalier.train import live
from espalier.train.live import LiveFindings, reason_to_end
from espalier.train.watch import Several, Unwatched

MEND = (Edit("stages.all.lr", "multiply", 0.1, "it diverges"),)


def finding(
    rule: str = "too_fast", severity: Severity = "warning", sure: float = 0.8, mend: bool = True
) -> Finding:
    edits = MEND if mend else ()
    return Finding(rule, "RUN999", severity, "It is.", confidence=sure, prescription=edits)


def row(epoch: int) -> EpochRow:
    values = {name: 0.0 for name in EpochRow.__dataclass_fields__}
    return EpochRow(**{**values, "stage": "all", "epoch": epoch, "best": False})  # type: ignore[arg-type]


class Run:
    """Epochs in which a doctor sees what is listed, one entry for each look."""

    def __init__(self, *looks: list[Finding], stop: bool = False) -> None:
        self.looks, self.told, self.asked = list(looks), [], 0
        self.watch = LiveFindings(self.look, self.told.append, stop=stop)

    def look(self, history: History) -> list[Finding]:
        self.asked += 1
        return self.looks[min(self.asked, len(self.looks)) - 1]

    def epochs(self, count: int) -> Run:
        rows = []
        for epoch in range(1, count + 1):
            rows.append(row(epoch))
            self.watch.on_epoch(rows[-1], History(tuple(rows), name="r"))
        return self


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every epoch is looked at."""
    monkeypatch.setattr(live, "LOOKING_SHARE", 1e9)


def test_what_holds_two_looks_is_told_once() -> None:
    run = Run([finding()])
    assert run.epochs(1).told == []
    run = Run([finding()]).epochs(5)
    assert [f.rule for f in run.told] == ["too_fast"]


def test_what_comes_and_goes_is_not_told() -> None:
    assert Run([finding()], [], [finding()], []).epochs(4).told == []


def test_what_is_nearly_always_right_is_told_at_once() -> None:
    assert len(Run([finding(sure=0.97)]).epochs(1).told) == 1


@pytest.mark.parametrize(
    ("found", "ends"),
    [
        (finding(severity="error", mend=False), True),
        (finding(severity="warning"), True),
        (finding(severity="warning", mend=False), False),
    ],
)
def test_only_what_a_new_run_would_do_better_ends_this_one(found: Finding, ends: bool) -> None:
    run = Run([found], stop=True).epochs(2)
    assert (run.watch.reason_to_end() == "sick after epoch 2: too fast [RUN999]") is ends
    assert len(run.told) == 1


def test_without_the_wish_to_stop_it_only_tells() -> None:
    run = Run([finding(severity="error")]).epochs(4)
    assert run.told
    assert run.watch.reason_to_end() == ""


def test_the_reason_is_found_among_several_that_watch() -> None:
    sick = Run([finding(severity="error")], stop=True).epochs(2).watch
    assert reason_to_end(Several(Unwatched(), Several(Unwatched(), sick))).startswith("sick")
    assert reason_to_end(Several(Unwatched())) == ""
    assert reason_to_end(Unwatched()) == ""


def test_a_doctor_that_stumbles_does_not_end_the_run() -> None:
    class Stumbling(Run):
        def look(self, history: History) -> list[Finding]:
            self.asked += 1
            raise KeyError("a column")

    run = Stumbling([], stop=True).epochs(3)
    assert run.asked == 1
    assert run.watch.reason_to_end() == ""


def test_looking_takes_a_hundredth_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Epochs of 10 s, looks of 2 s: of 100 epochs, in 1,000 s, 10 s may go to looking."""
    clock = [0.0]
    monkeypatch.setattr(live, "LOOKING_SHARE", 0.01)
    monkeypatch.setattr(live.time, "monotonic", lambda: clock[0])

    class Slow(Run):
        def look(self, history: History) -> list[Finding]:
            clock[0] += 2.0
            return super().look(history)

    run = Slow([])
    rows: list[EpochRow] = []
    for epoch in range(1, 101):
        clock[0] += 10.0
        rows.append(row(epoch))
        run.watch.on_epoch(rows[-1], History(tuple(rows), name="r"))
    assert 4 <= run.asked <= 6
