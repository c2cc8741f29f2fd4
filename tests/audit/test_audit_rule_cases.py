"""Every audit rule against its cases, which are data: tests/audit/rules/NAME.yml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from audit_subjects import subject_of

import espalier.audit.rules
from espalier.rules import rules_in, run_rules

RULES = {rule.name: rule for rule in rules_in(espalier.audit.rules)}
FOLDER = Path(__file__).parent / "rules"


def all_cases() -> list[Any]:
    return [
        pytest.param(file.stem, case, id=f"{file.stem}: {case['name']}")
        for file in sorted(FOLDER.glob("*.yml"))
        for case in yaml.safe_load(file.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize(("rule", "case"), all_cases())
def test_rule_says_what_its_case_expects(rule: str, case: dict[str, Any]) -> None:
    report = run_rules([RULES[rule]], subject_of(case["subject"]))
    kinds = {"fires": report.findings, "clear": report.clear, "skipped": report.skipped}
    got = next(kind for kind, entries in kinds.items() if entries)
    assert got == case["expect"], report
    if got != "fires":
        return
    finding = report.findings[0]
    assert finding.cause
    assert finding.advice
    assert finding.severity == case.get("severity", finding.severity)
    if "cases" in case:
        assert len(finding.cases) == case["cases"]
    if "cause" in case:
        assert case["cause"] in finding.cause
    for expected in case.get("corrections", []):
        made = [c for entry in finding.cases for c in entry.corrections]
        assert expected in [[c.sample, c.action, c.value] for c in made]


@pytest.mark.parametrize("name", sorted(RULES))
def test_every_rule_has_a_case_that_fires_and_one_that_does_not(name: str) -> None:
    file = FOLDER / f"{name}.yml"
    assert file.exists()
    expected = {case["expect"] for case in yaml.safe_load(file.read_text(encoding="utf-8"))}
    assert {"fires", "clear"} <= expected


def test_codes_are_unique() -> None:
    codes = [rule.code for rule in RULES.values()]
    assert len(set(codes)) == len(codes)
