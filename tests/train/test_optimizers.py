from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import nn

from espalier.errors import CheckpointError, RecipeError
from espalier.recipe.schema import Optimizer as Section
from espalier.train.optimizers import build_optimizer, restore_optimizer, set_rates
from espalier.train.schedules import StagePlan, rate

PLAN = StagePlan(
    name="all", epochs=2, steps_per_epoch=10, schedule="warmup-cosine", warmup_steps=5,
    warmup_start=0.02, min_lr=1e-5, step_epochs=1, gamma=0.1, plateau_patience=2,
    head_peak=1e-2, backbone_peak=1e-3,
)  # fmt: skip


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def groups(model: nn.Sequential, decay: float = 0.01) -> list[dict[str, Any]]:
    return [
        {"name": "backbone", "params": list(model[0].parameters()), "lr": 1e-3,
         "weight_decay": 0.0},
        {"name": "head", "params": list(model[2].parameters()), "lr": 1e-2,
         "weight_decay": decay},
    ]  # fmt: skip


def train(model: nn.Sequential, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        set_rates(optimizer, PLAN, step)
        model(torch.randn(8, 6, generator=generator)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_set_rates_gives_each_group_its_own_planned_rate() -> None:
    optimizer = build_optimizer(groups(network()), Section())
    for step in (0, 3, 5, 12, 19):
        head, backbone = set_rates(optimizer, PLAN, step)
        assert (head, backbone) == (rate(PLAN, 1e-2, step), rate(PLAN, 1e-3, step))
        assert [group["lr"] for group in optimizer.param_groups] == [backbone, head]
    assert (head, backbone) == (1e-5, 1e-5)


def test_rates_are_the_fastest_of_each_part_and_zero_where_nothing_trains() -> None:
    model = network()
    layered = [
        {"name": f"backbone.{i}", "params": [p], "lr": lr, "weight_decay": 0.0}
        for i, (p, lr) in enumerate(zip(model.parameters(), (1e-4, 1e-3, 1e-5, 1e-6), strict=True))
    ]
    optimizer = build_optimizer(layered, Section())
    assert set_rates(optimizer, PLAN, 5) == pytest.approx((0.0, 1e-3))


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("adamw", lambda p: torch.optim.AdamW(p, betas=(0.8, 0.99), foreach=False)),
        ("adam", lambda p: torch.optim.Adam(p, betas=(0.8, 0.99), foreach=False)),
        ("sgd", lambda p: torch.optim.SGD(p, momentum=0.7, foreach=False)),
    ],
)
def test_steps_equal_those_of_torch_in_its_plain_form(name: str, reference: Any) -> None:
    ours, theirs = network(), network()
    section = Section.model_validate(
        {"name": name, "betas": (0.8, 0.99), "momentum": 0.7, "weight_decay": 0.5}
    )
    optimizer = build_optimizer(groups(ours), section)
    other = reference(groups(theirs))
    train(ours, optimizer, range(12))
    for step in range(12):
        generator = torch.Generator().manual_seed(step)
        for group, peak in zip(other.param_groups, (1e-3, 1e-2), strict=True):
            group["lr"] = rate(PLAN, peak, step)
        theirs(torch.randn(8, 6, generator=generator)).square().mean().backward()
        other.step()
        other.zero_grad()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_a_restored_optimizer_goes_on_bit_for_bit(name: str) -> None:
    section = Section.model_validate({"name": name})
    whole = network()
    train(whole, build_optimizer(groups(whole), section), range(20))
    model = network()
    first = build_optimizer(groups(model), section)
    train(model, first, range(7))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    model = copy.deepcopy(model)
    second = build_optimizer(groups(model), section)
    restore_optimizer(second, torch.load(file, weights_only=True))
    train(model, second, range(7, 20))
    for a, b in zip(whole.parameters(), model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_state_of_other_groups_is_refused() -> None:
    state = build_optimizer(groups(network()), Section()).state_dict()
    head_only = build_optimizer(groups(network())[1:], Section())
    with pytest.raises(CheckpointError, match=r"backbone.*the model trains \[\('head', 2\)\]"):
        restore_optimizer(head_only, state)


def test_gradients_can_be_clipped_under_a_scaler() -> None:
    """Fabric refuses to clip for optimizers that unscale by themselves, as fused ones say."""
    optimizer = build_optimizer(groups(network()), Section())
    assert not optimizer._step_supports_amp_scaling  # type: ignore[attr-defined]


def test_groups_without_parameters_are_left_out_and_nothing_at_all_is_an_error() -> None:
    only_head = [{**groups(network())[0], "params": []}, groups(network())[1]]
    assert [g["name"] for g in build_optimizer(only_head, Section()).param_groups] == ["head"]
    with pytest.raises(RecipeError, match="trains no parameters"):
        build_optimizer(only_head[:1], Section())


def test_rates_that_are_not_above_zero_are_named_all_at_once() -> None:
    broken = [{**group, "lr": lr} for group, lr in zip(groups(network()), (0.0, -1.0), strict=True)]
    with pytest.raises(RecipeError) as caught:
        build_optimizer(broken, Section())
    assert caught.value.problems == ("backbone: lr 0.0", "head: lr -1.0")
