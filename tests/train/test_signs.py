"""Vital signs of our own training: what is on record, and that training is the same without."""

import contextlib
import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from espalier import pipeline
from espalier.diagnose.doctor import examine
from espalier.diagnose.readers import read_record
from espalier.errors import NonFiniteLossError, TrainingInterrupted
from espalier.files import read_rows
from espalier.models.stages import model_parts
from espalier.recipe.schema import Loss
from espalier.run_record import DataFacts, EpochSigns, StageFacts, StepSigns, from_plain
from espalier.train import judge, loop, record, session
from espalier.train.interrupts import Interrupts
from espalier.train.losses import build_loss
from espalier.train.pixel_record import data_facts
from espalier.train.record import before_stage, begin_stage, ending_on_record
from espalier.train.session import enter_training_mode, open_session
from espalier.train.vitals import busy
from espalier.train.weight_use import WeightUse
from espalier.vitals.folder import SignsFolder
from small_runs import ALL, HEAD_THEN_ALL, Seen, open_job, same, small_recipe, weights

BUSY = ("model.dropout=0.5", "augment.policy=light", "logging.step_every=3")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    from small_runs import uneven_photos

    return uneven_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def finished(photos, tmp_path_factory):
    given = (*BUSY, "class_weighting.strategy=sqrt")
    return pipeline.train(small_recipe(photos, tmp_path_factory.mktemp("out"), *given)).run


def plain(run):
    return json.loads((run.diagnostics / "run.json").read_text())


def trained(recipe):
    job, state = open_job(recipe)
    with Interrupts() as interrupts:
        loop.fit(job, state, interrupts)
    return job


# --- training is the same without


def test_recording_changes_no_weight(photos, tmp_path, monkeypatch):
    with_signs = trained(small_recipe(photos, tmp_path / "with", *BUSY))
    monkeypatch.setattr(loop, "begin_stage", lambda *_: None)
    monkeypatch.setattr(judge, "epoch_signs", lambda *_, **__: EpochSigns(1))
    monkeypatch.setattr("espalier.vitals.steps.StepGauge.due", lambda *_: False)
    without = trained(small_recipe(photos, tmp_path / "without", *BUSY))
    for name in ("best", "last"):
        ours, theirs = (weights(getattr(job.run, name)) for job in (with_signs, without))
        assert same(ours, theirs)


def test_a_resumed_run_has_the_signs_of_one_that_never_stopped(photos, tmp_path, finished):
    recipe = small_recipe(photos, tmp_path, *BUSY, "class_weighting.strategy=sqrt")
    job, state = open_job(recipe)
    real, steps = loop.train_step, []

    def counted(*args):
        real(*args)
        steps.append(1)
        if len(steps) == 17:
            interrupts.signal = 2

    with pytest.MonkeyPatch.context() as patched, contextlib.suppress(TrainingInterrupted):
        patched.setattr(loop, "train_step", counted)
        with Interrupts() as interrupts, ending_on_record(job, state):
            loop.fit(job, state, interrupts)
    assert plain(job.run)["ended"] == "stopped"
    pipeline.resume(job.run, job.run.recipe())
    for name in ("train_diagnostics", "val_diagnostics", "steps", "sample_losses"):
        mine, other = (
            [without_times(row) for row in read_rows(run.diagnostics / f"{name}.jsonl")]
            for run in (job.run, finished)
        )
        assert mine == other
    first, second = plain(job.run), plain(finished)
    for both in (first, second):
        both["facts"].pop("seed")
    assert first == second


def without_times(row):
    return {k: v for k, v in row.items() if k not in ("seconds", "wait_seconds")}


# --- what is on record


def test_stages_say_what_should_move_and_what_the_optimizer_holds(finished):
    head, every = (from_plain(StageFacts, s) for s in plain(finished)["facts"]["stages"])
    assert head.meant_to_train == ("head",)
    assert sum(head.trainable.values()) == head.trainable["head"] == head.optimized["head"] > 0
    assert every.meant_to_train == tuple(every.parts)
    assert every.trainable == every.optimized == every.parts
    assert (head.moving_batch_norm, head.resting_batch_norm) == (0, 0)
    assert (head.backbone_learning_rate, every.backbone_learning_rate) == (0.0, 5e-3)


def test_planned_rates_are_those_of_the_steps(finished):
    planned = dict(map(tuple, plain(finished)["facts"]["planned_rates"]))
    steps = read_rows(finished.steps_file)
    assert {row["step"] for row in steps} == set(planned) == {*range(1, 21), 22, 25, 28}
    for row in steps:
        assert row["learning_rate"] == pytest.approx(planned[row["step"]], rel=1e-9)


def test_planned_rates_move_up_where_a_stage_stops_early(photos, tmp_path):
    stages = HEAD_THEN_ALL.replace("epochs: 2, lr: 1e-2", "epochs: 9, lr: 1e-2, patience: 1")
    run = pipeline.train(
        small_recipe(photos, tmp_path, "early_stopping.min_delta=1.0", stages=stages)
    ).run
    steps = read_rows(run.steps_file)
    assert steps[-1]["stage"] == "all"
    planned = dict(map(tuple, plain(run)["facts"]["planned_rates"]))
    common = [row for row in steps if row["step"] in planned]
    assert len(common) > 20
    for row in common:
        assert row["learning_rate"] == pytest.approx(planned[row["step"]], rel=1e-9)


def test_facts_are_those_of_the_job(finished):
    facts = plain(finished)["facts"]
    assert facts["train_counts"] == [14, 10, 4]
    assert facts["val_counts"] == [2, 1, 1]
    assert facts["head_classes"] == 3
    assert (facts["batch"], facts["steps_per_epoch"], facts["epochs"]) == (4, 7, 4)
    assert facts["dropout"] == 0.5
    assert facts["chance_loss"] == pytest.approx(math.log(3))
    assert np.average(facts["class_weights"], weights=[14, 10, 4]) == pytest.approx(1)
    best = [row.epoch for row in finished.history().rows if row.best][-1]
    assert (facts["kept"], facts["kept_epoch"]) == ("best", best)
    assert plain(finished)["ended"] == "finished"


def test_data_are_looked_at_as_the_network_sees_them(finished, photos):
    data = from_plain(DataFacts, plain(finished)["data"])
    assert data.train is not None
    assert data.val is not None
    assert (data.train.images, data.val.images, data.val.size) == (28, 4, (32, 32))
    mean, std = (plain(finished)["facts"][name] for name in ("input_mean", "input_std"))
    for split in (data.train, data.val):
        raw = np.array(split.raw_mean)
        assert split.mean == pytest.approx((raw - mean) / std, abs=1e-4)
        assert 0 < raw.min() < raw.max() < 1
    assert data.train.redraw_change > 0.05
    assert data.val.redraw_change == 0
    assert (data.overlap, data.train_copies) == (0, 0)


def test_copies_across_the_split_are_counted(photos, tmp_path):
    job, _ = open_job(small_recipe(photos, tmp_path))
    moved, copied = job.train[0], dataclasses.replace(job.train[1], sample_id="x~2", split="train")
    twin = dataclasses.replace(moved, sample_id=f"{moved.content}~2", split="val")
    samples = (*job.catalog.samples, twin)
    catalog = dataclasses.replace(job.catalog, samples=samples)
    found = data_facts(dataclasses.replace(job, catalog=catalog))
    assert (found.overlap, found.val_images, found.train_copies) == (1, 5, 0)
    again = dataclasses.replace(copied, sample_id=f"{job.train[1].content}~2")
    catalog = dataclasses.replace(job.catalog, samples=(*job.catalog.samples, again))
    found = data_facts(dataclasses.replace(job, catalog=catalog))
    assert (found.overlap, found.train_copies, found.train_images) == (0, 1, 29)


def test_the_lines_of_epochs_read_as_signs(finished):
    lines = read_rows(finished.train_diagnostics)
    signs = [from_plain(EpochSigns, line) for line in lines]
    assert [sign.epoch for sign in signs] == [1, 2, 3, 4]
    assert all(sign.drawn_share == 1 for sign in signs)
    assert all(0 <= s.wait_seconds <= line["seconds"] for s, line in zip(signs, lines, strict=True))
    # The backbone rests in the first stage, and learns in the second.
    assert set(signs[1].drift.values()) == {0.0}
    assert min(signs[3].drift.values()) > 0
    assert set(signs[3].dead) == set(plain(finished)["start"]["dead"])
    assert signs[3].weight_norm > signs[0].weight_norm
    for sign in signs:
        assert sign.loss_quantiles is not None
        assert sign.loss_quantiles[0] <= sign.loss_quantiles[1] <= sign.loss_quantiles[2]
    steps = [from_plain(StepSigns, row) for row in read_rows(finished.steps_file)]
    assert all(0 <= step.label_entropy <= math.log(3) + 1e-6 for step in steps)
    assert all(part.changed for step in steps for part in step.parts.values())


def test_losses_of_the_probe_have_their_mean_on_record(finished):
    ids, *lines = read_rows(finished.diagnostics / "sample_losses.jsonl")
    clean = [row["clean_loss"] for row in read_rows(finished.train_diagnostics)]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert all(len(line["losses"]) == len(ids["ids"]) for line in lines)
    assert [np.mean(line["losses"]) for line in lines] == pytest.approx(clean, rel=1e-3)


def test_the_confusion_matrix_is_that_of_the_last_validation(finished):
    found = json.loads((finished.diagnostics / "val_confusion.json").read_text())
    counts, last = np.array(found["counts"]), read_rows(finished.val_diagnostics)[-1]
    assert found["epoch"] == 4
    assert counts.sum(axis=1).tolist() == [2, 1, 1]
    assert counts.trace() / counts.sum() == pytest.approx(last["accuracy"])
    assert last["recall"] == pytest.approx((counts.diagonal() / counts.sum(axis=1)).tolist())


def test_the_first_loss_is_on_record(finished):
    preflight = plain(finished)["preflight"]
    assert preflight["initial_loss"] == pytest.approx(math.log(3), abs=0.02)
    assert preflight["output_sums_to_one"] is False


# --- training mode


def test_training_mode_is_that_of_training_and_leaves_no_trace(photos, tmp_path):
    job, state = open_job(small_recipe(photos, tmp_path, *BUSY, stages=ALL))
    session = open_session(job, state)
    batch = next(iter(session.probe.in_order()))
    job.model.eval()
    before = {name: value.clone() for name, value in job.model.state_dict().items()}
    random = torch.get_rng_state()
    loss, _ = busy(job, session, state, batch)
    assert busy(job, session, state, batch)[0] == loss
    assert not any(module.training for module in job.model.modules())
    assert same(before, job.model.state_dict())
    assert torch.equal(random, torch.get_rng_state())
    enter_training_mode(job, session)
    # As dropout has numbers of its own, only about the same.
    logits = session.judged(session.normalizer(batch.images)).detach()
    assert loss == pytest.approx(float(functional.cross_entropy(logits, batch.labels)), abs=0.3)


def test_a_frozen_network_without_dropout_is_the_same_in_both_modes(photos, tmp_path):
    stages = "stages=[{name: head, train: head, epochs: 1, lr: 1e-2}]"
    recipe = small_recipe(photos, tmp_path, "model.dropout=0", stages=stages)
    row = read_rows(trained(recipe).run.train_diagnostics)[0]
    assert row["busy_loss"] == pytest.approx(row["clean_loss"], rel=1e-4)


def test_dead_units_are_told_before_a_stage(photos, tmp_path):
    job, state = open_job(small_recipe(photos, tmp_path, stages=ALL))
    norm = next(m for m in job.model.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d))
    with torch.no_grad():
        norm.weight[:16], norm.bias[:16] = 0.0, -5.0
    session = open_session(job, state)
    _, dead = before_stage(job, session)
    first = next(iter(model_parts(job.model)))
    assert dead[first] >= 16 / 64 / 4
    assert set(dead) <= set(model_parts(job.model))


# --- the class weights


def weight_use_of(losses, logits, targets, wanted):
    use = WeightUse(Loss(label_smoothing=0.1), wanted, [4.0, 2.0, 2.0], torch.device("cpu"))
    for part in (slice(0, 5), slice(5, None)):
        use.add(logits[part], targets[part], losses(logits[part], targets[part]))
    return use.verdict()


@pytest.mark.parametrize("mixed", [False, True])
def test_a_loss_that_forgets_the_weights_is_told_from_one_that_uses_them(mixed):
    torch.manual_seed(0)
    logits, wanted = torch.randn(12, 3) * 3, np.array([0.5, 1.0, 2.0])
    targets = torch.arange(12) % 3
    if mixed:
        targets = 0.7 * functional.one_hot(targets, 3) + 0.3 * functional.one_hot(
            targets.flip(0), 3
        )
    section = Loss(label_smoothing=0.1)
    used = build_loss(section, class_weights=wanted, class_counts=[4.0, 2.0, 2.0])
    forgotten = build_loss(section, class_weights=None, class_counts=[4.0, 2.0, 2.0])
    turned = build_loss(section, class_weights=wanted[::-1].copy(), class_counts=[4.0, 2.0, 2.0])
    assert weight_use_of(used, logits, targets, wanted)["weights_used"] is True
    assert weight_use_of(forgotten, logits, targets, wanted)["weights_used"] is False
    assert weight_use_of(turned, logits, targets, wanted)["weights_used"] is False


def test_equal_weights_leave_nothing_to_tell():
    logits, even = torch.randn(12, 3), np.ones(3)
    loss = build_loss(Loss(), class_weights=even, class_counts=[1.0, 1.0, 1.0])
    verdict = weight_use_of(loss, logits, torch.arange(12) % 3, even)
    assert verdict["weights_used"] is None


def test_training_says_whether_its_loss_used_the_weights(finished, photos, tmp_path, monkeypatch):
    checks = plain(finished)["checks"]
    assert checks["weights_used"] is True
    assert checks["weights_deviation"] < 1e-4
    seen = Seen()
    job, state = open_job(small_recipe(photos, tmp_path, "class_weighting.strategy=inverse"), seen)
    session = open_session(job, state)
    even = build_loss(job.recipe.loss, class_weights=None, class_counts=[14, 10, 4])
    session = dataclasses.replace(session, loss=even)
    monkeypatch.setattr(loop, "open_session", lambda *_: session)
    begin_stage(job, session, state)
    with Interrupts() as interrupts:
        loop.train_epoch(job, session, state, interrupts)
    record.note_weight_use(job, state)
    assert plain(job.run)["checks"]["weights_used"] is False
    assert any("does not use the class weights" in note for note in seen.notes)


# --- how it ended


def test_how_training_ended_is_on_record(photos, tmp_path):
    job, state = open_job(small_recipe(photos, tmp_path))
    begin_stage(job, open_session(job, state), state)
    assert plain(job.run)["ended"] == "running"
    broken = NonFiniteLossError("the loss is nan at step 3")
    with pytest.raises(NonFiniteLossError), ending_on_record(job, state):
        raise broken
    assert plain(job.run)["ended"] == "died"
    assert plain(job.run)["why_ended"] == "the loss is nan at step 3"


def test_a_folder_without_a_record_gets_none_by_a_change(tmp_path):
    folder = SignsFolder(tmp_path)
    folder.update(ended="finished")
    assert folder.read() == {}
    assert not list(tmp_path.iterdir())


def test_a_damaged_record_is_no_obstacle(tmp_path):
    folder = SignsFolder(tmp_path)
    (tmp_path / "run.json").write_text('{"format": 1, "facts"')
    assert folder.read() == {}


def test_what_is_meant_to_learn_is_what_the_recipe_says_and_not_what_happens_to_thaw(
    photos, tmp_path, monkeypatch
):
    real = session.set_trainable

    def frozen_by_mistake(model, stage):
        counts = real(model, stage)
        model.backbone.requires_grad_(False)
        return counts

    monkeypatch.setattr(session, "set_trainable", frozen_by_mistake)
    stages = "stages=[{name: top, train: 0.5, epochs: 1, lr: 5e-3}]"
    run = pipeline.train(small_recipe(photos, tmp_path, stages=stages)).run
    top = from_plain(StageFacts, plain(run)["facts"]["stages"][0])
    assert len(top.meant_to_train) > 1
    assert sum(top.trainable.values()) == top.trainable["head"]
    found = examine(read_record(run.path)).findings
    assert "frozen_by_mistake" in {finding.rule for finding in found}
