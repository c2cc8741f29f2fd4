"""The page made from the results: ``python -m benchmarks.speed.report`` writes it again."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed import ratios
from benchmarks.speed.contenders import BY_NAME, CONTENDERS

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PICTURE = ROOT / "docs" / "pictures" / "speed.png"
Record = dict[str, Any]

OPENING = """# Espalier and its peers, side by side

Written by `python -m benchmarks.speed.report` from `speed.json`; do not edit.

    make bench-speed                                # all of it, hours
    .venv/bin/python -m benchmarks.speed --quick    # minutes, into runs/bench-speed

Each training is one fresh process with one thread and one loader. The clock starts with the
process and every cache is cold; the contenders take turns. A figure is the mean over the seeds,
with the smallest and the largest in brackets.

- **CPU-seconds**: user and system, of the process and its children, as the kernel counts them.
- **Scores**: macro-F1 on the test images, of the epoch that validation likes best. Peers look at
  the test images after every epoch; that is measured and taken off their CPU-seconds and time.
  Espalier looks at them once, at its end; that, its pictures and its report are counted.
- **Peak memory**: resident memory of the process plus what its children hold for themselves.
- **img/CPU-s**: in the last stage, without validation and without the first step of an epoch.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    folder = Path(words[0]) if words else RESULTS
    record = json.loads((folder / "speed.json").read_text("utf-8"))
    print(write_page(record, folder))
    if not words:
        from benchmarks.speed.picture import draw

        print(draw(record["runs"], PICTURE))
    return 0


def write_page(record: Record, folder: Path) -> Path:
    """Write ``speed.md`` beside the results and return its path."""
    page = folder / "speed.md"
    page.write_text(render(record), encoding="utf-8")
    return page


def render(record: Record) -> str:
    """The whole page."""
    runs = record["runs"]
    measured = [*scores(runs), *first_scores(runs), *throughput(runs)]
    parts = [OPENING, *measured, promised(runs), taking_part(runs)]
    return "\n".join([*parts, *failures(runs), footer(record)]) + "\n"


def scores(runs: list[Record]) -> list[str]:
    """A table per data set."""
    head = ["contender", "CPU-s", "seconds", "test macro-F1", "peak MB", "img/CPU-s", "runs"]
    sections = []
    for data, found in ratios.judged(runs).items():
        rows = [
            [
                BY_NAME[name].label,
                spread(values(runs, "cpu_seconds"), ".0f"),
                spread(values(runs, "seconds"), ".0f"),
                spread(values(runs, "test_macro_f1"), ".3f"),
                spread(values(runs, "peak_mb"), ",.0f"),
                spread(speeds(runs, "per_cpu_second"), ".1f"),
                str(len(runs)),
            ]
            for name, runs in in_order(found)
        ]
        model = next(iter(found.values()))[0]["model"]
        sections.append(f"## {data}, {model}\n\n{table(head, rows)}\n")
    return sections


def first_scores(runs: list[Record]) -> list[str]:
    """When Espalier first said how good a head on the frozen backbone is."""
    rows = []
    for data, found in ratios.judged(runs).items():
        for name, some in in_order(found):
            first = [run["first_score"] for run in some if run["first_score"]]
            if first:
                cells = (("cpu_seconds", ".0f"), ("seconds", ".0f"), ("macro_f1", ".3f"))
                figures = [spread(values(first, key), form) for key, form in cells]
                rows.append([data, BY_NAME[name].label, *figures])
    if not rows:
        return []
    head = ["data", "recipe", "CPU-s", "seconds", "macro-F1, cross-validated on train"]
    return [f"## The first score, before any training\n\n{table(head, rows)}\n"]


def throughput(runs: list[Record]) -> list[str]:
    """Speed and memory of the models that were trained for a few batches only."""
    few = [run for run in runs if "failed" not in run and run["test_macro_f1"] is None]
    found: dict[tuple[str, str], dict[str, list[Record]]] = {}
    for (data, model, name), some in ratios.group(few).items():
        found.setdefault((data, model), {})[name] = some
    head = ["contender", "img/CPU-s", "img/s", "peak MB", "runs"]
    return [
        f"## Speed and memory: {model}, random weights, {data}\n\n"
        + table(
            head,
            [
                [
                    BY_NAME[name].family,
                    spread(speeds(some, "per_cpu_second"), ".2f"),
                    spread(speeds(some, "per_second"), ".2f"),
                    spread(values(some, "peak_mb"), ",.0f"),
                    str(len(some)),
                ]
                for name, some in in_order(contenders)
            ],
        )
        + "\n"
        for (data, model), contenders in found.items()
    ]


def promised(runs: list[Record]) -> str:
    """The ratios, each with what it must be and what it would like to be."""
    rows = [*p3_rows(runs), *p1_rows(runs), *p13_rows(runs)]
    head = ["", "what", "peer", "Espalier", "ratio", "must", "stretch", ""]
    lines = [
        "## What was promised",
        "",
        table(head, rows),
        "",
        "P3: mean CPU-seconds to a mean test macro-F1. The peer is the fastest of all, at the",
        "first epoch that reaches the score; Espalier is taken at the end of its process.",
        "P1: fastai through its frozen epoch; Espalier's whole process with one stage for the",
        f"head, if its score is at most {100 * ratios.P1_SLACK:.1f} points lower.",
        "P13: the largest of Espalier's recipes.",
        "",
    ]
    return "\n".join(lines)


def p3_rows(runs: list[Record]) -> list[list[str]]:
    return [
        [
            "P3",
            f"{row['data']}, macro-F1 {row['score']:.3f}",
            who(row["peer"], row["peer_cpu_seconds"], "s"),
            who(row["espalier"], row["espalier_cpu_seconds"], "s"),
            *faster(row["ratio"], ratios.P3_MUST, ratios.P3_STRETCH),
        ]
        for row in ratios.p3(runs)
    ]


def p1_rows(runs: list[Record]) -> list[list[str]]:
    return [
        [
            "P1",
            f"{row['data']}, head only",
            f"{row['peer_cpu_seconds']:.0f} s, {row['peer_score']:.3f}",
            f"{row['espalier_cpu_seconds']:.0f} s, {row['espalier_score']:.3f}",
            *faster(row["ratio"], ratios.P1_MUST, ratios.P1_STRETCH),
        ]
        for row in ratios.p1(runs)
    ]


def p13_rows(runs: list[Record]) -> list[list[str]]:
    return [
        [
            "P13",
            f"{row['data']}, {row['model']}, peak memory",
            f"fastai, {row['peer_mb']:,.0f} MB",
            who(row["espalier"], row["espalier_mb"], "MB"),
            f"{row['ratio']:.2f}x",
            f"at most {ratios.P13_MUST}x",
            f"{ratios.P13_STRETCH}x",
            verdict(-row["ratio"], -ratios.P13_MUST, -ratios.P13_STRETCH),
        ]
        for row in ratios.p13(runs)
    ]


def who(name: str | None, amount: float | None, unit: str) -> str:
    if name is None or amount is None:
        return "not reached"
    return f"{BY_NAME[name].label}, {amount:,.0f} {unit}"


def faster(ratio: float | None, must: float, stretch: float) -> list[str]:
    """Four cells: how many times faster, what is wanted, and whether it is."""
    wanted = [f"at least {must:g}x", f"{stretch:g}x"]
    if ratio is None:
        return ["-", *wanted, "no ratio"]
    return [f"{ratio:.2f}x", *wanted, verdict(ratio, must, stretch)]


def verdict(value: float, must: float, stretch: float) -> str:
    """Higher is better."""
    if value >= stretch:
        return "**stretch met**"
    return "**met**" if value >= must else "**not met**"


def taking_part(runs: list[Record]) -> str:
    names = {run["contender"] for run in runs}
    lines = [f"- {c.label}: {c.does}" for c in CONTENDERS if c.name in names]
    return "\n".join(["## Who took part", "", *lines, ""])


def failures(runs: list[Record]) -> list[str]:
    failed = [run for run in runs if "failed" in run]
    if not failed:
        return []
    lines = [
        f"- {BY_NAME[run['contender']].label}, {run['data']}, {run['model']}, seed {run['seed']}: "
        f"`{(run['failed'].splitlines() or ['no message'])[-1]}`"
        for run in failed
    ]
    return ["\n".join(["## Failed", "", *lines, ""])]


def footer(record: Record) -> str:
    """Circumstances in one paragraph."""
    hardware, versions = record["hardware"], record["versions"]
    found = {item for versions in record["peers"].values() for item in versions.items()}
    peers = ", ".join(f"{name} {version}" for name, version in sorted(found)) or "no peers"
    load = [value for run in record["runs"] for value in run["load"]]
    commits = ", ".join(sorted({str(run["commit"]) for run in record["runs"]}))
    dates = sorted(run["date"][:10] for run in record["runs"])
    between = f"{min(load)} to {max(load)}" if load else "unknown"
    return (
        f"{hardware['name']}, {hardware['cores']} cores, {hardware['memory_gb']} GB, load average "
        f"{between}; espalier {versions['espalier']} at {commits}; {peers}; "
        f"{' to '.join(dict.fromkeys((dates[0], dates[-1]))) if dates else record['date']}. "
        f"{record['settings']['imgsz']} px, weights `{record['settings']['weights']}`."
    )


def in_order(found: dict[str, list[Record]]) -> Iterable[tuple[str, list[Record]]]:
    """As the contenders are listed."""
    return [(c.name, found[c.name]) for c in CONTENDERS if c.name in found]


def values(runs: list[Record], name: str) -> list[float]:
    return [run[name] for run in runs]


def speeds(runs: list[Record], name: str) -> list[float]:
    return [run["speed"][name] for run in runs if run["speed"]]


def spread(numbers: list[float], form: str) -> str:
    """Mean, and in brackets the smallest and largest of several."""
    if not numbers:
        return "-"
    middle = f"{statistics.fmean(numbers):{form}}"
    if len(numbers) == 1:
        return middle
    return f"{middle} [{min(numbers):{form}}, {max(numbers):{form}}]"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
