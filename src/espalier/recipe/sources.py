"""Turns what a person wrote (a file, ``--set``, flags, ``key=value`` words) into layers.

Aliases are translated here, and only here; the origin of a value keeps how it was spelled.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, cast

from espalier.errors import RecipeError
from espalier.recipe.documents import parse_value, short
from espalier.recipe.keys import (
    DAILY,
    TOTALS,
    choices,
    field_schema,
    sections,
    takes_only_text,
    takes_true_or_false,
    unknown_key,
)
from espalier.recipe.merge import Layer
from espalier.recipe.spelling import KEYS, SECTIONS, STAGE_KEYS, VALUES, WHOLE, plain, snake
from espalier.recipe.switches import SWITCHES, Meaning

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|)")
_YES_NO = {"yes": True, "on": True, "no": False, "off": False}
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float:
    """Seconds in ``90``, ``90s``, ``20m`` or ``1.5h``.

    Raises:
        RecipeError: Anything else, or no time at all.
    """
    found = _DURATION.fullmatch(text.strip().lower())
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if seconds <= 0:
        raise RecipeError(
            f"'{text}' is no duration; allowed: seconds, or a number with s, m or h above 0",
            hint="time=20m",
        )
    return seconds


def from_tree(tree: Mapping[str, Any], origin: str) -> Layer:
    """A layer of the sections of a file or preset; ``origin``: ``file NAME``, ``preset NAME``."""
    layer = Layer()
    for name, content in tree.items():
        section = SECTIONS.get(snake(name), snake(name))
        if name.startswith("_") or section in ("preset", "why"):
            continue
        if section in sections():
            _take_whole_section(layer, section, name, content, origin)
        else:
            _take_top(layer, name, content, origin)
    return layer


def from_command_line(
    sets: Sequence[str], flags: Mapping[str, object], words: Sequence[str]
) -> Layer:
    """One layer of everything typed; contradictions in it name both sides."""
    layer = Layer()
    for name, value in flags.items():
        if value is not None:
            shown = f"--{name.replace('_', '-')} {value}"
            _assign(layer, name, value, "command line" if name == "source" else shown)
    for text in sets:
        _take_assignment(layer, text, f"--set {text}")
    for text in words:
        _take_assignment(layer, text, text)
    return layer


def _take_assignment(layer: Layer, text: str, origin: str) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key.strip() or not value.strip():
        layer.problems.append(f"'{text}' is not key=value, as in training.batch=16 or epochs=10")
        return
    _assign(layer, key.strip(), value.strip(), origin)


def _assign(layer: Layer, typed: str, value: object, origin: str) -> None:
    """Take in one value of the command line; text is read as YAML where the key allows more."""
    section = SECTIONS.get(snake(typed), snake(typed))
    if section in sections() and isinstance(value, str) and value.startswith(("{", "[")):
        value = parse_value(value)
    if section in sections() and isinstance(value, (dict, list)):
        _take_whole_section(layer, section, typed, value, origin)
        return
    key = _typed_key(typed)
    if field_schema(key) is None and key not in TOTALS:
        layer.problems.append(unknown_key(typed))
        return
    if isinstance(value, str) and (not takes_only_text(key) or value in ("null", "~")):
        value = parse_value(value)
    _put(layer, key, value, origin)


def _take_whole_section(
    layer: Layer, section: str, typed: str, content: object, origin: str
) -> None:
    if section == "stages":
        _take_stages(layer, content, origin)
    else:
        _take_section(layer, section, typed, content, origin)


def _typed_key(typed: str) -> str:
    if snake(typed) in DAILY:
        return DAILY[snake(typed)]
    section, dot, rest = typed.partition(".")
    section = SECTIONS.get(snake(section), snake(section))
    if not dot:
        return KEYS["training"].get(snake(typed), section)
    if section == "stages":
        stage, _, key = rest.partition(".")
        return f"stages.{stage}.{STAGE_KEYS.get(key, key)}"
    return KEYS.get(section, {}).get(rest, f"{section}.{rest}")


def _take_top(layer: Layer, name: str, content: object, origin: str) -> None:
    """A value outside of any section: one of the daily words, or a spelling of one."""
    word = snake(name)
    places = (DAILY, KEYS["training"], KEYS["logging"], KEYS["data"], KEYS["model"])
    key = next((place[word] for place in places if word in place), None)
    if key is None or isinstance(content, dict):
        layer.problems.append(unknown_key(name, also=SECTIONS))
        return
    _put(layer, key, content, _spelled(origin, name, key))


def _take_section(layer: Layer, section: str, name: str, content: object, origin: str) -> None:
    if not isinstance(content, dict):
        _take_whole(layer, section, name, content, origin)
        return
    for spelled, value in content.items():
        key = snake(str(spelled))
        path = f"{name}.{spelled}"
        if str(spelled).startswith("_"):
            continue
        switch = SWITCHES.get((section, key))
        if switch is not None:
            _take_meaning(layer, switch(value, content), path, value, origin)
            continue
        ours = KEYS.get(section, {}).get(key, f"{section}.{key}")
        if field_schema(f"{section}.{key}") is not None:
            ours = f"{section}.{key}"
        if field_schema(ours) is None and ours not in TOTALS:
            layer.problems.append(unknown_key(path if ours == path else ours))
        else:
            _put(layer, ours, value, _spelled(origin, path, ours))


def _take_whole(layer: Layer, section: str, name: str, content: object, origin: str) -> None:
    """A section given as one value, as in ``optimizer: adamw`` or ``early_stopping: false``."""
    switch = SWITCHES.get((section, "enabled"))
    if isinstance(content, bool) and switch is not None:
        _take_meaning(layer, switch(content, {}), name, content, origin)
    elif section in WHOLE and content is not None:
        _put(layer, WHOLE[section], content, _spelled(origin, name, WHOLE[section]))
    else:
        layer.problems.append(f"{name} is {short(content)} ({origin}); allowed: a mapping of keys")


def _take_meaning(
    layer: Layer, meaning: Meaning | str, path: str, value: object, origin: str
) -> None:
    if isinstance(meaning, str):
        layer.problems.append(f"{path} is {short(value)} ({origin}): {meaning}")
        return
    for key, ours in meaning.items():
        _put(layer, key, ours, f"{origin} ({path}: {short(value)})")


def _take_stages(layer: Layer, content: object, origin: str) -> None:
    """Stages as a list (all of them), or as a mapping of stage name to changes."""
    if isinstance(content, list):
        layer.replaces_stages = True
        pairs: Iterable[tuple[str, Any]] = (
            (_stage_name(stage, index), stage) for index, stage in enumerate(content)
        )
        if not content:
            layer.problems.append(f"stages is empty ({origin}); allowed: at least one stage")
    elif isinstance(content, dict):
        pairs = ((str(name), stage) for name, stage in content.items())
    else:
        layer.problems.append(f"stages is {short(content)} ({origin}); allowed: a list of mappings")
        return
    for name, stage in pairs:
        _take_stage(layer, name, stage, origin)


def _stage_name(stage: object, index: int) -> str:
    name = stage.get("name") if isinstance(stage, dict) else None
    return name if isinstance(name, str) and name and "." not in name else str(index)


def _take_stage(layer: Layer, name: str, stage: object, origin: str) -> None:
    if not isinstance(stage, dict):
        layer.problems.append(f"stages.{name} is {short(stage)} ({origin}); allowed: a mapping")
        return
    if layer.replaces_stages and any(k.startswith(f"stages.{name}.") for k in layer.settings):
        layer.problems.append(f"stages: two are named {name} ({origin}); names must differ")
        return
    for spelled, value in stage.items():
        key = STAGE_KEYS.get(snake(str(spelled)), snake(str(spelled)))
        ours = f"stages.{name}.{key}"
        if field_schema(ours) is None:
            layer.problems.append(unknown_key(ours))
        else:
            _put(layer, ours, value, _spelled(origin, f"stages.{name}.{spelled}", ours))


def _put(layer: Layer, key: str, value: object, origin: str) -> None:
    """Take in a value under its own key, its spelling translated."""
    if isinstance(value, dict) and key.startswith("augment.steps"):
        for name, inner in value.items():
            _put(layer, f"{key}.{name}", inner, origin)
        if not value:
            layer.put(key, value, origin)
        return
    try:
        ours = _translated(key, value)
    except RecipeError as error:
        layer.problems.append(f"{key}: {error.message} ({origin})")
        return
    if origin.startswith("file ") and ours != value and isinstance(ours, str):
        origin = (
            f"{origin.removesuffix(')')}: {value})"
            if origin.endswith(")")
            else (f"{origin} ({value})")
        )
    layer.put(key, ours, origin)


def _translated(key: str, value: object) -> object:
    if key == "training.time_limit" and isinstance(value, str):
        return parse_duration(value)
    if key == "training.imgsz" and isinstance(value, list):
        return _square(value)
    if isinstance(value, bool) and key in ("augment.policy", "model.weights"):
        names = {"augment.policy": ("none", "standard"), "model.weights": ("none", "pretrained")}
        return names[key][value]
    if isinstance(value, PurePath):
        return str(value)
    if not isinstance(value, str):
        return _tuple_free(value)
    if takes_true_or_false(key) and value.lower() in _YES_NO:
        return _YES_NO[value.lower()]
    if value.lower() == "none" and not takes_only_text(key) and "none" not in choices(key):
        return None
    table = VALUES.get(key, {}) | {plain(word): word for word in choices(key)}
    return table.get(plain(value), value) if plain(value) else value


def _square(sides: list[Any]) -> object:
    """``[224, 224]`` and ``[3, 224, 224]`` as 224; anything else unchanged."""
    if len(sides) in (2, 3) and sides[-1] == sides[-2]:
        return sides[-1]
    return sides


def _tuple_free(value: object) -> object:
    return list(cast("tuple[object, ...]", value)) if isinstance(value, tuple) else value


def _spelled(origin: str, path: str, key: str) -> str:
    return origin if path == key or origin.startswith("preset ") else f"{origin} ({path})"
