import dataclasses
from collections import Counter

import numpy as np
import pytest

from espalier.models.inference import judging_batch
from espalier.train.judge import predict
from espalier.train.loaders import build_loaders, probe_size
from espalier.train.session import batch_order, enter_training_mode, open_session
from small_runs import ALL, HEAD_THEN_ALL, open_job, small_recipe


def opened(recipe):
    job, state = open_job(recipe)
    return job, state, open_session(job, state)


def test_a_balanced_sampler_draws_classes_alike_and_the_loss_knows_it(uneven, tmp_path):
    given = ("class_weighting.sampler=balanced", "loss.name=balanced-softmax")
    job, _, session = opened(small_recipe(uneven, tmp_path, *given))
    orders = [batch_order(job, session, epoch) for epoch in range(200)]
    assert {len(order) for order in orders} == {len(job.train)}
    drawn = Counter(session.labels[np.concatenate(orders)].tolist())
    shares = np.array([drawn[k] for k in range(3)]) / sum(drawn.values())
    assert shares == pytest.approx([1 / 3] * 3, abs=0.02)
    # What the sampler evens out, the loss must not even out again.
    assert session.loss.shift.tolist() == pytest.approx([np.log(1 / 3)] * 3, abs=1e-5)


def test_without_a_sampler_every_image_is_drawn_once(uneven, tmp_path):
    job, _, session = opened(small_recipe(uneven, tmp_path))
    order = batch_order(job, session, 3)
    assert sorted(order.tolist()) == list(range(len(job.train)))
    assert order.tolist() != batch_order(job, session, 4).tolist()


@pytest.mark.parametrize(
    ("given", "batches", "steps"),
    [
        ((), 7, 7),
        (("training.accumulate=3",), 7, 3),
        (("training.max_batches=4", "training.accumulate=3"), 4, 2),
        (("training.max_batches=99",), 7, 7),
        (("training.batch=9",), 3, 3),
    ],
)
def test_batches_and_steps_of_an_epoch(uneven, tmp_path, given, batches, steps):
    _, _, session = opened(small_recipe(uneven, tmp_path, *given))
    assert (session.batches_per_epoch, session.steps_per_epoch) == (batches, steps)
    assert session.plan.steps_per_epoch == steps


def test_only_what_learns_is_in_the_optimizer_and_under_watch(uneven, tmp_path):
    job, state, session = opened(small_recipe(uneven, tmp_path))
    held = {id(p) for group in session.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in job.model.head.parameters()}
    assert set(session.vitals.parts) == {"head"}
    enter_training_mode(job, session)
    assert session.model.training
    assert not any(m.training for m in job.model.backbone.modules() if len(list(m.parameters())))
    state.stage_index = 1
    session = open_session(job, state)
    enter_training_mode(job, session)
    held = {id(p) for group in session.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in job.model.parameters()}
    assert all(m.training for m in job.model.backbone.modules())


def test_judging_leaves_every_module_in_its_mode(uneven, tmp_path):
    job, _, session = opened(small_recipe(uneven, tmp_path))
    enter_training_mode(job, session)
    before = {name: module.training for name, module in job.model.named_modules()}
    assert len(set(before.values())) == 2
    predict(job, session, session.val)
    assert {name: module.training for name, module in job.model.named_modules()} == before


def test_stages_may_have_sizes_of_their_own(uneven, tmp_path):
    stages = HEAD_THEN_ALL.replace("lr: 5e-3", "lr: 5e-3, imgsz: 40")
    job, state, session = opened(small_recipe(uneven, tmp_path, stages=stages))
    assert next(session.train(0).in_order()).images.shape[-1] == 32
    state.stage_index = 1
    assert next(open_session(job, state).val.in_order()).images.shape[-1] == 40


def test_the_probe_is_a_fixed_part_of_the_training_images(uneven, tmp_path):
    job, _, session = opened(small_recipe(uneven, tmp_path))
    again = build_loaders(job, job.stages[0])[2]
    assert session.probe.samples == again.samples
    assert set(session.probe.samples) <= set(job.train)
    assert [probe_size(n) for n in (10, 50, 400, 800, 4096, 10**6)] == [10, 50, 50, 100, 512, 512]


def test_without_validation_images_the_probe_stands_in(uneven, tmp_path):
    job, state = open_job(small_recipe(uneven, tmp_path, stages=ALL))
    all_train = [dataclasses.replace(s, split="train") for s in job.catalog.samples]
    catalog = dataclasses.replace(job.catalog, samples=tuple(all_train))
    session = open_session(dataclasses.replace(job, catalog=catalog), state)
    assert session.val.samples == session.probe.samples


def test_judging_batches_hold_so_many_pixels_at_most():
    assert [judging_batch(side) for side in (32, 224, 448, 1024, 4096)] == [64, 64, 16, 3, 1]


def test_the_split_of_a_small_set_is_the_one_the_other_tests_count_on(uneven, tmp_path):
    job, _ = open_job(small_recipe(uneven, tmp_path))
    sizes = [len(job.catalog.in_split(part)) for part in ("train", "val", "test")]
    assert sizes == [28, 4, 4]
