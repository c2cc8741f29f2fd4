"""Train what is not in the cache, ask everybody's rules, write the table.

``make bench-faults``, or ``python -m benchmarks.faults --score-only`` when only rules changed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Before torch is imported: one run at a time, one thread, so that figures do not depend on load.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from benchmarks.faults import injections, judged, repairing, report
from benchmarks.faults.earned import earned
from benchmarks.faults.held_out import WASTE
from benchmarks.faults.pictures import PHOTOS
from benchmarks.faults.recipes import R3_PHOTOS, UNTUNED
from benchmarks.faults.runs import Case, Kept, all_cases, run
from benchmarks.faults.score import Truth, Verdict, figures
from benchmarks.measure import circumstances
from espalier.diagnose.doctor import known_rules
from espalier.files import write_text

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / "runs" / "faults"
NEEDS = {"R2": PHOTOS, "R3": R3_PHOTOS, "R4": WASTE}
# Of plain healthy runs: what decides how narrow the interval of false alarms is. R3 is slow.
PLAIN_SEEDS = {"R1": 10, "R2": 10, "R3": 4, "R4": 10}
LEFT_OUT = (
    "torchmortem 0.1.1: hooks into the training process; its findings need every run trained "
    "again with its hooks, at four to five times the cost",
    "torch-audit 0.3.0: audits a live model, its loader and optimizer, and reads no record",
    "mldoct 1.0.0: `check` is a linter of source files, and the faults here are put into a "
    "running loop; `diagnose` reads a table: see --mldoct",
)


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    found = measure(options)
    write_text(options.out / "faults.json", json.dumps(found, indent=1) + "\n")
    write_text(options.out / "faults.md", report.page(found))
    tell(f"{options.out / 'faults.md'}")


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--recipes", nargs="+", default=["R1", "R2", "R3", "R4"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument(
        "--plain-seeds",
        type=int,
        nargs="+",
        help="of plain healthy runs; as it comes: 0 to 9, of R3 0 to 3",
    )
    parser.add_argument("--only", nargs="+", help="names of faults and controls; plain runs always")
    parser.add_argument("--severe", action="store_true", help="leave the moderate form out")
    parser.add_argument("--score-only", action="store_true", help="train nothing: what is kept")
    parser.add_argument("--repair", action="store_true", help="treat sick runs, and train again")
    parser.add_argument("--times", action="store_true", help="when each fault was first named")
    parser.add_argument("--mldoct", help="a Python in whose environment mldoct is installed")
    parser.add_argument(
        "--earn", type=Path, metavar="FILE", help="write what each rule earned in the tuned recipes"
    )
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--out", type=Path, default=HERE.parent / "results")
    return parser.parse_args(words)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    kept = make_all(options)
    truth = judged.truths(kept)
    runs = [judged.examined(one) for one in kept]
    tuned = [one for one in runs if one.case.recipe not in UNTUNED]
    untuned = [one for one in runs if one.case.recipe in UNTUNED]
    result = {
        "format": 1,
        "part": "faults",
        # Another environment lies where it lies: no place of this machine in the results.
        "command": "python -m benchmarks.faults "
        + " ".join("PYTHON" if word == options.mldoct else word for word in sys.argv[1:]),
        **circumstances(),
        **told(tuned, truth, options),
        "untuned": told(untuned, truth, options),
        "unknown_causes": judged.unknown_causes([rule.name for rule in known_rules()]),
        "left_out": list(LEFT_OUT),
    }
    if options.earn:
        write_text(options.earn, json.dumps(earned(tuned, truth), indent=1) + "\n")
    if options.repair:
        train = not options.score_only
        result["repair"] = repairing.repairs(tuned, truth, options.cache, train=train, tell=tell)
    return result


def told(
    runs: Sequence[judged.Examined],
    truth: dict[tuple[str, str, int], Truth],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """All that is counted of some of the runs; tuned and untuned recipes never share a figure."""
    ours = judged.our_verdicts(runs, truth, times=options.times)
    return {
        "recipes": sorted({one.case.recipe for one in runs}),
        "seeds": sorted({one.case.seed for one in runs}),
        "counts": counts(runs, truth),
        "figures": all_figures(runs, truth, ours, options),
        "by_fault": by_fault(ours),
        **lists(runs, ours),
    }


def make_all(options: argparse.Namespace) -> list[Kept]:
    """Every wanted run that is kept, or that may be trained."""
    found = []
    for case in wanted(options):
        made = run(case, options.cache, train=not options.score_only)
        if made is None:
            continue
        found.append(made)
        score = "died" if made.outcome is None else f"{made.outcome.test_macro_f1:.3f}"
        tell(f"{case.title}: {score}, {made.seconds:.1f} CPU-seconds")
    return found


def wanted(options: argparse.Namespace) -> list[Case]:
    cases = []
    for recipe in options.recipes:
        if recipe in NEEDS and not NEEDS[recipe].is_dir():
            tell(f"{recipe} is left out: {NEEDS[recipe]} is missing")
            continue
        plain = options.plain_seeds or range(PLAIN_SEEDS[recipe])
        cases += all_cases(recipe, tuple(options.seeds), tuple(plain))
    names = {*(options.only or ()), judged.PLAIN}
    return [
        case
        for case in cases
        if (not options.only or case.name in names) and not (options.severe and case.severity == 1)
    ]


def all_figures(
    runs: Sequence[judged.Examined],
    truth: dict[tuple[str, str, int], Truth],
    ours: Sequence[Verdict],
    options: argparse.Namespace,
) -> dict[str, Any]:
    found = {judged.OURS: report.plain(figures(ours))}
    for name in judged.OTHERS:
        found[name] = report.plain(figures(judged.their_verdicts(name, runs, truth)))
    if options.mldoct:
        said = judged.mldoct_verdicts(options.mldoct, runs, truth)
        found["mldoct"] = report.plain(figures(said))
    return found


def counts(
    runs: Sequence[judged.Examined], truth: dict[tuple[str, str, int], Truth]
) -> dict[str, Any]:
    kinds = Counter(
        "compound"
        if one.case.kind == "compound"
        else truth[one.case.recipe, one.case.name, one.case.severity]
        for one in runs
    )
    return {
        "runs": len(runs),
        **{
            kind: kinds[kind]
            for kind in ("healthy", "killed", "invalid", "latent", "undecided", "compound")
        },
        "plain": sum(one.case.name == judged.PLAIN for one in runs),
        "read": sum(one.record is not None for one in runs),
        "same": sum(one.same for one in runs if one.record is not None),
        "cpu_minutes": sum(one.kept.seconds for one in runs) / 60,
    }


def by_fault(ours: Sequence[Verdict]) -> list[dict[str, Any]]:
    rows = []
    for fault in injections.INJECTIONS:
        every = [v for v in ours if v.fault == fault.name]
        sick = [v for v in every if v.truth in ("killed", "invalid")]
        if not every:
            continue
        worth = Counter(verdict.truth for verdict in every)
        rows.append(
            {
                "fault": fault.name,
                "catalogue": fault.catalogue,
                "truth": ", ".join(f"{worth[kind]} {kind}" for kind in sorted(worth)),
                "runs": len(sick),
                "alarmed": sum(bool(v.alarms) for v in sick),
                "first": sum(v.named_within(1) for v in sick),
                "top3": sum(v.named_within(3) for v in sick),
            }
        )
    return rows


def lists(runs: Sequence[judged.Examined], ours: Sequence[Verdict]) -> dict[str, Any]:
    """Every miss and every alarm that should not be, by name; and what was said of each fault."""
    pairs = list(zip(runs, ours, strict=True))
    return {
        "said": [
            report.said(run, verdict)
            for run, verdict in pairs
            if verdict.truth in ("killed", "invalid")
        ],
        "misses": [
            report.miss(run, verdict)
            for run, verdict in pairs
            if verdict.truth in ("killed", "invalid") and not verdict.named_within(1)
        ],
        "false_alarms": [
            f"{verdict.run}: " + "; ".join(f"{f.rule} ({f.severity}): {f.cause}" for f in run.said)
            for run, verdict in pairs
            if verdict.truth == "healthy" and run.said
        ],
        "latent_alarms": [
            f"{verdict.run}: {', '.join(verdict.alarms)}"
            for _, verdict in pairs
            if verdict.truth == "latent" and verdict.alarms
        ],
    }


def tell(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    main()
