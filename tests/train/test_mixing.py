"""Mixup and CutMix do what their papers' formulas say, and nothing at random besides."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from espalier.train.mixing import mix

CLASSES = 5


def batch(size: int = 8, side: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(size, 3, side, side, generator=generator)
    return images, torch.arange(size) % CLASSES


def one_hot(targets: torch.Tensor) -> torch.Tensor:
    return torch.eye(CLASSES)[targets]


def mixed(mixup: float, cutmix: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    images, targets = batch()
    return mix(images, targets, CLASSES, mixup, cutmix, np.random.default_rng(seed))


def partner_and_share(seed: int, alpha: float) -> tuple[torch.Tensor, float]:
    """What the generator gives, drawn in the documented order: method, share, partners."""
    rng = np.random.default_rng(seed)
    rng.integers(1)
    share = float(rng.beta(alpha, alpha))
    return torch.from_numpy(rng.permutation(8)), share


@pytest.mark.parametrize("seed", range(5))
def test_mixup_is_its_formula(seed: int) -> None:
    images, targets = batch()
    partners, share = partner_and_share(seed, 0.4)
    seen, soft = mixed(0.4, 0.0, seed)
    torch.testing.assert_close(seen, share * images + (1 - share) * images[partners])
    wanted = share * one_hot(targets) + (1 - share) * one_hot(targets[partners])
    torch.testing.assert_close(soft, wanted)


@pytest.mark.parametrize("seed", range(10))
def test_cutmix_pastes_one_rectangle_and_shares_the_label_by_area(seed: int) -> None:
    images, targets = batch()
    partners, _ = partner_and_share(seed, 1.0)
    seen, soft = mixed(0.0, 1.0, seed)
    others = images[partners]
    moved = (partners != torch.arange(8)).nonzero().flatten()
    pasted = (seen != images).any(dim=1)[moved[0]]
    for i in moved:
        assert torch.equal((seen[i] != images[i]).any(dim=0), pasted)
        assert torch.equal(seen[i][:, pasted], others[i][:, pasted])
        assert torch.equal(seen[i][:, ~pasted], images[i][:, ~pasted])
    rows, columns = pasted.any(dim=1), pasted.any(dim=0)
    assert torch.equal(pasted, rows[:, None] & columns[None, :])
    kept = 1.0 - pasted.double().mean().item()
    wanted = kept * one_hot(targets) + (1 - kept) * one_hot(targets[partners])
    torch.testing.assert_close(soft, wanted)


def test_cutmix_covers_as_much_as_its_distribution_says() -> None:
    rng = np.random.default_rng(0)
    images, targets = torch.zeros(2, 3, 64, 64), torch.tensor([0, 1])
    shares = []
    for _ in range(400):
        _, soft = mix(images, targets, 2, 0.0, 1.0, rng)
        shares.append(float(soft.max(dim=1).values[0]))
    # A box about a random middle loses 7/16 of its area on average at the edges, for alpha 1.
    assert 0.75 < float(np.mean(shares)) < 0.95
    assert min(shares) >= 0.5


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.2, 0.0), (0.0, 1.0), (0.3, 0.7)])
def test_targets_sum_to_one_and_the_generator_decides_everything(
    mixup: float, cutmix: float
) -> None:
    for seed in range(20):
        seen, soft = mixed(mixup, cutmix, seed)
        again, soft_again = mixed(mixup, cutmix, seed)
        assert torch.equal(seen, again)
        assert torch.equal(soft, soft_again)
        torch.testing.assert_close(soft.sum(dim=1), torch.ones(8))
        assert (soft >= 0).all()


def test_both_methods_are_chosen_equally_often() -> None:
    images, targets = batch(4, 8)
    rng = np.random.default_rng(0)
    pastes = 0
    for _ in range(300):
        seen, _ = mix(images, targets, CLASSES, 1.0, 1.0, rng)
        known = (seen[:, None] == images[None]).all(dim=2)
        pastes += int(known.any(dim=1).all())
    assert 110 < pastes < 190


def test_without_alphas_images_stay_and_targets_are_one_hot() -> None:
    images, targets = batch()
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    seen, soft = mix(images, targets, CLASSES, 0.0, 0.0, rng)
    assert torch.equal(seen, images)
    assert torch.equal(soft, one_hot(targets))
    assert rng.bit_generator.state == before


def test_the_batch_given_is_not_written_to() -> None:
    images, targets = batch()
    kept = images.clone()
    for seed in range(6):
        mix(images, targets, CLASSES, 0.5, 0.5, np.random.default_rng(seed))
    assert torch.equal(images, kept)


def test_channels_last_is_kept() -> None:
    images, targets = batch()
    images = images.contiguous(memory_format=torch.channels_last)
    for alphas in ((1.0, 0.0), (0.0, 1.0)):
        seen, _ = mix(images, targets, CLASSES, *alphas, np.random.default_rng(0))
        assert seen.is_contiguous(memory_format=torch.channels_last)


def test_a_single_image_is_mixed_with_itself() -> None:
    image, targets = batch(1)
    seen, soft = mix(image, targets, CLASSES, 0.5, 0.0, np.random.default_rng(0))
    torch.testing.assert_close(seen, image)
    torch.testing.assert_close(soft, one_hot(targets))
