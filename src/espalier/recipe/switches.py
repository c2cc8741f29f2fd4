"""Keys of other tools that mean more than a change of name: ``enabled``, ``mode``, ``pretrained``.

Each gives the values it stands for, or a sentence that says why it cannot hold here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

from espalier.recipe.schema import EarlyStopping
from espalier.recipe.spelling import VALUES, plain, snake

Meaning = dict[str, object]
Switch = Callable[[object, Mapping[str, Any]], "Meaning | str"]

_TRUE_OR_FALSE = "allowed: true or false"
_HIGHER_IS_BETTER = ("macro_f1", "accuracy")


def _enabled(on: Meaning, off: Meaning, *, named: str, harmless: tuple[str, ...] = ()) -> Switch:
    """``enabled: true`` means ``on`` unless ``named`` is given; false leaves no room for others."""

    def switch(value: object, section: Mapping[str, Any]) -> Meaning | str:
        if not isinstance(value, bool):
            return _TRUE_OR_FALSE
        keys = [str(key) for key in section if not str(key).startswith("_")]
        others = [key for key in keys if snake(key) not in ("enabled", *harmless)]
        if not value and others:
            return f"then {', '.join(others)} cannot hold; remove the one or the other"
        if value:
            return {} if any(_means(key, named) for key in others) else on
        return off

    return switch


def _means(key: str, named: str) -> bool:
    return (
        snake(key)
        in {
            "patience": ("patience",),
            "strategy": ("strategy", "method", "mode", "name", "type"),
            "policy": ("policy", "name", "type", "level", "strength"),
        }[named]
    )


def _pretrained(value: object, section: Mapping[str, Any]) -> Meaning | str:
    if value is True and "weights" in section:
        return {}
    if isinstance(value, bool):
        return {"model.weights": "pretrained" if value else "none"}
    if isinstance(value, str):
        return {"model.weights": value}
    return "allowed: true, false, or a weights file"


def _only_best(value: object, section: Mapping[str, Any]) -> Meaning | str:
    if not isinstance(value, bool):
        return _TRUE_OR_FALSE
    best: Meaning = {"checkpointing.save_best": True}
    return best if "save_last" in section else {**best, "checkpointing.save_last": not value}


def _mode(default: str) -> Switch:
    """``mode: max`` holds when the monitored figure is better when higher."""

    def switch(value: object, section: Mapping[str, Any]) -> Meaning | str:
        monitor = str(section.get("monitor", section.get("metric", default)))
        ours = VALUES["early_stopping.monitor"].get(plain(monitor), monitor)
        wanted = "max" if ours in _HIGHER_IS_BETTER else "min"
        return {} if value in (wanted, "auto") else f"{monitor} is better {wanted}; remove mode"

    return switch


def _always(truth: str) -> Switch:
    def switch(value: object, section: Mapping[str, Any]) -> Meaning | str:
        return {} if value is True else f"{truth}; remove the key"

    return switch


def _amp(value: object, section: Mapping[str, Any]) -> Meaning | str:
    if isinstance(value, bool):
        return {"training.precision": "auto" if value else "fp32"}
    return {"training.precision": value}


def _train_share(value: object, section: Mapping[str, Any]) -> Meaning | str:
    """What is left for training must be what validation and test leave."""
    spellings = ("share", "split", "ratio", "size")
    found = {
        part: section[f"{part}_{word}"]
        for part in ("val", "test")
        for word in spellings
        if f"{part}_{word}" in section
    }
    try:
        rest = 1 - float(found.get("val", 0.1)) - float(found.get("test", 0.1))
        fits = abs(float(str(value)) - rest) < 1e-6
    except (TypeError, ValueError):
        return "allowed: a number below 1"
    return {} if fits else f"validation and test leave {rest:.3g}; give their shares alone"


def _folders(value: object, section: Mapping[str, Any]) -> Meaning | str:
    """``train_dir``, ``val_dir``, ``test_dir``: parts of one folder are that folder."""
    given = {part: section.get(f"{part}_dir") for part in ("train", "val", "test")}
    paths = {part: PurePosixPath(str(path)) for part, path in given.items() if path}
    names = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
    if len({path.parent for path in paths.values()}) == 1 and all(
        path.name in names[part] for part, path in paths.items()
    ):
        return {"data.source": str(next(iter(paths.values())).parent)}
    return "parts must lie in one folder as train, val and test; name that folder as data.source"


SWITCHES: dict[tuple[str, str], Switch] = {
    ("augment", "enabled"): _enabled(
        {"augment.policy": "standard"}, {"augment.policy": "none"}, named="policy"
    ),
    ("checkpointing", "mode"): _mode("macro_f1"),
    ("checkpointing", "save_best_only"): _only_best,
    ("class_weighting", "enabled"): _enabled(
        {"class_weighting.strategy": "inverse"},
        {"class_weighting.strategy": "none"},
        named="strategy",
    ),
    ("data", "shuffle"): _always("training images are shuffled in every epoch"),
    ("data", "train_dir"): _folders,
    ("data", "val_dir"): _folders,
    ("data", "test_dir"): _folders,
    **{("data", f"train_{word}"): _train_share for word in ("share", "split", "ratio", "size")},
    ("early_stopping", "enabled"): _enabled(
        {"early_stopping.patience": EarlyStopping().patience},
        {"early_stopping.patience": None},
        named="patience",
    ),
    ("early_stopping", "mode"): _mode("macro_f1"),
    ("early_stopping", "restore_best_weights"): _always("the best weights are what a run keeps"),
    ("model", "pretrained"): _pretrained,
    **{("training", word): _amp for word in ("amp", "use_amp", "mixed_precision")},
}
"""(section, key as spelled) -> what it means."""
