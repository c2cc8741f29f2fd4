"""Train with every contender in turn, and write the results, the page and the picture.

python -m benchmarks.speed            # all of it, some hours; to be committed
python -m benchmarks.speed --quick    # minutes; figures to look at
python -m benchmarks.speed --missing  # only what the results lack
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed import environments
from benchmarks.speed.contenders import (
    BY_NAME,
    FOR_QUICK,
    FOR_THROUGHPUT,
    Contender,
    Trial,
)
from benchmarks.speed.picture import draw
from benchmarks.speed.report import PICTURE, RESULTS, ROOT, write_page
from benchmarks.speed.trials import run_trial, where_and_what
from espalier.errors import DataError, EspalierError
from espalier.files import write_text

FORMAT = 1
PARTS = ("scores", "throughput")
SHARED = ROOT.parent / "shared"
DATA = (SHARED / "datasets" / "plant_seedlings12", SHARED / "datasets" / "trashnet6")
WEIGHTS = SHARED / "weights" / "mobilenetv2_100.timm.safetensors"
LARGE_MODEL = "resnet50"
LARGE_BATCHES = 20
Record = dict[str, Any]
Planned = tuple[Contender, Trial, int]


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    asked = parse(words)
    try:
        return run(asked, words)
    except EspalierError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return error.exit_code


def run(asked: argparse.Namespace, words: Sequence[str]) -> int:
    """Everything that is planned; each result is written as soon as it is there."""
    check(asked)
    folder = asked.out or (ROOT / "runs" / "bench-speed" if asked.quick else RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    planned = list(plan(asked))
    record = opened(asked, words, folder, planned)
    done = {key_of(run) for run in record["runs"] if "failed" not in run}
    missing = [job for job in planned if key(job) not in done]
    for turn, (contender, trial, seed) in enumerate(missing, 1):
        said = f"{contender.name} {trial.data.name} {trial.model} seed {seed}"
        print(f"{turn}/{len(missing)} {said}", flush=True)
        found = run_trial(contender, trial, seed)
        add(record, {**found, "commit": record["commit"], "date": record["date"]})
        write_text(folder / "speed.json", json.dumps(record, indent=1, allow_nan=False) + "\n")
        print(f"    {told(found)}", flush=True)
    print(f"the page: {os.path.relpath(write_page(record, folder))}")
    picture = PICTURE if folder == RESULTS else folder / "speed.png"
    print(f"the picture: {os.path.relpath(draw(record['runs'], picture))}")
    return int(any("failed" in run for run in record["runs"]))


def opened(
    asked: argparse.Namespace, words: Sequence[str], folder: Path, planned: list[Planned]
) -> Record:
    """The record that the runs are added to; with ``--missing`` the one that is there."""
    peers = {job[0].family for job in planned if not job[0].is_espalier}
    # Built before any clock starts.
    for peer in sorted(peers):
        environments.interpreter(peer)
    path = folder / "speed.json"
    before = json.loads(path.read_text("utf-8")) if asked.missing and path.exists() else {}
    return {
        "format": FORMAT,
        "part": "speed",
        "command": shlex.join(["python", "-m", "benchmarks.speed", *map(portable, words)]),
        "quick": asked.quick,
        **where_and_what(),
        "peers": {
            **before.get("peers", {}),
            **{peer: environments.peer_versions(peer) for peer in sorted(peers)},
        },
        "settings": {
            "model": asked.model,
            "weights": asked.weights.name,
            "imgsz": asked.imgsz,
            "threads": 1,
            "loaders": 1,
            "large_model": LARGE_MODEL,
            "large_batches": LARGE_BATCHES,
        },
        "runs": before.get("runs", []),
    }


def plan(asked: argparse.Namespace) -> Iterator[Planned]:
    """Every training, interleaved: all contenders before the next seed, from another one each."""
    for seed in range(asked.repeats):
        if "scores" in asked.only:
            for data in asked.data:
                trial = Trial(data.resolve(), asked.model, asked.weights.resolve(), asked.imgsz)
                for name in turned(asked.contenders, seed):
                    yield BY_NAME[name], trial, seed
        if "throughput" in asked.only:
            trial = Trial(asked.data[-1].resolve(), LARGE_MODEL, None, asked.imgsz, LARGE_BATCHES)
            named = [name for name in FOR_THROUGHPUT if name in asked.contenders]
            for name in turned(named, seed):
                yield BY_NAME[name], trial, seed


def turned(names: Sequence[str], by: int) -> list[str]:
    """Starting from another one each time: a load that grows must not always hit the same."""
    start = by % len(names) if names else 0
    return [*names[start:], *names[:start]]


def key(job: Planned) -> tuple[str, str, str, int]:
    contender, trial, seed = job
    return (contender.name, trial.data.name, trial.model, seed)


def key_of(run: Record) -> tuple[str, str, str, int]:
    return (run["contender"], run["data"], run["model"], run["seed"])


def add(record: Record, run: Record) -> None:
    """Add a run; an older one of the same contender, data, model and seed makes room."""
    record["runs"] = [old for old in record["runs"] if key_of(old) != key_of(run)]
    record["runs"].append(run)


def told(run: Record) -> str:
    """One line about a run that ended."""
    if "failed" in run:
        return f"failed: {run['failed']}"
    score = run["test_macro_f1"]
    said = "" if score is None else f", test macro-F1 {score:.3f}"
    speed = run["speed"]
    pace = f", {speed['per_cpu_second']} img/CPU-s" if speed else ""
    return (
        f"{run['cpu_seconds']:.0f} CPU-s, {run['seconds']:.0f} s{said}{pace}, {run['peak_mb']} MB"
    )


def check(asked: argparse.Namespace) -> None:
    """Say what is missing before anything is built.

    Raises:
        DataError: A data set or the weights are not there.
    """
    places = [*(folder / "train" for folder in asked.data), asked.weights]
    missing = [str(path) for path in places if not path.exists()]
    if missing:
        raise DataError(
            f"{len(missing)} of what is compared on cannot be found",
            problems=missing,
            hint="make bench-speed ARGS='--data FOLDER --weights FILE'; a FOLDER has train, val, "
            "test",
        )


def portable(word: str) -> str:
    """A word of the command line without the folders of this machine."""
    return Path(word).name if Path(word).is_absolute() else word


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed",
        description="Espalier, fastai, timm and a plain loop on the same photographs.",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="minutes: one seed, two contenders, one data set")
    add("--missing", action="store_true", help="keep the results that are there, make the others")
    add("--only", nargs="+", choices=PARTS, help="parts to measure; default: both, quick scores")
    add("--data", nargs="+", type=Path, help="folders with train, val and test")
    add("--model", default="mobilenetv2_100", help="a timm name (default: %(default)s)")
    add("--weights", type=Path, default=WEIGHTS, help="file of the model's weights")
    add("--imgsz", type=int, default=128, help="pixels (default: %(default)s)")
    add("--repeats", type=int, help="seeds, from 0; default: 3, quick 1")
    add("--contenders", nargs="+", choices=sorted(BY_NAME), help="who takes part; default: all")
    add("--without", nargs="+", choices=sorted({c.family for c in BY_NAME.values()}), default=[])
    add("--out", type=Path, help="folder of the results; default: benchmarks/results")
    return defaulted(parser.parse_args(words))


def defaulted(asked: argparse.Namespace) -> argparse.Namespace:
    asked.repeats = asked.repeats or (1 if asked.quick else 3)
    asked.only = asked.only or (("scores",) if asked.quick else PARTS)
    asked.data = asked.data or (DATA[-1:] if asked.quick else DATA)
    named = asked.contenders or (FOR_QUICK if asked.quick else tuple(BY_NAME))
    asked.contenders = [name for name in named if BY_NAME[name].family not in asked.without]
    return asked


if __name__ == "__main__":
    sys.exit(main())
