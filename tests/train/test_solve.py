"""A solved head: the minimum that an independent solver finds, and a stage of one epoch."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from espalier import pipeline
from espalier.recipe.schema import Loss
from espalier.train.losses import build_loss
from espalier.train.solve import minimise
from small_runs import small_recipe

PENALTY = 0.01
STAGES = (
    "stages=[{name: head, train: head, solve: true, epochs: 1, lr: 1e-2, penalty: 0.01},"
    " {name: all, train: all, epochs: 1, lr: 1e-3}]"
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ESPALIER_CACHE", str(tmp_path / "cache"))


def made_up(images=300, features=20, classes=4):
    rng = np.random.default_rng(0)
    labels = rng.integers(classes, size=images)
    centres = rng.normal(size=(classes, features))
    return (centres[labels] + rng.normal(size=(images, features))).astype("f4"), labels


def test_it_finds_what_scikit_learn_finds():
    features, labels = made_up()
    head = nn.Linear(20, 4)
    loss = build_loss(Loss(label_smoothing=0.0), class_weights=None, class_counts=[1.0] * 4)
    minimise(head, loss, torch.from_numpy(features), torch.from_numpy(labels), PENALTY)
    known = LogisticRegression(C=1 / (PENALTY * len(labels)), tol=1e-8, max_iter=5000)
    known.fit(features, labels)
    np.testing.assert_allclose(head.weight.detach(), known.coef_, atol=2e-3)
    # Only differences of biases are determined.
    found = head.bias.detach().numpy()
    wanted = known.intercept_
    np.testing.assert_allclose(found - found.mean(), wanted - wanted.mean(), atol=2e-3)


def test_class_weights_and_smoothing_are_those_of_the_recipe():
    features, labels = made_up()
    weights = np.array([0.25, 0.5, 1.0, 2.25])
    loss = build_loss(Loss(label_smoothing=0.1), class_weights=weights, class_counts=[1.0] * 4)
    head = nn.Linear(20, 4)
    inputs, targets = torch.from_numpy(features), torch.from_numpy(labels)
    minimise(head, loss, inputs, targets, PENALTY)

    def objective():
        return loss(head(inputs), targets).mean() + 0.5 * PENALTY * head.weight.square().sum()

    gradients = torch.autograd.grad(objective(), list(head.parameters()))
    assert max(float(g.abs().max()) for g in gradients) < 1e-3


def test_a_solved_stage_is_one_epoch_of_one_step_and_the_best_there_is(uneven, tmp_path):
    given = ("features.keep=memory", "loss.label_smoothing=0")
    run = pipeline.train(small_recipe(uneven, tmp_path, *given, stages=STAGES)).run
    head, after = run.history().rows
    assert (head.stage, head.epoch, head.step, head.batches) == ("head", 1, 1, 1)
    assert head.learning_rate == 0
    assert head.train_loss < np.log(3)
    assert after.step > head.step


def test_a_head_of_two_layers_can_be_solved_too(uneven, tmp_path):
    given = ("features.keep=memory", "model.head=mlp", "model.hidden=8")
    run = pipeline.train(small_recipe(uneven, tmp_path, *given, stages=STAGES)).run
    assert run.history().rows[0].train_loss < np.log(3)
