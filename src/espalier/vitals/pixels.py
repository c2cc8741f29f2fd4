"""What a network is given: means, spreads and extremes of up to 256 images of a split."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from espalier.run_record import SplitPixels

PIXEL_IMAGES = 256
REDRAWN_IMAGES = 16
DRAWS = 3


def spread_positions(count: int, most: int) -> list[int]:
    """Up to ``most`` of ``count`` positions, evenly spread: data sets are often sorted by class."""
    wanted = min(count, most)
    return [place * count // wanted for place in range(wanted)]


class PixelSums:
    """Sums over images as they come, per channel."""

    def __init__(self) -> None:
        self.images = self.non_finite = self.constant = self.values = 0
        self.total = self.squares = torch.zeros(0, dtype=torch.float64)
        self.low, self.high = math.inf, -math.inf
        self.size: tuple[int, int] | None = None

    def add(self, images: Tensor) -> None:
        """Count images [B, C, H, W]; of those that are not finite only their number."""
        images = images.detach().cpu().float()
        flat = images.flatten(1)
        finite = torch.isfinite(flat).all(dim=1)
        self.images += len(images)
        self.non_finite += int((~finite).sum())
        self.constant += int((flat.amax(dim=1) == flat.amin(dim=1)).sum())
        self.size = (images.shape[-2], images.shape[-1])
        sound = images[finite].double()
        if not len(sound):
            return
        axes = [0, *range(2, sound.ndim)]
        total, squares = sound.sum(dim=axes), sound.square().sum(dim=axes)
        self.total = total if not len(self.total) else self.total + total
        self.squares = squares if not len(self.squares) else self.squares + squares
        self.values += sound.numel() // sound.shape[1]
        self.low, self.high = min(self.low, float(sound.min())), max(self.high, float(sound.max()))

    @property
    def mean(self) -> tuple[float, ...]:
        """Per channel."""
        return tuple((self.total / max(1, self.values)).tolist())

    @property
    def std(self) -> tuple[float, ...]:
        """Per channel."""
        mean = self.total / max(1, self.values)
        return tuple((self.squares / max(1, self.values) - mean**2).clamp_min(0).sqrt().tolist())


def split_pixels(
    batches: Iterable[Tensor],
    draws: Sequence[Tensor] = (),
    *,
    seen: Callable[[Tensor], Tensor] | None = None,
    raw: Callable[[Tensor], Tensor] | None = None,
) -> SplitPixels | None:
    """What images of one split are; None where there are none.

    Args:
        batches: Of images [B, C, H, W].
        draws: The same few images, drawn several times by the transform.
        seen: From images to what the network gets; None: they are that.
        raw: From images to pixels in [0, 1]; None: nobody knows.
    """
    sums, plain = PixelSums(), PixelSums()
    seen = seen or _as_they_are
    for images in batches:
        sums.add(seen(images))
        if raw is not None:
            plain.add(raw(images))
    if not sums.images:
        return None
    known = raw is not None
    return SplitPixels(
        images=sums.images,
        mean=sums.mean,
        std=sums.std,
        low=sums.low,
        high=sums.high,
        non_finite=sums.non_finite,
        constant=sums.constant,
        raw_mean=plain.mean if known else None,
        raw_std=plain.std if known else None,
        redraw_change=redraw_change([seen(draw) for draw in draws], sums.std),
        size=sums.size,
    )


def _as_they_are(images: Tensor) -> Tensor:
    return images


def redraw_change(draws: Sequence[Tensor], std: Sequence[float]) -> float | None:
    """Mean absolute difference between draws, in standard deviations; None without two alike."""
    if len(draws) < 2 or any(draw.shape != draws[0].shape for draw in draws) or not std:
        return None
    spread = sum(std) / len(std)
    pairs = [(a.float() - b.float()).abs().mean() for a, b in pairwise(draws)]
    change = float(torch.stack(pairs).mean())
    return change / spread if spread > 0 else change
