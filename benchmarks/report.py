"""The page made from the results: ``python -m benchmarks.report`` writes it again."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LEAST_RATIO = 0.92
MOST_SHARE = 0.02

OPENING = """# Benchmarks

Written by `python -m benchmarks.report` from `results/`; do not edit.

    make bench                                        # measure everything again
    .venv/bin/python -m benchmarks.training --quick   # minutes, into runs/bench

`--only`, `--data`, `--model`, `--weights`, `--threads`, `--repeats`, `--runs`: see `--help`. Let
nothing else run meanwhile; the load average in each file shows whether that was so. Times are on
the clock unless they are called CPU-seconds; a figure is the median of the repeats, with the
smallest and the largest in brackets.

Apart: [speed against others](results/speed.md) (`make bench-speed`), what the audit finds of
planted problems ([audit](results/audit.md), `make bench-audit`), and how often the doctor is right
([faults](results/faults.md), `make bench-faults`).
"""


def write_page(folder: Path = HERE) -> Path:
    """Write ``README.md`` of a folder from the results in it."""
    page = folder / "README.md"
    page.write_text(render(read_results(folder / "results")), encoding="utf-8")
    return page


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """Part -> what its file says."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.json"))
    }


def render(found: dict[str, dict[str, Any]]) -> str:
    """The whole page."""
    sections: dict[str, Callable[[dict[str, Any]], str]] = {
        "throughput": throughput,
        "keeping": keeping,
        "convergence": convergence,
        "ingest": ingest,
        "plan": plan,
    }
    written = [section(found[part]) for part, section in sections.items() if part in found]
    return "\n".join([OPENING, *(written or ["Nothing has been measured yet.\n"])])


def throughput(record: dict[str, Any]) -> str:
    results = record["results"]
    rows = [
        [
            f"{stage['stage']} ({stage['epochs']} epochs)",
            values(stage["end_to_end"], ".1f"),
            values(stage["synthetic"], ".1f"),
            values(stage["ratio"], ".3f"),
            values(stage["cpu_ratio"], ".3f"),
            values(stage["loader_share"], ".1%"),
        ]
        for stage in results["stages"]
    ]
    head = ["stage", "img/s from files", "img/s synthetic", "ratio", "CPU ratio", "loader's CPU"]
    ratio = results["run"]["ratio"]
    return "\n".join(
        [
            "## Training speed, from files and from memory",
            "",
            "The training part of an epoch by the program's own loop: once with the photographs",
            "read, decoded and augmented, once with made-up pixels of the same shape, in turn.",
            "The ratio is synthetic time / real time; the CPU ratio is the same in CPU-seconds.",
            "",
            table(head, rows),
            "",
            f"All planned epochs together: **{ratio:.3f}** "
            f"({judged(ratio >= LEAST_RATIO)} target of at least {LEAST_RATIO}).",
            "",
            footer(record),
        ]
    )


def keeping(record: dict[str, Any]) -> str:
    results = record["results"]
    curves, run = results["curves"], results["run"]
    rows = [
        [
            f"{stage['stage']} ({stage['epochs']} epochs)",
            f"{stage['epoch']['wall']['seconds']:.1f} s",
            values(milli(stage["measured_step_extra"]["wall"]), ".1f", " ms"),
            both(stage["epoch"], "first_20_steps_share"),
            both(stage["epoch"], "vitals_share"),
            both(stage["epoch"], "curves_share"),
            both(stage["epoch"], "probe_share"),
        ]
        for stage in results["stages"]
    ]
    head = ["stage", "epoch", "one measured step", "of a step", "vital signs", "curves", "probe"]
    is_met = run["wall"]["vitals_and_curves_share"] <= MOST_SHARE
    return "\n".join(
        [
            "## What keeping records costs",
            "",
            "One measured step: what the vital signs in `steps.jsonl` add to it (median and",
            "middle half), and as a share of that step, which is what the first 20 steps pay.",
            "Then shares of the epoch: vital signs of steps as sampled, of epochs, and of the",
            "beginning of the stage; redrawing `curves.png`; and the",
            f"clean-train probe of {results['stages'][0]['probe_images']} images. Shares are of",
            "the time on the clock / of the CPU-seconds.",
            "",
            table(head, rows),
            "",
            f"Drawing a run of {curves['epochs']} epochs takes {values(curves['wall'], '.2f')} s "
            f"({values(curves['cpu'], '.2f')} CPU-seconds), the first time "
            f"{curves['first']['wall']:.2f} s.",
            f"Vital signs and curves together, over all epochs: "
            f"**{both(run, 'vitals_and_curves_share')}** "
            f"({judged(is_met)} target of at most {MOST_SHARE:.0%}).",
            f"The probe: {both(run, 'probe_share')}.",
            "",
            footer(record),
        ]
    )


def both(clocks: dict[str, dict[str, float]], name: str) -> str:
    """A share of wall time / of CPU time."""
    return " / ".join(f"{clocks[clock][name]:.2%}" for clock in ("wall", "cpu"))


def convergence(record: dict[str, Any]) -> str:
    results = record["results"]
    runs = results["runs"]
    rows = [
        [f"validation macro-F1 {score}", cpu_to(found), f"{found['reached']} of {len(runs)}"]
        for score, found in results["cpu_seconds_to_val_macro_f1"].items()
    ]
    rows.append(["the end", values(results["cpu_seconds"], ".0f"), f"{len(runs)} of {len(runs)}"])
    lines = [f"Peak memory of the training process: **{values(results['peak_mb'], '.0f')} MB**."]
    if results["test_macro_f1"]:
        shown = values(results["test_macro_f1"], ".3f")
        lines.append(f"Test macro-F1 of the best weights: **{shown}**.")
    ready = [run["ready"]["cpu_seconds"] for run in runs if run["ready"]]
    if ready:
        lines.append(f"Before the first step: up to {max(ready):.0f} CPU-seconds.")
    return "\n".join(
        [
            "## CPU-seconds to a score",
            "",
            f"`espalier train` with preset `{record['settings']['preset']}`, one process per seed.",
            "CPU-seconds are those of the whole process from its start, all threads, when the",
            "first epoch that reached the score was on record.",
            "",
            table(["until", "CPU-seconds", "runs that reached it"], rows),
            "",
            *lines,
            "",
            footer(record),
        ]
    )


def ingest(record: dict[str, Any]) -> str:
    ways = ("pillow", "ingest", "read")
    rows = [
        [
            f"{case['photographs']}, {case['kilobytes']:.0f} kB",
            case["resolution"],
            *(values(case["images_per_second"][way], ",.1f") for way in ways),
            values(case["ratio"], ".1f"),
            values(case["cpu_ratio"], ".1f"),
        ]
        for case in record["results"]["cases"]
    ]
    head = ["photographs", "for", *(f"{way} img/s" for way in ways), "ratio", "CPU ratio"]
    return "\n".join(
        [
            "## Taking in phone-size photographs",
            "",
            "JPEG files of 2560 x 1920: Pillow decodes and resizes them whole; ingest looks at a",
            "file, hashes it, decodes it at a reduced size and puts it into the store; read takes",
            f"it out again. Target: at least {record['results']['target']} x Pillow.",
            "",
            table(head, rows),
            "",
            where(record),
            "",
        ]
    )


def plan(record: dict[str, Any]) -> str:
    results = record["results"]
    rows = [
        [
            model["model"],
            model["best"],
            " or ".join(sorted({probe["chosen"] for probe in model["probes"]})),
            f"{model['ratio']:.3f}",
            f"{model['probe_cpu_seconds']:.1f}",
        ]
        for model in results["models"]
    ]
    worst = min(model["ratio"] for model in results["models"])
    head = ["model", "best of the grid", "chosen", "worst ratio", "CPU-seconds of the probe"]
    return "\n".join(
        [
            "## The chosen way to compute, against the best",
            "",
            "Precision, memory layout and grouped convolutions in fp32: what a short probe",
            "chooses, against the fastest of all combinations, timed for longer.",
            "",
            table(head, rows),
            "",
            f"**{worst:.3f}** ({judged(worst >= results['target'])} target of at least "
            f"{results['target']}).",
            "",
            where(record),
            "",
        ]
    )


def where(record: dict[str, Any]) -> str:
    """Machine, versions and command of a record without a data set."""
    machine, load = record["hardware"], record["load_average"]
    return (
        f"{machine['name']}, {machine['cores']} cores, "
        f"load {load['before'][0]:g} to {load['after'][0]:g}; "
        f"espalier {record['versions']['espalier']} at {record['commit']}, "
        f"{record['date'][:10]}, {record['took_seconds']} s. `{record['command']}`"
    )


def cpu_to(found: dict[str, Any]) -> str:
    return values(found["cpu_seconds"], ".0f") if found["cpu_seconds"] else "-"


def milli(spread: dict[str, Any]) -> dict[str, Any]:
    return {key: 1000 * spread[key] for key in ("median", "low", "high")}


def values(spread: dict[str, Any], form: str, unit: str = "") -> str:
    """``median [low, high]``."""
    median, low, high = (format(spread[key], form) for key in ("median", "low", "high"))
    return f"{median}{unit} [{low}, {high}]"


def judged(is_met: bool) -> str:
    return "meets the" if is_met else "misses the"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def count(chosen: dict[str, Any], name: str) -> str:
    number = chosen[name]
    return f"{number} {name[:-1] if number == 1 else name}"


def footer(record: dict[str, Any]) -> str:
    """Where, when and on what: in one paragraph."""
    machine, chosen, load = record["hardware"], record["settings"], record["load_average"]
    versions = record["versions"]
    images = "/".join(f"{count:,}" for count in chosen["images"].values())
    layout = "channels-last" if chosen["channels_last"] else "channels-first"
    loads = " to ".join(f"{part[0]:.2f}" for part in load.values() if part) or "unknown"
    warning = "**Quick: a part of the images, few repeats.** " if record["quick"] else ""
    return (
        f"{warning}{chosen['data']} ({images} images), {chosen['model']} with "
        f"`{chosen['weights']}`, {chosen['imgsz']} px, batch {chosen['batch']}, "
        f"{chosen['precision']} {layout}, {count(chosen, 'threads')}, "
        f"{count(chosen, 'workers')}; "
        f"{machine['name']}, {machine['cores']} cores, {machine['memory_gb']} GB, load {loads}; "
        f"torch {versions['torch']}, espalier {versions['espalier']} at {record['commit']}, "
        f"{record['date'][:10]}, {record['took_seconds']} s. `{record['command']}`\n"
    )


def main() -> None:
    if sys.argv[1:] == ["--print"]:
        sys.stdout.write(render(read_results(HERE / "results")))
    else:
        print(write_page().name)


if __name__ == "__main__":
    main()
