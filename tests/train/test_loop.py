import dataclasses
import itertools
import json
import math
import signal

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision

from espalier import pipeline
from espalier.errors import NonFiniteLossError, TrainingInterrupted
from espalier.files import read_rows
from espalier.train import judge, loop
from espalier.train.interrupts import Interrupts
from espalier.train.loop import fit
from espalier.train.resume import load_state
from espalier.train.state import Totals
from small_runs import ALL, HEAD_THEN_ALL, Seen, but_seconds, open_job, same, small_recipe, weights

PLAIN = (
    "model.dropout=0", "optimizer.name=sgd", "optimizer.clip_norm=null", "logging.step_every=1",
    "schedule.name=constant",
)  # fmt: skip
FROZEN_NORMS = "stages=[{name: all, train: all, epochs: 1, lr: 1e-2, batch_norm: eval}]"


def trained(recipe, watch=None, precision=None):
    job, state = open_job(recipe, watch)
    if precision is not None:
        job = dataclasses.replace(
            job, fabric=Fabric(accelerator="cpu", devices=1, plugins=[precision])
        )
    with Interrupts() as interrupts:
        fit(job, state, interrupts)
    return job, state


def close(first, second, tolerance):
    return all(torch.allclose(first[k], second[k], rtol=0, atol=tolerance) for k in first)


# --- accumulation


def test_small_batches_with_accumulation_are_one_large_batch(uneven, tmp_path):
    given = (*PLAIN, "class_weighting.strategy=inverse", "loss.label_smoothing=0.1")
    sizes = {
        "small": ("training.batch=4", "training.accumulate=3"),
        "large": ("training.batch=12",),
    }
    runs = {
        name: trained(small_recipe(uneven, tmp_path / name, *given, *size, stages=FROZEN_NORMS))
        for name, size in sizes.items()
    }
    (small, _), (large, _) = runs["small"], runs["large"]
    # The last window is short: the mean is over its images, not over three full batches.
    assert len(small.train) % 12 != 0
    ours, other = (read_rows(job.run.steps_file) for job in (small, large))
    assert [row["step"] for row in ours] == [row["step"] for row in other] == [1, 2, 3]
    for mine, theirs in zip(ours, other, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
        assert mine["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-4)
    assert close(weights(small.run.last), weights(large.run.last), 1e-5)
    rows = [state.rows[0] for _, state in runs.values()]
    assert rows[0].train_loss == pytest.approx(rows[1].train_loss, abs=1e-5)
    assert rows[0].train_accuracy == rows[1].train_accuracy
    assert [row.batches for row in rows] == [7, 3]


def test_at_most_so_many_batches_and_their_last_short_window(uneven, tmp_path):
    given = ("training.max_batches=3", "training.accumulate=2", *PLAIN)
    seen = Seen()
    _, state = trained(small_recipe(uneven, tmp_path, *given), seen)
    assert [(row.batches, row.step) for row in state.rows] == [(3, 2), (3, 4), (3, 6), (3, 8)]
    assert seen.steps == [(step, 8) for step in range(1, 9)]
    assert state.totals.images == 0


# --- clipping, and the scale of the loss


class Scaled(MixedPrecision):
    """The loss scaling of fp16 around arithmetic in fp32, so that nothing is rounded."""

    def __init__(self, scale):
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=2)
        super().__init__("16-mixed", "cpu", scaler)
        self._desired_input_dtype = torch.float32

    def forward_context(self):
        return torch.autocast("cpu", enabled=False)


@pytest.mark.parametrize("limit", ["0.05", "null"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_scaled_loss_changes_no_norm_no_clipping_and_no_weight(
    uneven, tmp_path, limit, optimizer
):
    given = (*PLAIN, f"optimizer.clip_norm={limit}", f"optimizer.name={optimizer}")
    plain, plain_state = trained(small_recipe(uneven, tmp_path / "plain", *given, stages=ALL))
    scaled, scaled_state = trained(
        small_recipe(uneven, tmp_path / "scaled", *given, stages=ALL), precision=Scaled(2.0**14)
    )
    mine, other = (read_rows(job.run.steps_file) for job in (scaled, plain))
    assert [row["clipped"] for row in mine] == [limit != "null"] * len(mine)
    for ours, theirs in zip(mine, other, strict=True):
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-5)
        for name, part in ours["parts"].items():
            assert part["grad_norm"] == pytest.approx(theirs["parts"][name]["grad_norm"], rel=1e-5)
    assert scaled_state.rows[-1].max_grad_norm == pytest.approx(plain_state.rows[-1].max_grad_norm)
    assert close(weights(scaled.run.last), weights(plain.run.last), 1e-6)


def test_the_norm_on_record_is_that_before_clipping(uneven, tmp_path):
    given = (*PLAIN, "training.max_batches=1", "optimizer.weight_decay=0")
    clipped, _ = trained(
        small_recipe(uneven, tmp_path / "a", *given, "optimizer.clip_norm=0.05", stages=ALL)
    )
    free, _ = trained(small_recipe(uneven, tmp_path / "b", *given, stages=ALL))
    mine, other = (read_rows(job.run.steps_file)[0] for job in (clipped, free))
    assert mine["grad_norm"] == pytest.approx(other["grad_norm"])
    assert mine["clipped"]
    assert not other["clipped"]
    # Plain SGD moves by rate x gradient, whose norm is now the limit.
    assert mine["update_norm"] == pytest.approx(5e-3 * 0.05, rel=1e-3)


def test_steps_that_a_loss_scaler_leaves_out_are_no_fault(uneven, tmp_path):
    class Overflowing(Scaled):
        first = True

        def backward(self, tensor, model, *args, **kwargs):
            super().backward(tensor, model, *args, **kwargs)
            if self.first:
                job.model.head.logits.weight.grad[0, 0] = math.inf
                self.first = False

    precision = Overflowing(2.0**14)
    fabric = Fabric(accelerator="cpu", devices=1, plugins=[precision])
    job, state = open_job(small_recipe(uneven, tmp_path, *PLAIN, stages=ALL))
    job = dataclasses.replace(job, fabric=fabric)
    fit(job, state, Interrupts())
    first, *_, last = read_rows(job.run.steps_file)
    assert first["grad_norm"] is None
    assert first["update_norm"] == 0
    assert last["update_norm"] > 0
    checkpoint = torch.load(job.run.last, weights_only=True)
    assert checkpoint["scaler"]["scale"] == precision.scaler.get_scale()


# --- the first loss


@pytest.mark.parametrize(
    "given",
    [
        (),
        ("loss.label_smoothing=0.1", "class_weighting.strategy=inverse"),
        ("loss.name=focal",),
        ("loss.name=balanced-softmax",),
        ("class_weighting.sampler=balanced", "loss.name=logit-adjusted", "loss.tau=1.5"),
    ],
    ids=["plain", "weighted", "focal", "balanced-softmax", "sampled"],
)
def test_the_first_loss_is_the_chance_loss_on_record(uneven, tmp_path, given):
    # All training images at once, so that the batch has the classes in their true shares.
    recipe = small_recipe(uneven, tmp_path, *given, "training.batch=28", stages=ALL)
    job, _ = trained(recipe)
    first = read_rows(job.run.steps_file)[0]["loss"]
    chance = json.loads(job.run.environment_file.read_text())["reference_losses"]["chance"]
    # What a sampler draws varies around the shares it aims at.
    assert first == pytest.approx(chance, abs=0.25 if "sampler" in str(given) else 0.03)


# --- stages


class AtStages(Seen):
    """Copies the weights at the start of each stage and after each epoch."""

    def __init__(self):
        super().__init__()
        self.job = None
        self.before, self.after = [], []

    def copy(self):
        return {k: v.clone() for k, v in self.job.model.state_dict().items()}

    def on_stage(self, name, index, count, summary):
        super().on_stage(name, index, count, summary)
        self.before.append(self.copy())

    def on_epoch(self, row, history):
        super().on_epoch(row, history)
        self.after.append(self.copy())


def fit_watched(recipe):
    seen = AtStages()
    job, state = open_job(recipe, seen)
    seen.job = job
    with Interrupts() as interrupts:
        fit(job, state, interrupts)
    return job, state, seen


def judged_as(monkeypatch, figures):
    """Validation gives these macro-F1, epoch by epoch; accuracy is the same, the loss 1 - it."""
    values = iter(figures)
    real = judge.metrics.summary
    turn = itertools.cycle(["probe", "val"])

    def summary(predictions):
        found = real(predictions)
        if next(turn) == "val":
            score = next(values)
            found |= {"macro_f1": score, "accuracy": score, "loss": 1 - score}
        return found

    monkeypatch.setattr(judge.metrics, "summary", summary)


def norms_of(model):
    return {k: v for k, v in model.items() if "running_" in k or "num_batches" in k}


def test_frozen_norms_rest_in_the_head_stage_and_learn_when_all_is_thawed(uneven, tmp_path):
    _, _, seen = fit_watched(small_recipe(uneven, tmp_path))
    assert seen.stages == ["head", "all"]
    start, first, second, third, _ = seen.before[0], *seen.after
    assert norms_of(start)
    assert same(norms_of(start), norms_of(first))
    assert same(norms_of(start), norms_of(second))
    assert not same(norms_of(start), norms_of(third))
    backbone = {k: v for k, v in start.items() if k.startswith("backbone")}
    assert same(backbone, {k: second[k] for k in backbone})
    assert not same(start, second)


def test_a_stage_starts_from_the_best_weights_so_far(uneven, tmp_path, monkeypatch):
    judged_as(monkeypatch, [0.9, 0.2, 0.3, 0.4])
    job, _, seen = fit_watched(small_recipe(uneven, tmp_path))
    best = weights(job.run.best)
    assert same(best, seen.after[0])
    assert same(best, seen.before[1])
    assert not same(best, seen.after[1])


@pytest.mark.parametrize("monitor", ["macro_f1", "accuracy", "loss"])
def test_a_stage_ends_early_and_the_next_begins(uneven, tmp_path, monkeypatch, monitor):
    judged_as(monkeypatch, [0.5, 0.6, 0.6, 0.3, 0.2])
    recipe = small_recipe(
        uneven, tmp_path, "early_stopping.patience=1", f"early_stopping.monitor={monitor}",
        f"checkpointing.monitor={monitor}",
        stages=HEAD_THEN_ALL.replace("epochs: 2", "epochs: 9"),
    )  # fmt: skip
    job, state, _ = fit_watched(recipe)
    assert [(row.stage, row.best) for row in state.rows] == [
        ("head", True), ("head", True), ("head", False), ("all", False), ("all", False),
    ]  # fmt: skip
    assert state.ended == "all stages are done"
    assert torch.load(job.run.best, weights_only=True)["epoch"] == 2
    # A new stage judges itself alone: its first epoch is a gain, whatever came before.
    assert [(s.first_epoch, s.last_epoch) for s in job.run.history().stages] == [(1, 3), (4, 12)]


def test_a_score_that_is_no_number_is_never_best_and_no_gain(uneven, tmp_path, monkeypatch):
    judged_as(monkeypatch, [math.nan, 0.1, math.nan, math.nan])
    recipe = small_recipe(
        uneven, tmp_path, "early_stopping.patience=2",
        stages="stages=[{name: all, train: all, epochs: 9, lr: 1e-3}]",
    )  # fmt: skip
    _, state, _ = fit_watched(recipe)
    assert [row.best for row in state.rows] == [False, True, False, False]


def test_a_plateau_cuts_the_rate_when_the_scores_stand_still(uneven, tmp_path, monkeypatch):
    judged_as(monkeypatch, [0.5, 0.5, 0.7, 0.6, 0.6])
    recipe = small_recipe(
        uneven, tmp_path, "schedule.name=plateau", "schedule.plateau_patience=1",
        "schedule.gamma=0.5", stages="stages=[{name: all, train: all, epochs: 5, lr: 8e-3}]",
    )  # fmt: skip
    _, state, _ = fit_watched(recipe)
    rates = [row.learning_rate for row in state.rows]
    assert rates == pytest.approx([8e-3, 8e-3, 4e-3, 4e-3, 2e-3])


# --- what is left behind


def test_no_gradient_and_no_graph_outlives_a_step(uneven, tmp_path):
    class Looking(Seen):
        def on_step(self, done, total, loss):
            held = [p.grad for p in job.model.parameters() if p.grad is not None]
            totals = state.totals
            kept = [totals.loss, totals.correct, *totals.grad_norms]
            self.steps.append((len(held), [t.requires_grad for t in kept]))

    seen = Looking()
    job, state = open_job(small_recipe(uneven, tmp_path, "training.accumulate=2"), seen)
    with Interrupts() as interrupts:
        fit(job, state, interrupts)
    assert seen.steps
    assert all(held == 0 and not any(graphs) for held, graphs in seen.steps)
    assert state.totals.unchecked == []


# --- stopping in the middle


class StopAt(Seen):
    """Presses Ctrl-C after so many steps."""

    def __init__(self, interrupts, step):
        super().__init__()
        self.interrupts, self.step = interrupts, step

    def on_step(self, done, total, loss):
        if done == self.step:
            self.interrupts.signal = signal.SIGTERM


@pytest.fixture(scope="module")
def unbroken(uneven, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    return trained(small_recipe(uneven, folder, *LONG))


LONG = ("augment.policy=light", "training.accumulate=2", "augment.mixup=0.2")


@pytest.mark.parametrize("step", [1, 4, 6, 8, 9, 15])
def test_stopped_anywhere_and_resumed_equals_never_stopped(uneven, tmp_path, unbroken, step):
    # Four steps an epoch, two epochs a stage: in the middle, at the end of epoch, stage and run.
    job, state = open_job(small_recipe(uneven, tmp_path, *LONG))
    interrupts = Interrupts()
    job = dataclasses.replace(job, watch=StopAt(interrupts, step))
    with pytest.raises(TrainingInterrupted) as stopped:
        fit(job, state, interrupts)
    assert stopped.value.exit_code == 128 + signal.SIGTERM
    assert str(job.run.path) in stopped.value.hint
    _, held = load_state(job.run)
    assert held.step == step
    assert held.totals.to_plain() == state.totals.to_plain()
    pipeline.resume(job.run, job.run.recipe())
    other, other_state = unbroken
    assert same(weights(job.run.last), weights(other.run.last))
    assert same(weights(job.run.best), weights(other.run.best))
    mine = [but_seconds(row) for row in job.run.history().rows]
    assert mine == [but_seconds(row) for row in other_state.rows]
    for name in ("steps_file", "train_diagnostics", "val_diagnostics"):
        ours, theirs = (read_rows(getattr(run, name)) for run in (job.run, other.run))
        assert [row["step"] for row in ours] == [row["step"] for row in theirs]


def test_totals_survive_a_checkpoint_exactly():
    totals = Totals(
        loss=torch.tensor(1 / 3, dtype=torch.float64), correct=torch.tensor(7), images=9, batches=3,
        grad_norms=[torch.tensor(1 / 7), torch.tensor(2.5)], update_norms=[0.1], seconds=1.25,
    )  # fmt: skip
    back = Totals.from_plain(totals.to_plain())
    assert back.to_plain() == totals.to_plain()
    more = torch.tensor(1 / 9, dtype=torch.float64)
    assert float(back.loss + more) == float(totals.loss + more)
    assert torch.equal(torch.stack(back.grad_norms), torch.stack(totals.grad_norms))


# --- a loss that is no number


def broken_from(monkeypatch, step):
    """From this step on the loss is infinite."""
    real = loop.backward

    def backward(job, session, state, window):
        loss = real(job, session, state, window)
        return loss + math.inf if state.step + 1 >= step else loss

    monkeypatch.setattr(loop, "backward", backward)


def test_a_broken_loss_is_named_by_its_step_and_touches_no_checkpoint(
    uneven, tmp_path, monkeypatch
):
    broken_from(monkeypatch, 10)
    job, state = open_job(small_recipe(uneven, tmp_path, stages=ALL))
    with pytest.raises(NonFiniteLossError) as caught:
        fit(job, state, Interrupts())
    assert "the loss is inf at step 10" in caught.value.message
    assert str(job.run.last) in caught.value.message
    assert "lr=0.0005" in caught.value.hint
    assert torch.load(job.run.last, weights_only=True)["step"] == 7
    assert all(v.isfinite().all() for v in weights(job.run.last).values())


def test_where_the_loss_is_read_now_and_then_the_first_broken_step_is_still_named(
    uneven, tmp_path, monkeypatch
):
    # As on a GPU: nothing is read within the epoch, all of it before anything is judged or saved.
    broken_from(monkeypatch, 6)
    job, state = open_job(small_recipe(uneven, tmp_path, stages=ALL))
    monkeypatch.setattr(loop, "check_finite", lambda *_: None)
    with Interrupts() as interrupts:
        session = loop.open_session(job, state)
        loop.train_epoch(job, session, state, interrupts)
    monkeypatch.undo()
    assert [step for step, _, _ in state.totals.unchecked] == list(range(1, 8))
    with pytest.raises(NonFiniteLossError, match="inf at step 6 "):
        loop.check_finite(job, session, state)


def test_a_gradient_that_overflows_stops_before_it_reaches_the_weights(
    uneven, tmp_path, monkeypatch
):
    real = loop.clip
    monkeypatch.setattr(loop, "clip", lambda job, session: real(job, session) * math.inf)
    job, state = open_job(small_recipe(uneven, tmp_path, stages=ALL))
    before = {k: v.clone() for k, v in job.model.state_dict().items() if "running" not in k}
    with pytest.raises(NonFiniteLossError, match="gradient norm is inf at step 1 "):
        fit(job, state, Interrupts())
    after = job.model.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items() if "num_batches" not in k)


def test_weights_that_broke_in_the_last_step_are_not_saved(uneven, tmp_path, monkeypatch):
    job, state = open_job(small_recipe(uneven, tmp_path, stages=ALL))

    def break_weights(done, total, loss):
        if done == 7:
            with torch.no_grad():
                job.model.head.logits.weight.fill_(math.nan)

    monkeypatch.setattr(job.watch.watches[0], "on_step", break_weights)
    with pytest.raises(NonFiniteLossError, match="after step 7"):
        fit(job, state, Interrupts())
    assert torch.load(job.run.last, weights_only=True)["step"] == 0
    assert not job.run.best.exists()
    assert state.rows == []


def test_ctrl_c_does_not_save_a_broken_state(uneven, tmp_path, monkeypatch):
    broken_from(monkeypatch, 3)
    job, state = open_job(small_recipe(uneven, tmp_path, stages=ALL))
    session = loop.open_session(job, state)
    interrupts = Interrupts()
    interrupts.signal = signal.SIGINT
    state.totals.unchecked = [(3, torch.tensor(math.inf), torch.tensor(1.0))]
    with pytest.raises(NonFiniteLossError):
        loop.obey(job, session, state, interrupts)
    assert not job.run.last.exists()
