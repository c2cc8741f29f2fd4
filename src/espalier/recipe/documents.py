"""Reads and writes the text of a recipe: YAML and JSON, without YAML's surprises.

``1e-3`` is a number (PyYAML alone takes it for text), a key given twice is an error, and what is
written is read back as exactly the same values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from espalier.errors import RecipeError

_FLOAT = re.compile(
    r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?$"
)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with numbers like ``1e-3`` and without silent duplicates."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                line = key_node.start_mark.line + 1
                raise RecipeError(
                    f"{key_node.value} is given twice, the second time in line {line}",
                    hint="keep one of the two",
                )
            if isinstance(key_node.value, str):
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, agreeing with ``_Loader`` on what is a number."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


# Classes are called "no", and runs 2024-01-01: both are text. The dumper still quotes them, for
# whoever reads the file with another loader.
_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool",
    re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"),
    list("tTfF"),
)
for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def _represent_list(dumper: _Dumper, values: list[Any]) -> yaml.Node:
    flat = not any(isinstance(value, (list, dict)) for value in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=flat)


_Dumper.add_representer(list, _represent_list)


def parse_value(text: str) -> object:
    """One YAML value, as typed after ``key=``; text that is no YAML stays text."""
    try:
        value: object = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        return text
    return value


def parse_document(text: str, name: str, *, is_json: bool) -> dict[str, Any]:
    """The mapping that a YAML or JSON text holds; ``name`` is for messages.

    Raises:
        RecipeError: Bad syntax (with line and column), a key given twice, or no mapping.
    """
    try:
        tree = _parse_json(text) if is_json else yaml.load(text, Loader=_Loader)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise RecipeError(f"{name} is not JSON: {error.msg} ({where})") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{name} is not YAML: {' '.join(str(error).split())}") from error
    except RecipeError as error:
        raise RecipeError(f"{name}: {error.message}", hint=error.hint) from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise RecipeError(f"{name} holds {short(tree)}, must be a mapping of sections to values")
    return tree


def read_document(path: Path) -> dict[str, Any]:
    """The mapping in a ``.json`` file, or in a YAML file of any other name."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise RecipeError(
            f"no recipe file {path}", hint="espalier train --print-config > mine.yaml"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} cannot be read as text: {error}") from error
    return parse_document(text, path.name, is_json=path.suffix.lower() == ".json")


def to_yaml(tree: Mapping[str, Any]) -> str:
    """A mapping as YAML in its own order, lists of plain values on one line."""
    text: str = yaml.dump(
        dict(tree), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100
    )
    return text


def short(value: object) -> str:
    """A value as it would be typed, cut to a readable length."""
    text = json.dumps(value, ensure_ascii=False, default=str).strip('"')
    return text if len(text) <= 60 else text[:57] + "..."


def _parse_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_without_duplicates)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        names = [key for key, _ in pairs]
        twice = sorted({key for key in names if names.count(key) > 1})
        raise RecipeError(f"given twice: {', '.join(twice)}", hint="keep one of the two")
    return tree
