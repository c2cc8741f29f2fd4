"""From the records of the runs to figures: means over the seeds, and the ratios that are promised.

P3: CPU-seconds of the fastest peer to a macro-F1, over Espalier's. P13: peak memory over fastai's.
P1: CPU-seconds of fastai through its frozen epoch, over those of Espalier's head-only training.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from benchmarks.speed.contenders import BY_NAME

Record = dict[str, Any]
# What a short run of the strongest peers reaches on these photographs.
SCORES = {"plant_seedlings12": (0.889, 0.911), "trashnet6": (0.819, 0.875)}
# How much faster or smaller Espalier must be, and how much it would like to be.
P1_MUST, P1_STRETCH = 5.0, 10.0
P3_MUST, P3_STRETCH = 2.5, 5.0
P13_MUST, P13_STRETCH = 0.8, 0.5
# Head only: this much below the peer's frozen epoch still counts as reached.
P1_SLACK = 0.003


@dataclass(frozen=True)
class Point:
    """Mean CPU-seconds and mean test macro-F1 over the seeds, at one moment of a training."""

    cpu: float
    score: float


@dataclass(frozen=True)
class Reached:
    """Who got to a score first.

    Attributes:
        contender: Its name.
        cpu: Mean CPU-seconds over its seeds.
    """

    contender: str
    cpu: float


def group(records: Iterable[Record]) -> dict[tuple[str, str, str], list[Record]]:
    """(data, model, contender) -> its runs that did not fail."""
    found: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        if "failed" not in record:
            key = (record["data"], record["model"], record["contender"])
            found.setdefault(key, []).append(record)
    return found


def points(runs: list[Record]) -> list[Point]:
    """Every moment at which the test macro-F1 of a contender is known, in order.

    A peer: after each epoch, its look at the test images not counted. Espalier: at the end of the
    process, everything counted; its scores during training are of validation only.
    """
    ended = Point(mean(runs, "cpu_seconds"), mean(runs, "test_macro_f1"))
    length = min(len(run["epochs"]) for run in runs)
    epochs = [[run["epochs"][index] for run in runs] for index in range(length)]
    known = [rows for rows in epochs if all(row["test_macro_f1"] is not None for row in rows)]
    during = [Point(mean(rows, "cpu_seconds"), mean(rows, "test_macro_f1")) for rows in known]
    return [*during, ended]


def mean(rows: list[Record], name: str) -> float:
    return statistics.fmean(row[name] for row in rows)


def cpu_to(score: float, runs: list[Record]) -> float | None:
    """Mean CPU-seconds to a mean test macro-F1; None where it was not reached."""
    reached = [point.cpu for point in points(runs) if point.score >= score]
    return min(reached, default=None)


def fastest(score: float, found: dict[str, list[Record]], *, espalier: bool) -> Reached | None:
    """The first among the peers, or among Espalier's recipes, to reach a score."""
    times = [
        Reached(name, cpu)
        for name, runs in found.items()
        if BY_NAME[name].is_espalier is espalier and (cpu := cpu_to(score, runs)) is not None
    ]
    return min(times, key=lambda reached: reached.cpu, default=None)


def judged(records: Iterable[Record]) -> dict[str, dict[str, list[Record]]]:
    """Data -> contender -> its runs, of those that have a score."""
    found: dict[str, dict[str, list[Record]]] = {}
    for (data, _, contender), runs in group(records).items():
        scored = [run for run in runs if run["test_macro_f1"] is not None]
        if scored:
            found.setdefault(data, {})[contender] = scored
    return found


def p3(records: Iterable[Record]) -> list[Record]:
    """For each macro-F1: the fastest peer, the fastest of Espalier's recipes, and the ratio."""
    rows = []
    for data, found in judged(records).items():
        for score in SCORES.get(data, ()):
            peer = fastest(score, found, espalier=False)
            ours = fastest(score, found, espalier=True)
            rows.append(
                {
                    "data": data,
                    "score": score,
                    "peer": peer and peer.contender,
                    "peer_cpu_seconds": peer and peer.cpu,
                    "espalier": ours and ours.contender,
                    "espalier_cpu_seconds": ours and ours.cpu,
                    "ratio": peer.cpu / ours.cpu if peer and ours else None,
                }
            )
    return rows


def p1(records: Iterable[Record]) -> list[Record]:
    """Head only: fastai through its frozen epoch against Espalier's whole head-only process."""
    rows = []
    for data, found in judged(records).items():
        if "fastai" not in found or "espalier-head" not in found:
            continue
        frozen = points(found["fastai"])[0]
        ours = points(found["espalier-head"])[-1]
        is_reached = ours.score >= frozen.score - P1_SLACK
        rows.append(
            {
                "data": data,
                "peer_score": frozen.score,
                "peer_cpu_seconds": frozen.cpu,
                "espalier_score": ours.score,
                "espalier_cpu_seconds": ours.cpu,
                "ratio": frozen.cpu / ours.cpu if is_reached else None,
            }
        )
    return rows


def p13(records: Iterable[Record]) -> list[Record]:
    """Peak memory of the largest of Espalier's recipes over that of fastai, on the same job."""
    rows = []
    found = group(records)
    for data, model in dict.fromkeys((data, model) for data, model, _ in found):
        peer = found.get((data, model, "fastai"))
        ours = {
            name: mean(runs, "peak_mb")
            for (where, what, name), runs in found.items()
            if (where, what) == (data, model) and BY_NAME[name].is_espalier
        }
        if not peer or not ours:
            continue
        largest = max(ours, key=lambda name: ours[name])
        rows.append(
            {
                "data": data,
                "model": model,
                "peer_mb": mean(peer, "peak_mb"),
                "espalier": largest,
                "espalier_mb": ours[largest],
                "ratio": ours[largest] / mean(peer, "peak_mb"),
            }
        )
    return rows
