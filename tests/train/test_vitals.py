import math

import pytest
import torch
from torch import nn

from espalier.train.vitals import Vitals, total_norm


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


def parts(network):
    return {"stem": list(network[0].parameters()), "head": list(network[2].parameters())}


def test_norms_and_ratios_equal_those_computed_tensor_by_tensor(network):
    vitals = Vitals(parts(network), every=1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network(torch.randn(8, 4)).square().mean().backward()
    before = [p.detach().clone() for p in network.parameters()]
    grads = [p.grad.clone() for p in network.parameters()]
    vitals.before_step()
    optimizer.step()
    found, update = vitals.after_step()

    def norm(tensors):
        return math.sqrt(sum(float((t.double() ** 2).sum()) for t in tensors))

    assert found["stem"]["grad_norm"] == pytest.approx(norm(grads[:2]), rel=1e-5)
    assert found["head"]["grad_norm"] == pytest.approx(norm(grads[2:]), rel=1e-5)
    # One weight matrix a part: the median is its own ratio, biases do not count.
    ratio = norm([0.1 * grads[0]]) / norm([before[0]])
    assert found["stem"]["update_ratio"] == pytest.approx(ratio, rel=1e-4)
    assert update == pytest.approx(norm([0.1 * g for g in grads]), rel=1e-4)


def test_a_part_that_does_not_move_has_ratio_zero(network):
    vitals = Vitals(parts(network), every=1)
    network(torch.randn(8, 4)).square().mean().backward()
    vitals.before_step()
    found, update = vitals.after_step()
    assert found["head"]["update_ratio"] == 0
    assert update == 0


def test_a_part_without_gradients_has_norm_zero(network):
    vitals = Vitals(parts(network), every=1)
    network[2](torch.randn(8, 5)).square().mean().backward()
    vitals.before_step()
    found, _ = vitals.after_step()
    assert found["stem"]["grad_norm"] == 0
    assert found["head"]["grad_norm"] > 0


def test_first_steps_and_every_tenth_are_due():
    vitals = Vitals({}, every=10)
    due = [step for step in range(45) if vitals.due(step)]
    assert due == [*range(20), 20, 30, 40]


def test_the_norm_of_nothing_is_zero():
    assert float(total_norm([None])) == 0
