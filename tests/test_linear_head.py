"""What is tried before the first step: a linear head on what the network begins with."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from espalier import Vitals
from espalier.diagnose.readers import read_record
from espalier.run_record import HeadTrial
from espalier.vitals.linear_head import head_trial, looks_of
from espalier.vitals.norm_count import NormCount


def blobs(images: int, classes: int, apart: float) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    labels = generator.integers(0, classes, images)
    centres = generator.normal(size=(classes, 20)) * apart
    return centres[labels] + generator.normal(size=(images, 20)), labels


def nearest_centroid(inputs: np.ndarray, labels: np.ndarray) -> float:
    """Mean recall where each image is judged by the means of all the others."""
    called = []
    for place in range(len(labels)):
        others = np.arange(len(labels)) != place
        means = [inputs[others & (labels == c)].mean(0) for c in range(labels.max() + 1)]
        called.append(int(np.argmin([np.sum((inputs[place] - mean) ** 2) for mean in means])))
    return float(balanced_accuracy_score(labels, called))


@pytest.mark.parametrize("apart", [0.4, 1.0])
def test_it_knows_what_the_nearest_mean_knows(apart: float) -> None:
    """Round clouds of one spread: there both are the best that can be had."""
    inputs, labels = blobs(400, 5, apart)
    trial = head_trial(inputs, labels)
    assert trial is not None
    assert trial.recall == pytest.approx(nearest_centroid(inputs, labels), abs=0.05)
    assert trial.images == {c: int((labels == c).sum()) for c in range(5)}


def test_shuffled_labels_leave_it_guessing() -> None:
    inputs, labels = blobs(400, 5, 1.5)
    shuffled = np.random.default_rng(0).permutation(labels)
    right, wrong = head_trial(inputs, labels), head_trial(inputs, shuffled)
    assert right is not None
    assert wrong is not None
    assert right.recall > 0.9
    assert abs(wrong.recall - wrong.chance) < 4 * wrong.noise


def test_a_class_of_most_images_draws_nobody_in() -> None:
    inputs, labels = blobs(600, 3, 0.7)
    kept = (labels == 0) | (np.arange(600) % 12 == 0)
    trial = head_trial(inputs[kept], labels[kept])
    assert trial is not None
    assert min(trial.recalls.values()) > 0.6


def test_the_noise_is_that_of_repeated_draws() -> None:
    generator = np.random.default_rng(1)
    means = []
    for _ in range(400):
        right = generator.binomial([30, 60, 90], [0.5, 0.7, 0.9])
        wrong = np.array([30, 60, 90]) - right
        rows = [(c, c, int(right[c])) for c in range(3)]
        rows += [(c, (c + 1) % 3, int(wrong[c])) for c in range(3) if wrong[c]]
        means.append(HeadTrial(tuple(rows)))
    spread = np.std([trial.recall for trial in means])
    assert np.mean([trial.noise for trial in means]) == pytest.approx(spread, rel=0.15)


@pytest.mark.parametrize(
    ("inputs", "labels"),
    [
        (np.ones((10, 4)), np.arange(10) % 2),
        (np.random.default_rng(0).normal(size=(10, 4)), np.zeros(10, dtype=np.int64)),
        (np.random.default_rng(0).normal(size=(4, 4)), np.arange(4)),
        (np.full((10, 4), math.nan), np.arange(10) % 2),
        (np.zeros((0, 4)), np.zeros(0, dtype=np.int64)),
        (np.zeros((9, 4)), np.arange(10) % 2),
        (np.random.default_rng(0).normal(size=(20, 4)), np.arange(20) % 10),
    ],
    ids=[
        "all alike",
        "one class",
        "one image each",
        "no numbers",
        "no images",
        "other length",
        "two each",
    ],
)
def test_what_cannot_be_judged(inputs: np.ndarray, labels: np.ndarray) -> None:
    assert head_trial(inputs, labels) is None


def test_three_images_of_a_class_are_enough_to_try() -> None:
    inputs, labels = blobs(400, 5, 1.5)
    few = np.concatenate([np.flatnonzero(labels == c)[:3] for c in range(5)])
    trial = head_trial(inputs[few], labels[few])
    assert trial is not None
    assert trial.images == dict.fromkeys(range(5), 3)


def test_images_that_are_no_numbers_are_left_out() -> None:
    inputs, labels = blobs(200, 3, 1.5)
    inputs[::10] = math.inf
    trial = head_trial(inputs, labels)
    assert trial is not None
    assert sum(trial.images.values()) == 180


def test_features_are_the_input_of_the_last_layer() -> None:
    body, head = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU()), nn.Linear(5, 3)
    model = nn.Sequential(body, head)
    images = torch.randn(7, 3, 2, 2)
    looks = looks_of(images.split(3), model, model)
    assert looks.features is not None
    assert np.allclose(looks.features, body(images).detach().numpy(), atol=1e-6)
    assert looks.pixels is not None
    assert len(looks.pixels) == 7


class Pictures(Dataset[Any]):
    """Bright or dark pictures, some drawn so that nothing is left of that."""

    def __init__(self, destroyed: bool) -> None:
        generator = torch.Generator().manual_seed(0)
        self.targets = [i % 3 for i in range(120)]
        shades = torch.tensor(self.targets).float()[:, None, None, None]
        self.images = torch.randn(120, 3, 8, 8, generator=generator) + shades
        self.destroyed = destroyed
        self.random = np.random.default_rng(4)

    def __len__(self) -> int:
        return 120

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        drawn = torch.tensor(self.random.standard_normal((3, 8, 8)), dtype=torch.float32)
        image = drawn if self.destroyed else self.images[index] + 0.1 * drawn
        return image, self.targets[index]


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 3),
    )  # fmt: skip


def trained(
    folder: Path | None, *, destroyed: bool = False, validate: str = "eval"
) -> tuple[nn.Module, Vitals | None]:
    torch.manual_seed(0)
    model, pictures = network(), Pictures(destroyed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    loader = DataLoader(pictures, 16, shuffle=True)
    vitals = None
    if folder is not None:
        probe = (pictures.images, torch.tensor(pictures.targets))
        vitals = Vitals(model, optimizer, folder, train_loader=loader, probe=probe)
    for _ in range(2):
        model.train()
        for images, labels in loader:
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(images), labels)
            loss.backward()
            if vitals is not None:
                vitals.step(loss, labels)
            optimizer.step()
        if validate == "eval":
            model.eval()
        with torch.no_grad():
            logits = torch.cat([model(chunk) for chunk in pictures.images.split(40)])
        if vitals is not None:
            vitals.epoch(val=(torch.tensor(pictures.targets), logits))
    return model, vitals


@pytest.mark.parametrize("destroyed", [False, True])
def test_a_loop_records_what_augmentation_leaves(tmp_path: Path, destroyed: bool) -> None:
    _, vitals = trained(tmp_path / "run", destroyed=destroyed)
    assert vitals is not None
    preflight = read_record(vitals.folder).preflight
    assert preflight.head is not None
    assert preflight.drawn_head is not None
    assert preflight.head.recall > 0.9
    assert (preflight.drawn_head.recall < 0.5) == destroyed


def test_a_trial_changes_nothing_of_what_is_trained(tmp_path: Path) -> None:
    plain, _ = trained(None)
    watched, _ = trained(tmp_path / "run")
    for name, value in plain.state_dict().items():
        assert torch.equal(value, watched.state_dict()[name]), name


@pytest.mark.parametrize(("validate", "counted"), [("eval", 0), ("train", 3)])
def test_batches_that_batch_norm_counts_in_validation(
    tmp_path: Path, validate: str, counted: int
) -> None:
    _, vitals = trained(tmp_path / "run", validate=validate)
    assert vitals is not None
    record = read_record(vitals.folder)
    assert [epoch.normed_in_validation for epoch in record.epochs] == [counted, counted]


def test_without_batch_norm_or_steps_there_is_no_count() -> None:
    assert NormCount(nn.Linear(2, 2)).since_step() is None
    assert NormCount(network()).since_step() is None


def test_weights_of_another_model_say_nothing_of_validation() -> None:
    model, fresh = network(), network()
    count = NormCount(model)
    model(torch.randn(4, 3, 8, 8))
    count.stepped()
    model.load_state_dict(fresh.state_dict())
    assert count.since_step() is None


def test_an_older_record_has_no_trial(tmp_path: Path) -> None:
    _, vitals = trained(tmp_path / "run")
    assert vitals is not None
    path = vitals.folder / "diagnostics" / "run.json"
    said = json.loads(path.read_text())
    del said["preflight"]["head"], said["preflight"]["drawn_head"]
    path.write_text(json.dumps(said))
    assert read_record(vitals.folder).preflight.head is None
