from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from espalier.errors import DataError
from espalier.recipe.schema import Loss
from espalier.train.losses import PerImageLoss, build_loss, chance_loss, floor_loss, prior_loss

COUNTS = [500, 100, 30, 4, 1]
NAMES = ["cross-entropy", "focal", "balanced-softmax", "logit-adjusted"]


def section(name: str = "cross-entropy", **values: Any) -> Loss:
    return Loss.model_validate({"name": name, "label_smoothing": 0.0, **values})


def loss_of(
    of: Loss, counts: list[int] = COUNTS, weights: np.ndarray | None = None
) -> PerImageLoss:
    return build_loss(of, class_weights=weights, class_counts=counts)


def mean_one(raw: list[float], counts: list[int]) -> np.ndarray:
    weights, images = np.array(raw), np.array(counts)
    return weights * images.sum() / (weights * images).sum()


WEIGHTS = mean_one([1.0, 2.0, 4.0, 9.0, 20.0], COUNTS)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(64, 5, generator=generator), torch.arange(64) % 5


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_cross_entropy_equals_torch(batch: tuple[Tensor, Tensor], smoothing: float) -> None:
    wanted = F.cross_entropy(*batch, label_smoothing=smoothing, reduction="none")
    got = loss_of(section(label_smoothing=smoothing))(*batch)
    torch.testing.assert_close(got, wanted)


def test_soft_targets_equal_torch(batch: tuple[Tensor, Tensor]) -> None:
    logits, _ = batch
    soft = torch.softmax(torch.randn(64, 5, generator=torch.Generator().manual_seed(1)), dim=1)
    weights = torch.tensor(WEIGHTS, dtype=torch.float32)
    torch.testing.assert_close(
        loss_of(section(), weights=WEIGHTS)(logits, soft),
        F.cross_entropy(logits, soft, weight=weights, reduction="none"),
    )
    torch.testing.assert_close(
        loss_of(section(label_smoothing=0.2))(logits, soft),
        F.cross_entropy(logits, soft, label_smoothing=0.2, reduction="none"),
    )


def test_class_weights_multiply_the_loss_of_each_image(batch: tuple[Tensor, Tensor]) -> None:
    logits, labels = batch
    weights = torch.tensor(WEIGHTS, dtype=torch.float32)
    got = loss_of(section(), weights=WEIGHTS)(logits, labels)
    torch.testing.assert_close(got, F.cross_entropy(logits, labels, weights, reduction="none"))
    smooth = loss_of(section(label_smoothing=0.1), weights=WEIGHTS)(logits, labels)
    plain = F.cross_entropy(logits, labels, label_smoothing=0.1, reduction="none")
    torch.testing.assert_close(smooth, weights[labels] * plain)


def test_over_the_training_images_the_mean_is_that_of_torch() -> None:
    """Elsewhere it is not: torch divides by the weights of the batch, we by its images."""
    labels = torch.repeat_interleave(torch.arange(5), torch.tensor(COUNTS))
    logits = torch.randn(len(labels), 5, generator=torch.Generator().manual_seed(2))
    weights = torch.tensor(WEIGHTS, dtype=torch.float32)
    ours = loss_of(section(), weights=WEIGHTS)
    torch.testing.assert_close(
        ours(logits, labels).mean(), F.cross_entropy(logits, labels, weights)
    )
    rare = labels >= 3
    theirs = F.cross_entropy(logits[rare], labels[rare], weights)
    assert float(ours(logits[rare], labels[rare]).mean()) > 3 * float(theirs)


@pytest.mark.parametrize("name", NAMES)
def test_micro_batches_add_up_to_one_large_batch(name: str, batch: tuple[Tensor, Tensor]) -> None:
    logits, labels = batch
    loss = loss_of(section(name, label_smoothing=0.1), weights=WEIGHTS)
    whole = loss(logits, labels).mean()
    parts = [loss(a, b).sum() / 64 for a, b in zip(logits.split(24), labels.split(24), strict=True)]
    torch.testing.assert_close(sum(parts), whole)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_focal_of_two_classes_equals_torchvision(gamma: float) -> None:
    x = torch.linspace(-8, 8, 33)
    labels = (torch.arange(33) % 2).long()
    got = loss_of(section("focal", focal_gamma=gamma), [10, 10])(
        torch.stack([torch.zeros_like(x), x], dim=1), labels
    )
    wanted = sigmoid_focal_loss(x, labels.float(), alpha=-1, gamma=gamma)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)


def test_focal_is_the_paper_s_formula_for_each_image(batch: tuple[Tensor, Tensor]) -> None:
    logits, labels = batch
    raw = logits.double().numpy()
    p = (np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True))[np.arange(64), labels.numpy()]
    wanted = 0.25 * (1 - p) ** 2 * -np.log(p)
    got = loss_of(section("focal", focal_alpha=0.25))(logits, labels).numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-7)
    # The well-known mistake weights by the mean loss of the batch instead.
    mean = -np.log(p).mean()
    assert abs(got.mean() - 0.25 * (1 - math.exp(-mean)) ** 2 * mean) > 0.01


def test_focal_has_finite_gradients_where_it_is_sure() -> None:
    logits = torch.tensor([[200.0, 0.0], [-200.0, 0.0], [0.0, 0.0]], requires_grad=True)
    loss = loss_of(section("focal", focal_gamma=0.5), [1, 1])(logits, torch.tensor([0, 0, 0]))
    loss.sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(loss).all()
    assert torch.isfinite(logits.grad).all()


def test_balanced_softmax_is_the_paper_s_formula(batch: tuple[Tensor, Tensor]) -> None:
    """Ren et al. 2020, eq. 4: n_y exp(z_y) / sum of n_i exp(z_i)."""
    logits, labels = batch
    powers = np.array(COUNTS) * np.exp(logits.double().numpy())
    p = powers[np.arange(64), labels.numpy()] / powers.sum(axis=1)
    got = loss_of(section("balanced-softmax"))(logits, labels).numpy()
    np.testing.assert_allclose(got, -np.log(p), rtol=1e-5, atol=1e-6)
    adjusted = loss_of(section("logit-adjusted", tau=1.0))(logits, labels).numpy()
    np.testing.assert_allclose(adjusted, got, rtol=1e-5)


@pytest.mark.parametrize("tau", [0.0, 0.5, 2.0])
def test_logit_adjustment_is_the_paper_s_formula(batch: tuple[Tensor, Tensor], tau: float) -> None:
    """Menon et al. 2021, eq. 10: log(1 + sum over others of (pi_i / pi_y)^tau exp(z_i - z_y))."""
    logits, labels = batch
    raw, prior = logits.double().numpy(), np.array(COUNTS) / sum(COUNTS)
    wanted = [
        math.log1p(
            sum((prior[i] / prior[y]) ** tau * math.exp(z[i] - z[y]) for i in range(5) if i != y)
        )
        for z, y in zip(raw, labels.tolist(), strict=True)
    ]
    got = loss_of(section("logit-adjusted", tau=tau))(logits, labels).numpy()
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["balanced-softmax", "logit-adjusted"])
def test_smoothing_with_a_prior_still_ranks_the_true_class_first(name: str) -> None:
    """Spread evenly, it would make the plain logit of the rarest class the largest."""
    loss = loss_of(section(name, label_smoothing=0.1))
    logits = torch.zeros(5, 5, requires_grad=True)
    descent = torch.optim.LBFGS([logits], max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        descent.zero_grad()
        total = loss(logits, torch.arange(5)).sum()
        total.backward()
        return total

    descent.step(closure)  # type: ignore[arg-type,no-untyped-call]
    assert logits.argmax(dim=1).tolist() == [0, 1, 2, 3, 4]
    others = logits.detach()[0, 1:]
    assert float(others.max() - others.min()) < 0.05


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_soft_target_costs_the_mixture_of_its_classes(
    name: str, smoothing: float, batch: tuple[Tensor, Tensor]
) -> None:
    logits, labels = batch
    loss = loss_of(section(name, label_smoothing=smoothing), weights=WEIGHTS)
    others = labels.flip(0)
    soft = 0.7 * F.one_hot(labels, 5) + 0.3 * F.one_hot(others, 5)
    wanted = 0.7 * loss(logits, labels) + 0.3 * loss(logits, others)
    torch.testing.assert_close(loss(logits, soft), wanted)
    torch.testing.assert_close(loss(logits, F.one_hot(labels, 5)), loss(logits, labels))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float32])
def test_losses_are_float32_whatever_the_logits(name: str, kind: torch.dtype) -> None:
    logits = torch.tensor([[3.0, -1.0, 0.5, 0.0, 2.0]], requires_grad=True)
    low = loss_of(section(name))(logits.to(kind), torch.tensor([1]))
    assert low.dtype == torch.float32
    assert low.shape == (1,)
    torch.testing.assert_close(low, loss_of(section(name))(logits, torch.tensor([1])))
    low.sum().backward()
    assert logits.grad is not None


def test_a_class_without_training_images_stays_finite() -> None:
    counts, weights = [10, 0, 5], np.array([1.0, 0.0, 1.0])
    loss = loss_of(section("balanced-softmax", label_smoothing=0.1), counts, weights)
    assert torch.isfinite(loss(torch.zeros(3, 3), torch.arange(3))).all()
    for name in NAMES:
        of = section(name, label_smoothing=0.1)
        values = [f(of, counts, weights) for f in (chance_loss, prior_loss, floor_loss)]
        assert np.isfinite(values).all()


def least(of: Loss, images: Tensor, labels: Tensor, weights: np.ndarray | None) -> float:
    """Least mean loss by descent, over logits that share a row per value of ``images``."""
    loss = loss_of(of, weights=weights)
    logits = torch.zeros(int(images.max()) + 1, 5, requires_grad=True)
    descent = torch.optim.LBFGS(
        [logits], max_iter=500, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        descent.zero_grad()
        mean = loss(logits[images], labels).mean()
        mean.backward()
        return mean

    descent.step(closure)  # type: ignore[arg-type,no-untyped-call]
    return float(closure().detach())


ALL_LABELS = torch.repeat_interleave(torch.arange(5), torch.tensor(COUNTS))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_chance_prior_and_floor_are_what_training_finds(
    name: str, weights: np.ndarray | None
) -> None:
    of = section(name, label_smoothing=0.1, tau=1.5)
    labels = ALL_LABELS
    loss = loss_of(of, weights=weights)
    start = float(loss(torch.zeros(len(labels), 5), labels).mean())
    assert chance_loss(of, COUNTS, weights) == pytest.approx(start, rel=1e-5)
    blind = least(of, torch.zeros_like(labels), labels, weights)
    assert prior_loss(of, COUNTS, weights) == pytest.approx(blind, rel=1e-3)
    knowing = least(of, labels, labels, weights)
    assert floor_loss(of, COUNTS, weights) == pytest.approx(knowing, rel=1e-2)
    assert floor_loss(of, COUNTS, weights) < prior_loss(of, COUNTS, weights) <= start + 1e-6


def test_reference_losses_in_closed_form() -> None:
    prior = np.array(COUNTS) / sum(COUNTS)
    entropy = -(prior * np.log(prior)).sum()
    assert chance_loss(section(label_smoothing=0.1), COUNTS, WEIGHTS) == pytest.approx(math.log(5))
    assert prior_loss(section(), COUNTS) == pytest.approx(entropy)
    assert chance_loss(section("balanced-softmax"), COUNTS) == pytest.approx(entropy, rel=1e-6)
    assert chance_loss(section("focal"), COUNTS) == pytest.approx(0.8**2 * math.log(5), rel=1e-6)
    assert floor_loss(section(), COUNTS) == 0.0
    right, wrong = 0.9 + 0.1 / 5, 0.1 / 5
    smooth = -(right * math.log(right) + 4 * wrong * math.log(wrong))
    assert floor_loss(section(label_smoothing=0.1), COUNTS) == pytest.approx(smooth)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_without_smoothing_needs_no_more_than_the_prior(gamma: float) -> None:
    of = section("focal", focal_gamma=gamma, focal_alpha=0.5)
    blind = least(of, torch.zeros_like(ALL_LABELS), ALL_LABELS, None)
    assert prior_loss(of, COUNTS) == pytest.approx(blind, rel=1e-3)


def test_weights_and_counts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="do not fit 5 classes"):
        loss_of(section(), weights=np.ones(4))
    with pytest.raises(DataError, match="do not fit 5 classes"):
        loss_of(section(), weights=np.array([1.0, 1.0, math.nan, 1.0, 1.0]))
    with pytest.raises(DataError, match="at least one is needed"):
        loss_of(section(), [0, 0])


def test_the_loss_moves_to_its_device_with_its_weights_and_saves_nothing() -> None:
    loss = loss_of(section("balanced-softmax"), weights=WEIGHTS)
    np.testing.assert_allclose(loss.weights.numpy(), WEIGHTS, rtol=1e-6)
    assert loss.to("meta").weights.device.type == "meta"
    assert loss.state_dict() == {}
