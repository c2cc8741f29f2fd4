"""Plant problems, audit, count: ``python -m benchmarks.audit``, or ``make bench-audit``.

Photographs are copied to a temporary folder and nothing is written beside the originals. Every
audit goes the way of ``espalier audit``; what is counted is what it says in findings.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cv2
import torch

from benchmarks.audit import planted, scale, score, sets
from benchmarks.audit.planted import Asked
from benchmarks.audit.report import write_page
from benchmarks.measure import circumstances, load_average
from espalier.files import write_text

HERE = Path(__file__).resolve().parents[1]
PARTS = ("planted", "labels", "real", "scale")
Record = dict[str, Any]


def main(words: Sequence[str] | None = None) -> int:
    asked = parse(sys.argv[1:] if words is None else words)
    missing = [str(path) for path in (sets.DATASETS, asked.weights) if not path.exists()]
    if missing:
        sys.stderr.write(f"benchmarks: photographs or weights are missing: {', '.join(missing)}\n")
        return 2
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    asked.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="espalier-bench-", dir=asked.work) as folder:
        record = measure(asked, Path(folder))
    write_text(asked.out / "audit.json", json.dumps(record, indent=1, allow_nan=False) + "\n")
    sys.stdout.write(f"{write_page(record, asked.out).name}\n")
    return 0


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit", description=__doc__)
    names = [one.name for one in sets.PLANTED_IN]
    parser.add_argument("--quick", action="store_true", help="one small set: to see that it runs")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="parts to measure")
    parser.add_argument("--sets", nargs="+", choices=names, help="photographs to plant in")
    parser.add_argument("--weights", type=Path, default=sets.WEIGHTS, help="of mobilenetv2_100")
    parser.add_argument("--imgsz", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="where the temporary folder is made")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    asked = parser.parse_args(words)
    asked.sets = asked.sets or (["trashnet"] if asked.quick else names)
    asked.only = asked.only or list(PARTS)
    return asked


def measure(asked: argparse.Namespace, work: Path) -> Record:
    """All parts, in one temporary folder."""
    before, began, cpu = load_average(), time.perf_counter(), time.process_time()
    how = Asked(asked.weights, asked.imgsz, asked.seed)
    results: Record = {"sets": {}}
    with sets.own_cache(work / "cache"):
        for one in sets_to_plant_in(asked):
            results["sets"][one.name] = measure_set(one, work / one.name, how, asked)
        if "real" in asked.only:
            results["real"] = {"rice": measure_rice(how), "dishes": measure_dishes(how)}
    if "scale" in asked.only:
        sizes = scale.QUICK_SIZES if asked.quick else scale.SIZES
        results["scale"] = scale.measure(work, asked.weights, sizes)
    spent = time.process_time() - cpu
    spent += sum(run["total_cpu_seconds"] for run in results.get("scale", {}).get("runs", []))
    return {
        "format": 1,
        "part": "audit",
        "command": " ".join(["python -m benchmarks.audit", *map(portable, sys.argv[1:])]),
        "quick": asked.quick,
        **circumstances(),
        "cleanlab": version_of("cleanlab"),
        "load_average": {"before": before, "after": load_average()},
        "took_seconds": round(time.perf_counter() - began),
        "cpu_seconds": round(spent),
        "settings": {
            "model": sets.MODEL,
            "weights": asked.weights.name,
            "imgsz": asked.imgsz,
            "seed": asked.seed,
            "threads": 1,
        },
        "results": results,
    }


def sets_to_plant_in(asked: argparse.Namespace) -> list[sets.PhotoSet]:
    if not {"planted", "labels"} & set(asked.only):
        return []
    return [one for one in sets.PLANTED_IN if one.name in asked.sets]


def measure_set(one: sets.PhotoSet, work: Path, how: Asked, asked: argparse.Namespace) -> Record:
    """One set as it is, then with wrong labels, then with everything else planted in it."""
    source = sets.DATASETS / one.folder
    most = sets.QUICK_MOST if asked.quick else one.most
    folder = sets.copied(sets.chosen_files(source, most), source, work / "photos")
    say(f"{one.name}: as it is")
    clean = sets.audited(folder, folder, how.weights, how.imgsz)
    found: Record = {
        "data": one.folder,
        "clean": planted.clean_facts(clean, folder, sets.judged_pairs(one.name)),
    }
    if "labels" in asked.only:
        say(f"{one.name}: wrong labels")
        found["labels"] = planted.measure_labels(folder, clean, work, how)
    if "planted" in asked.only:
        say(f"{one.name}: copies, broken and odd files")
        found["planted"] = planted.measure_planted(folder, clean, how)
    shutil.rmtree(work)
    return found


def measure_rice(how: Asked) -> Record:
    """Equal files that are there anyway, and pairs that a person looked at."""
    folder = sets.DATASETS / sets.RICE
    names = sets.chosen_files(folder, None)
    found = sets.audited(folder, folder, how.weights, how.imgsz)
    equal = [(group[0], other) for group in sets.equal_files(folder, names) for other in group[1:]]
    root = score.roots(score.linked(found.record))
    hits = sum(one in root and root[one] == root.get(other) for one, other in equal)
    return {
        **planted.clean_facts(found, folder, sets.judged_pairs("rice")),
        "equal_files": score.Score(len(equal), hits, 0).to_json(),
    }


def measure_dishes(how: Asked) -> Record:
    """Copies that the author made of his plates: which file is made of which, the names tell."""
    folder = sets.DATASETS / sets.DISHES
    names = sets.chosen_files(folder, None)
    found = sets.audited(folder, folder, how.weights, how.imgsz)
    links = sets.same_plates(names)
    said = score.linked(found.record)
    root = score.roots(said)
    truth = score.roots(links)
    by_change: dict[str, list[bool]] = {}
    for copy, source in links:
        hit = copy in root and root[copy] == root.get(source)
        by_change.setdefault(Path(copy).stem[5:], []).append(hit)
    hits = sum(map(sum, by_change.values()))
    by_name = {
        frozenset(link): truth.get(link[0], link[0]) == truth.get(link[1], link[1]) for link in said
    }
    false = sum(truth.get(one, one) != truth.get(other, other) for one, other in said)
    return {
        **planted.clean_facts(found, folder, by_name),
        "copies": score.Score(len(links), hits, false).to_json(),
        "by_change": {
            how: {"planted": len(found), "found": sum(found)} for how, found in by_change.items()
        },
    }


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def portable(word: str) -> str:
    """A word of the command line without the folders of this machine."""
    return Path(word).name if Path(word).is_absolute() else word


if __name__ == "__main__":
    sys.exit(main())
