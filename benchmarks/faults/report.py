"""The page of the benchmark: figures with intervals beside the targets, and every miss by name."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.faults.judged import Examined
from benchmarks.faults.score import Figures, Share, Verdict

TARGETS = {
    "recall": 0.95,
    "first": 0.80,
    "top3": 0.95,
    "plain": 0.05,
    "tricky": 0.10,
    "repair": 0.80,
}


def page(result: Mapping[str, Any]) -> str:
    """All of it as Markdown."""
    parts = [
        "# Faults: how often the doctor is right\n",
        "Written by `make bench-faults`; do not edit. What the words mean is in\n"
        "[the guide](../../docs/guide/fault-benchmark.md).\n",
        _runs(result),
        _tuned(result),
        _untuned(result.get("untuned")),
        _by_fault(result["by_fault"]),
        _repairs(result.get("repair")),
        _list("Missed or named otherwise", result["misses"]),
        _list("False alarms", result["false_alarms"]),
        _list("Latent changes that raised an alarm (allowed)", result["latent_alarms"]),
        _list("Other tools that were not scored", result["left_out"]),
    ]
    return "\n".join(part for part in parts if part)


def _tuned(result: Mapping[str, Any]) -> str:
    return "## Figures\n\n" + _figures(result["figures"]) if result["counts"]["runs"] else ""


def _runs(result: Mapping[str, Any]) -> str:
    counts = result["counts"]
    if not counts["runs"]:
        return "No run of a recipe that rules were developed on.\n"
    return (
        f"{counts['runs']} runs of {', '.join(result['recipes'])}, seeds "
        f"{', '.join(map(str, result['seeds']))}: {counts['healthy']} healthy "
        f"({counts['plain']} plain), {counts['killed']} with a fault that costs score, "
        f"{counts['invalid']} whose validation misleads, {counts['latent']} with a change that "
        f"does no harm, {counts['compound']} with two faults. "
        f"{counts['cpu_minutes']:.0f} CPU-minutes. The same record gave the same report in "
        f"{counts['same']} of {counts['read']} readings.\n"
    )


def _figures(every: Mapping[str, Mapping[str, Any]]) -> str:
    head = ["", *every, "target"]
    rows = [
        ["faults with an alarm", *(_cell(f, "recall") for f in every.values()), ">= 0.95"],
        ["cause named first", *(_cell(f, "first") for f in every.values()), ">= 0.80"],
        ["cause in first three", *(_cell(f, "top3") for f in every.values()), ">= 0.95"],
        ["false alarms per plain run", *(_alarms(f, "plain") for f in every.values()), "<= 0.05"],
        ["false alarms per look-alike", *(_alarms(f, "tricky") for f in every.values()), "<= 0.10"],
        [
            "two faults: one of them first",
            *(_share(f, "compound_first") for f in every.values()),
            "",
        ],
        [
            "harmless changes with an alarm",
            *(_share(f, "latent_alarmed") for f in every.values()),
            "",
        ],
        ["detected after (median share)", *(_time(f) for f in every.values()), ""],
    ]
    note = (
        "\nShares of faults: the mean over fault types, then over runs with its 95 % interval.\n"
        "Other tools' rules are written anew from their published thresholds and read the same\n"
        "records; a symptom of theirs counts as naming the cause if it could mean it.\n"
    )
    return table(head, rows) + note


def _untuned(found: Mapping[str, Any] | None) -> str:
    """The recipes that no threshold was tuned on: figures, every fault, every false alarm."""
    if not found or not found["counts"]["runs"]:
        return ""
    rows = [
        [line["run"], line["truth"], line["place"], line["wanted"], line["said"]]
        for line in found["said"]
    ]
    head = ["run", "worth", "cause named", "wanted", "said, the first three"]
    parts = [
        f"## Untuned recipe {', '.join(found['recipes'])}\n",
        "No rule was developed on it, and it counts in no figure elsewhere on this page.\n"
        "Wanted is the fault's own rule; another that names the same counts as well.\n",
        _runs(found),
        _figures(found["figures"]),
        table(head, rows),
        _list("Untuned: missed or named otherwise", found["misses"], level=3),
        _list("Untuned: false alarms", found["false_alarms"], level=3),
        _list("Untuned: latent changes with an alarm", found["latent_alarms"], level=3),
    ]
    return "\n".join(parts)


def said(run: Examined, verdict: Verdict) -> dict[str, str]:
    """A fault, what should have been said, and what was."""
    place = next((i for i, n in enumerate(verdict.alarms, 1) if n in verdict.causes), None)
    return {
        "run": verdict.run,
        "truth": verdict.truth,
        "place": "missed" if place is None else "first" if place == 1 else f"number {place}",
        "wanted": " or ".join(run.case.wanted),
        "said": ", ".join(verdict.alarms[:3]) or "nothing",
    }


def _cell(figures: Mapping[str, Any], name: str) -> str:
    return f"**{_number(figures[name + '_by_type'])}**, {_share(figures, name)}"


def _alarms(figures: Mapping[str, Any], name: str) -> str:
    return f"**{_number(figures[name + '_alarms'])}**, runs: {_share(figures, name + '_ill')}"


def _share(figures: Mapping[str, Any], name: str) -> str:
    found = figures[name]
    if not found["of"]:
        return "-"
    return f"{found['hits']}/{found['of']} [{_number(found['low'])}, {_number(found['high'])}]"


def _time(figures: Mapping[str, Any]) -> str:
    value = figures["median_time"]
    return "-" if value is None else f"{value:.0%}"


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.2f}"


def _by_fault(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [
        [
            row["fault"],
            row["catalogue"],
            row["truth"],
            f"{row['alarmed']}/{row['runs']}",
            f"{row['first']}/{row['runs']}",
            f"{row['top3']}/{row['runs']}",
        ]
        for row in rows
    ]
    head = ["fault", "id", "worth", "alarm", "cause first", "in three"]
    return "## Fault by fault\n\n" + table(head, cells) + "\n"


def _repairs(found: Mapping[str, Any] | None) -> str:
    if not found:
        return ""
    rows = [[name, _share(found["arms"], name)] for name in found["arms"]]
    text = "## Repair\n\n" + table(["one extra run", "recovered"], rows) + "\n"
    parts = found.get("by_recipe", {})
    if parts:
        text += "By recipe, ours: " + ", ".join(f"{n} {_share(parts, n)}" for n in parts) + ".\n"
    text += f"Healthy runs left alone: {_share(found, 'no_harm')}.\n"
    return text + "\n" + "\n".join(f"- {line}" for line in found["lines"]) + "\n"


def _list(title: str, lines: Sequence[str], level: int = 2) -> str:
    head = f"{'#' * level} {title}\n\n"
    if not lines:
        return head + "None.\n"
    return head + "\n".join(f"- {line}" for line in lines) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines) + "\n"


def miss(run: Examined, verdict: Verdict) -> str:
    """One line on a fault that was not named first: what was said instead."""
    said = [f"{f.rule} ({f.severity}): {f.cause}" for f in run.said[:3]]
    quiet = _why_quiet(run, verdict.causes)
    text = f"{verdict.run} ({verdict.truth}): wanted {verdict.causes[0]}"
    text += f" [{quiet}]" if quiet else ""
    return text + "; said " + ("; ".join(said) if said else "nothing")


def _why_quiet(run: Examined, causes: Sequence[str]) -> str:
    """Where the wanted rule is in the report, if it did not come first."""
    if run.report is None:
        return f"no record: {run.unread}"
    place = next((i for i, f in enumerate(run.report.findings) if f.rule == causes[0]), None)
    if place is not None:
        return f"it is number {place + 1}, {run.report.findings[place].severity}"
    skipped = next((s.reason for s in run.report.skipped if s.rule == causes[0]), None)
    return f"skipped: {skipped}" if skipped else "clear"


def plain(figures: Figures) -> dict[str, Any]:
    """Figures as JSON knows them."""
    found = dataclasses.asdict(figures)
    return {name: _plain(value) for name, value in found.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, Share):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 4)
    return value


def plain_share(found: Share) -> dict[str, Any]:
    """A share as JSON knows it."""
    known: dict[str, Any] = _plain(found)
    return known
