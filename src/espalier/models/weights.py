"""Starting weights from a local file: matched to the backbone, and accounted for key by key."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from espalier.errors import WeightsError
from espalier.models.weight_files import read_weights

MATCHED_SHARE_NEEDED = 0.9
_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "encoder.")


@dataclass(frozen=True)
class KeyReport:
    """What became of every tensor when a weights file met a backbone.

    Batch counters of BatchNorm and index tables are left out: only tensors of real numbers count.

    Attributes:
        source: The file.
        matched: Tensors of the backbone that were filled.
        total: Tensors of the backbone.
        matched_values: Numbers in the matched tensors.
        total_values: Numbers in all tensors of the backbone.
        missing: Names in the backbone, not in the file.
        unexpected: Names in the file, not in the backbone.
        mismatched: ``name: file [2, 3], model [2, 4]`` where the shapes differ.
        ignored: Names of the file's own classifier, which is not used.
    """

    source: str
    matched: int
    total: int
    matched_values: int
    total_values: int
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Matched share of the backbone, by tensors or by numbers, whichever is smaller."""
        by_tensors = self.matched / max(self.total, 1)
        by_values = self.matched_values / max(self.total_values, 1)
        return min(by_tensors, by_values)

    def to_json(self) -> dict[str, Any]:
        """All fields and the share, as plain values."""
        return {**dataclasses.asdict(self), "share": self.share}

    def __str__(self) -> str:
        counts = (
            ("missing", self.missing),
            ("of another shape", self.mismatched),
            ("unexpected", self.unexpected),
            ("classifier, not used", self.ignored),
        )
        rest = "".join(f"; {len(names)} {what}" for what, names in counts if names)
        return f"{self.matched} of {self.total} tensors matched ({self.share:.1%}){rest}"


def load_backbone_weights(backbone: nn.Module, source: str | Path) -> KeyReport:
    """Fills a backbone from a local file and says what became of every key.

    Prefixes of wrappers (``module.``, ``backbone.``, ...) are taken off; position tables of
    another image size are resized by timm's own rule; a classifier in the file is ignored.

    Raises:
        WeightsError: The file cannot be read safely, or fills less than 90 % of the backbone.
    """
    path = Path(source).expanduser()
    found, ignored = _without_classifier(read_weights(path), backbone)
    wanted = _real_tensors(backbone.state_dict())
    found = _fitted(_unprefixed(found, wanted), backbone, wanted)
    fitting = {
        name: tensor
        for name, tensor in found.items()
        if name in wanted and tensor.shape == wanted[name].shape
    }
    report = _report(path, found, wanted, fitting, ignored)
    _require_match(report)
    _require_finite(path, fitting)
    backbone.load_state_dict(fitting, strict=False)
    return report


def _unprefixed(found: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Takes off the prefixes of wrappers that most names carry and the backbone does not know."""
    while True:
        wrapper = next((p for p in _PREFIXES if _is_wrapper(p, found, wanted)), None)
        if wrapper is None:
            return found
        found = {name.removeprefix(wrapper): tensor for name, tensor in found.items()}


def _is_wrapper(prefix: str, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    carried = sum(name.startswith(prefix) for name in found)
    return 2 * carried > len(found) and not any(name.startswith(prefix) for name in wanted)


def _real_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}


def _without_classifier(
    found: dict[str, Tensor], backbone: nn.Module
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Splits off the file's classifier: timm's, or the head beside a backbone."""
    settings: Mapping[str, Any] = getattr(backbone, "pretrained_cfg", None) or {}
    named = settings.get("classifier") or ()
    layers = (named,) if isinstance(named, str) else tuple(named)
    ends = tuple(f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias"))
    own = any(name.startswith("backbone.") for name in found)
    ignored = tuple(
        name
        for name in found
        if (own and name.startswith("head.")) or _bare(name) in ends or name in ends
    )
    return {name: found[name] for name in found if name not in ignored}, ignored


def _bare(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _fitted(
    found: dict[str, Tensor], backbone: nn.Module, wanted: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Lets timm's own rule for this family rename and resize what does not fit as it is."""
    if all(name in found and found[name].shape == wanted[name].shape for name in wanted):
        return _real_tensors(found)
    rule = getattr(sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None)
    if rule is None:
        return _real_tensors(found)
    try:
        changed = dict(rule(dict(found), backbone))
    except (KeyError, RuntimeError, ValueError, TypeError, AttributeError, AssertionError):
        return _real_tensors(found)
    tensors = {name: value for name, value in changed.items() if isinstance(value, Tensor)}
    better = len(tensors.keys() & wanted.keys()) >= len(found.keys() & wanted.keys())
    return _real_tensors(tensors if better else found)


def _report(
    path: Path,
    found: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    fitting: Mapping[str, Tensor],
    ignored: tuple[str, ...],
) -> KeyReport:
    differing = [name for name in wanted if name in found and name not in fitting]
    return KeyReport(
        source=str(path),
        matched=len(fitting),
        total=len(wanted),
        matched_values=sum(tensor.numel() for tensor in fitting.values()),
        total_values=sum(tensor.numel() for tensor in wanted.values()),
        missing=tuple(name for name in wanted if name not in found),
        unexpected=tuple(name for name in found if name not in wanted),
        mismatched=tuple(
            f"{name}: file {list(found[name].shape)}, model {list(wanted[name].shape)}"
            for name in differing
        ),
        ignored=ignored,
    )


def _require_match(report: KeyReport) -> None:
    if report.share >= MATCHED_SHARE_NEEDED:
        return
    problems = [
        *_some("other shape", report.mismatched),
        *_some("missing in the file", report.missing),
        *_some("not in the model", report.unexpected),
    ]
    raise WeightsError(
        f"{report.source} fills {report.share:.1%} of the backbone ({report.matched} of "
        f"{report.total} tensors); at least {MATCHED_SHARE_NEEDED:.0%} must match.",
        hint="--model with the model these weights belong to, or --weights none",
        problems=problems,
    )


def _some(what: str, names: tuple[str, ...], limit: int = 4) -> list[str]:
    shown = [f"{what}: {name}" for name in names[:limit]]
    more = [f"{what}: ... {len(names) - limit} more"] if len(names) > limit else []
    return shown + more


def _require_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    broken = tuple(name for name, tensor in tensors.items() if not tensor.isfinite().all())
    if broken:
        raise WeightsError(
            f"{path} holds NaN or infinite values in {len(broken)} tensors.",
            hint="use an earlier file of that training",
            problems=_some("not finite", broken),
        )
