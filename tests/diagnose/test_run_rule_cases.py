"""Every rule of diagnose against its cases, which are data: tests/diagnose/rules/NAME.yml.

A case: {name, expect: fires | clear | skipped, severity?, cause? (a part of it), edits? (each
[key, action, value]), exactly? (all edits, in order), subject: {...} as ``run_subjects.run_of``
reads it}.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError
from run_subjects import run_of

import espalier.diagnose.rules
from espalier.findings import Edit, Finding
from espalier.recipe.schema import Recipe, Section, Stage
from espalier.rules import rules_in, run_rules
from espalier.run_record import EpochSigns, RunRecord, StepSigns

RULES = {rule.name: rule for rule in rules_in(espalier.diagnose.rules)}
FOLDER = Path(__file__).parent / "rules"
STAGE = {"name": "any", "epochs": 1, "lr": 1e-3}


def all_cases() -> list[Any]:
    return [
        pytest.param(file.stem, case, id=f"{file.stem}: {case['name']}")
        for file in sorted(FOLDER.glob("*.yml"))
        for case in yaml.safe_load(file.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize(("rule", "case"), all_cases())
def test_rule_says_what_its_case_expects(rule: str, case: dict[str, Any]) -> None:
    record = run_of(case["subject"])
    report = run_rules([RULES[rule]], record)
    kinds = {"fires": report.findings, "clear": report.clear, "skipped": report.skipped}
    got = next(kind for kind, entries in kinds.items() if entries)
    assert got == case["expect"], report
    if got != "fires":
        return
    finding = report.findings[0]
    assert_speaks_plainly(finding)
    assert finding.severity == case.get("severity", finding.severity)
    assert case.get("cause", "") in finding.cause
    made = [[edit.key, edit.action, edit.value] for edit in finding.prescription]
    for expected in case.get("edits", []):
        assert expected in made
    assert made == case.get("exactly", made)
    for edit in finding.prescription:
        assert_fits_the_recipe(edit, record)


def assert_speaks_plainly(finding: Finding) -> None:
    assert finding.cause
    assert not finding.cause.endswith(".")
    assert finding.advice
    assert all(line.endswith((".", ":", "?")) for line in finding.advice), finding.advice
    assert finding.evidence
    assert 0 < finding.confidence <= 1
    assert finding.rule not in finding.consequences
    json.dumps(finding.to_json(), allow_nan=False)


def assert_fits_the_recipe(edit: Edit, record: RunRecord) -> None:
    """The key exists, a value that is set is allowed there, and one that is multiplied a number."""
    section, _, name = edit.key.partition(".")
    if section == "stages":
        stage, _, name = name.partition(".")
        assert stage in {known.name for known in record.facts.stages}, edit
        kind: type[Section] = Stage
    else:
        kind = Recipe.model_fields[section].annotation  # type: ignore[assignment]
    assert name in kind.model_fields, edit
    if edit.action == "set":
        validate(kind, name, edit.value)
    elif edit.action == "multiply":
        assert isinstance(edit.value, int | float)
        assert edit.value > 0
        assert takes_numbers(kind, name), edit
    else:
        assert edit.value is None


def validate(kind: type[Section], name: str, value: object) -> None:
    kind.model_validate({**(STAGE if kind is Stage else {}), name: value})


def takes_numbers(kind: type[Section], name: str) -> bool:
    for number in (0.5, 2):
        try:
            validate(kind, name, number)
        except ValidationError:
            continue
        return True
    return False


@pytest.mark.parametrize("name", sorted(RULES))
def test_every_rule_has_cases_that_fire_stay_silent_and_cannot_judge(name: str) -> None:
    file = FOLDER / f"{name}.yml"
    assert file.exists()
    expected = Counter(case["expect"] for case in yaml.safe_load(file.read_text(encoding="utf-8")))
    assert expected["fires"] >= 1
    assert expected["clear"] >= 2
    assert expected["skipped"] >= 1


def test_codes_are_unique() -> None:
    codes = [rule.code for rule in RULES.values()]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("name", sorted(RULES))
def test_rule_says_nothing_of_a_run_of_which_nothing_is_known(name: str) -> None:
    for epochs in ((), (EpochSigns(1),), (EpochSigns(1), EpochSigns(2), EpochSigns(3))):
        report = run_rules([RULES[name]], RunRecord("nowhere", "test", epochs))
        assert [skipped.rule for skipped in report.skipped] == [name], report
        assert report.skipped[0].reason


@pytest.mark.parametrize(("rule", "case"), all_cases())
def test_rule_survives_damaged_records(rule: str, case: dict[str, Any]) -> None:
    record = run_of(case["subject"])
    for damaged in damages(record):
        said = [run_rules([RULES[rule]], damaged).to_json() for _ in range(2)]
        assert json.dumps(said[0], allow_nan=False) == json.dumps(said[1], allow_nan=False)


def damages(record: RunRecord) -> list[RunRecord]:
    """The same run with less or worse on record."""
    return [
        replace(record, epochs=record.epochs[:1], steps=record.steps[:1]),
        replace(record, steps=()),
        replace(record, epochs=()),
        replace(record, epochs=(), steps=()),
        *(
            replace(
                record,
                epochs=tuple(_filled(epoch, value) for epoch in record.epochs),
                steps=tuple(_filled(step, value) for step in record.steps),
            )
            for value in (math.nan, math.inf, -math.inf, 0.0)
        ),
    ]


def _filled(signs: Any, value: float) -> Any:
    numbers = {
        field.name: value
        for field in fields(signs)
        if isinstance(getattr(signs, field.name), float)
    }
    parts = {}
    if isinstance(signs, StepSigns):
        parts["parts"] = {name: _filled(part, value) for name, part in signs.parts.items()}
    return replace(signs, **numbers, **parts)


@pytest.mark.parametrize(("rule", "case"), all_cases())
def test_consequences_are_rules(rule: str, case: dict[str, Any]) -> None:
    for finding in run_rules([RULES[rule]], run_of(case["subject"])).findings:
        assert set(finding.consequences) <= set(RULES)
