"""What was measured of a model on this machine, kept for a month: one small JSON file per model."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import torch

from espalier.cache import cache_folder
from espalier.errors import DiskError
from espalier.files import write_text
from espalier.recipe.precision import WAYS, EngineSpeeds, Measured
from espalier.recipe.schema import Recipe
from espalier.train.devices import cpu_name, usable_cores

FORMAT = 1
MOST_AGE = timedelta(days=30)
# A clock that was set back by hand, not one of another time zone: times are in UTC.
_MOST_AHEAD = timedelta(hours=1)
_PRECISIONS = ("fp32", "bf16")
_DAMAGE = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)


def plan_key(recipe: Recipe, batch: int) -> dict[str, str | int]:
    """All that the figures depend on.

    Args:
        recipe: Model and image size are decided.
        batch: Images of a measured step, at most.
    """
    return {
        "format": FORMAT,
        "cpu": cpu_name(),
        # Virtual machines give one name to processors of several generations.
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": usable_cores(),
        "torch": str(torch.__version__),
        "model": recipe.model.name,
        "imgsz": cast(int, recipe.training.imgsz),
        "batch": batch,
    }


def plan_file(key: Mapping[str, str | int]) -> Path:
    """Where the figures of a key are kept; the name begins with the model."""
    text = json.dumps(key, sort_keys=True)
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in str(key["model"]))
    return cache_folder("plans") / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def read_plan(key: Mapping[str, str | int]) -> Measured | None:
    """Figures younger than 30 days; None where there are none, or none that can be trusted."""
    try:
        found = _record(key)
        training = _figures(found["training"], WAYS)
        frozen = _figures(found["frozen"], _PRECISIONS)
    except _DAMAGE:
        return None
    return Measured(training, frozen, date=found["measured"][:10])


def write_plan(key: Mapping[str, str | int], measured: Measured) -> None:
    """Keep figures for the next run; without a place to write they are measured again."""
    _write(key, {"training": dict(measured.training), "frozen": dict(measured.frozen)})


def engine_key(recipe: Recipe, batch: int, version: str) -> dict[str, str | int]:
    """All that the speed of frozen layers depends on, in the ordinary way and with OpenVINO.

    Args:
        recipe: As for ``plan_key``; and how frozen layers compute is decided.
        batch: Images of a measured look.
        version: Of OpenVINO.
    """
    return {
        **plan_key(recipe, batch),
        "openvino": version,
        "precision": recipe.features.precision,
        "channels_last": cast(bool, recipe.training.channels_last),
    }


def read_engine(key: Mapping[str, str | int]) -> EngineSpeeds | None:
    """As ``read_plan``, of ``engine_key``."""
    try:
        return EngineSpeeds(**_figures(_record(key)["engine"], EngineSpeeds._fields))
    except _DAMAGE:
        return None


def write_engine(key: Mapping[str, str | int], speeds: EngineSpeeds) -> None:
    """As ``write_plan``, of ``engine_key``."""
    _write(key, {"engine": speeds._asdict()})


def _record(key: Mapping[str, str | int]) -> dict[str, Any]:
    """What is kept of a key.

    Raises:
        OSError: Nothing.
        ValueError: It is too old, or of something else; others of ``_DAMAGE``: it is none of ours.
    """
    found: dict[str, Any] = json.loads(plan_file(key).read_text(encoding="utf-8"))
    age = datetime.now(UTC) - datetime.fromisoformat(found["measured"])
    if found["key"] != key or not -_MOST_AHEAD <= age < MOST_AGE:
        raise ValueError(f"of {found['measured']}, for {found['key']}")
    return found


def _write(key: Mapping[str, str | int], figures: Mapping[str, Any]) -> None:
    measured = datetime.now(UTC).isoformat(timespec="seconds")
    record = {"key": key, "measured": measured, **figures}
    with contextlib.suppress(DiskError):
        write_text(plan_file(key), json.dumps(record, indent=1) + "\n")


def _figures(found: Any, names: Collection[str]) -> dict[str, float]:
    """Seconds per image in the order of ``names``.

    Raises:
        ValueError: One is unknown or no positive number, or there are none.
    """
    figures = {str(name): float(value) for name, value in found.items()}
    is_sound = all(math.isfinite(value) and value > 0 for value in figures.values())
    if not figures or not is_sound or not figures.keys() <= set(names):
        raise ValueError(f"no figures: {figures}")
    return {name: figures[name] for name in names if name in figures}
