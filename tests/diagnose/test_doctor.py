"""The doctor: causes before consequences, health said aloud, the same record the same report."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from espalier.diagnose import doctor
from espalier.diagnose.doctor import examine
from espalier.diagnose.ranks import EXPLAINED_BY, FAMILIES, JUDGED_FIRST, family_of, rank
from espalier.findings import SEVERITIES, Edit, Finding, Report, Severity
from espalier.rules import CannotJudge, Rule
from espalier.run_record import EpochSigns, RunRecord

RECORD = RunRecord(
    "a run",
    "test",
    tuple(EpochSigns(e, val_macro_f1=0.5 + e / 100) for e in (1, 2, 3)),
    ended="finished",
)
LEVELS_ON_RECORD = doctor.earned_levels
RATE = (Edit("stages.all.lr", "multiply", 0.1, "it diverges"),)


@pytest.fixture(autouse=True)
def ungated(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a rule has earned is a matter of its own test."""
    monkeypatch.setattr(doctor, "earned_levels", dict)


def rule(
    name: str, code: str = "RUN900", check: Callable[[RunRecord], Finding | None] | None = None
) -> Rule[RunRecord]:
    """A rule that finds nothing unless it is given a check."""

    def asked(record: RunRecord, _: Any) -> Finding | None:
        return None if check is None else check(record)

    return Rule(name, code, name, {}, SimpleNamespace(), asked)


def firing(
    name: str,
    severity: Severity = "warning",
    *,
    code: str = "RUN900",
    then: tuple[str, ...] = (),
    sure: float = 0.9,
    edits: tuple[Edit, ...] = (),
    advice: tuple[str, ...] = (),
) -> Rule[RunRecord]:
    """A rule that always fires."""
    finding = Finding(
        "", "", severity, f"{name} is wrong", confidence=sure, consequences=then,
        prescription=edits, advice=advice,
    )  # fmt: skip
    return rule(name, code, lambda _: finding)


def skipping(name: str, reason: str = "needs gradients") -> Rule[RunRecord]:
    def check(_: RunRecord) -> Finding | None:
        raise CannotJudge(reason)

    return rule(name, "RUN900", check)


def names(report: Report) -> list[str]:
    return [finding.rule for finding in report.findings]


def consequences(report: Report) -> dict[str, tuple[str, ...]]:
    return {finding.rule: finding.consequences for finding in report.findings}


def test_the_most_upstream_cause_comes_first_whatever_the_order_of_the_rules() -> None:
    rules = [
        firing("overfitting", "error"),
        firing("learning_rate_too_high", "error"),
        firing("broken_pixels", "error"),
        firing("optimizer_misses_parameters", "error"),
    ]
    expected = [
        "optimizer_misses_parameters", "broken_pixels", "learning_rate_too_high", "overfitting",
    ]  # fmt: skip
    assert names(examine(RECORD, rules)) == expected
    assert names(examine(RECORD, rules[::-1])) == expected


def test_what_follows_from_a_cause_stands_behind_all_causes_and_is_named_by_it_alone() -> None:
    report = examine(
        RECORD,
        [
            firing("learning_rate_too_high", then=("dead_units", "exploding_gradients", "plateau")),
            firing("exploding_gradients", "error", then=("dead_units",)),
            firing("dead_units"),
            firing("overfitting"),
        ],
    )
    assert names(report) == [
        "learning_rate_too_high", "overfitting", "exploding_gradients", "dead_units",
    ]  # fmt: skip
    assert consequences(report) == {
        "learning_rate_too_high": ("exploding_gradients",),
        "overfitting": (),
        "exploding_gradients": ("dead_units",),
        "dead_units": (),
    }


def test_a_cause_may_be_of_a_later_family_than_what_follows_from_it() -> None:
    report = examine(
        RECORD,
        [firing("hidden_nan", "error"), firing("learning_rate_too_high", then=("hidden_nan",))],
    )
    assert names(report) == ["learning_rate_too_high", "hidden_nan"]


def test_of_two_that_name_each_other_the_one_upstream_is_the_cause() -> None:
    report = examine(
        RECORD,
        [
            firing("learning_rate_too_low", then=("frozen_by_mistake",)),
            firing("frozen_by_mistake", then=("learning_rate_too_low",)),
        ],
    )
    assert consequences(report) == {
        "frozen_by_mistake": ("learning_rate_too_low",),
        "learning_rate_too_low": (),
    }


def test_a_ring_of_three_has_one_cause() -> None:
    ring = ("no_gradient", "vanishing_gradients", "plateau")
    report = examine(RECORD, [firing(one, then=(ring[(i + 1) % 3],)) for i, one in enumerate(ring)])
    assert names(report) == list(ring)
    assert consequences(report)["no_gradient"] == ("vanishing_gradients",)
    assert consequences(report)["plateau"] == ()


def test_a_note_explains_no_alarm() -> None:
    report = examine(
        RECORD,
        [firing("missing_warmup", "info", then=("dead_units",)), firing("dead_units", "error")],
    )
    assert names(report) == ["dead_units", "missing_warmup"]
    assert consequences(report)["missing_warmup"] == ()


def test_the_cause_of_an_error_comes_before_an_unrelated_warning_further_up() -> None:
    report = examine(
        RECORD,
        [
            firing("class_absent"),
            firing("learning_rate_too_high", then=("hidden_nan",)),
            firing("hidden_nan", "error"),
        ],
    )
    assert names(report) == ["learning_rate_too_high", "class_absent", "hidden_nan"]
    assert report.verdict == "error"


def test_two_findings_of_a_family_with_the_same_treatment_say_the_same() -> None:
    report = examine(
        RECORD,
        [
            firing("learning_rate_noisy", edits=RATE),
            firing("learning_rate_too_high", edits=RATE),
            firing("overfitting", edits=RATE),
        ],
    )
    assert names(report) == ["learning_rate_too_high", "overfitting", "learning_rate_noisy"]
    assert consequences(report)["learning_rate_too_high"] == ("learning_rate_noisy",)


def test_within_a_family_the_more_certain_comes_first() -> None:
    report = examine(RECORD, [firing("wrong_loss", sure=0.6), firing("validation_leak", sure=0.98)])
    assert names(report) == ["validation_leak", "wrong_loss"]


def test_rules_that_nobody_named_come_last_or_where_their_code_says() -> None:
    assert rank("never_heard_of", "XYZ1") > max(
        rank(name) for family in FAMILIES for name in family.rules
    )
    assert family_of("never_heard_of", "RUN099") == FAMILIES[0].name
    assert family_of("never_heard_of", "XYZ1") == ""


def test_no_rule_has_two_places() -> None:
    named = [name for family in FAMILIES for name in family.rules]
    assert len(named) == len(set(named))


def test_nothing_wrong_is_a_finding_that_says_what_was_looked_at_and_what_to_try() -> None:
    quiet = [rule(f"rule_{i}", "RUN001") for i in range(6)]
    lever = firing("next_lever", "info", edits=RATE, advice=("Take larger pictures.",))
    report = examine(RECORD, [*quiet, skipping("dead_units"), lever])
    healthy = report.findings[0]
    assert names(report) == ["healthy", "next_lever"]
    assert (healthy.severity, healthy.code, report.verdict) == ("info", "RUN000", "info")
    assert "nothing wrong was found" in healthy.cause
    assert "7 of 8 checks" in healthy.cause
    assert "best epoch is 3" in healthy.cause
    assert healthy.advice == ("Take larger pictures.",)
    assert healthy.prescription == RATE
    assert healthy.consequences == ("next_lever",)
    counted = {entry.name: (entry.value, entry.unit) for entry in healthy.evidence}
    assert counted["checks of settings and data as they are on record"] == (6, "of 6")
    assert counted["checks of whether it learns too fast"] == (0, "of 1")


def test_where_something_is_wrong_no_other_lever_is_pulled() -> None:
    quiet = [rule(f"rule_{i}") for i in range(6)]
    report = examine(RECORD, [*quiet, firing("next_lever", "info"), firing("wrong_loss")])
    assert names(report) == ["wrong_loss"]
    assert [(s.rule, s.reason) for s in report.skipped] == [
        ("next_lever", "asked only where nothing is wrong")
    ]


@pytest.mark.parametrize("record", [RECORD, RunRecord("empty", "test", ())])
def test_silence_for_want_of_signs_is_not_health(record: RunRecord) -> None:
    quiet = [rule(f"rule_{i}") for i in range(2 if record.epochs else 9)]
    report = examine(record, [*quiet, skipping("dead_units")])
    assert names(report) == []
    assert "too little is on record" in report.notes[-1]


def test_a_living_run_is_healthy_so_far() -> None:
    living = RunRecord("a", "test", RECORD.epochs, ended="running")
    report = examine(living, [rule(f"rule_{i}") for i in range(6)])
    assert "nothing wrong was found so far" in report.findings[0].cause


def test_a_run_that_died_of_a_number_is_not_called_healthy() -> None:
    why = "the loss is nan at step 40 (epoch 4, stage all), learning rate 1"
    dead = RunRecord("a", "test", RECORD.epochs, ended="died", why_ended=why)
    quiet = [rule(f"rule_{i}") for i in range(6)]
    report = examine(dead, [*quiet, firing("next_lever", "info")])
    assert names(report) == []
    assert "the loss is nan at step 40" in report.notes[-1]
    killed = RunRecord("a", "test", RECORD.epochs, ended="died", why_ended="the power went")
    assert names(examine(killed, quiet)) == ["healthy"]


def test_a_rule_says_no_more_than_it_has_earned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "earned_levels", lambda: {"wrong_loss": "info"})
    rules = [firing("wrong_loss", "error"), firing("validation_leak", "error")]
    found = {f.rule: f.severity for f in examine(RECORD, rules).findings}
    assert found == {"wrong_loss": "info", "validation_leak": "error"}


def test_every_rule_there_is_ends_in_one_place_and_two_looks_say_the_same() -> None:
    """Of a record with almost nothing in it, and twice over."""
    rules = doctor.known_rules()
    one, two = examine(RECORD), examine(RECORD)
    assert json.dumps(one.to_json()) == json.dumps(two.to_json())
    ended = [*(n for n in names(one) if n != "healthy"), *one.clear]
    ended += [entry.rule for entry in one.skipped]
    assert sorted(ended) == sorted(rule.name for rule in rules)


def test_every_rule_has_a_place_and_every_place_a_rule() -> None:
    rules = {r.name for r in doctor.known_rules()} | {"healthy"}
    assert rules == {name for family in FAMILIES for name in family.rules}


def test_what_a_rule_has_earned_is_a_severity_of_a_rule_that_exists() -> None:
    levels = LEVELS_ON_RECORD()
    assert set(levels) <= {r.name for r in doctor.known_rules()}
    assert set(levels.values()) <= set(SEVERITIES)


def test_a_guess_by_exclusion_gives_way_to_what_explains_the_same() -> None:
    guess = firing("labels_shuffled", "error", sure=0.5)
    report = examine(RECORD, [guess, firing("vanishing_gradients")])
    assert names(report) == ["vanishing_gradients"]
    assert report.skipped[0].rule == "labels_shuffled"
    assert "vanishing_gradients" in report.skipped[0].reason


def test_a_guess_by_exclusion_waits_for_those_that_must_have_judged() -> None:
    guess = firing("labels_shuffled", "error", sure=0.5)
    report = examine(RECORD, [guess, skipping("under_capacity")])
    assert "labels_shuffled" not in names(report)
    assert "needs judgement of under_capacity first" in {s.reason for s in report.skipped}


@pytest.mark.parametrize("sure", [0.5, 0.85])
def test_what_is_seen_itself_needs_no_exclusion(sure: float) -> None:
    found = firing("labels_shuffled", "error", sure=sure)
    others = [firing("dead_units", "info")] if sure <= 0.5 else [firing("dead_units")]
    assert "labels_shuffled" in names(examine(RECORD, [found, *others]))


def test_exclusion_names_rules_that_there_are() -> None:
    known = {known.name for known in doctor.known_rules()}
    for table in (EXPLAINED_BY, JUDGED_FIRST):
        for name, others in table.items():
            assert {name, *others} <= known
            assert name not in others
