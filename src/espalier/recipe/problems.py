"""What is wrong with the values of a recipe, in plain sentences: key, value, what is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from espalier.recipe.documents import short
from espalier.recipe.keys import allowed, choices, nearest, unknown_key

_STAGES = "stages"


def key_of(loc: tuple[int | str, ...], tree: Mapping[str, Any]) -> str:
    """The dotted key that a place in a validation error belongs to, stages by name."""
    if not loc:
        return ""
    if loc[0] == _STAGES and len(loc) > 1:
        return ".".join([_STAGES, stage_label(tree, loc[1]), *(str(part) for part in loc[2:3])])
    depth = 4 if loc[:2] == ("augment", "steps") else 2
    return ".".join(str(part) for part in loc[:depth])


def stage_label(tree: Mapping[str, Any], index: int | str) -> str:
    """The name of the stage at an index; the index itself where it has none."""
    stages = tree.get(_STAGES)
    if isinstance(stages, (list, tuple)) and isinstance(index, int) and index < len(stages):
        stage = stages[index]
        if isinstance(stage, dict) and isinstance(stage.get("name"), str):
            return str(stage["name"])
    return str(index)


def sentences(
    error: ValidationError, tree: Mapping[str, Any], origins: Mapping[str, str]
) -> dict[str, str]:
    """One sentence per key that is wrong; a union that failed in several ways is one key."""
    found: dict[str, str] = {}
    for item in error.errors(include_url=False, include_context=False):
        key = key_of(item["loc"], tree)
        found.setdefault(key, _sentence(key, item["type"], item["msg"], item["loc"], tree, origins))
    return found


def _sentence(
    key: str,
    kind: str,
    message: str,
    loc: tuple[int | str, ...],
    tree: Mapping[str, Any],
    origins: Mapping[str, str],
) -> str:
    if kind == "extra_forbidden":
        return unknown_key(key)
    if kind == "missing":
        return f"{key} is missing; allowed: {allowed(key)}"
    if not key or kind == "value_error":
        return message.removeprefix("Value error, ")
    return wrong_value(key, _at(tree, loc, len(key.split("."))), origins.get(key, ""))


def wrong_value(key: str, value: object, origin: str) -> str:
    """``training.batch is 0 (--batch 0); allowed: a whole number of at least 1, or auto``."""
    near = nearest(value, choices(key)) if isinstance(value, str) else None
    where = f" ({origin})" if origin else ""
    text = f"{key} is {short(value)}{where}; allowed: {allowed(key) or 'a mapping of keys'}"
    return f"{text}; did you mean {near}?" if near else text


def _at(tree: Any, loc: tuple[int | str, ...], depth: int) -> object:
    for part in loc[:depth]:
        try:
            tree = tree[part]
        except (KeyError, IndexError, TypeError):
            return tree
    return tree
