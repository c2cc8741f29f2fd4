"""Mixup and CutMix: each image mixed with another of its batch, the labels in the same shares."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F


def mix(
    images: torch.Tensor,
    targets: torch.Tensor,
    classes: int,
    mixup_alpha: float,
    cutmix_alpha: float,
    rng: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix each image with another of the batch; one share and one partner order per batch.

    With both alphas above 0 the batch gets mixup or CutMix with equal chance; with none it comes
    back as it is, its targets one-hot. Sources: Zhang et al. 2018, arXiv:1710.09412 (mixup);
    Yun et al. 2019, arXiv:1905.04899 (CutMix).

    Args:
        images: Normalised floats [B, 3, H, W]; not written to.
        targets: Class indices, int64 [B].
        classes: K.
        mixup_alpha: Both parameters of mixup's Beta distribution; 0 is off.
        cutmix_alpha: The same for CutMix.
        rng: All randomness.

    Returns:
        Images [B, 3, H, W] and soft targets [B, K] in the images' type, rows summing to 1.
    """
    soft = F.one_hot(targets, classes).to(images.dtype)
    chosen = [name for name, a in (("mixup", mixup_alpha), ("cutmix", cutmix_alpha)) if a > 0]
    if not chosen:
        return images, soft
    kind = chosen[int(rng.integers(len(chosen)))]
    alpha = mixup_alpha if kind == "mixup" else cutmix_alpha
    share = float(rng.beta(alpha, alpha))
    partners = torch.from_numpy(rng.permutation(len(images))).to(images.device)
    if kind == "mixup":
        mixed = torch.lerp(images[partners], images, share)
    else:
        mixed, share = _paste(images, partners, share, rng)
    return mixed, torch.lerp(soft[partners], soft, share)


def _paste(
    images: torch.Tensor, partners: torch.Tensor, share: float, rng: np.random.Generator
) -> tuple[torch.Tensor, float]:
    """Each image with a rectangle of its partner, and the share of itself that is left."""
    height, width = images.shape[-2:]
    top, bottom = _span(height, share, rng)
    left, right = _span(width, share, rng)
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = images[partners, :, top:bottom, left:right]
    covered = (bottom - top) * (right - left) / (height * width)
    return mixed, 1.0 - covered


def _span(size: int, share: float, rng: np.random.Generator) -> tuple[int, int]:
    """Start and end of a stretch of sqrt(1 - share) about a random middle, cut at the edges."""
    half = round(size * math.sqrt(1.0 - share)) // 2
    middle = int(rng.integers(size))
    return max(0, middle - half), min(size, middle + half)
