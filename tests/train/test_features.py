"""Kept features: the same as live ones, found again, never half there, never wrong."""

import dataclasses
import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch
from torch import nn

from espalier import cache, pipeline
from espalier.errors import DataError, TrainingInterrupted
from espalier.train.features import KeptFeatures, header_of, narrowed, read_view, widened
from espalier.train.interrupts import Interrupts
from espalier.train.judge import predict
from espalier.train.loop import fit, prepare
from espalier.train.session import batch_order, enter_training_mode, open_session
from small_runs import Seen, but_seconds, open_job, same, small_recipe, weights

TOP = "stages=[{name: top, train: 0.4, epochs: 4, lr: 1e-2}]"
HEAD = "stages=[{name: head, train: head, epochs: 4, lr: 1e-2}]"
SOLVED = (
    "stages=[{name: head, train: head, solve: true, epochs: 1, lr: 1e-2},"
    " {name: top, train: 0.4, epochs: 3, lr: 5e-3}]"
)
LIGHT = "augment.policy=light"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ESPALIER_CACHE", str(tmp_path / "cache"))


def recipe_for(uneven, tmp_path, *given, keep="memory", views=2, stages=TOP):
    kept = () if keep == "off" else (f"features.views={views}",)
    values = (LIGHT, f"features.keep={keep}", *kept, *given)
    return small_recipe(uneven, tmp_path, *values, stages=stages)


def opened(recipe, watch=None):
    job, state = open_job(recipe, watch)
    return job, state, open_session(job, state)


def logits_of(job, session, batch):
    session.judged.eval()
    with torch.no_grad():
        return session.judged(session.normalizer(batch.images))


@pytest.mark.parametrize("stages", [TOP, HEAD])
@pytest.mark.parametrize(("stored", "tolerance"), [("fp32", 1e-5), ("bf16", 1e-2)])
def test_kept_and_live_give_the_same_logits_for_the_same_view(
    uneven, tmp_path, stages, stored, tolerance
):
    given = (f"features.stored={stored}",)
    job, _, kept = opened(recipe_for(uneven, tmp_path, *given, views=3, stages=stages))
    live_job, _, live = opened(recipe_for(uneven, tmp_path, keep="off", stages=stages))
    assert isinstance(kept.train(0), KeptFeatures)
    order = batch_order(job, kept, 1)
    pairs = zip(kept.train(1).epoch(order, 1), live.train(1).epoch(order, 1), strict=True)
    for of_features, of_pixels in pairs:
        assert torch.equal(of_features.labels, of_pixels.labels)
        assert torch.equal(of_features.positions, of_pixels.positions)
        found = logits_of(job, kept, of_features)
        wanted = logits_of(live_job, live, of_pixels)
        scale = max(1.0, float(wanted.abs().max()))
        torch.testing.assert_close(found, wanted, atol=tolerance * scale, rtol=0)


def test_validation_scores_are_those_of_the_whole_network(uneven, tmp_path):
    job, _, session = opened(recipe_for(uneven, tmp_path, "features.stored=fp32"))
    found = predict(job, session, session.val).logits
    live = dataclasses.replace(session, judged=job.model, normalizer=live_normalizer(job))
    wanted = predict(job, live, session.val.live).logits
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def live_normalizer(job):
    from espalier.train.loaders import build_normalizer

    return build_normalizer(job.recipe)


def test_epochs_take_the_views_in_turn(uneven, tmp_path):
    _, _, session = opened(recipe_for(uneven, tmp_path))
    order = np.arange(6)
    first, second, third = (
        torch.cat([b.images for b in session.train(e).epoch(order, e)]) for e in range(3)
    )
    assert torch.equal(first, third)
    assert not torch.equal(first, second)


def test_an_image_that_an_epoch_draws_twice_is_seen_in_two_views(uneven, tmp_path):
    _, _, session = opened(recipe_for(uneven, tmp_path))
    batch = next(session.train(0).epoch(np.array([3, 3]), 0))
    assert not torch.equal(batch.images[0], batch.images[1])


def test_an_epoch_taken_up_in_its_middle_yields_the_same_batches(uneven, tmp_path):
    _, _, session = opened(recipe_for(uneven, tmp_path))
    order = np.arange(20)
    whole = list(session.train(0).epoch(order, 0))
    late = list(session.train(0).epoch(order, 0, start_batch=3))
    assert all(torch.equal(a.images, b.images) for a, b in zip(whole[3:], late, strict=True))


@pytest.mark.parametrize("keep", ["memory", "disk"])
@pytest.mark.parametrize("stages", [TOP, SOLVED])
@pytest.mark.parametrize("stop", [1, 7, 12])
def test_killed_anywhere_and_resumed_equals_never_stopped(
    uneven, tmp_path, keep, stages, stop, monkeypatch
):
    given = ("augment.mixup=0.2", "class_weighting.sampler=balanced")
    recipe = recipe_for(uneven, tmp_path / "whole", *given, keep=keep, stages=stages)
    whole = pipeline.train(recipe)
    job, state = open_job(recipe_for(uneven, tmp_path / "cut", *given, keep=keep, stages=stages))
    interrupts = Interrupts()
    job = dataclasses.replace(job, watch=StopAt(stop, interrupts))
    with pytest.raises(TrainingInterrupted):
        fit(job, state, interrupts)
    # What was kept is lost: it must be made again, the same.
    monkeypatch.setenv("ESPALIER_CACHE", str(tmp_path / "another"))
    resumed = pipeline.resume(job.run, job.run.recipe())
    assert same(weights(whole.run.last), weights(resumed.run.last))
    first, second = whole.run.history().rows, resumed.run.history().rows
    assert [but_seconds(row) for row in first] == [but_seconds(row) for row in second]


class StopAt(Seen):
    def __init__(self, step, interrupts):
        super().__init__()
        self.step, self.interrupts = step, interrupts

    def on_step(self, done, total, loss):
        if done == self.step:
            self.interrupts.signal = signal.SIGINT


def test_a_signal_while_features_are_made_stops_in_good_order(uneven, tmp_path):
    job, state = open_job(recipe_for(uneven, tmp_path))
    interrupts = Interrupts()
    interrupts.signal = signal.SIGTERM
    with pytest.raises(TrainingInterrupted) as stopped:
        fit(job, state, interrupts)
    assert stopped.value.exit_code == 128 + signal.SIGTERM
    resumed = pipeline.resume(job.run, job.run.recipe())
    assert len(resumed.history.rows) == 4


def test_features_on_disk_serve_the_next_run_and_other_weights_do_not(uneven, tmp_path):
    first = recipe_for(uneven, tmp_path / "a", keep="disk")
    pipeline.train(first)
    folder = cache.cache_folder("features")
    made = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(made) == 4  # two views for training, one each for validation and the probe
    os.utime(sorted(folder.iterdir())[0], ns=(0, 0))
    pipeline.train(recipe_for(uneven, tmp_path / "b", keep="disk"))
    assert {path.name for path in folder.iterdir()} == set(made)
    pipeline.train(recipe_for(uneven, tmp_path / "c", "training.seed=1", keep="disk"))
    assert len(list(folder.iterdir())) > len(made)


@pytest.mark.parametrize("harm", ["removed", "cut short", "other format"])
def test_spoilt_files_are_made_again(uneven, tmp_path, harm):
    before = pipeline.train(recipe_for(uneven, tmp_path / "a", keep="disk"))
    for path in cache.cache_folder("features").iterdir():
        if harm == "removed":
            path.unlink()
        elif harm == "cut short":
            path.write_bytes(path.read_bytes()[:-3])
        else:
            path.write_bytes(b"{}".ljust(300))
    after = pipeline.train(recipe_for(uneven, tmp_path / "b", keep="disk"))
    assert same(weights(before.run.last), weights(after.run.last))


def test_removing_the_cache_while_it_trains_harms_nothing(uneven, tmp_path):
    class Remove(Seen):
        def on_epoch(self, row, history):
            for path in cache.cache_folder("features").iterdir():
                path.unlink()

    undisturbed = pipeline.train(recipe_for(uneven, tmp_path / "a", keep="disk"))
    for path in cache.cache_folder("features").iterdir():
        path.unlink()
    disturbed = pipeline.train(recipe_for(uneven, tmp_path / "b", keep="disk"), watch=Remove())
    assert same(weights(undisturbed.run.last), weights(disturbed.run.last))


def test_a_disk_that_takes_nothing_is_said_and_memory_serves(uneven, tmp_path, monkeypatch):
    (tmp_path / "blocked").write_text("a file, no folder")
    monkeypatch.setenv("ESPALIER_CACHE", str(tmp_path / "blocked"))
    seen = Seen()
    pipeline.train(recipe_for(uneven, tmp_path / "a", keep="disk"), watch=seen)
    assert any("kept features stay in memory" in note for note in seen.notes)


def write_both(folder, barrier, source):
    os.environ["ESPALIER_CACHE"] = folder
    torch.set_num_threads(1)
    photos, out = source
    barrier.wait()
    pipeline.train(recipe_for(photos, out, keep="disk"))


def test_two_runs_may_make_the_same_features_at_once(uneven, tmp_path):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    places = [(uneven, tmp_path / name) for name in ("a", "b")]
    runs = [
        context.Process(target=write_both, args=(str(tmp_path / "shared"), barrier, place))
        for place in places
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join(120)
    assert [run.exitcode for run in runs] == [0, 0]
    one, two = (place / "run" / "checkpoints" / "last.pt" for _, place in places)
    assert same(weights(one), weights(two))
    assert not list((tmp_path / "shared" / "features").glob(".*partial*"))


def test_features_that_are_not_finite_stop_the_run_and_name_the_image(uneven, tmp_path):
    job, state = open_job(recipe_for(uneven, tmp_path, stages=SOLVED))
    with torch.no_grad():
        next(job.model.backbone.parameters()).fill_(float("nan"))
    with pytest.raises(DataError, match=r"not finite for .*class_0") as error:
        fit(job, state, Interrupts())
    assert "--weights" in error.value.hint


def test_cutmix_and_rising_resolution_run_live_and_say_so(uneven, tmp_path):
    rising = "stages=[{name: top, train: 0.4, epochs: 4, lr: 1e-2, imgsz: 64, imgsz_from: 32}]"
    for given, stages in ((("augment.cutmix=1.0",), TOP), ((), rising)):
        seen = Seen()
        _, state, session = opened(recipe_for(uneven, tmp_path, *given, stages=stages), seen)
        assert not isinstance(session.train(0), KeptFeatures)
        assert state.views == 0
        assert any("live" in note for note in seen.notes)


def test_resolution_rises_within_a_stage_and_ends_at_its_own(uneven, tmp_path):
    rising = "stages=[{name: all, train: all, epochs: 4, lr: 1e-2, imgsz: 96, imgsz_from: 32}]"
    _, _, session = opened(recipe_for(uneven, tmp_path, stages=rising))
    sizes = [next(session.train(e).epoch(np.arange(4), e)).images.shape[-1] for e in range(4)]
    assert sizes == [32, 64, 64, 96] or sizes == [32, 64, 96, 96]
    assert next(session.val.in_order()).images.shape[-1] == 96


def test_frozen_layers_keep_resting_while_the_rest_learns(uneven, tmp_path):
    job, _, session = opened(recipe_for(uneven, tmp_path))
    enter_training_mode(job, session)
    modes = {name: m.training for name, m in job.model.named_modules()
             if isinstance(m, nn.BatchNorm2d)}  # fmt: skip
    assert set(modes.values()) == {True, False}
    assert next(iter(modes.values())) is False


def test_mixup_mixes_features_as_it_mixes_pixels(uneven, tmp_path):
    job, state, session = opened(recipe_for(uneven, tmp_path, "augment.mixup=0.4"))
    batch = next(session.train(0).epoch(np.arange(8), 0))
    mixed, targets = prepare(job, session, state, batch, 0)
    assert mixed.shape == batch.images.shape
    assert targets.shape == (len(batch.labels), 3)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(len(batch.labels)))


def test_a_file_holds_what_was_put_in(tmp_path):
    features = torch.randn(5, 4, 2)
    for stored, tolerance in (("fp32", 0.0), ("bf16", 2**-8)):
        rows = narrowed(features, stored)
        path = tmp_path / stored
        path.write_bytes(header_of(rows.dtype.name, rows.shape[1:], 5) + rows.tobytes())
        found = widened(read_view(path, 5), np.array([4, 0])).float()
        torch.testing.assert_close(found, features[[4, 0]], atol=tolerance, rtol=tolerance)
        assert read_view(path, 6) is None
