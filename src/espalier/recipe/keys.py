"""The keys of a recipe as people type them, and what each of them allows, in words.

Everything here is derived from the schema, so that messages, ``--set`` and the reference in
``docs/guide/recipes.md`` cannot disagree with it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from espalier.recipe.schema import Recipe

DAILY: dict[str, str] = {
    "epochs": "epochs",
    "lr": "lr",
    "batch": "training.batch",
    "imgsz": "training.imgsz",
    "model": "model.name",
    "weights": "model.weights",
    "device": "training.device",
    "precision": "training.precision",
    "seed": "training.seed",
    "name": "logging.name",
    "optimizer": "optimizer.name",
    "schedule": "schedule.name",
    "time": "training.time_limit",
    "workers": "data.workers",
    "accumulate": "training.accumulate",
    "max_batches": "training.max_batches",
    "patience": "early_stopping.patience",
    "fit": "data.fit",
    "policy": "augment.policy",
    "augment": "augment.policy",
    "out": "logging.out",
    "source": "data.source",
    "root": "data.root",
    "group_by": "data.group_by",
    "split_from": "data.split_from",
    "corrections": "data.corrections",
    "synthetic": "data.synthetic",
}
"""Short names, for flags and ``key=value`` words -> the key they set."""

TOTALS: dict[str, str] = {
    "epochs": "a whole number of at least 1, shared over the stages",
    "lr": "a number above 0, the largest peak rate of all stages",
}
"""Keys that no section holds: they set several stages at once -> what they allow."""


@cache
def _schema() -> dict[str, Any]:
    return Recipe.model_json_schema()


def _definition(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema that a ``$ref`` (or pydantic's wrapping of one) points at."""
    if "$ref" in node:
        found: Mapping[str, Any] = _schema()["$defs"][node["$ref"].rsplit("/", 1)[-1]]
        return found
    return node


@cache
def sections() -> dict[str, dict[str, Mapping[str, Any]]]:
    """Section -> key -> JSON schema; the keys of one stage stand under ``stages``."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, node in _schema()["properties"].items():
        target = _definition(node.get("items", node))
        if "properties" in target:
            found[name] = dict(target["properties"])
    return found


def field_schema(key: str) -> Mapping[str, Any] | None:
    """The JSON schema of a dotted key, stages by name or index; None when unknown."""
    parts = key.split(".")
    fields = sections().get(parts[0], {})
    if parts[0] == "stages":
        return fields.get(parts[2]) if len(parts) == 3 else None
    if parts[:2] == ["augment", "steps"]:
        return fields["steps"] if len(parts) <= 4 else None
    return fields.get(parts[1]) if len(parts) == 2 else None


def takes_only_text(key: str) -> bool:
    """Whether a key takes text (or null) and nothing else, so that ``name=7`` means "7"."""
    node = field_schema(key)
    if node is None:
        return False
    kinds = {_kind(option) for option in node.get("anyOf", [node])}
    return "string" in kinds and kinds <= {"string", "null"}


def takes_true_or_false(key: str) -> bool:
    """Whether a key takes true and false, among other things."""
    node = field_schema(key) or {}
    return any(_kind(option) == "boolean" for option in node.get("anyOf", [node]))


def choices(key: str) -> list[str]:
    """The words a key allows, where it allows a fixed few; else empty."""
    node = field_schema(key)
    options = [] if node is None else node.get("anyOf", [node])
    return [word for option in options for word in _words(option)]


def allowed(key: str) -> str:
    """What a key allows, as a phrase: ``a whole number of at least 1, or auto``."""
    if key in TOTALS:
        return TOTALS[key]
    node = field_schema(key)
    return "" if node is None else allowed_by(node)


def allowed_by(node: Mapping[str, Any]) -> str:
    """What a JSON schema allows, as a phrase."""
    phrases = [_phrase(option) for option in node.get("anyOf", [node])]
    text = ", or ".join(phrases)
    if node.get("pattern") or any(option.get("pattern") for option in node.get("anyOf", [])):
        return f"{text} ({node.get('description', '')})"
    return text


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like this one; None when nothing is close."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def unknown_key(key: str, *, also: Iterable[str] = ()) -> str:
    """A sentence that names the unknown key and the nearest known one."""
    shown = key if len(key) <= 80 else key[:77] + "..."
    parts = key.split(".")
    if parts[0] in sections() and parts[0] != "stages" and len(parts) == 2:
        near = nearest(parts[1], sections()[parts[0]])
        if near:
            return f"unknown key {shown}: did you mean {parts[0]}.{near}?"
    if parts[0] == "stages" and len(parts) == 3:
        near = nearest(parts[2], sections()["stages"])
        if near:
            return f"unknown key {shown}: did you mean stages.{parts[1]}.{near}?"
    near = nearest(key, [*sections(), *_known_keys(), *DAILY, *also])
    if near:
        return f"unknown key {shown}: did you mean {near}?"
    if len(parts) > 1 and parts[0] in sections():
        return f"unknown key {shown}: {parts[0]} has {', '.join(sections()[parts[0]])}"
    return f"unknown key {shown}: the sections are {', '.join(sections())}"


def _known_keys() -> list[str]:
    return [f"{section}.{key}" for section, keys in sections().items() for key in keys]


def _kind(option: Mapping[str, Any]) -> str:
    if "const" in option or "enum" in option:
        return "choice"
    return str(option.get("type", ""))


def _words(option: Mapping[str, Any]) -> list[str]:
    if "const" in option:
        return [str(option["const"])]
    return [str(word) for word in option.get("enum", [])]


def _phrase(option: Mapping[str, Any]) -> str:
    words = _words(option)
    if len(words) > 1:
        return f"one of {', '.join(words)}"
    if words:
        return words[0]
    kind = _kind(option)
    if kind in ("integer", "number"):
        return ("a whole number" if kind == "integer" else "a number") + _bounds(option)
    if kind == "array":
        return _array_phrase(option)
    names = {"string": "text", "boolean": "true or false", "null": "null"}
    return names.get(kind, "a mapping")


def _bounds(option: Mapping[str, Any]) -> str:
    signs = {
        "minimum": "of at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    limits = [f"{sign} {option[name]:g}" for name, sign in signs.items() if name in option]
    return f" {' and '.join(limits)}" if limits else ""


def _array_phrase(option: Mapping[str, Any]) -> str:
    if "prefixItems" in option:
        return f"a list of {len(option['prefixItems'])} numbers"
    return "a list of " + ("text" if option["items"].get("type") == "string" else "mappings")
