"""Figures of the benchmark: what counts as a fault, a hit, a false alarm, and how sure each is."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

from scipy import stats

from espalier.run_record import RunRecord

LEAST_LOSS = 0.02
LEAST_LIE = 0.03
SIGNIFICANT = 0.05
Truth = Literal["killed", "invalid", "latent", "healthy", "undecided"]


@dataclass(frozen=True)
class Share:
    """So many of so many, with a 95 % interval."""

    hits: int
    of: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share itself; NaN of nothing."""
        return self.hits / self.of if self.of else math.nan


def share(hits: int, of: int) -> Share:
    """Wilson's interval; with no hit at all the rule of three bounds it from above.

    Source: Wilson 1927; Hanley and Lippman-Hand 1983.
    """
    if not of:
        return Share(0, 0, math.nan, math.nan)
    z = 1.959963984540054
    p = hits / of
    middle = (p + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of))
    if hits == 0:
        return Share(0, of, 0.0, min(1.0, 3 / of))
    if hits == of:
        return Share(of, of, max(0.0, 1 - 3 / of), 1.0)
    return Share(hits, of, middle - half, middle + half)


def worse(faulty: Sequence[float], healthy: Sequence[float]) -> float:
    """One-sided p-value that faulty runs score less than healthy ones.

    Welch's test; of a single faulty run, whether it lies below the prediction interval of the
    healthy ones.
    """
    gap = fmean(healthy) - fmean(faulty)
    if len(healthy) < 2:
        return math.nan
    spread = stdev(healthy)
    if len(faulty) == 1:
        if spread == 0:
            return 0.0 if gap > 0 else 1.0
        t = gap / (spread * math.sqrt(1 + 1 / len(healthy)))
        return float(stats.t.sf(t, len(healthy) - 1))
    if spread == 0 and stdev(faulty) == 0:
        return 0.0 if gap > 0 else 1.0
    found = stats.ttest_ind(faulty, healthy, equal_var=False, alternative="less")
    return float(found.pvalue)


def truth_of(
    faulty: Sequence[tuple[float, float, float]],
    healthy: Sequence[tuple[float, float, float]],
    *,
    died: bool = False,
) -> Truth:
    """Whether an injected change is a fault at all.

    Args:
        faulty: Per seed: test macro-F1, test accuracy, validation accuracy as the run reports it.
        healthy: The same of plain healthy runs of that recipe.
        died: The run came to no end.
    """
    if died or not faulty:
        return "killed"
    if len(healthy) < 2:
        return "undecided"
    lost = fmean(score for score, _, _ in healthy) - fmean(score for score, _, _ in faulty)
    p = worse([score for score, _, _ in faulty], [score for score, _, _ in healthy])
    if lost >= LEAST_LOSS and p < SIGNIFICANT:
        return "killed"
    lies = [fmean(told - true for _, true, told in runs) for runs in (faulty, healthy)]
    # Validation chose the epoch and is small: healthy runs, too, report a little too much.
    return "invalid" if abs(lies[0] - lies[1]) >= LEAST_LIE else "latent"


@dataclass(frozen=True)
class Verdict:
    """What somebody's rules said of one run.

    Attributes:
        run: Title of the run.
        recipe: Of the run.
        fault: Name of the injected change or the control.
        truth: What the change was worth.
        tricky: A healthy run that looks ill.
        causes: Names that count as the cause.
        alarms: Names of what was said, warnings and worse, first guess first.
        detected_at: Share of the run after which the right cause was first named first; None:
            never, or not looked for.
        compound: Two faults at once.
    """

    run: str
    recipe: str
    fault: str
    truth: Truth
    tricky: bool
    causes: tuple[str, ...]
    alarms: tuple[str, ...]
    detected_at: float | None = None
    compound: bool = False

    def named_within(self, places: int) -> bool:
        """Whether the cause is among the first so many alarms."""
        return any(name in self.causes for name in self.alarms[:places])


@dataclass(frozen=True)
class Figures:
    """All figures of one set of rules; shares over fault types are means of shares per type."""

    recall: Share
    recall_by_type: float
    first: Share
    first_by_type: float
    top3: Share
    top3_by_type: float
    plain_ill: Share
    plain_alarms: float
    tricky_ill: Share
    tricky_alarms: float
    latent_alarmed: Share
    compound_first: Share
    median_time: float | None


def figures(verdicts: Iterable[Verdict]) -> Figures:
    """The table of one set of rules."""
    every = list(verdicts)
    faults = [v for v in every if v.truth in ("killed", "invalid") and not v.compound]
    plain = [v for v in every if v.truth == "healthy" and not v.tricky]
    tricky = [v for v in every if v.truth == "healthy" and v.tricky]
    latent = [v for v in every if v.truth == "latent"]
    pairs = [v for v in every if v.compound]
    recall, recall_by = _both(faults, lambda v: bool(v.alarms))
    first, first_by = _both(faults, lambda v: v.named_within(1))
    top3, top3_by = _both(faults, lambda v: v.named_within(3))
    times = sorted(v.detected_at for v in faults if v.detected_at is not None)
    return Figures(
        recall=recall,
        recall_by_type=recall_by,
        first=first,
        first_by_type=first_by,
        top3=top3,
        top3_by_type=top3_by,
        plain_ill=_count(plain, lambda v: bool(v.alarms)),
        plain_alarms=_mean(len(v.alarms) for v in plain),
        tricky_ill=_count(tricky, lambda v: bool(v.alarms)),
        tricky_alarms=_mean(len(v.alarms) for v in tricky),
        latent_alarmed=_count(latent, lambda v: bool(v.alarms)),
        compound_first=_count(pairs, lambda v: v.named_within(1)),
        median_time=times[len(times) // 2] if times else None,
    )


def _both(verdicts: Sequence[Verdict], hit: Callable[[Verdict], bool]) -> tuple[Share, float]:
    """Over all runs, and the mean over fault types."""
    by_type: Mapping[str, list[bool]] = _grouped(verdicts, hit)
    return _count(verdicts, hit), _mean(fmean(found) for found in by_type.values())


def _grouped(
    verdicts: Sequence[Verdict], hit: Callable[[Verdict], bool]
) -> Mapping[str, list[bool]]:
    found: dict[str, list[bool]] = defaultdict(list)
    for verdict in verdicts:
        found[verdict.fault].append(hit(verdict))
    return found


def _count(verdicts: Sequence[Verdict], hit: Callable[[Verdict], bool]) -> Share:
    return share(sum(hit(verdict) for verdict in verdicts), len(verdicts))


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return fmean(found) if found else math.nan


def truncated(record: RunRecord, epochs: int) -> RunRecord:
    """The record as it stood after so many epochs."""
    if epochs >= len(record.epochs):
        return record
    kept = record.epochs[:epochs]
    last = kept[-1].step if kept else None
    steps = tuple(s for s in record.steps if last is None or s.step <= last)
    losses = record.sample_losses
    return dataclasses.replace(
        record,
        epochs=kept,
        steps=steps,
        confusion=None,
        facts=dataclasses.replace(record.facts, kept_epoch=None),
        sample_losses=None if losses is None else {k: v[:epochs] for k, v in losses.items()},
        suspect_share=None,
        ended="running",
    )


def detection_time(
    record: RunRecord, causes: Sequence[str], first_alarm: Callable[[RunRecord], str | None]
) -> float | None:
    """Share of the run after which the right cause is named first, and stays so to the end."""
    whole = len(record.epochs)
    since: int | None = None
    for epochs in range(1, whole + 1):
        right = first_alarm(truncated(record, epochs)) in causes
        since = (since or epochs) if right else None
    return None if since is None else since / whole
