"""What each rule has earned in the runs that were scored, as ``earned.json`` holds it.

``python -m benchmarks.faults --earn FILE`` writes it; the file that the doctor reads is
``src/espalier/diagnose/earned.json``, made from development seeds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.faults.judged import Examined
from benchmarks.faults.score import Truth
from espalier.diagnose.doctor import alarms, examine, known_rules


def earned(runs: Sequence[Examined], truth: Mapping[tuple[str, str, int], Truth]) -> dict[str, Any]:
    """How often every rule alarmed, with nobody telling it how loud it may be."""
    ill, right, healthy = Counter[str](), Counter[str](), Counter[str]()
    healthy_runs = 0
    for run in runs:
        if run.record is None:
            continue
        case, spoke = run.case, _spoke(run)
        if truth[case.recipe, case.name, case.severity] == "healthy":
            healthy_runs += 1
            healthy.update(spoke)
        else:
            ill.update(spoke)
            right.update(name for name, is_right in spoke.items() if is_right)
    return {
        "recipes": sorted({run.case.recipe for run in runs}),
        "seeds": sorted({run.case.seed for run in runs}),
        "healthy_runs": healthy_runs,
        "rules": {
            rule.name: {
                "ill": ill[rule.name],
                "right": right[rule.name],
                "healthy": healthy[rule.name],
            }
            for rule in sorted(known_rules(), key=lambda rule: rule.name)
        },
    }


def _spoke(run: Examined) -> dict[str, bool]:
    """Rule that alarmed -> whether it names the fault, or follows from one that does."""
    assert run.record is not None
    said = alarms(examine(run.record, earned={}).findings)
    causes = set(run.case.causes)
    follow = {name for finding in said if finding.rule in causes for name in finding.consequences}
    return {finding.rule: finding.rule in causes | follow for finding in said}
