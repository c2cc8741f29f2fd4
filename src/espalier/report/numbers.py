"""Numbers as a person reads them: durations, sizes, counts, scores with intervals."""

from __future__ import annotations

import math

from espalier.records import Score


def duration(seconds: float) -> str:
    """``0.4 s``, ``38 s``, ``4 min 05 s``, ``2 h 03 min``, ``3 d 04 h``; ``?`` if unknown."""
    if not math.isfinite(seconds):
        return "?"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24:02d} h"


def clock(seconds: float) -> str:
    """A duration in at most six characters: ``28.3s``, ``4m05s``, ``2h03m``; ``-`` if unknown."""
    if not math.isfinite(seconds):
        return "-"
    if seconds < 99.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    minutes = round(seconds / 60)
    return f"{minutes // 60}h{minutes % 60:02d}m"


def size(count: float) -> str:
    """Bytes with the unit that leaves one to three digits before the point: ``14.2 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB" if count < 1000 else f"{count:,.0f} TB"


def millions(count: int) -> str:
    """Parameters: ``820``, ``45 k``, ``2.22 M``, ``304 M``."""
    if count < 1000:
        return str(count)
    if count < 999_500:
        return f"{count / 1e3:.3g} k"
    return f"{count / 1e6:.3g} M" if count < 99.95e6 else f"{count / 1e6:,.0f} M"


def score_text(score: Score) -> str:
    """``0.934 [0.913, 0.951]``, or the value alone where there is no interval."""
    if score.low is None or score.high is None:
        return f"{score.value:.3f}"
    return f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"


def rate_text(rate: float) -> str:
    """A learning rate in seven characters: ``1.0e-03``; ``-`` for none."""
    return f"{rate:.1e}" if math.isfinite(rate) and rate > 0 else "-"


def plain(value: float | None, form: str = ".3f") -> str:
    """A number in a given form; ``-`` where it is not known or not finite."""
    return "-" if value is None or not math.isfinite(value) else format(value, form)
