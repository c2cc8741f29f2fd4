"""What is tried once before the first step: the untrained network, and a linear head on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from espalier.run_record import HeadTrial, Preflight
from espalier.vitals.datasets import Split, same_generators
from espalier.vitals.linear_head import looks_of
from espalier.vitals.network import sums_to_one
from espalier.vitals.pixels import spread_positions
from espalier.vitals.probing import PROBE_IMAGES, FixedProbe, Forward, ProbeFigures
from espalier.vitals.untouched import same_modes, same_randomness

_BATCH = 64


def preflight(
    model: nn.Module, probe: FixedProbe, found: ProbeFigures, drawn: Split | None
) -> Preflight:
    """What is known before the first step.

    Args:
        model: The network as it begins.
        probe: Training images as validation sees them.
        found: What the network makes of them.
        drawn: Training images as training draws them; None where nothing is drawn, or nobody knows.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with torch.no_grad(), same_randomness(device), same_modes(model):
        model.eval()
        head = _head(model, probe.forward, device, lambda: _chunks(probe.images, probe.labels))
        drawn_head = None
        if head is not None and drawn is not None:
            with same_generators(drawn.dataset):
                drawn_head = _head(model, probe.forward, device, lambda: _drawn(drawn))
    return Preflight(
        initial_loss=found.loss if math.isfinite(found.loss) else None,
        output_sums_to_one=None if found.outputs is None else sums_to_one(found.outputs),
        head=head,
        drawn_head=drawn_head,
    )


Labelled = Iterator[tuple[Tensor, Tensor]]


def _head(
    model: nn.Module, forward: Forward, device: torch.device, batches: Callable[[], Labelled]
) -> HeadTrial | None:
    """How a linear head does on labelled images; None where they cannot be looked at."""
    labels: list[Tensor] = []

    def images() -> Iterator[Tensor]:
        for pictures, names in batches():
            labels.append(names)
            yield pictures.to(device)

    try:
        looks = looks_of(images(), model, forward)
    except (RuntimeError, ValueError, KeyError, IndexError, TypeError):
        # Items of another form than the probe's, or images that this network does not take.
        return None
    return looks.head(torch.cat(labels).cpu().long().numpy()) if labels else None


def _chunks(images: Tensor, labels: Tensor) -> Labelled:
    yield from zip(torch.split(images, _BATCH), torch.split(labels, _BATCH), strict=True)


def _drawn(split: Split) -> Labelled:
    chosen = spread_positions(len(split), PROBE_IMAGES)
    for first in range(0, len(chosen), _BATCH):
        items = [split.dataset[index] for index in chosen[first : first + _BATCH]]
        images = torch.stack([torch.as_tensor(item[0]) for item in items])
        yield images, torch.as_tensor([int(item[1]) for item in items])
