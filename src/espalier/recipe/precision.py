"""Which number format and memory layout to compute in: measured on a CPU, known elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

# Below these the difference may be noise, and noise must not flip the choice between two runs of
# the same command. A flip to bf16 alters results, one of the layout only their last digits.
BF16_GAIN = 1.25
PLAIN_LAYOUT_GAIN = 1.1

_WAYS = {
    ("fp32", False): "fp32",
    ("fp32", True): "fp32-channels-last",
    ("bf16", True): "bf16-channels-last",
}


class Way(NamedTuple):
    """A way to compute, and why this one."""

    precision: str
    channels_last: bool
    reason: str


def on_cuda(precision: str, channels_last: bool | str, *, has_bf16: bool) -> Way:
    """What suits an NVIDIA GPU, within what is already fixed (``auto`` is not)."""
    chosen, reason = precision, "the precision is given"
    if precision == "auto":
        chosen = "bf16" if has_bf16 else "fp16"
        reason = (
            "tensor cores, and the range of fp32: needs no loss scaling"
            if has_bf16
            else "tensor cores; this GPU computes no bf16"
        )
    last = chosen != "fp32" if channels_last == "auto" else bool(channels_last)
    return Way(chosen, last, reason)


def on_mps(precision: str, channels_last: bool | str) -> Way:
    """What suits an Apple GPU: plain fp32, as mixed precision brings nothing reliable there."""
    return Way(
        "fp32" if precision == "auto" else precision,
        False if channels_last == "auto" else bool(channels_last),
        "mixed precision is off on Apple GPUs",
    )


def on_cpu(precision: str, channels_last: bool | str, seconds: Mapping[str, float] | None) -> Way:
    """The fastest way on this CPU, within what is already fixed (``auto`` is not).

    Args:
        precision: ``auto``, ``fp32`` or ``bf16``.
        channels_last: ``auto`` or fixed.
        seconds: Way -> measured seconds per image of a training step; None: not measured.
    """
    open_ways = {
        way: name
        for way, name in _WAYS.items()
        if precision in ("auto", way[0]) and channels_last in ("auto", way[1])
    }
    known = seconds or {}
    measured = {way: known[name] for way, name in open_ways.items() if name in known}
    if not measured:
        chosen = "fp32" if precision == "auto" else precision
        last = True if channels_last == "auto" else bool(channels_last)
        return Way(chosen, last, "not measured; right on every CPU, and seldom the slower one")
    way = _fastest(measured)
    times = ", ".join(f"{_WAYS[w]} {1000 * s:.3g} ms" for w, s in measured.items())
    return Way(*way, f"measured per image: {times}")


def _fastest(measured: Mapping[tuple[str, bool], float]) -> tuple[str, bool]:
    """The fastest way by a clear margin; without one fp32, and channels-last."""
    plain, last, half = ("fp32", False), ("fp32", True), ("bf16", True)
    full = [way for way in (last, plain) if way in measured]
    if not full:
        return half
    best = full[0]
    if len(full) == 2 and measured[last] > PLAIN_LAYOUT_GAIN * measured[plain]:
        best = plain
    fastest = min(measured[way] for way in full)
    if half in measured and measured[half] * BF16_GAIN <= fastest:
        return half
    return best
