"""One rule mechanism for all subjects: a pure check, its thresholds as data, its page as docstring.

A rule is a module: its docstring is its page (a title and five headings), ``CODE`` its stable
code, ``Thresholds`` a frozen dataclass made of ``threshold`` fields, and ``check(subject,
thresholds)`` gives a ``Finding``, or None, or raises ``CannotJudge``.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Generic, TypeVar

from espalier.findings import SEVERITIES, Finding, Report, Skipped

HEADINGS = (
    "What it looks at",
    "Why it matters",
    "When it is wrong",
    "What to do",
    "Source",
)
Subject = TypeVar("Subject")


class CannotJudge(Exception):
    """Raised by a check that lacks what it needs; its text is the reason, for the report."""


@dataclass(frozen=True)
class Rule(Generic[Subject]):
    """One rule, ready to be asked.

    Attributes:
        name: That of its file, and of its findings.
        code: Stable, such as ``AUD010``.
        title: First sentence of its page.
        page: The five headings of its docstring, each with its text.
        thresholds: What it compares with.
        check: The rule itself.
    """

    name: str
    code: str
    title: str
    page: dict[str, str]
    thresholds: Any
    check: Callable[[Subject, Any], Finding | None]


def threshold(value: float, unit: str, about: str) -> Any:
    """A field of ``Thresholds``: its value, its unit, and what it bounds."""
    return dataclasses.field(default=value, metadata={"unit": unit, "about": about})


def rule_of(module: ModuleType) -> Rule[Any]:
    """The rule that a module is.

    Raises:
        TypeError: The module lacks a part of a rule, or its page lacks a heading.
    """
    missing = [name for name in ("CODE", "Thresholds", "check") if not hasattr(module, name)]
    text = inspect.cleandoc(module.__doc__ or "")
    page = _page(text)
    missing += [f"`{heading}:` in its docstring" for heading in HEADINGS if heading not in page]
    if missing:
        raise TypeError(f"{module.__name__} is no rule: it lacks {', '.join(missing)}")
    return Rule(
        name=module.__name__.rpartition(".")[2],
        code=module.CODE,
        title=text.partition("\n")[0].rstrip("."),
        page=page,
        thresholds=module.Thresholds(),
        check=module.check,
    )


def rules_in(package: ModuleType) -> tuple[Rule[Any], ...]:
    """All rules of a package, one per module, by code."""
    names = sorted(entry.name for entry in pkgutil.iter_modules(package.__path__))
    modules = [importlib.import_module(f"{package.__name__}.{name}") for name in names]
    return tuple(sorted((rule_of(module) for module in modules), key=lambda rule: rule.code))


def run_rules(rules: Sequence[Rule[Subject]], subject: Subject) -> Report:
    """Ask every rule; each ends in exactly one of fired, clear and skipped.

    Findings come by severity, the worst first, and within it in the order of the rules.
    """
    findings: list[Finding] = []
    clear: list[str] = []
    skipped: list[Skipped] = []
    for rule in rules:
        try:
            finding = rule.check(subject, rule.thresholds)
        except CannotJudge as reason:
            skipped.append(Skipped(rule.name, str(reason)))
            continue
        if finding is None:
            clear.append(rule.name)
        else:
            findings.append(dataclasses.replace(finding, rule=rule.name, code=rule.code))
    findings.sort(key=lambda finding: -SEVERITIES.index(finding.severity))
    return Report(tuple(findings), tuple(clear), tuple(skipped))


def _page(text: str) -> dict[str, str]:
    """The headings of a docstring, each ``Heading: text`` up to the next one."""
    page: dict[str, list[str]] = {}
    current = ""
    for line in text.splitlines()[1:]:
        heading, colon, rest = line.partition(":")
        if colon and heading in HEADINGS:
            current = heading
            page[current] = [rest.strip()]
        elif current:
            page[current].append(line.strip())
    return {heading: " ".join(filter(None, lines)) for heading, lines in page.items()}
