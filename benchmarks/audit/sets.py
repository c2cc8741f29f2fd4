"""Which photographs are audited, and how: the public path, with a cache of its own."""

from __future__ import annotations

import csv
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from benchmarks.audit.plant import Labelled, photographs
from espalier.auditing.gather import Audit, audit_photos
from espalier.auditing.write import report_json
from espalier.recipe.load import load_recipe
from espalier.records import Catalog

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
DATASETS = SHARED / "datasets"
WEIGHTS = SHARED / "weights" / "mobilenetv2_100.timm.safetensors"
MODEL = "mobilenetv2_100"
JUDGED = Path(__file__).with_name("judged.csv")


@dataclass(frozen=True)
class PhotoSet:
    """Photographs to plant problems in.

    Attributes:
        name: As the tables call it.
        folder: With ``split/class/file``, below that of all data sets.
        most: Photographs that are used, evenly spread over all; None: every one.
    """

    name: str
    folder: str
    most: int | None = None


PLANTED_IN = (
    PhotoSet("seedlings", "plant_seedlings12"),
    PhotoSet("trashnet", "trashnet6"),
    PhotoSet("cifar", "cifar10_small", 3000),
)
RICE, DISHES = "rice_leaf3_dups", "dishes2/as_committed"
QUICK_MOST = 600


@dataclass(frozen=True)
class Found:
    """One audit.

    Attributes:
        audit: What was gathered and found.
        record: The same as ``--json`` gives it, with paths relative to the photographs.
        cpu_seconds: Of this process, while it was made.
    """

    audit: Audit
    record: dict[str, Any]
    cpu_seconds: float


def audited(source: Path, folder: Path, weights: Path, imgsz: int) -> Found:
    """Audit as ``espalier audit`` does, with one thread; paths come relative to ``folder``."""
    recipe = load_recipe(
        flags={
            "source": str(source),
            "model": MODEL,
            "weights": str(weights),
            "imgsz": str(imgsz),
        },
        sets=["training.threads=1", "data.workers=1"],
    )
    began = time.process_time()
    audit = audit_photos(recipe)
    spent = time.process_time() - began
    return Found(audit, with_relative_paths(report_json(audit), folder), spent)


def with_relative_paths(record: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A report whose cases name files as they are called below a folder."""
    place = os.path.realpath(folder)
    for finding in record["findings"]:
        for case in finding["cases"]:
            case["paths"] = [relative(path, place) for path in case["paths"]]
    return record


def relative(path: str, folder: str) -> str:
    return PurePosixPath(os.path.relpath(os.path.realpath(path), folder)).as_posix()


def splits_of(catalog: Catalog, folder: Path) -> dict[str, str]:
    """Path relative to the photographs -> split that the audit put it in."""
    place = os.path.realpath(folder)
    return {relative(sample.path, place): sample.split or "" for sample in catalog.samples}


def chosen_files(folder: Path, most: int | None) -> list[str]:
    """All photographs of a folder, or so many of them, evenly spread."""
    names = photographs(folder)
    if most is None or most >= len(names):
        return names
    return [names[i] for i in np.linspace(0, len(names) - 1, most).round().astype(int)]


def copied(names: Sequence[str], source: Path, target: Path) -> Path:
    """Copies of photographs in a folder of their own."""
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)
    return target


def write_manifest(rows: Sequence[Labelled], folder: Path, place: Path) -> Path:
    """A table of photographs that stay where they are."""
    with place.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("path", "label", "split"))
        table.writerows((str(folder / row.path), row.label, row.split) for row in rows)
    return place


def judged_pairs(name: str) -> dict[frozenset[str], bool]:
    """Pairs of a set that a person looked at, and whether both show the same photograph."""
    with JUDGED.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["set"] == name]
    return {frozenset((row["first"], row["second"])): row["same"] == "yes" for row in rows}


# ---- sets whose copies are known


def equal_files(folder: Path, names: Sequence[str]) -> list[list[str]]:
    """Groups of files with equal bytes, compared byte by byte."""
    groups: dict[bytes, list[str]] = {}
    for name in names:
        groups.setdefault((folder / name).read_bytes(), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def same_plates(names: Sequence[str]) -> list[tuple[str, str]]:
    """Each augmented copy with its original, which the author's file names tell.

    Of ``train/dirty/0007.jpg`` are ``train/dirty/0007_090.jpg`` and ``valid/dirty/0007_noise.jpg``.
    """
    plates = {name: "/".join(name.split("/")[1:])[:-4].partition("_") for name in names}
    originals = {plate: name for name, (plate, mark, _) in plates.items() if not mark}
    return [(name, originals[plate]) for name, (plate, mark, _) in plates.items() if mark]


@contextmanager
def own_cache(folder: Path) -> Iterator[None]:
    """Nothing kept by earlier audits, and nothing left behind."""
    before = os.environ.get("ESPALIER_CACHE")
    os.environ["ESPALIER_CACHE"] = str(folder)
    try:
        yield
    finally:
        os.environ.pop("ESPALIER_CACHE")
        if before is not None:
            os.environ["ESPALIER_CACHE"] = before
