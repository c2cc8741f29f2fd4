"""Lays the sources of a recipe over each other: preset, file, command line; later ones win.

Within one source nothing wins: two different values for one key are a contradiction, and an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from espalier.recipe.documents import short
from espalier.recipe.keys import unknown_key

AUTO = "auto "
PRESET = "preset "

GENERAL: dict[str, str] = {
    "training.imgsz": "imgsz",
    "schedule.name": "schedule",
    "schedule.warmup_epochs": "warmup_epochs",
    "early_stopping.patience": "patience",
}
"""Key for all stages -> the key of one stage that would stand in its way."""

FOLLOWS: dict[str, tuple[str, ...]] = {
    "training.device": (
        "model.name",
        "training.batch",
        "training.precision",
        "training.threads",
        "features.engine",
    ),
    "model.name": (
        "model.weights",
        "data.mean",
        "data.std",
        "training.imgsz",
        "training.batch",
        "training.precision",
        "training.threads",
        "features.engine",
    ),
    "training.imgsz": ("training.batch", "training.precision"),
    "training.precision": (
        "training.channels_last",
        "training.grouped_fp32",
        "features.precision",
    ),
    "data.source": ("data.classes", "data.num_classes", "training.batch"),
    "data.corrections": ("data.classes", "data.num_classes", "training.batch"),
    "data.synthetic": ("data.classes", "data.num_classes", "training.batch"),
}
"""Key -> keys that were chosen automatically because of it, and must be chosen again."""

OPEN: dict[str, object] = {
    "model.name": "auto",
    "model.weights": "pretrained",
    "training.batch": "auto",
    "training.imgsz": "auto",
    "training.precision": "auto",
    "training.channels_last": "auto",
    "training.grouped_fp32": "auto",
    "training.threads": "auto",
    "features.precision": "auto",
    "features.engine": "auto",
}
"""Key -> the value that means "choose"; None for all others."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A value and where it comes from."""

    value: object
    origin: str


@dataclass
class Layer:
    """One source of values: dotted keys, stages by name or index; ``epochs`` and ``lr`` as totals.

    Attributes:
        settings: Dotted key -> value with origin.
        replaces_stages: The source lists the stages itself, so that those below are gone.
        gentle: Where a value for all stages comes, stages keep what was not chosen automatically.
        problems: What was wrong with the source, one sentence each.
    """

    settings: dict[str, Setting] = field(default_factory=dict)
    replaces_stages: bool = False
    gentle: bool = False
    problems: list[str] = field(default_factory=list)

    def put(self, key: str, value: object, origin: str) -> None:
        """Take in a value; a different one for the same key is a problem."""
        old = self.settings.get(key)
        if old is not None and not same(old.value, value):
            self.problems.append(
                f"{key} is given twice: {short(old.value)} by {old.origin}, "
                f"{short(value)} by {origin}; keep one"
            )
            return
        self.settings.setdefault(key, Setting(value, origin))


def same(one: object, other: object) -> bool:
    """Equal, and of the same kind: 1 and True differ, 1 and 1.0 do not."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def is_given(origin: str | None) -> bool:
    """Whether a person gave a value: not the default, not a preset's, not chosen."""
    return origin is not None and not origin.startswith((PRESET, AUTO))


@dataclass
class Draft:
    """The recipe as far as it has been put together: flat keys, stages by name, in order."""

    settings: dict[str, Setting] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def stage_names(self) -> list[str]:
        """Names of the stages, in order."""
        parts = (key.split(".") for key in self.settings if key.startswith("stages."))
        return list(dict.fromkeys(part[1] for part in parts))

    def stage_value(self, stage: str, key: str) -> object:
        """A value of one stage; None when not given."""
        setting = self.settings.get(f"stages.{stage}.{key}")
        return None if setting is None else setting.value

    def value(self, key: str) -> object:
        """A value; None when not given."""
        setting = self.settings.get(key)
        return None if setting is None else setting.value

    def lay(
        self, layer: Layer, spread: Callable[[Draft, Layer], None], *, follow: bool = True
    ) -> None:
        """Lay a source over what is there.

        Args:
            layer: The source.
            spread: Turns the totals ``epochs`` and ``lr`` into values of the stages.
            follow: Whether automatic choices are made again where what they followed changes.
        """
        self.problems += layer.problems
        if layer.replaces_stages:
            self._drop(key for key in list(self.settings) if key.startswith("stages."))
        named = {self._by_name(key): setting for key, setting in layer.settings.items()}
        changed = [key for key, new in named.items() if not self._has(key, new.value)]
        self._clear_stages(named, gentle=layer.gentle or not follow)
        self._clear_steps(named)
        self._reopen(changed if follow else [])
        for key, setting in named.items():
            if key and key not in ("epochs", "lr"):
                self._put(key, setting)
        spread(self, layer)

    def _has(self, key: str, value: object) -> bool:
        old = self.settings.get(key)
        return old is not None and same(old.value, value)

    def _put(self, key: str, setting: Setting) -> None:
        parts = key.split(".")
        parents = {".".join(parts[:depth]) for depth in range(1, len(parts))}
        self._drop(
            old for old in list(self.settings) if old in parents or old.startswith(f"{key}.")
        )
        self.settings[key] = setting

    def _drop(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.settings.pop(key, None)

    def _by_name(self, key: str) -> str:
        """``stages.0.lr`` as ``stages.head.lr``; an unknown stage is a problem, and empty."""
        if not key.startswith("stages."):
            return key
        _, stage, rest = key.split(".", 2)
        names = self.stage_names()
        if stage.isdigit() and int(stage) < len(names):
            return f"stages.{names[int(stage)]}.{rest}"
        if names and stage not in names:
            self.problems.append(
                f"{unknown_key(key).partition(':')[0]}: the stages are "
                f"{', '.join(f'{index} {name}' for index, name in enumerate(names))}"
            )
            return ""
        return key

    def _clear_stages(self, named: Iterable[str], *, gentle: bool) -> None:
        """Remove values of single stages where a value for all of them comes."""
        for key in named:
            if key in GENERAL:
                own = [f"stages.{stage}.{GENERAL[key]}" for stage in self.stage_names()]
                self._drop(k for k in own if not gentle or self._is_automatic(k))

    def _clear_steps(self, named: Iterable[str]) -> None:
        """A new policy brings its own table; only steps that a person gave on top stay."""
        if "augment.policy" not in named:
            return
        table = [key for key in self.settings if key.startswith("augment.steps")]
        chosen = [key for key in table if self._is_automatic(key)]
        self._drop(chosen or table)

    def _is_automatic(self, key: str) -> bool:
        return key in self.settings and self.settings[key].origin.startswith(AUTO)

    def _reopen(self, changed: Iterable[str]) -> None:
        """Open again what was chosen because of a value that has changed, and so on."""
        waiting = list(changed)
        while waiting:
            for follower in self._followers(waiting.pop()):
                if self._is_automatic(follower):
                    waiting.append(follower)
                    self._drop([follower])
                    if follower in OPEN:
                        self.settings[follower] = Setting(OPEN[follower], AUTO)

    def _followers(self, key: str) -> list[str]:
        if key.startswith("stages.") and key.endswith(".lr"):
            return [f"{key.removesuffix('lr')}backbone_lr"]
        if key.startswith("stages.") and key.endswith(".train"):
            return [f"{key.removesuffix('train')}batch_norm"]
        own = GENERAL.get(key)
        stages = [f"stages.{stage}.{own}" for stage in self.stage_names()] if own else []
        return [*FOLLOWS.get(key, ()), *stages]


def to_tree(settings: dict[str, Setting]) -> dict[str, Any]:
    """Flat keys as the nested mapping that the schema reads; stages as a list."""
    tree: dict[str, Any] = {}
    for key, setting in settings.items():
        place = tree
        *parents, last = key.split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = setting.value
    if isinstance(tree.get("stages"), dict):
        tree["stages"] = list(tree["stages"].values())
    return tree
