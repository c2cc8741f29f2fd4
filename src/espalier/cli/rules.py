"""``espalier rules``: what audit and diagnose look for, rule by rule, with every threshold."""

from __future__ import annotations

import dataclasses
import difflib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from espalier.cli.output import AsJson, print_json, print_result, say
from espalier.errors import RecipeError

if TYPE_CHECKING:
    from espalier.rules import Rule

EARNED = "In the benchmark of injected faults"


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("rules")(rules)


def rules(
    name: Annotated[
        str | None, typer.Argument(help="Name or code of one rule.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List every rule, or explain one: what it looks at, when it is wrong, what to do."""
    known = all_rules()
    chosen = known if name is None else [find_rule(known, name)]
    if as_json:
        print_json({"rules": [as_record(rule) for rule in chosen]})
    elif name is None:
        from espalier.report.tables import table

        rows = [(rule.code, rule.name, rule.title) for rule in chosen]
        print_result(table(("code", "rule", "what it says"), rows, words=(0, 1, 2)))
        say("\nespalier rules NAME explains one")
    else:
        print_result("\n".join(explained(chosen[0])))


def all_rules() -> list[Rule[Any]]:
    """Rules on data first, then rules on runs, each by code."""
    import espalier.audit.rules
    import espalier.diagnose.rules
    from espalier.rules import rules_in

    return [*rules_in(espalier.audit.rules), *rules_in(espalier.diagnose.rules)]


def find_rule(known: list[Rule[Any]], name: str) -> Rule[Any]:
    """The rule of a name or a code.

    Raises:
        RecipeError: There is none.
    """
    for rule in known:
        if name.lower() in (rule.name, rule.code.lower()):
            return rule
    words = [rule.name for rule in known] + [rule.code for rule in known]
    near = difflib.get_close_matches(name, words, n=1, cutoff=0.4)
    guess = f"; did you mean `{near[0]}`?" if near else ""
    hint = f"espalier rules {near[0]}, or espalier rules for all" if near else "espalier rules"
    raise RecipeError(f"there is no rule `{name}`{guess}", hint=hint)


def as_record(rule: Rule[Any]) -> dict[str, Any]:
    """A rule as plain values."""
    return {
        "code": rule.code,
        "rule": rule.name,
        "title": rule.title,
        "page": rule.page,
        "earned": earned_words(rule),
        "thresholds": [
            {"name": name, "value": value, "unit": unit, "about": about}
            for name, value, unit, about in thresholds_of(rule)
        ],
    }


def thresholds_of(rule: Rule[Any]) -> list[tuple[str, float, str, str]]:
    """Name, value, unit and meaning of each threshold."""
    return [
        (
            field.name,
            getattr(rule.thresholds, field.name),
            field.metadata.get("unit", ""),
            field.metadata.get("about", ""),
        )
        for field in dataclasses.fields(rule.thresholds)
    ]


def explained(rule: Rule[Any]) -> list[str]:
    """The page of a rule in lines of at most 80 columns."""
    from espalier.report.paragraphs import wrapped

    lines = [f"{rule.code} {rule.name}", *wrapped(f"{rule.title}.")]
    for heading, text in rule.page.items():
        lines += ["", heading, *(f"  {line}" for line in wrapped(text, 78))]
    if limits := thresholds_of(rule):
        lines += ["", "Thresholds"]
        for name, value, unit, about in limits:
            lines += [f"  {line}" for line in wrapped(f"{name} = {value:g} {unit}: {about}", 78)]
    if words := earned_words(rule):
        lines += ["", EARNED, *(f"  {line}" for line in wrapped(words, 78))]
    return lines


def earned_words(rule: Rule[Any]) -> str:
    """How a rule on runs did in the fault benchmark; empty for rules on data."""
    from espalier.diagnose.earned import read_earned

    found = read_earned().get(rule.name)
    return "" if found is None else found.words
