"""R3: real photographs, a pretrained network, in stages, through ``espalier.train_classifier``.

Its faults are those that a recipe or a folder of photographs can hold.
"""

from __future__ import annotations

import csv
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import espalier
from benchmarks.faults.loop import Outcome
from benchmarks.faults.recipes import R3, R3_PHOTOS, Staged

if TYPE_CHECKING:
    from benchmarks.faults.runs import Case

PER_CLASS = {"train": 40, "val": 20, "test": 25}
Row = tuple[str, str, str]
STAGE = "top"
COPY = "a copy of "


@dataclass(frozen=True)
class StagedFault:
    """One fault or control of R3: values of the recipe for each severity, or another folder.

    Attributes:
        moderate: Dotted key of the recipe -> value.
        severe: The same; None: there is no severe form.
        data: Name of what is done to the table of photographs.
    """

    moderate: Mapping[str, Any] | None = None
    severe: Mapping[str, Any] | None = None
    data: str = "plain"


def _rate(factor: float) -> dict[str, Any]:
    return {f"stages.{STAGE}.lr": 1e-3 * factor, f"stages.{STAGE}.backbone_lr": 1.5e-3 * factor}


CONSTANT = {f"stages.{STAGE}.schedule": "constant", f"stages.{STAGE}.warmup_epochs": 0.0}
FAULTS: dict[str, StagedFault] = {
    "rate_diverges": StagedFault({**_rate(100), **CONSTANT}, {**_rate(1000), **CONSTANT}),
    "rate_too_low": StagedFault(None, {**_rate(1e-4), "stages.head.solve": False}),
    "decays_early": StagedFault(
        None,
        {
            f"stages.{STAGE}.schedule": "step",
            "schedule.step_epochs": 1,
            "schedule.gamma": 1e-3,
            "stages.head.solve": False,
            "stages.head.lr": 1e-5,
        },
    ),
    "frozen_backbone": StagedFault(
        None, {"model.weights": "none", f"stages.{STAGE}.train": "head"}
    ),
    "heavy_dropout": StagedFault({"model.dropout": 0.9}, {"model.dropout": 0.97}),
    "wrong_pixels": StagedFault(
        None, {"data.mean": [0.0, 0.0, 0.0], "data.std": [0.004, 0.004, 0.004]}
    ),
    "tight_clip": StagedFault(None, {"optimizer.clip_norm": 1e-6, "optimizer.name": "sgd"}),
    "over_regularised": StagedFault(
        None,
        {
            "model.dropout": 0.8,
            "loss.label_smoothing": 0.5,
            "augment.policy": "heavy",
            "augment.mixup": 1.0,
            "optimizer.weight_decay": 1.0,
        },
    ),
    "helped_twice": StagedFault(
        None,
        {"class_weighting.strategy": "inverse", "class_weighting.sampler": "balanced"},
        data="long_tail",
    ),
    "shuffled_labels": StagedFault({}, {}, data="shuffled"),
    "noisy_labels": StagedFault({}, {}, data="noisy"),
    "class_order": StagedFault(None, {}, data="reordered"),
    "leak": StagedFault({}, {}, data="leaked"),
}
CONTROLS: dict[str, StagedFault] = {
    "plain": StagedFault({}),
    "label_smoothing": StagedFault({"loss.label_smoothing": 0.2}),
    "one_cycle": StagedFault({f"stages.{STAGE}.schedule": "one-cycle", **_rate(2)}),
    "mixup": StagedFault({"augment.mixup": 1.0}),
    "tiny_backbone_rate": StagedFault({f"stages.{STAGE}.backbone_lr": 1e-6}),
    "linear_probe": StagedFault({f"stages.{STAGE}.train": "head"}),
    "handled_imbalance": StagedFault({"class_weighting.strategy": "sqrt"}, data="long_tail"),
    "some_label_noise": StagedFault({}, data="slightly_noisy"),
}


def cases(seeds: tuple[int, ...], plain_seeds: tuple[int, ...]) -> list[Case]:
    """Every control and fault of R3."""
    from benchmarks.faults.runs import Case

    found = [Case("R3", "healthy", "plain", 0, seed) for seed in plain_seeds]
    for seed in seeds:
        found += [Case("R3", "healthy", name, 0, seed) for name in CONTROLS if name != "plain"]
        found += [
            Case("R3", "fault", name, severity, seed)
            for name, fault in FAULTS.items()
            for severity, values in ((1, fault.moderate), (2, fault.severe))
            if values is not None
        ]
    return found


def setting(case: Case) -> Staged:
    """What the run of a case is given: sound, then faulty, then treated."""
    from benchmarks.faults.repair import treated_values

    fault = (CONTROLS if case.kind == "healthy" else FAULTS)[case.name]
    values = fault.severe if case.severity == 2 else fault.moderate
    given = {**R3.values, **(values or {})}
    level = case.severity if fault.data != "plain" else 0
    return Staged(f"{fault.data}-{level}", treated_values(given, case.edits))


def train(case: Case, folder: Path) -> Outcome:
    """Train, and judge on the test photographs, which no fault touches."""
    given = setting(case)
    table = write_table(given.data, case.seed, folder.parent / "photographs")
    result = espalier.train_classifier(
        table,
        preset="quick",
        values=given.values,
        seed=case.seed,
        out=str(folder.parent),
        name=folder.name,
    )
    assert result.test is not None
    assert result.val is not None
    scores = result.test.scores
    reported = float(result.val.scores["accuracy"].value)
    return Outcome(float(scores["macro_f1"].value), float(scores["accuracy"].value), reported)


def write_table(data: str, seed: int, folder: Path) -> Path:
    """The photographs of a variant as a manifest, with absolute paths."""
    name, _, level = data.partition("-")
    rng = random.Random(f"{data} {seed}")
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        (materialised(place, folder), label, split)
        for place, label, split in VARIANTS[name](plain_rows(), int(level or 0), rng)
    ]
    path = folder / f"{data}-{seed}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    return path


def plain_rows() -> list[Row]:
    """The first photographs of each class and split."""
    rows: list[Row] = []
    for split, count in PER_CLASS.items():
        for folder in sorted(entry for entry in (R3_PHOTOS / split).iterdir() if entry.is_dir()):
            rows += [(str(path), folder.name, split) for path in sorted(folder.iterdir())[:count]]
    return rows


def _relabelled(rows: list[Row], split: str, share: float, rng: random.Random) -> list[Row]:
    """A share of one split has labels of others of them."""
    hit = [i for i, row in enumerate(rows) if row[2] == split and rng.random() < share]
    labels = [rows[i][1] for i in hit]
    rng.shuffle(labels)
    found = list(rows)
    for i, label in zip(hit, labels, strict=True):
        found[i] = (rows[i][0], label, split)
    return found


def _shuffled(rows: list[Row], level: int, rng: random.Random) -> list[Row]:
    return _relabelled(rows, "train", (0.85, 1.0)[level - 1], rng)


def _noisy(rows: list[Row], level: int, rng: random.Random) -> list[Row]:
    return _relabelled(rows, "train", (0.2, 0.4)[level - 1], rng)


def _slightly_noisy(rows: list[Row], level: int, rng: random.Random) -> list[Row]:
    return _relabelled(rows, "train", 0.1, rng)


def _reordered(rows: list[Row], level: int, rng: random.Random) -> list[Row]:
    """Validation calls each class by the name of the next."""
    names = sorted({row[1] for row in rows})
    following = dict(zip(names, names[1:] + names[:1], strict=True))
    return [(p, following[label] if s == "val" else label, s) for p, label, s in rows]


def _leaked(rows: list[Row], level: int, rng: random.Random) -> list[Row]:
    """Validation is made of training photographs: a third of it, or all."""
    share = (0.34, 1.0)[level - 1]
    train = [row for row in rows if row[2] == "train"]
    val = [row for row in rows if row[2] == "val"]
    taken = rng.sample(train, round(share * len(val)))
    copies = [(COPY + path, label, "val") for path, label, _ in taken]
    rest = rng.sample(val, len(val) - len(copies))
    return train + rest + copies + [row for row in rows if row[2] == "test"]


def materialised(place: str, folder: Path) -> str:
    """The path itself; of a wanted copy that of a file with the same bytes."""
    if not place.startswith(COPY):
        return place
    source = Path(place.removeprefix(COPY))
    target = folder / "copies" / f"{source.parent.name}-{source.name}"
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(source, target)
    return str(target)


def _long_tail(rows: list[Row], level: int, rng: random.Random) -> list[Row]:
    """Training photographs fall 10 : 1 from class to class."""
    names = sorted({row[1] for row in rows})
    most = PER_CLASS["train"]
    kept = {name: round(most * 10 ** (-i / (len(names) - 1))) for i, name in enumerate(names)}
    found, seen = [], dict.fromkeys(names, 0)
    for row in rows:
        seen[row[1]] += row[2] == "train"
        if row[2] != "train" or seen[row[1]] <= kept[row[1]]:
            found.append(row)
    return found


VARIANTS: dict[str, Callable[[list[Row], int, random.Random], list[Row]]] = {
    "plain": lambda rows, level, rng: rows,
    "shuffled": _shuffled,
    "noisy": _noisy,
    "slightly_noisy": _slightly_noisy,
    "reordered": _reordered,
    "leaked": _leaked,
    "long_tail": _long_tail,
}
