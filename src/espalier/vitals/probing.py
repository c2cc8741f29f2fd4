"""The clean-train probe: the same few training images every epoch, in both modes of the network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from espalier.vitals.activity import ActivityWatch
from espalier.vitals.pixels import spread_positions
from espalier.vitals.untouched import same_buffers, same_modes, same_randomness

PROBE_IMAGES = 512
BUSY_IMAGES = 64
Losses = npt.NDArray[np.float64]
Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ProbeFigures:
    """What the probe says after an epoch; NaN where it could not be measured.

    Attributes:
        losses: Plain cross-entropy of each image in evaluation mode [N].
        accuracy: In evaluation mode.
        outputs: Logits of the first batch in evaluation mode.
        busy_loss: Of the first images, in training mode.
        busy_accuracy: Of the first images, in training mode.
        dead: Part -> share of channels that are hardly ever active.
    """

    losses: Losses
    accuracy: float
    outputs: Tensor | None = None
    busy_loss: float = math.nan
    busy_accuracy: float = math.nan
    dead: Mapping[str, float] = field(default_factory=dict)

    @property
    def loss(self) -> float:
        """Mean in evaluation mode; NaN of no images."""
        return float(self.losses.mean()) if len(self.losses) else math.nan


def loss_quantiles(losses: npt.ArrayLike) -> tuple[float, float, float] | None:
    """Median, 90 and 99 % quantile; None of no losses, or where one is not finite."""
    values = np.asarray(losses, dtype=np.float64)
    if not len(values) or not np.isfinite(values).all():
        return None
    low, middle, high = np.quantile(values, (0.5, 0.9, 0.99)).tolist()
    return low, middle, high


def image_losses(logits: npt.ArrayLike, labels: npt.ArrayLike) -> Losses:
    """Plain cross-entropy of each image [N] from logits [N, K], in float64."""
    values = np.asarray(logits, dtype=np.float64)
    top = values.max(axis=1, keepdims=True)
    normalised = top[:, 0] + np.log(np.exp(values - top).sum(axis=1))
    losses: Losses = normalised - values[np.arange(len(values)), np.asarray(labels)]
    return losses


def busy_figures(
    model: nn.Module, train: Callable[[], object], forward: Callable[[], Tensor], labels: Tensor
) -> tuple[float, float]:
    """Loss and accuracy of a few images in training mode, without any trace of it.

    Statistics of BatchNorm, modes and random numbers are afterwards what they were. NaN for fewer
    than two images, on which BatchNorm cannot train.

    Args:
        model: What runs.
        train: Puts it into the modes of training, and seeds what is random in them.
        forward: Its logits [B, K].
        labels: Class indices [B].
    """
    if len(labels) < 2:
        return math.nan, math.nan
    with (
        torch.no_grad(),
        same_randomness(labels.device),
        same_modes(model),
        same_buffers(model),
    ):
        train()
        logits = forward().float().cpu().numpy()
    known = labels.cpu().numpy()
    loss = float(image_losses(logits, known).mean())
    return loss, float((logits.argmax(axis=1) == known).mean())


class FixedProbe:
    """Fixed images of anybody's loop, run through its network after every epoch.

    Args:
        images: As validation sees them [N, ...].
        labels: Class indices [N].
        forward: Logits [B, K] of images on the device.
        batch: Images per forward pass in evaluation mode.
    """

    def __init__(self, images: Tensor, labels: Tensor, forward: Forward, batch: int = 64) -> None:
        self.images = images[:PROBE_IMAGES]
        self.labels = labels[:PROBE_IMAGES].cpu().long()
        self.forward = forward
        self.batch = batch

    def measure(
        self,
        model: nn.Module,
        parts: Mapping[str, Sequence[Tensor]],
        modes: Mapping[nn.Module, bool],
        seed: int,
    ) -> ProbeFigures:
        """Run the images in evaluation mode, and the first of them in training mode.

        Args:
            model: The network.
            parts: Part name -> parameters.
            modes: Module -> its mode in training; without any, training mode everywhere.
            seed: Of what is random in training mode.
        """
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        watch = ActivityWatch(model, parts)
        with torch.no_grad(), same_randomness(device), same_modes(model):
            model.eval()
            outputs = list(self._evaluated(device, watch))
        logits = torch.cat(outputs).numpy()
        busy = self._busy(model, modes, device, seed)
        known = self.labels.numpy()
        return ProbeFigures(
            losses=image_losses(logits, known),
            accuracy=float((logits.argmax(axis=1) == known).mean()),
            outputs=outputs[0],
            busy_loss=busy[0],
            busy_accuracy=busy[1],
            dead=watch.dead(),
        )

    def _evaluated(self, device: torch.device, watch: ActivityWatch) -> Iterator[Tensor]:
        for first in range(0, len(self.images), self.batch):
            images = self.images[first : first + self.batch].to(device)
            if first == 0:
                with watch.watching():
                    yield self.forward(images).float().cpu()
            else:
                yield self.forward(images).float().cpu()

    def _busy(
        self, model: nn.Module, modes: Mapping[nn.Module, bool], device: torch.device, seed: int
    ) -> tuple[float, float]:
        # Spread over all: in a probe sorted by class the first ones are of one class.
        chosen = spread_positions(len(self.images), BUSY_IMAGES)
        images = self.images[chosen].to(device)

        def train() -> None:
            model.train()
            for module, training in modes.items():
                module.training = training
            torch.manual_seed(seed)

        labels = self.labels[chosen].to(device)
        return busy_figures(model, train, lambda: self.forward(images), labels)
