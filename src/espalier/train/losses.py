"""Losses per image, and what they are worth to a model that knows nothing, or everything.

Every loss here is a value per image, so that the plain mean over images is the loss of a batch, of
an accumulation window and of an epoch alike. A soft target (mixup, cutmix) costs the mixture of
what its classes would cost: loss(t) = sum over c of t_c loss(c).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from espalier.errors import DataError
from espalier.recipe.schema import Loss

Floats = npt.NDArray[np.float64]
HALVINGS = 60


class PerImageLoss(nn.Module):
    """Loss of each image [B] in float32, whatever the precision of the logits.

    For an image of class y: w[y] x ((1 - s) term[y] + s x mean of all terms), with label smoothing
    s (Szegedy et al. 2016, arXiv:1512.00567) and class weights w. ``term[c]`` is

    - cross-entropy: -log p_c;
    - focal: alpha (1 - p_c)^gamma x -log p_c (Lin et al. 2017, arXiv:1708.02002), for each image,
      never of a batch's mean, and on softmax probabilities;
    - balanced-softmax: -log p_c with p the softmax of logits + log n (Ren et al. 2020,
      arXiv:2007.10740);
    - logit-adjusted: the same with tau x log prior (Menon et al. 2021, arXiv:2007.07314); tau = 1
      is balanced-softmax. Both are for training alone: the plain logits predict.

    Weights have a mean of 1 over the training images, so the mean over images needs no other
    divisor, and accumulated micro-batches equal one large batch. torch divides by the sum of the
    batch's weights instead, which depends on who shares the batch, and with label smoothing it
    weights each smoothed term by the weight of that term's class, not of the image's.

    With a prior the smoothing is spread in proportion to it instead of evenly. Spread evenly, it
    would lift the plain logit of a rare class above that of the true one: with a prior of 0.001,
    s = 0.1 and 12 classes by log(0.0083 / 0.001) = 2.1, above log(0.9 / 0.5) = 0.6.

    Args:
        section: Of the recipe.
        shift: Added to the logits [K].
        spread: What the smoothed share is spread over [K], sum 1.
        weights: Per class [K].
    """

    shift: Tensor
    spread: Tensor
    weights: Tensor

    def __init__(self, section: Loss, *, shift: Floats, spread: Floats, weights: Floats) -> None:
        super().__init__()
        self.section = section
        for name, values in (("shift", shift), ("spread", spread), ("weights", weights)):
            tensor = torch.as_tensor(values, dtype=torch.float32)
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Loss of each image.

        Args:
            logits: Raw outputs [B, K].
            targets: Class indices [B], or shares of the classes [B, K] that sum to 1.
        """
        losses = self.of_each_class(logits)
        if targets.ndim == 2:
            return (losses * targets.float()).sum(dim=1)
        return losses.gather(1, targets[:, None]).squeeze(1)

    def of_each_class(self, logits: Tensor) -> Tensor:
        """What each image would cost if it were of each class [B, K]."""
        terms = -torch.log_softmax(logits.float() + self.shift, dim=1)
        if self.section.name == "focal":
            terms = _focal(terms, self.section.focal_alpha, self.section.focal_gamma)
        smoothing = self.section.label_smoothing
        if smoothing > 0:
            terms = (1 - smoothing) * terms + smoothing * (terms @ self.spread)[:, None]
        return terms * self.weights


def _focal(surprise: Tensor, alpha: float, gamma: float) -> Tensor:
    # Away from 0, because the slope of x^gamma there is infinite for gamma below 1.
    miss = (-torch.expm1(-surprise)).clamp_min(1e-12)
    return alpha * miss**gamma * surprise


def build_loss(
    section: Loss, *, class_weights: Floats | None, class_counts: Sequence[float]
) -> PerImageLoss:
    """The loss of a recipe.

    Args:
        section: Of the recipe.
        class_weights: Per class [K], with a mean of 1 over the training images; None: all 1.
        class_counts: Training images per class [K]; where a sampler changes how often classes are
            drawn, the counts as drawn.

    Raises:
        DataError: No training images, or weights that are not one finite number >= 0 per class.
    """
    counts = _checked_counts(class_counts)
    strength = _prior_strength(section)
    # A class without training images keeps a finite logit by counting as one image.
    shift = strength * np.log(np.maximum(counts, 1) / counts.sum())
    spread = np.exp(shift - shift.max())
    weights = _checked_weights(class_weights, len(counts))
    return PerImageLoss(section, shift=shift, spread=spread / spread.sum(), weights=weights)


def chance_loss(
    section: Loss, class_counts: Sequence[float], class_weights: Floats | None = None
) -> float:
    """Mean training loss, in nats, of a model whose logits are all 0: the first loss to expect.

    It is log K for cross-entropy, with or without label smoothing and class weights.
    """
    loss = build_loss(section, class_weights=class_weights, class_counts=class_counts)
    of_classes = loss.of_each_class(torch.zeros(1, len(class_counts)))[0].double().numpy()
    return float((_prior(class_counts) * of_classes).sum())


def prior_loss(
    section: Loss, class_counts: Sequence[float], class_weights: Floats | None = None
) -> float:
    """Least mean training loss, in nats, of a model that sees no image and knows the class shares.

    Never above ``chance_loss``, and below it where classes are unequal. A model that has reached
    it has learned the biases of its last layer and nothing else.
    """
    smooth = _smoothed_targets(section, class_counts)
    weights = _checked_weights(class_weights, len(class_counts))
    mixture = (_prior(class_counts) * weights) @ smooth
    return float(_least_cost(section, mixture[None])[0])


def floor_loss(
    section: Loss, class_counts: Sequence[float], class_weights: Floats | None = None
) -> float:
    """Least mean training loss, in nats, of a model that knows every label: what smoothing leaves.

    0 without label smoothing. Mixup and cutmix raise it further.
    """
    if section.label_smoothing == 0:
        return 0.0
    targets = _smoothed_targets(section, class_counts)
    # Focal smoothing is even, so one class costs what every class costs.
    least = _least_cost(section, targets[:1] if section.name == "focal" else targets)
    weights = _checked_weights(class_weights, len(class_counts))
    return float((_prior(class_counts) * weights * least).sum())


def _smoothed_targets(section: Loss, class_counts: Sequence[float]) -> Floats:
    """Row c: the target [K] that an image of class c stands for."""
    loss = build_loss(section, class_weights=None, class_counts=class_counts)
    spread = loss.spread.double().numpy()
    smoothing = section.label_smoothing
    rows: Floats = (1 - smoothing) * np.eye(len(class_counts)) + smoothing * spread
    return rows


def _least_cost(section: Loss, targets: Floats) -> Floats:
    """Least of sum_c target_c term(p_c) over all probabilities p, for each row [N, K] -> [N]."""
    best = targets / targets.sum(axis=1, keepdims=True)
    alpha, gamma = 1.0, 0.0
    if section.name == "focal":
        alpha, gamma = section.focal_alpha, section.focal_gamma
        best = _best_focal_probabilities(targets, gamma)
    surprise = -np.log(np.where(targets > 0, np.maximum(best, 1e-300), 1.0))
    cost: Floats = (targets * alpha * (1 - best) ** gamma * surprise).sum(axis=1)
    return cost


def _best_focal_probabilities(targets: Floats, gamma: float) -> Floats:
    """Where -target_c slope(p_c) is the same for all classes and p sums to 1, by bisection.

    The focal term is convex and falls in p, so there is one such point, and it is the least.
    """
    low = np.full((len(targets), 1), -700.0)
    high = np.full((len(targets), 1), 700.0)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        too_much = _probabilities_of_slope(targets, np.exp(middle), gamma).sum(axis=1) > 1
        low = np.where(too_much[:, None], middle, low)
        high = np.where(too_much[:, None], high, middle)
    return _probabilities_of_slope(targets, np.exp(high), gamma)


def _probabilities_of_slope(targets: Floats, slope: Floats, gamma: float) -> Floats:
    low, high = np.zeros_like(targets), np.ones_like(targets)
    for _ in range(HALVINGS):
        p = (low + high) / 2
        miss = np.maximum(1 - p, 1e-300)
        steep = targets * (miss**gamma / p - gamma * miss ** (gamma - 1) * np.log(p)) > slope
        low, high = np.where(steep, p, low), np.where(steep, high, p)
    return low


def _prior_strength(section: Loss) -> float:
    strengths = {"balanced-softmax": 1.0, "logit-adjusted": section.tau}
    return strengths.get(section.name, 0.0)


def _prior(class_counts: Sequence[float]) -> Floats:
    counts = _checked_counts(class_counts)
    shares: Floats = counts / counts.sum()
    return shares


def _checked_counts(class_counts: Sequence[float]) -> Floats:
    counts = np.asarray(class_counts, dtype=np.float64)
    if not counts.sum() > 0 or (counts < 0).any():
        raise DataError(
            f"training images per class are {list(class_counts)[:10]}; at least one is needed",
            hint="check the split of the data",
        )
    return counts


def _checked_weights(class_weights: Floats | None, classes: int) -> Floats:
    if class_weights is None:
        return np.ones(classes)
    weights = np.asarray(class_weights, dtype=np.float64)
    if weights.shape != (classes,) or not np.isfinite(weights).all() or (weights < 0).any():
        raise DataError(
            f"class weights {weights.tolist()[:10]} do not fit {classes} classes; "
            "allowed is one finite number >= 0 per class",
            hint="--set class_weighting.strategy=none, inverse, sqrt or effective-number",
        )
    return weights
