"""What a run of ours knew before its first step: its baseline, its audit, its dead units."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from espalier.audited import AT_LEAST, WRONG_LABELS
from espalier.run_record import Preflight
from espalier.runs import RunDir

_ODD = (KeyError, TypeError, ValueError, ZeroDivisionError)


def json_object(path: Path) -> dict[str, Any]:
    """What a file holds; empty where it is missing, damaged, or something else than an object."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else {}
    return {}


def with_baseline(tried: Preflight | None, run: RunDir | None) -> Preflight:
    """What was tried, and the linear head of the baseline where no other was."""
    tried = tried or Preflight()
    if run is None or tried.probe_accuracy is not None:
        return tried
    baseline = json_object(run.baseline_file)
    with contextlib.suppress(*_ODD):
        counts = [int(entry["support"]) for entry in baseline["per_class"]]
        accuracy, chance = float(baseline["accuracy"]), max(counts) / sum(counts)
        return replace(tried, probe_accuracy=accuracy, probe_chance=chance)
    return tried


def suspect_share(run: RunDir | None) -> float | None:
    """The least share of wrong labels that the audit before training is sure of; None: unknown.

    0 where it looked and found nothing worth saying.
    """
    if run is None:
        return None
    audit = json_object(run.audit_file)
    with contextlib.suppress(*_ODD):
        for finding in audit.get("findings", ()):
            if finding["rule"] == WRONG_LABELS:
                figures = {one["name"]: one["value"] for one in finding["evidence"]}
                return float(figures[AT_LEAST])
        return 0.0 if WRONG_LABELS in audit.get("clear", ()) else None
    return None


def start_dead(said: Mapping[str, Any]) -> dict[str, float]:
    """Part -> share of its channels that were hardly ever active before it first learned."""
    start = said.get("start")
    shares = start.get("dead") if isinstance(start, Mapping) else None
    known = shares.items() if isinstance(shares, Mapping) else ()
    return {str(part): float(share) for part, share in known if isinstance(share, int | float)}
