import math
import warnings
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from espalier.vitals.activity import ActivityWatch, FirstBatchWatched
from espalier.vitals.network import batch_norm_modes, rates, sums_to_one
from espalier.vitals.parts import drift, network_parts, norm_statistics, unwrapped
from espalier.vitals.pixels import split_pixels, spread_positions
from espalier.vitals.probing import busy_figures, image_losses
from espalier.vitals.rates import sampled_steps, scheduled_rates
from espalier.vitals.steps import StepGauge, label_entropy, total_norm


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


def parts(network):
    return {"stem": list(network[0].parameters()), "head": list(network[2].parameters())}


def norm(tensors):
    return math.sqrt(sum(float((t.double() ** 2).sum()) for t in tensors))


# --- steps


def test_norms_and_ratios_equal_those_computed_tensor_by_tensor(network):
    gauge = StepGauge(parts(network), every=1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network(torch.randn(8, 4)).square().mean().backward()
    before = [p.detach().clone() for p in network.parameters()]
    grads = [p.grad.clone() for p in network.parameters()]
    gauge.before_step()
    optimizer.step()
    found, update, _ = gauge.after_step()
    assert found["stem"]["grad_norm"] == pytest.approx(norm(grads[:2]), rel=1e-5)
    assert found["head"]["grad_norm"] == pytest.approx(norm(grads[2:]), rel=1e-5)
    # One weight matrix a part: the median is its own ratio, biases do not count.
    ratio = norm([0.1 * grads[0]]) / norm([before[0]])
    assert found["stem"]["update_ratio"] == pytest.approx(ratio, rel=1e-4)
    assert update == pytest.approx(norm([0.1 * g for g in grads]), rel=1e-4)
    zeros = [float((g == 0).sum()) for g in grads[:2]]
    elements = sum(g.numel() for g in grads[:2])
    assert found["stem"]["zero_share"] == pytest.approx(sum(zeros) / elements, abs=1e-6)
    assert found["stem"]["changed"] is found["head"]["has_grad"] is True


def test_a_part_that_does_not_move_has_ratio_zero(network):
    gauge = StepGauge(parts(network), every=1)
    network(torch.randn(8, 4)).square().mean().backward()
    gauge.before_step()
    found, update, _ = gauge.after_step()
    assert found["head"]["update_ratio"] == 0
    assert found["head"]["changed"] is False
    assert update == 0


def test_a_part_without_gradients_has_norm_zero(network):
    gauge = StepGauge(parts(network), every=1)
    network[2](torch.randn(8, 5)).square().mean().backward()
    gauge.before_step()
    found, _, _ = gauge.after_step()
    assert found["stem"]["grad_norm"] == 0
    assert found["stem"]["has_grad"] is False
    assert math.isnan(found["stem"]["zero_share"])
    assert found["head"]["grad_norm"] > 0


def test_frozen_parts_are_left_out_until_they_thaw(network):
    gauge = StepGauge(parts(network), every=1)
    network[0].requires_grad_(False)
    network(torch.randn(8, 4)).square().mean().backward()
    gauge.before_step()
    assert list(gauge.after_step()[0]) == ["head"]
    network[0].requires_grad_(True)
    gauge.before_step()
    assert list(gauge.after_step()[0]) == ["stem", "head"]


def test_gradients_that_pile_up_have_a_cosine_near_one(network):
    gauge = StepGauge(parts(network), every=1)
    images = torch.randn(2, 8, 4)
    angles = []
    for step in range(2):
        network(images[step]).square().mean().backward()
        gauge.before_step(step)
        angles.append(gauge.after_step()[2])
        if step == 0:
            first = torch.cat([p.grad.flatten().clone() for p in network.parameters()])
    second = torch.cat([p.grad.flatten() for p in network.parameters()])
    assert math.isnan(angles[0])
    assert angles[1] == pytest.approx(float(functional.cosine_similarity(first, second, dim=0)))
    gauge.before_step(25)
    assert math.isnan(gauge.after_step()[2])


def test_first_steps_and_every_tenth_are_due():
    gauge = StepGauge({}, every=10)
    due = [step for step in range(45) if gauge.due(step)]
    assert due == [*range(20), 20, 30, 40]


def test_the_norm_of_nothing_is_zero():
    assert float(total_norm([None])) == 0


def test_label_entropy_is_that_of_the_shares():
    labels = torch.tensor([0, 0, 1, 5])
    shares = np.array(list(Counter(labels.tolist()).values())) / 4
    assert label_entropy(labels) == pytest.approx(-(shares * np.log(shares)).sum())
    soft = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    assert label_entropy(soft) == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))


# --- networks


class Branchy(nn.Module):
    """A head that is made before the body, as some networks do."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 3)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8))
        self.body = nn.Sequential(*(nn.Sequential(nn.Conv2d(8, 8, 1)) for _ in range(12)))

    def forward(self, images):
        features = functional.relu(self.stem(images))
        return self.fc(self.body(features).mean(dim=(2, 3)))


def test_parts_hold_every_parameter_once_and_end_with_the_head():
    model = Branchy()
    found = network_parts(model)
    assert 3 <= len(found) <= 8
    assert list(found)[-1] == "head"
    assert found["head"] == list(model.fc.parameters())
    held = [id(p) for members in found.values() for p in members]
    assert sorted(held) == sorted(id(p) for p in model.parameters())


def test_wrappers_are_looked_through():
    model = Branchy()
    wrapped = nn.DataParallel(model)
    assert unwrapped(wrapped) is model
    assert unwrapped(model) is model
    assert list(network_parts(wrapped)) == list(network_parts(model))


def test_a_network_of_one_layer_is_all_head():
    assert list(network_parts(nn.Linear(2, 2))) == ["head"]


def test_rates_are_of_the_head_and_of_what_lies_before(network):
    groups = [{"params": parts(network)["stem"], "lr": 1e-4}, {"params": parts(network)["head"]}]
    optimizer = torch.optim.SGD(groups, lr=1e-2)
    assert rates(optimizer, parts(network)) == (1e-2, 1e-4)
    network[0].requires_grad_(False)
    assert rates(optimizer, parts(network)) == (1e-2, 0.0)


def test_batch_norm_that_moves_while_frozen_or_rests_while_learning():
    model = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2), nn.BatchNorm2d(2, affine=False))
    model[0].requires_grad_(False)
    model[1].eval()
    assert batch_norm_modes(model, {}) == (1, 1)
    assert batch_norm_modes(model, {model[0]: False, model[1]: True}) == (0, 0)


def test_drift_is_in_standard_deviations_at_the_start():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))
    found = {"stem": [*model[0].parameters(), *model[1].parameters()], "head": []}
    model[1].running_var = torch.tensor([4.0, 1.0])
    start = norm_statistics(model, found)
    model[1].running_mean = torch.tensor([1.0, 3.0])
    assert drift(start, norm_statistics(model, found))["stem"] == pytest.approx(
        (1 / 2 + 3) / 2, rel=1e-4
    )
    assert drift(start, start) == {"stem": 0.0}


def test_probabilities_are_told_from_logits():
    logits = torch.randn(6, 4)
    assert not sums_to_one(logits)
    assert sums_to_one(logits.softmax(dim=1))
    assert not sums_to_one(torch.full((2, 3), math.nan))


# --- activity


@pytest.mark.parametrize("functional_relu", [False, True])
def test_dead_channels_are_those_below_zero_everywhere(functional_relu):
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu, self.fc = (
                nn.Conv2d(3, 8, 1),
                nn.ReLU(inplace=True),
                nn.Linear(8, 4),
            )

        def forward(self, images):
            raw = self.conv(images)
            self.seen = raw.detach().clone()
            active = functional.relu(raw) if functional_relu else self.relu(raw)
            return functional.gelu(self.fc(active.mean(dim=(2, 3))))

    model = Net()
    with torch.no_grad():
        model.conv.bias[:3] = -100
    found = network_parts(model)
    watch = ActivityWatch(model, found)
    watched = FirstBatchWatched(model, watch)
    images = torch.randn(4, 3, 5, 5)
    with torch.inference_mode():
        assert torch.equal(watched(images), model(images))
    share = float(((model.seen > 0).float().mean(dim=(0, 2, 3)) < 0.01).float().mean())
    assert share == 3 / 8
    # The layer behind is no ReLU, and has no say.
    assert watch.dead() == {"conv": share}
    with torch.inference_mode():
        watched(images - 1e6)
    assert watch.dead() == {"conv": share}


# --- the probe in training mode


def test_training_mode_leaves_no_trace():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3))
    model[0].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    images, labels = torch.randn(16, 4), torch.randint(0, 3, (16,))
    random = torch.get_rng_state()

    def train():
        model.train()
        torch.manual_seed(5)

    loss, accuracy = busy_figures(model, train, lambda: model(images), labels)
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    train()
    logits = model(images).detach()
    assert loss == pytest.approx(float(functional.cross_entropy(logits, labels)), rel=1e-5)
    assert accuracy == pytest.approx(float((logits.argmax(dim=1) == labels).float().mean()))


def test_losses_of_images_are_torchs_own():
    logits, labels = torch.randn(9, 4) * 30, torch.randint(0, 4, (9,))
    torchs = functional.cross_entropy(logits.double(), labels, reduction="none")
    assert image_losses(logits, labels) == pytest.approx(torchs.numpy(), abs=1e-9)


# --- pixels


def test_pixels_are_those_of_all_images_at_once():
    torch.manual_seed(0)
    images = torch.rand(11, 3, 6, 5) * torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    images[3] = 0.25
    draws = [images[:4], images[:4] + 0.1, images[:4]]
    found = split_pixels([images[:7], images[7:]], draws, raw=lambda batch: batch / 2)
    assert found.mean == pytest.approx(images.mean(dim=(0, 2, 3)).tolist(), rel=1e-5)
    assert found.std == pytest.approx(images.std(dim=(0, 2, 3), correction=0).tolist(), rel=1e-5)
    assert found.raw_mean == pytest.approx((images / 2).mean(dim=(0, 2, 3)).tolist(), rel=1e-5)
    assert (found.images, found.constant, found.non_finite, found.size) == (11, 1, 0, (6, 5))
    assert found.redraw_change == pytest.approx(0.1 / (sum(found.std) / 3), rel=1e-4)


def test_images_that_are_not_finite_are_counted_and_left_out():
    images = torch.ones(3, 1, 2, 2)
    images[1, 0, 0, 0] = math.nan
    found = split_pixels([images])
    assert (found.non_finite, found.mean, found.high) == (1, (1.0,), 1.0)
    assert found.redraw_change is None
    assert split_pixels([]) is None


def test_positions_are_spread_over_sorted_data():
    assert spread_positions(10, 20) == list(range(10))
    assert spread_positions(1000, 4) == [0, 250, 500, 750]


# --- rates of torch's schedulers


def schedulers(optimizer, name):
    kinds = torch.optim.lr_scheduler
    linear = kinds.LinearLR(optimizer, 0.1, total_iters=3)
    made = {
        "cosine": lambda: kinds.CosineAnnealingLR(optimizer, 40),
        "one-cycle": lambda: kinds.OneCycleLR(optimizer, 0.5, total_steps=40),
        "lambda": lambda: kinds.LambdaLR(optimizer, lambda step: 0.9**step),
        "step": lambda: kinds.StepLR(optimizer, 3),
        "sequence": lambda: kinds.SequentialLR(
            optimizer, [linear, kinds.CosineAnnealingLR(optimizer, 30)], [3]
        ),
    }
    return made[name]()


@pytest.mark.parametrize("name", ["cosine", "one-cycle", "lambda", "step", "sequence"])
@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_planned_rates_are_those_that_the_scheduler_then_gives(name, interval):
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = schedulers(optimizer, name)
        planned = dict(scheduled_rates(scheduler, interval, 40, 4, every=1))
        given = {}
        for step in range(40):
            given[step + 1] = optimizer.param_groups[0]["lr"]
            optimizer.step()
            if interval == "step" or (step + 1) % 4 == 0:
                scheduler.step()
    assert planned == pytest.approx(given)


def test_a_plateau_cannot_be_planned():
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    assert scheduled_rates(scheduler, "epoch", 10, 2, every=1) is None


def test_planned_steps_are_measured_ones():
    gauge = StepGauge({}, every=10)
    for steps in (5, 50, 12_345, 1_000_000):
        chosen = sampled_steps(steps, 10)
        assert all(gauge.due(step) for step in chosen)
        assert len(chosen) <= 450
        assert chosen[0] == 0
