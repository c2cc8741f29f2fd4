"""Settings files of other tools as facts: what a tool says it was told, and nothing guessed."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from espalier.diagnose.readers.tables import plain_number
from espalier.run_record import RunFacts, StageFacts

# Fact -> keys that other tools have for it, the first that is there holds.
NAMES: dict[str, tuple[str, ...]] = {
    "label_smoothing": ("label_smoothing", "smoothing", "label_smoothing_factor"),
    "mixup": ("mixup", "mixup_alpha"),
    "cutmix": ("cutmix", "cutmix_alpha"),
    "dropout": ("dropout", "drop", "drop_rate", "dropout_rate"),
    "optimizer": ("optimizer", "opt", "optim", "optimizer_name"),
    "momentum": ("momentum",),
    "weight_decay": ("weight_decay", "wd"),
    "batch": ("batch", "batch_size", "train_batch_size", "per_device_train_batch_size"),
    "accumulate": ("accumulate", "grad_accum_steps", "gradient_accumulation_steps"),
    "clip_norm": ("clip_norm", "clip_grad", "max_grad_norm", "gradient_clip_val"),
    "epochs": ("epochs", "max_epochs", "num_epochs", "num_train_epochs"),
    "imgsz": ("imgsz", "img_size", "image_size"),
    "head_classes": ("num_classes", "n_classes"),
    "pretrained": ("pretrained",),
    "seed": ("seed", "random_seed"),
    "eps": ("opt_eps", "adam_epsilon"),
    "betas": ("betas", "opt_betas"),
}
RATES = ("lr0", "lr", "learning_rate", "base_lr", "max_lr")
WARMUPS = ("warmup_epochs",)
SCHEDULES = ("sched", "schedule", "scheduler", "lr_scheduler_type", "lr_scheduler")
COUNTS = {"batch", "accumulate", "epochs", "imgsz", "head_classes"}


class _Lenient(yaml.SafeLoader):
    """Reads what safe YAML is; tags that would make objects of a program become None."""


_Lenient.add_multi_constructor("", lambda loader, suffix, node: None)


def read_settings(path: Path) -> dict[str, Any]:
    """A YAML file as a mapping; empty where there is none that can be read."""
    with contextlib.suppress(OSError, UnicodeDecodeError, yaml.YAMLError):
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Lenient)
        if isinstance(content, dict):
            return {str(key): value for key, value in content.items()}
    return {}


def facts_of(settings: Mapping[str, Any]) -> RunFacts:
    """Facts that settings state under their usual names; what is absent stays unknown."""
    found: dict[str, Any] = {}
    for fact, names in NAMES.items():
        value = next((settings[name] for name in names if settings.get(name) is not None), None)
        value = _as_fact(fact, value)
        if value is not None:
            found[fact] = value
    if found.get("optimizer") in ("adam", "adamw"):
        found["decoupled_decay"] = found["optimizer"] == "adamw"
        found.pop("momentum", None)
    facts = RunFacts(**found)
    return replace(facts, stages=_stages(settings, facts.epochs))


def _as_fact(fact: str, value: Any) -> Any:
    if fact == "pretrained":
        return value if isinstance(value, bool) else None
    if fact == "optimizer":
        return optimizer_named(value)
    if fact == "betas":
        pair = tuple(map(plain_number, value)) if isinstance(value, list | tuple) else ()
        return pair if len(pair) == 2 and all(map(math.isfinite, pair)) else None
    if fact in COUNTS:
        return whole(value)
    found = plain_number(value)
    if not math.isfinite(found) or isinstance(value, bool):
        return None
    return int(found) if fact == "seed" else found


def whole(value: Any) -> int | None:
    """A count of at least 1; None of anything else: -1 and fractions mean "find it yourself"."""
    found = plain_number(value)
    good = math.isfinite(found) and found >= 1 and not isinstance(value, bool)
    return int(found) if good else None


def optimizer_named(value: Any) -> str | None:
    """``adamw``, ``adam`` or ``sgd`` by any spelling; others in lower case, ``auto`` is None."""
    word = re.sub(r"[^a-z]", "", str(value or "").lower())
    if word in ("", "auto", "none"):
        return None
    return next((name for name in ("adamw", "adam", "sgd") if word.startswith(name)), word)


def _stages(settings: Mapping[str, Any], epochs: int | None) -> tuple[StageFacts, ...]:
    def first(names: tuple[str, ...], of: Callable[[Any], Any]) -> Any:
        return next((of(settings[name]) for name in names if settings.get(name) is not None), None)

    rate = first(RATES, plain_number)
    if rate is None or rate != rate:
        return ()
    schedule = first(SCHEDULES, str)
    warmup = first(WARMUPS, plain_number)
    return (StageFacts("training", epochs, rate, schedule=schedule, warmup_epochs=warmup),)
