"""Training on views that the device renders: the CPU stands in for it, so that every machine can.

The views themselves are compared in tests/data; here, that training uses them, everywhere alike.
"""

import dataclasses
import signal

import numpy as np
import pytest
import torch

from espalier import pipeline
from espalier.data.augment_device import DeviceAugment
from espalier.data.transforms import EvalTransform, TrainTransform
from espalier.errors import TrainingInterrupted
from espalier.recipe.policies import POLICIES, resolve_steps
from espalier.train import loaders
from espalier.train.features import KeptFeatures
from espalier.train.interrupts import Interrupts
from espalier.train.loop import fit
from espalier.train.session import batch_order, open_session
from small_runs import ALL, Seen, but_seconds, open_job, same, small_recipe, weights

# Of a pixel's 255 steps; what the views differ by is stated and tested in tests/data.
MEAN_STEP, LARGEST_STEP = 1.0, 5
LIVE = ("augment.policy=light",)
KEPT = (*LIVE, "features.keep=memory", "features.views=2")
TOP = "stages=[{name: top, train: 0.4, epochs: 3, lr: 1e-2}]"
RISING = "stages=[{name: all, train: all, epochs: 2, lr: 5e-3, imgsz: 64, imgsz_from: 32}]"


@pytest.fixture
def rendering(monkeypatch):
    monkeypatch.setattr(loaders, "RENDERING", ("cpu",))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ESPALIER_CACHE", str(tmp_path / "cache"))


def opened(recipe, watch=None):
    job, state = open_job(recipe, watch)
    return job, state, open_session(job, state)


def assert_close_views(ours, theirs):
    difference = (ours.float() - theirs.float()).abs()
    assert difference.mean(dim=(1, 2, 3)).max() < MEAN_STEP
    assert float(difference.flatten().quantile(0.999)) <= LARGEST_STEP


@pytest.mark.parametrize("policy", POLICIES)
def test_a_device_made_for_it_renders_policies_that_take_batches(policy):
    transform = TrainTransform(32, "crop", resolve_steps(policy, None))
    on_cuda = loaders.device_augment(transform, torch.device("cuda", 1))
    takes_one = policy in ("randaugment", "trivialaugment")
    assert (on_cuda is None) == takes_one
    assert on_cuda is None or on_cuda.device == torch.device("cuda", 1)
    for other in ("cpu", "mps"):
        assert loaders.device_augment(transform, torch.device(other)) is None


def test_the_fixed_view_is_never_rendered_elsewhere():
    fixed = EvalTransform(32, "crop", 1.0)
    assert loaders.device_augment(fixed, torch.device("cuda")) is None


@pytest.mark.parametrize("stages", [ALL, RISING])
def test_a_stage_trains_on_the_same_views_in_the_same_order(uneven, tmp_path, monkeypatch, stages):
    recipe = small_recipe(uneven, tmp_path, *LIVE, stages=stages)
    _, _, plain = opened(recipe)
    monkeypatch.setattr(loaders, "RENDERING", ("cpu",))
    job, _, session = opened(recipe)
    for epoch in (0, 1):
        order = batch_order(job, session, epoch)
        ours, theirs = (list(s.train(epoch).epoch(order, epoch)) for s in (session, plain))
        assert len(ours) == len(theirs) == 7
        for one, other in zip(ours, theirs, strict=True):
            assert torch.equal(one.labels, other.labels)
            assert torch.equal(one.positions, other.positions)
            assert_close_views(one.images, other.images)
    fixed = [torch.cat([batch.images for batch in s.val.in_order()]) for s in (session, plain)]
    assert torch.equal(*fixed)


def test_kept_features_are_made_of_rendered_views(uneven, tmp_path, monkeypatch):
    recipe = small_recipe(uneven, tmp_path, *KEPT, "features.stored=fp32", stages=TOP)
    _, _, plain = opened(recipe)
    rendered = []
    original = DeviceAugment.views

    def counted(self, images, drawn):
        rendered.append(len(images))
        return original(self, images, drawn)

    monkeypatch.setattr(DeviceAugment, "views", counted)
    monkeypatch.setattr(loaders, "RENDERING", ("cpu",))
    job, _, session = opened(recipe)
    kept = session.train(0)
    assert isinstance(kept, KeptFeatures)
    rendered.clear()
    found, wanted = (torch.from_numpy(s.train(0).view(1)) for s in (session, plain))
    assert sum(rendered) == len(job.train) == len(found)
    assert not torch.equal(found, wanted)
    scale = (wanted - wanted.mean()).abs().mean()
    assert (found - wanted).abs().mean() < 0.2 * scale


@pytest.mark.parametrize(("given", "stages"), [(LIVE, ALL), (KEPT, TOP)])
@pytest.mark.parametrize("stop", [3, 9])
def test_killed_anywhere_and_resumed_equals_never_stopped(
    uneven, tmp_path, rendering, given, stages, stop
):
    given = (*given, "augment.mixup=0.2", "data.workers=2")
    whole = pipeline.train(small_recipe(uneven, tmp_path / "whole", *given, stages=stages))
    job, state = open_job(small_recipe(uneven, tmp_path / "cut", *given, stages=stages))
    interrupts = Interrupts()

    class Stop(Seen):
        def on_step(self, done, total, loss):
            if done == stop:
                interrupts.signal = signal.SIGINT

    with pytest.raises(TrainingInterrupted):
        fit(dataclasses.replace(job, watch=Stop()), state, interrupts)
    resumed = pipeline.resume(job.run, job.run.recipe())
    assert same(weights(whole.run.last), weights(resumed.run.last))
    first, second = whole.run.history().rows, resumed.run.history().rows
    assert [but_seconds(row) for row in first] == [but_seconds(row) for row in second]


def test_the_picture_of_the_first_batch_is_what_the_network_sees(uneven, tmp_path, rendering):
    job, _, session = opened(small_recipe(uneven, tmp_path, *LIVE, stages=ALL))
    pixels, names = pipeline.first_images(job)
    batch = next(session.train(0).epoch(batch_order(job, session, 0), 0))
    assert np.array_equal(pixels, batch.images.permute(0, 2, 3, 1).numpy())
    assert names == [job.catalog.classes[i] for i in batch.labels.tolist()]


def test_the_log_says_where_views_are_made(uneven, tmp_path, rendering, monkeypatch):
    def notes(*given, stages=ALL):
        seen = Seen()
        opened(small_recipe(uneven, tmp_path, *given, stages=stages), seen)
        return [note for note in seen.notes if note.startswith("training views")]

    assert notes(*LIVE) == ["training views are rendered on cpu, a batch at a time"]
    (found,) = notes("augment.policy=randaugment")
    assert "made on the CPU: randaugment" in found
    solved = "stages=[{name: head, train: head, solve: true, epochs: 1, lr: 1e-2}]"
    assert notes("features.keep=memory", stages=solved) == []
    monkeypatch.setattr(loaders, "RENDERING", ("cuda",))
    assert notes(*LIVE) == []
