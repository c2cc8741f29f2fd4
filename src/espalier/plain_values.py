"""Frozen records as JSON knows them, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints


def to_plain(value: Any) -> Any:
    """Signs or facts as JSON knows them: numbers that are not finite become words or null.

    NaN means "not measured" and becomes null; infinities become ``"inf"`` and ``"-inf"``.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


Signs = TypeVar("Signs")


def from_plain(kind: type[Signs], values: Mapping[str, Any]) -> Signs:
    """Signs or facts as ``to_plain`` gave them; unknown keys and nulls are passed over.

    Raises:
        TypeError: A field without a default is missing.
        ValueError: A value is of the wrong kind.
    """
    hints = _hints(cast(type, kind))
    found = {
        name: _revived(hints[name], value)
        for name, value in values.items()
        if name in hints and value is not None
    }
    return kind(**found)


# Read from the source text of the annotations each time it is asked, which takes most of the time
# that a long record takes.
@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {f.name: hints[f.name] for f in fields(kind)}


def _revived(hint: Any, value: Any) -> Any:
    """A plain value as the type that a field wants; of a union, its first part that is not None."""
    if get_origin(hint) in (Union, UnionType):
        hint = next(part for part in get_args(hint) if part is not NoneType)
    origin, inner = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        return from_plain(cast(type, hint), value)
    if hint is float:
        return math.nan if value is None else float(value)
    if origin is tuple:
        kinds = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        return tuple(_revived(kind, part) for kind, part in zip(kinds, value, strict=True))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {key: _revived(inner[1], part) for key, part in value.items()}
    return value
