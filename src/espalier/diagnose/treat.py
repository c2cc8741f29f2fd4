"""What a diagnosis prescribes, as changes of one recipe: what is further up the causes wins."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from espalier.diagnose.doctor import alarms
from espalier.findings import Edit, Finding, Report
from espalier.recipe.keys import field_schema
from espalier.recipe.merge import GENERAL
from espalier.recipe.schema import Recipe

Value = Any
Tried = Collection[tuple[str, str]]
"""Changes that were made before and did not help: key and ``Change.shown``."""

# Scores are compared on the same images: whatever decides which those are has to stay.
_KEEPS_IMAGES = frozenset(
    f"data.{key}"
    for key in ("source", "root", "classes", "val_share", "test_share", "group_by", "split_from")
)
_GENERAL_OF = {own: general for general, own in GENERAL.items()}


@dataclass(frozen=True)
class Change:
    """One value of the recipe, before and after.

    Attributes:
        key: Dotted key; a stage by its name.
        before: As JSON knows it; for a stage that has none of its own, the value that holds there.
        after: As JSON knows it.
        because: Why, in a few words.
        safe: Whether it may be made without asking.
        rule: Of the finding that prescribes it.
    """

    key: str
    before: Value
    after: Value
    because: str
    safe: bool
    rule: str

    @property
    def shown(self) -> str:
        """The new value as it is typed behind ``--set key=``."""
        return self.after if isinstance(self.after, str) else json.dumps(self.after)

    @property
    def word(self) -> str:
        """``key=value``, as behind ``--set``."""
        return f"{self.key}={self.shown}"

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {"key": self.key, "before": self.before, "after": self.after,
                "because": self.because, "safe": self.safe, "rule": self.rule}  # fmt: skip


@dataclass(frozen=True)
class LeftOut:
    """A prescribed edit that is not made, and why."""

    key: str
    rule: str
    reason: str


@dataclass(frozen=True)
class Treatment:
    """What to change in a recipe, and what no recipe can change.

    Attributes:
        changes: One per key, those of the cause furthest up first.
        left_out: Edits that are prescribed and not made.
        by_hand: Warnings and errors that no change of the recipe mends: causes, in their order.
        blocked: The first of these, where it is an error and everything behind it would be trained
            in vain; there are no changes then.
    """

    changes: tuple[Change, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    by_hand: tuple[Finding, ...] = ()
    blocked: Finding | None = None

    @property
    def safe(self) -> tuple[Change, ...]:
        """What may be changed without asking."""
        return tuple(change for change in self.changes if change.safe)

    @property
    def unsafe(self) -> tuple[Change, ...]:
        """What a person must want."""
        return tuple(change for change in self.changes if not change.safe)


class CannotChange(Exception):
    """An edit changes nothing, or must not; the message says why."""


def prescribe(recipe: Recipe, report: Report, tried: Tried = ()) -> Treatment:
    """What the warnings and errors of a report prescribe for a recipe.

    Only causes count: what follows from one goes with it. Of two edits for one key that of the
    cause further up is made. What is worth knowing and no more changes nothing.

    Args:
        recipe: Of the run that was diagnosed.
        report: What was found in it, causes first.
        tried: Changes that are not to be made again.
    """
    taken: dict[str, Change] = {}
    left_out: list[LeftOut] = []
    by_hand: list[Finding] = []
    values = recipe.model_dump(mode="json")
    for finding in causes(report):
        if not finding.prescription:
            by_hand.append(finding)
            if finding.severity == "error" and not taken:
                return Treatment((), tuple(left_out), tuple(by_hand), finding)
        for edit in finding.prescription:
            try:
                change = change_of(values, edit, finding.rule)
                _check(change, taken, tried)
            except CannotChange as reason:
                left_out.append(LeftOut(edit.key, finding.rule, str(reason)))
            else:
                taken.setdefault(change.key, change)
    changes = tuple(taken.values())
    return Treatment(changes + lower_floor(values, changes), tuple(left_out), tuple(by_hand))


def lower_floor(values: Mapping[str, Any], changes: Sequence[Change]) -> tuple[Change, ...]:
    """What must change with rates that come to lie below the schedule's last rate, if any do."""
    rates = [
        (float(change.after), change.rule)
        for change in changes
        if change.key.rpartition(".")[2] in ("lr", "backbone_lr") and _is_number(change.after)
    ]
    floor = values["schedule"]["min_lr"]
    if not rates or min(rates)[0] > floor:
        return ()
    lowest, rule = min(rates)
    below = float(f"{lowest / 100:.3g}")
    return (Change("schedule.min_lr", floor, below, "must lie below the rates", True, rule),)


def causes(report: Report) -> list[Finding]:
    """Warnings and errors that follow from no other finding, in the order of the report."""
    named = {rule for finding in report.findings for rule in finding.consequences}
    return [finding for finding in alarms(report.findings) if finding.rule not in named]


def change_of(values: Mapping[str, Any], edit: Edit, rule: str) -> Change:
    """An edit as the change of one value.

    Args:
        values: The recipe as plain values.
        edit: What is prescribed.
        rule: By which rule.
    """
    if edit.key in _KEEPS_IMAGES:
        raise CannotChange("scores are compared on the same images, which this would change")
    schema = field_schema(edit.key)
    if schema is None:
        raise CannotChange("recipes have no such value")
    before = value_at(values, edit.key)
    after = edit.value
    if edit.action == "unset":
        after = schema.get("default")
    elif edit.action == "multiply":
        after = _product(before, edit.value)
    if after == before and isinstance(after, bool) == isinstance(before, bool):
        raise CannotChange("it is so already")
    return Change(edit.key, before, after, edit.because, edit.safe, rule)


def value_at(values: Mapping[str, Any], key: str) -> Value:
    """The value that holds at a key; for a stage without one of its own, that of all stages."""
    parts = key.split(".")
    if parts[0] != "stages":
        return _inner(values, parts)
    stages = {stage["name"]: stage for stage in values["stages"]}
    if parts[1] not in stages:
        raise CannotChange(f"there is no stage {parts[1]}")
    stage, name = stages[parts[1]], parts[2]
    if stage.get(name) is None and name == "backbone_lr":
        return stage["lr"]
    if stage.get(name) is None and name in _GENERAL_OF:
        return _inner(values, _GENERAL_OF[name].split("."))
    return stage.get(name)


def _inner(values: Any, parts: Sequence[str]) -> Value:
    for part in parts:
        values = values.get(part) if isinstance(values, Mapping) else None
    return values


def _product(before: Value, factor: Value) -> int | float:
    if not _is_number(before) or not _is_number(factor):
        raise CannotChange(f"{before} cannot be multiplied by {factor}")
    product = float(before * factor)
    return max(1, round(product)) if isinstance(before, int) else float(f"{product:.3g}")


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check(change: Change, taken: Mapping[str, Change], tried: Tried) -> None:
    if (change.key, change.shown) in tried:
        raise CannotChange(f"{change.shown} was tried, and did not help")
    earlier = taken.get(change.key)
    if earlier is not None and earlier.shown != change.shown:
        rule = earlier.rule.replace("_", " ")
        raise CannotChange(f"{rule}, further up, sets it to {earlier.shown}")
