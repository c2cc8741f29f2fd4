"""The page made from the results: ``python -m benchmarks.audit.report`` writes it again."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.audit.score import COPY_RULES, Score

RESULTS = Path(__file__).resolve().parents[1] / "results"
Record = dict[str, Any]

EXACT_RECALL, NEAR_RECALL, NEAR_PRECISION, LEAK_RECALL, BEHIND = 0.99, 0.90, 0.98, 0.95, 0.03
NEAR = ("near_duplicates", "near_duplicates_across_splits")
EXACT = ("exact_duplicates", "duplicates_across_splits")
LEAKS = ("duplicates_across_splits", "near_duplicates_across_splits")

OPENING = """# What the audit finds

Written by `python -m benchmarks.audit.report` from `audit.json`; do not edit.

    make bench-audit                                # all of it, about ten minutes of one core
    .venv/bin/python -m benchmarks.audit --quick    # a minute

Problems are planted among copies of real photographs, and what `espalier audit` says in
findings.json is counted. Each set is audited before, too: what is said then is neither a hit nor a
false alarm afterwards. Intervals are 95 %: Wilson's for shares, bootstrapped over the images for
F1.

- A planted copy is **found** when one case of the rule in question shows it with its source.
- **False** are joins of two pictures that neither planting nor the clean set explains.
"""


def main() -> int:
    record = json.loads((RESULTS / "audit.json").read_text("utf-8"))
    sys.stdout.write(f"{write_page(record, RESULTS).name}\n")
    return 0


def write_page(record: Record, folder: Path) -> Path:
    """Write ``audit.md`` beside the results and return its path."""
    page = folder / "audit.md"
    page.write_text(render(record), encoding="utf-8")
    return page


def render(record: Record) -> str:
    """The whole page."""
    results = record["results"]
    parts = [OPENING]
    if record["quick"]:
        parts.append("**Quick: few photographs of one set, to see that it runs.**\n")
    parts += [*targets(results), *clean(results), *planted(results), *labels(results)]
    parts += [*real(results), *scale(results)]
    return "\n".join([*parts, footer(record)]) + "\n"


# ---- targets


def targets(results: Record) -> Iterator[str]:
    """What issue 4 asks for, against what was measured."""
    rows = [*copy_targets(results), *label_targets(results), *silence(results)]
    if rows:
        yield "## Targets\n"
        yield table(["what", "target", "measured", ""], rows) + "\n"


def copy_targets(results: Record) -> list[list[str]]:
    if not any("planted" in one for one in results["sets"].values()):
        return []
    exact, near, leaks = (pooled(results, rules) for rules in (EXACT, NEAR, LEAKS))
    return [
        target("recall of exact copies", EXACT_RECALL, exact["recall"]),
        target("recall of near copies", NEAR_RECALL, near["recall"]),
        target("precision of near copies", NEAR_PRECISION, near["precision"]),
        target("recall of leaks between the parts", LEAK_RECALL, leaks["recall"]),
    ]


def pooled(results: Record, rules: Sequence[str]) -> Record:
    """Counts of some rules over all sets."""
    total = Score(0, 0, 0)
    for one in results["sets"].values():
        for rule in rules if "planted" in one else ():
            found = one["planted"]["rules"][rule]
            total += Score(found["planted"], found["found"], found["false"])
    return total.to_json()


def target(what: str, least: float, measured: Mapping[str, float] | None) -> list[str]:
    if measured is None:
        return [what, f"{least:.2f}", "-", "not measured"]
    return [what, f"{least:.2f}", interval(measured), met(measured["value"] >= least)]


def label_targets(results: Record) -> list[list[str]]:
    """Against the default of cleanlab, and against its best filter in each variant."""
    every = [v for one in results["sets"].values() for v in one.get("labels", []) if v["cleanlab"]]
    if not every:
        return []
    default = [next(iter(v["cleanlab"].values()))["f1"]["difference"]["value"] for v in every]
    best = [min(d["f1"]["difference"]["value"] for d in v["cleanlab"].values()) for v in every]
    return [
        [
            f"F1 of suspect labels minus that of cleanlab, {name}",
            f"{-BEHIND:+.2f}",
            f"{min(values):+.3f} to {max(values):+.3f}, reached in "
            f"{sum(value >= -BEHIND for value in values)} of {len(values)}",
            met(min(values) >= -BEHIND),
        ]
        for name, values in (("its default", default), ("its best filter each time", best))
    ]


def silence(results: Record) -> list[list[str]]:
    counts = {name: len(one["clean"]["above_info"]) for name, one in results["sets"].items()}
    if not counts:
        return []
    said = ", ".join(f"{name} {count}" for name, count in counts.items())
    wrong = [seen_false(one) for one in results["sets"].values()]
    untrue = ", ".join(
        f"{name} {count}" for name, count in zip(results["sets"], wrong, strict=True)
    )
    return [
        [
            "findings above info in a set as it is",
            "1 at most",
            said,
            met(max(counts.values()) <= 1),
        ],
        ["of these not true, or not looked at", "0", untrue, met(not any(wrong))],
    ]


def seen_false(one: Record) -> int:
    """Findings above info but for those whose copies were all looked at and are there."""
    found = one["clean"]
    all_true = not found["pairs"]["different"] and not found["pairs"]["not_looked_at"]
    return sum(not (all_true and said["rule"] in COPY_RULES) for said in found["above_info"])


# ---- tables


def clean(results: Record) -> Iterator[str]:
    if not results["sets"] and "real" not in results:
        return
    yield "## The sets as they are\n"
    yield (
        "Nothing is planted here. Pairs were looked at by eye, two pictures side by side;\n"
        "`benchmarks/audit/judged.csv` says which. Same: one photograph, or two shots of one\n"
        "thing in one place.\n"
    )
    rows = [clean_row(name, one["clean"]) for name, one in results["sets"].items()]
    rows += [clean_row(name, one) for name, one in results.get("real", {}).items()]
    head = ["set", "images", "CPU-s", "above info"]
    head += ["equal files", "near pairs", "the same", "different", "not looked at"]
    yield table(head, rows) + "\n"


def clean_row(name: str, found: Record) -> list[str]:
    above = "; ".join(f"{one['severity']}: {one['cause']}" for one in found["above_info"])
    pairs = found["pairs"]
    return [
        name,
        f"{found['images']:,}",
        f"{found['cpu_seconds']:.0f}",
        above or "nothing",
        str(found["equal_pairs"]),
        *(str(pairs[key]) for key in ("named", "same", "different", "not_looked_at")),
    ]


def planted(results: Record) -> Iterator[str]:
    found = {name: one["planted"] for name, one in results["sets"].items() if "planted" in one}
    if not found:
        return
    yield "## Copies, broken files, odd pictures\n"
    rules = list(next(iter(found.values()))["rules"])
    rows = []
    for rule in rules:
        each = [
            f"{one['rules'][rule]['found']} of {one['rules'][rule]['planted']}"
            + (f", {one['rules'][rule]['false']} false" if one["rules"][rule]["false"] else "")
            for one in found.values()
        ]
        total = pooled(results, [rule])
        rows.append([f"`{rule}`", *each, *(interval(total[k]) for k in ("recall", "precision"))])
    yield table(["rule", *found, "recall", "precision"], rows) + "\n"
    yield "Near copies by what was changed, whichever rule named them:\n"
    yield table(["change", *found], by_change(found)) + "\n"


def by_change(found: Mapping[str, Record]) -> list[list[str]]:
    changes = sorted({how for one in found.values() for how in one["near_by_change"]})
    nothing = {"planted": 0, "found": 0}
    return [
        [
            how,
            *(
                "{found} of {planted}".format(**one["near_by_change"].get(how, nothing))
                for one in found.values()
            ),
        ]
        for how in changes
    ]


def labels(results: Record) -> Iterator[str]:
    found = {name: one["labels"] for name, one in results["sets"].items() if "labels" in one}
    if not found:
        return
    yield "## Wrong labels\n"
    yield (
        "The same photographs with some labels replaced: by any other one, or by one other class\n"
        "only, some classes more often than others. cleanlab is given the same probabilities.\n"
        "Everything that was not planted counts as right, natural errors too. Difference: ours\n"
        "minus cleanlab's best filter in that row. One draw of mistakes a row: the intervals hold\n"
        "for other images, not for other mistakes.\n"
    )
    head = ["set", "planted", "estimated", "recall", "precision", "F1"]
    head += ["cleanlab, default", "cleanlab, best", "difference", "without earlier suspects"]
    rows = [label_row(name, one) for name, every in found.items() for one in every]
    yield table(head, rows) + "\n"
    yield (
        "Without earlier suspects: the same difference when images that either tool suspected\n"
        "before anything was planted do not count.\n"
    )


def label_row(name: str, found: Record) -> list[str]:
    ours = found["ours"]
    row = [
        name,
        found["variant"],
        percent(next(iter(found["estimate"].values()), 0.0)),
        interval(ours["recall"]),
        interval(ours["precision"]),
    ]
    every = found["cleanlab"]
    if not every:
        counted = 2 * ours["found"] / max(1, ours["planted"] + ours["found"] + ours["false"])
        return [*row, f"{counted:.2f}", "not installed", "-", "-", "-"]
    default = next(iter(every.values()))["f1"]
    best = max(every, key=lambda key: every[key]["f1"]["theirs"]["value"])
    return [
        *row,
        interval(default["ours"]),
        f"{default['theirs']['value']:.2f}",
        f"{every[best]['f1']['theirs']['value']:.2f} (`{best}`)",
        signed(every[best]["f1"]["difference"]),
        signed(every[best]["f1_without_earlier"]["difference"]),
    ]


def real(results: Record) -> Iterator[str]:
    if "real" not in results:
        return
    rice, dishes = results["real"]["rice"], results["real"]["dishes"]
    yield "## Copies that nobody planted\n"
    equal, copies = rice["equal_files"], dishes["copies"]
    yield (
        f"`rice_leaf3_dups`: {equal['found']} of {equal['planted']} files that equal another one, "
        "byte for byte, are named.\n"
    )
    yield (
        f"`dishes2` as its author left it: {copies['found']} of {copies['planted']} augmented "
        f"copies are named with their original, {copies['false']} named links join different "
        "photographs. By what he did:\n"
    )
    rows = [[how, f"{n['found']} of {n['planted']}"] for how, n in dishes["by_change"].items()]
    yield table(["change", "found"], rows) + "\n"


def scale(results: Record) -> Iterator[str]:
    if "scale" not in results:
        return
    found = results["scale"]
    far = found["extrapolated"]
    yield "## Large sets\n"
    yield (
        f"Distinct tiles of {found['tile']} pixels out of {' and '.join(found['sources'])}, each "
        "size in a process of its own with nothing kept. CPU-seconds of one core:\n"
    )
    phases = list(far["cpu_seconds"])
    rows = [
        [
            f"{run['images']:,}",
            *(f"{run['cpu_seconds'][phase]:.1f}" for phase in phases),
            f"{run['total_cpu_seconds']:.0f}",
            f"{run['compared']:,}",
            str(run["pairs"]),
            f"{run['peak_mb']:,}",
        ]
        for run in found["runs"]
    ]
    rows.append(["grows with n to the", *(f"{far['exponents'][p]:.2f}" for p in phases), *"----"])
    seconds = [f"{far['cpu_seconds'][phase]:,.0f}" for phase in phases]
    total = f"{60 * far['total_cpu_minutes']:,.0f}"
    memory = f"{1000 * far['peak_gb']:,.0f}"
    rows.append([f"{far['images']:,}, extrapolated", *seconds, total, "-", "-", memory])
    head = ["images", *phases, "in all", "compared", "pairs", "peak MB"]
    yield table(head, rows) + "\n"
    yield (
        f"100,000 images: about {far['total_cpu_minutes']:.0f} CPU-minutes and "
        f"{far['peak_gb']:.1f} GB ({met(far['peak_gb'] <= far['most_gb'])}: at most "
        f"{far['most_gb']} GB). `embed` holds the features and the keys of the copies.\n"
    )


def footer(record: Record) -> str:
    machine, load = record["hardware"], record["load_average"]
    versions, chosen = record["versions"], record["settings"]
    return (
        f"{chosen['model']} with `{chosen['weights']}`, {chosen['imgsz']} px, 1 thread, seed "
        f"{chosen['seed']}; {machine['name']}, {machine['cores']} cores, {machine['memory_gb']} "
        f"GB, load {load['before'][0]:g} to {load['after'][0]:g}; torch {versions['torch']}, "
        f"cleanlab {record['cleanlab'] or 'not installed'}, espalier {versions['espalier']} at "
        f"{record['commit']}, {record['date'][:10]}, {record['cpu_seconds']} CPU-seconds. "
        f"`{record['command']}`"
    )


# ---- words


def interval(found: Mapping[str, float] | None) -> str:
    """``0.98 [0.95, 0.99]``."""
    if found is None:
        return "-"
    value, low, high = (cut(found[key]) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def cut(value: float) -> str:
    """Three digits, and 1 only where it is 1: never rounded up to a target."""
    return f"{int(value * 1000 + 1e-6) / 1000:.3f}"


def signed(found: Mapping[str, float]) -> str:
    return f"{found['value']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}]"


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def met(is_met: bool) -> str:
    return "met" if is_met else "missed"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
