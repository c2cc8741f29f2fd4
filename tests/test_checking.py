"""Each check is tested by breaking exactly that thing, and by a job that is in order."""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from espalier.checking import judge, open_trial, overfitting, steps
from espalier.checking.checklist import BEFORE, checks_of, row_of
from espalier.checking.network import plain_weights
from espalier.checking.report import CheckReport, CheckRow, Verdict, report_lines
from espalier.checking.suggestions import suggest
from espalier.checking.thawing import misplaced
from espalier.checking.trial import Trial
from espalier.data.balance import class_weights
from espalier.data.transforms import transform_for
from espalier.errors import WeightsError
from espalier.models.build import build_model
from espalier.models.small_cnn import SmallCNN
from espalier.models.stages import set_trainable
from espalier.preparation import prepare
from espalier.recipe.schema import ClassWeighting, Model, Stage
from espalier.report.paragraphs import cell_len
from espalier.train import inputs, loaders, session
from small_runs import ALL, HEAD_THEN_ALL, open_job, small_recipe

LIGHT = "augment.policy=light"
TOP_THEN_ALL = HEAD_THEN_ALL.replace("train: head", "train: 0.4")


@pytest.fixture
def trial(uneven, tmp_path, monkeypatch):
    """Builds the trial of a recipe for the uneven pictures."""
    # What can be learned is learned in 3 steps: none of the rest must wait for 40.
    monkeypatch.setattr(overfitting, "STEPS", 8)

    def build(*values: str, stages: str = HEAD_THEN_ALL, **more) -> Trial:
        values = ("training.batch=16", *values)
        prepared = prepare(small_recipe(uneven, tmp_path, *values, stages=stages))
        return open_trial(prepared, tmp_path / "nowhere", **more)

    return build


def with_model(trial: Trial, change) -> Trial:
    """The same trial with another model: ``change`` gets a copy and may give another one."""
    model = copy.deepcopy(trial.job.model)
    return dataclasses.replace(
        trial, job=dataclasses.replace(trial.job, model=change(model) or model), _steps={}
    )


def failed(report: CheckReport) -> set[str]:
    return {row.name for row in report.failed}


def row(report: CheckReport, start: str) -> CheckRow:
    [found] = [row for row in report.rows if row.name.startswith(start)][:1]
    return found


def one(trial: Trial, start: str) -> CheckRow:
    """The first check whose name starts so, alone."""
    return next(row_of(trial, *which) for which in checks_of(trial) if which[1].startswith(start))


def wrap(monkeypatch, module, name, change):
    """Let a function of training do something else with what it gave."""
    true = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *a, **k: change(true(*a, **k), *a, **k))


def test_a_job_in_order_passes_every_check(trial, tmp_path):
    healthy = trial(LIGHT, "class_weighting.strategy=inverse", "class_weighting.sampler=sqrt")
    before = copy.deepcopy(healthy.job.model.state_dict())
    numbers = torch.get_rng_state()
    report = judge(healthy)
    assert report.ok, report_lines(report)
    assert {row.name for row in report.rows if row.passed is None} == {
        "a picture of the batch",
        "the weights are those that were asked for",
    }
    # Neither the model, nor the caller's random numbers, nor any folder show that it was there.
    assert all(torch.equal(value, before[key]) for key, value in healthy.job.model.named_buffers())
    assert all(torch.equal(v, before[k]) for k, v in healthy.job.model.named_parameters())
    assert torch.equal(torch.get_rng_state(), numbers)
    assert list(tmp_path.iterdir()) == []


# The network


def timm_head(model):
    # timm draws the head of MobileNetV2 from +-1 / sqrt(classes), whatever its inputs.
    bound = 1 / math.sqrt(model.classes)
    nn.init.uniform_(model.head.logits.weight, -bound, bound)
    # Features of a trained backbone have a spread near 1; these are made to.
    model.backbone.blocks[-1][1].weight.data.fill_(40.0)


def test_a_head_that_starts_too_large_is_caught_by_the_first_loss(trial):
    report = judge(with_model(trial(stages=ALL), timm_head))
    assert "the first loss is that of chance" in failed(report)
    assert "ln 3 = 1.099" in row(report, "the first loss").evidence
    assert "0.02 / sqrt(features)" in row(report, "the first loss").advice


def test_the_default_head_of_timm_is_caught_on_real_weights(
    trashnet, mobilenetv2_weights, tmp_path
):
    for folder in sorted((trashnet / "train").iterdir()):
        (tmp_path / "photos" / folder.name).mkdir(parents=True)
        for photo in sorted(folder.iterdir())[:6]:
            (tmp_path / "photos" / folder.name / photo.name).symlink_to(photo)
    given = (
        "model.name=mobilenetv2_100", f"model.weights={mobilenetv2_weights}", "training.imgsz=96",
        "training.batch=16", "training.channels_last=true",
    )  # fmt: skip
    recipe = small_recipe(tmp_path / "photos", tmp_path, *given, stages=ALL)
    healthy = open_trial(prepare(recipe), tmp_path / "nowhere")
    chosen = [c for c in BEFORE if c[1].startswith(("the first loss", "the weights"))]
    assert all(row_of(healthy, *which).passed for which in chosen)

    def as_timm_does(model):
        torch.manual_seed(0)
        model.head = timm.create_model("mobilenetv2_100", num_classes=6).classifier

    broken = with_model(healthy, as_timm_does)
    weights, first = [row_of(broken, *which) for which in chosen]
    assert weights.passed is True
    assert first.passed is False
    assert float(first.evidence.split()[0]) > 5


def test_weights_that_are_not_finite_are_caught(trial):
    def spoil(model):
        model.head.logits.bias.data[0] = math.nan

    report = judge(with_model(trial(), spoil))
    assert {"the forward pass is finite", "the first loss is that of chance"} <= failed(report)
    assert "not finite for" in row(report, "the forward pass").evidence


def test_a_head_for_another_number_of_classes_is_caught(trial):
    def wider(model):
        model.head.logits = nn.Linear(256, 5)

    broken = with_model(trial(), wider)
    check = next(c for c in BEFORE if c[1] == "the forward pass is finite")
    found = row_of(broken, *check)
    assert found.passed is False
    assert "x 5 logits" in found.evidence


@pytest.mark.parametrize(
    ("layer", "words"),
    [(nn.Softmax(dim=1), "probabilities"), ("zero", "the same for all images")],
)
def test_outputs_that_are_no_logits_are_caught(trial, layer, words):
    def change(model):
        if layer == "zero":
            nn.init.zeros_(model.head.logits.weight)
        else:
            model.head.append(layer)

    found = one(with_model(trial(stages=ALL), change), "the outputs")
    assert found.passed is False
    assert words in found.evidence


def test_logits_far_from_0_are_caught(trial):
    def shift(model):
        model.head.logits.bias.data[0] = 400.0

    assert "the outputs are raw logits" in failed(judge(with_model(trial(), shift)))


# Weights


@pytest.fixture
def small_weights(tmp_path_factory):
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    # As a wrapper of another tool would name them.
    save_file({f"module.{k}": v for k, v in SmallCNN().state_dict().items()}, path)
    return path


def test_a_weights_file_that_was_not_applied_is_caught(trial, small_weights):
    asked = trial(f"model.weights={small_weights}")
    found = one(asked, "the weights are")
    assert found.passed is True
    assert found.evidence == (
        "5 of 5 weight matrices equal those of small.safetensors; 100.0% matched"
    )
    fresh, _ = build_model(Model(name="small-cnn", weights="none", head="linear"), 3, 32)
    report = judge(with_model(asked, lambda _: fresh))
    assert failed(report) == {"the weights are those that were asked for"}
    assert "0 of 5" in row(report, "the weights are").evidence


def test_pretrained_weights_that_are_a_random_start_are_caught(trial):
    plain = trial()
    model = plain.recipe.model.model_copy(update={"weights": "pretrained"})
    recipe = plain.recipe.model_copy(update={"model": model})
    asked = dataclasses.replace(plain, job=dataclasses.replace(plain.job, recipe=recipe), _steps={})
    found = one(asked, "the weights are")
    assert found.passed is False
    assert "0 of 5 weight matrices differ from a random start" in found.evidence


# Pictures


def test_validation_with_the_transform_of_training_is_caught(trial, monkeypatch):
    def training_for_all(_, split, recipe, imgsz):
        return transform_for("train", recipe, imgsz)

    wrap(monkeypatch, loaders, "transform_for", training_for_all)
    report = judge(trial(LIGHT))
    assert failed(report) == {
        "validation has a transform of its own",
        "validation views are fixed",
    }


def test_a_transform_for_validation_is_checked_as_it_is_given(trial):
    plain = trial(LIGHT)
    own = transform_for("val", plain.recipe, 32)
    assert judge(trial(LIGHT, val_transform=own)).ok
    random = transform_for("train", plain.recipe, 32)
    assert "validation views are fixed" in failed(judge(trial(LIGHT, val_transform=random)))
    # Without a single random step it is still that of training.
    still = transform_for("train", trial().recipe, 32)
    assert failed(judge(trial(val_transform=still))) == {"validation has a transform of its own"}


def test_augmentation_that_is_not_applied_is_caught(trial, monkeypatch):
    def validation_for_all(_, split, recipe, imgsz):
        return transform_for("val", recipe, imgsz)

    wrap(monkeypatch, loaders, "transform_for", validation_for_all)
    report = judge(trial("augment.policy=standard"))
    assert failed(report) == {"training views are random", "augmentation changes the pictures"}


def test_where_nothing_is_augmented_there_is_nothing_to_judge(trial):
    none = judge(trial())
    rare = judge(trial("augment.steps={hflip: {p: 0.00001}}"))
    for report, words in ((none, "no step of it happens"), (rare, "too rare")):
        assert report.ok
        for name in ("training views are random", "augmentation changes"):
            assert row(report, name).passed is None
            assert words in row(report, name).evidence


def test_pixels_that_are_not_normalised_are_caught(trial, monkeypatch):
    def without(normalizer, recipe):
        normalizer.shift.zero_()
        return normalizer

    wrap(monkeypatch, inputs, "build_normalizer", without)
    report = judge(trial())
    assert failed(report) == {"pixels are normalised as the model expects"}
    # mean / std of the first channel
    assert "up to 2.12 away" in row(report, "pixels are").evidence


def test_a_normalisation_that_the_weights_do_not_expect_is_caught(trial, small_weights):
    halves = ("data.mean=[0.5, 0.5, 0.5]", "data.std=[0.5, 0.5, 0.5]")
    report = judge(trial(f"model.weights={small_weights}", *halves))
    assert failed(report) == {"pixels are normalised as the model expects"}
    assert "expect mean 0.485 0.456 0.406" in row(report, "pixels are").evidence
    assert judge(trial(*halves)).ok


def test_the_picture_shows_what_the_network_sees(trial, tmp_path):
    place = tmp_path / "batch.jpg"
    asked = trial(picture=place)
    assert one(asked, "a picture").passed is True
    drawn = np.asarray(Image.open(place).convert("RGB")).astype(float)
    first = next(iter(asked.train.in_order())).images[0].permute(1, 2, 0).numpy()
    factor = math.ceil(180 / 32)
    tile = drawn[8 : 8 + 32 * factor, 8 : 8 + 32 * factor]
    shown = tile.reshape(32, factor, 32, factor, 3).mean(axis=(1, 3))
    assert np.abs(shown - first).mean() < 3


def test_mixed_images_are_shown_mixed(trial, tmp_path):
    place = tmp_path / "batch.jpg"
    report = judge(trial("augment.mixup=1.0", picture=place))
    assert report.ok, report_lines(report)
    assert place.stat().st_size > 1000


# Labels


def test_indices_of_another_class_are_caught(trial, monkeypatch):
    def shifted(loader, *_):
        loader.labels = (loader.labels + 1) % 3
        return loader

    wrap(monkeypatch, loaders, "build_loader", shifted)
    report = judge(trial())
    assert "labels mean the same everywhere" in failed(report)
    assert "training images have the index of another class" in row(report, "labels").evidence


def test_a_catalog_that_disagrees_with_the_folders_is_caught(trial):
    plain = trial()
    names = dict(zip(plain.job.catalog.classes, np.roll(plain.job.catalog.classes, 1), strict=True))
    samples = [dataclasses.replace(s, label=str(names[s.label])) for s in plain.job.catalog.samples]
    catalog = dataclasses.replace(plain.job.catalog, samples=tuple(samples))
    report = judge(dataclasses.replace(plain, job=dataclasses.replace(plain.job, catalog=catalog)))
    assert "images are not of their folder's class" in row(report, "labels").evidence
    corrected = [dataclasses.replace(sample, reason="relabelled") for sample in samples]
    catalog = dataclasses.replace(catalog, samples=tuple(corrected))
    report = judge(dataclasses.replace(plain, job=dataclasses.replace(plain.job, catalog=catalog)))
    assert row(report, "labels").passed is True
    painted = [dataclasses.replace(sample, origin="e" * 16) for sample in samples]
    catalog = dataclasses.replace(catalog, samples=tuple(painted))
    report = judge(dataclasses.replace(plain, job=dataclasses.replace(plain.job, catalog=catalog)))
    assert row(report, "labels").passed is True


def test_an_earlier_run_with_another_order_is_caught(uneven, trial, tmp_path):
    names = sorted(folder.name for folder in uneven.iterdir())
    alike, _ = open_job(small_recipe(uneven, tmp_path / "alike"))
    listed = f"data.classes=[{', '.join(reversed(names))}]"
    other, _ = open_job(small_recipe(uneven, tmp_path / "other", listed))
    assert one(trial(earlier=alike.run), "labels").passed is True
    found = one(trial(earlier=other.run), "labels")
    assert found.passed is False
    assert f"0: {names[2]} -> {names[0]}" in found.evidence


def test_a_class_that_cannot_be_trained_on_is_caught(trial):
    plain = trial()
    samples = [s for s in plain.job.catalog.samples if s.label != "class_2" or s.split != "train"]
    catalog = dataclasses.replace(plain.job.catalog, samples=tuple(samples))
    broken = dataclasses.replace(plain, job=dataclasses.replace(plain.job, catalog=catalog))
    report = judge(broken)
    assert {"every class can be learned", "labels mean the same everywhere"} <= failed(report)
    assert "class_2 0" in row(report, "every class").evidence


def test_a_sampler_that_is_not_used_is_caught(trial, monkeypatch):
    assert judge(trial("class_weighting.sampler=balanced")).ok

    def ignored(order, labels, sampler, *, seed, epoch):
        return np.random.default_rng(epoch).permutation(len(labels))

    wrap(monkeypatch, session, "epoch_order", ignored)
    report = judge(trial("class_weighting.sampler=balanced"))
    assert failed(report) == {"the sampler draws as planned"}


def test_draws_with_repeats_where_none_are_planned_are_caught(trial, monkeypatch):
    wrap(monkeypatch, session, "epoch_order", lambda order, *_, **__: order // 2)
    assert "the sampler draws as planned" in failed(judge(trial()))


# Class weights


@pytest.mark.parametrize("strategy", ["inverse", "sqrt", "effective-number"])
@pytest.mark.parametrize("cap", [None, 1.5])
def test_weights_worked_out_apart_equal_those_of_the_recipe(strategy, cap):
    counts = [18, 0, 12, 3]
    section = ClassWeighting(strategy=strategy, cap=cap)
    wanted = class_weights(counts, strategy, cap=cap, beta=section.beta)
    assert plain_weights(counts, section) == pytest.approx(wanted)


@pytest.mark.parametrize("loss", ["cross-entropy", "focal", "logit-adjusted"])
def test_class_weights_that_do_not_reach_the_loss_are_caught(trial, monkeypatch, loss):
    values = ("class_weighting.strategy=inverse", f"loss.name={loss}", "loss.label_smoothing=0.1")
    used = one(trial(*values), "the loss uses")
    assert used.passed is True

    def unweighted(built, *_, **__):
        built.weights.fill_(1)
        return built

    wrap(monkeypatch, session, "build_loss", unweighted)
    report = judge(trial(*values))
    assert failed(report) == {"the loss uses the class weights"}
    assert "weights up to 3.5 : 1" in row(report, "the loss uses").evidence


def test_weights_that_nobody_asked_for_are_caught(trial, monkeypatch):
    def weighted(built, *_, **__):
        built.weights.copy_(torch.tensor([0.5, 1.0, 2.0]))
        return built

    wrap(monkeypatch, session, "build_loss", weighted)
    assert "the loss uses the class weights" in failed(judge(trial()))


# Gradients, BatchNorm, optimizer


class Detached(nn.Module):
    """A layer behind which no gradient comes."""

    def forward(self, features):
        return features.detach()


def test_a_gradient_that_stops_on_its_way_is_caught(trial):
    def cut(model):
        model.backbone.blocks[2].append(Detached())

    report = judge(with_model(trial(), cut))
    broken = [row for row in report.failed if row.name.startswith("gradient reaches")]
    # The head trains without it; the stage that trains everything does not.
    assert [row.group for row in broken] == ["stage all"]
    assert "9 train and get no gradient: backbone.blocks.0.0.weight" in broken[0].evidence


def test_layers_that_are_thawed_against_the_stage_are_caught(trial, monkeypatch):
    def thaw_all(counts, model, stage):
        model.requires_grad_(True)
        return counts

    wrap(monkeypatch, session, "set_trainable", thaw_all)
    report = judge(trial())
    broken = [row for row in report.failed if row.name.startswith("gradient reaches")]
    assert [row.group for row in broken] == ["stage head"]
    assert "15 thawed or frozen against the stage" in broken[0].evidence


def test_frozen_batchnorm_in_training_mode_is_caught(trial, monkeypatch):
    monkeypatch.setattr(session, "set_mode", lambda model, stage: model.train())
    report = judge(trial(stages=TOP_THEN_ALL))
    assert failed(report) == {"BatchNorm rests where it is frozen"}
    assert [row.group for row in report.failed] == ["stage head"]
    assert "3 frozen layers changed" in row(report, "BatchNorm").evidence


def test_batchnorm_that_learns_and_stands_still_is_caught(trial, monkeypatch):
    monkeypatch.setattr(session, "set_mode", lambda model, stage: model.eval())
    report = judge(trial(stages=ALL))
    assert failed(report) == {"BatchNorm rests where it is frozen"}


def test_batchnorm_may_be_told_otherwise(trial):
    for mode in ("eval", "train"):
        stages = HEAD_THEN_ALL.replace("epochs: 2", f"epochs: 2, batch_norm: {mode}")
        assert judge(trial(stages=stages)).ok


@pytest.mark.parametrize(("factor", "words"), [(1e4, "smaller weights"), (1e-8, "says nothing")])
def test_gradients_out_of_bounds_are_caught(trial, monkeypatch, factor, words):
    class Scaled(nn.Module):
        def __init__(self, loss):
            super().__init__()
            self.loss = loss

        def forward(self, logits, targets):
            return factor * self.loss(logits, targets)

    wrap(monkeypatch, session, "build_loss", lambda loss, *_, **__: Scaled(loss))
    report = judge(trial(stages=ALL))
    assert "the gradient is neither 0 nor huge" in failed(report)
    assert words in row(report, "the gradient is").advice


def test_clipping_that_does_not_hold_is_caught(trial, monkeypatch):
    given = "optimizer.clip_norm=0.01"
    assert judge(trial(given, stages=ALL)).ok
    monkeypatch.setattr(steps, "clip", lambda _, opened: steps.gradient_norm(opened.optimizer))
    report = judge(trial(given, stages=ALL))
    assert failed(report) == {"the gradient is neither 0 nor huge"}
    assert "behind clipping at 0.01" in row(report, "the gradient").evidence


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda groups: groups[:-1], "train and are not in it"),
        (lambda groups: [*groups, {**groups[0], "name": "again"}], "more than once"),
    ],
)
def test_an_optimizer_that_does_not_hold_what_trains_is_caught(trial, monkeypatch, change, words):
    wrap(monkeypatch, session, "parameter_groups", lambda groups, *_: change(groups))
    if words == "more than once":
        monkeypatch.setattr(session, "build_optimizer", doubled)
    report = judge(trial(stages=ALL))
    assert failed(report) == {"the optimizer holds what trains"}
    assert words in row(report, "the optimizer").evidence


def doubled(groups, section):
    """An optimizer that steps its first group twice."""
    from espalier.train.optimizers import build_optimizer

    optimizer = build_optimizer(groups[:-1], section)
    optimizer.param_groups.append({**optimizer.param_groups[0]})
    return optimizer


def test_an_optimizer_with_frozen_parameters_is_caught(trial, monkeypatch):
    def with_frozen(groups, model, stage, decay):
        frozen = [p for p in model.parameters() if not p.requires_grad]
        extra = {"name": "frozen", "params": frozen, "lr": 1.0, "weight_decay": 0.1}
        return [*groups, extra] if frozen else groups

    wrap(monkeypatch, session, "parameter_groups", with_frozen)
    report = judge(trial())
    assert failed(report) == {"the optimizer holds what trains"}
    assert "are in it and do not train" in row(report, "the optimizer").evidence


def test_frozen_weights_that_move_are_caught(trial, monkeypatch):
    def drift(loss, job, *_):
        with torch.no_grad():
            job.model.backbone.blocks[0][0].weight.mul_(0.99)
        return loss

    wrap(monkeypatch, steps, "backward", drift)
    report = judge(trial())
    assert failed(report) == {"gradient reaches what trains, and nothing else"}
    assert "1 are frozen and moved: backbone.blocks.0.0.weight" in report.failed[0].evidence


@pytest.mark.parametrize("train", ["head", "all", 0.3, 0.8, 1.0, "top", ("blocks.3", "head")])
def test_what_a_stage_means_is_what_it_thaws(train):
    model, _ = build_model(Model(name="small-cnn", weights="none"), 3, 32)
    stage = Stage(name="some", train=train, epochs=1, lr=1e-3)
    set_trainable(model, stage)
    assert misplaced(model, stage) == ()
    model.head.logits.bias.requires_grad_(False)
    assert misplaced(model, stage) == ("head.logits.bias",)


def test_what_top_means_for_resnet50():
    model, _ = build_model(Model(name="resnet50", weights="none"), 3, 64)
    stage = Stage(name="some", train="top", epochs=1, lr=1e-3)
    set_trainable(model, stage)
    assert misplaced(model, stage) == ()


# Learning


def test_a_network_that_sees_nothing_cannot_learn_a_batch(trial):
    class Blind(nn.Module):
        def forward(self, features):
            return features * 0 + 1

    def blind(model):
        model.backbone.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), Blind())

    report = judge(with_model(trial(stages=ALL), blind))
    assert "one batch can be learned" in failed(report)
    assert "after 8 steps" in row(report, "one batch").evidence


def test_labels_that_the_loss_does_not_follow_are_caught(trial, monkeypatch):
    class Wrong(nn.Module):
        def forward(self, logits, targets):
            shift = (targets + 1) % 3
            return nn.functional.cross_entropy(logits, shift, reduction="none")

    wrap(monkeypatch, session, "build_loss", lambda *_, **__: Wrong())
    report = judge(trial("loss.label_smoothing=0", stages=ALL))
    assert "one batch can be learned" in failed(report)


def test_a_batch_that_takes_too_long_is_not_judged(trial, monkeypatch):
    monkeypatch.setattr(overfitting, "SECONDS", 0.0)
    found = one(trial(stages=ALL), "one batch")
    assert found.passed is None
    assert "0 s were not enough" in found.evidence


def test_the_batch_is_learned_at_no_more_than_128_pixels(trial):
    large = trial("training.imgsz=160", stages=ALL)
    assert overfitting.small(large.recipe.stages[0], large).imgsz == 128
    tiny = trial(stages=ALL)
    assert overfitting.small(tiny.recipe.stages[0], tiny).imgsz == 32


# The report


def test_an_error_of_ours_is_a_failure_and_any_other_a_bug(trial):
    healthy = trial()

    def refuses(_):
        raise WeightsError("the file is gone", hint="--weights none")

    assert row_of(healthy, "network", "weights", refuses) == CheckRow(
        "network", "weights", False, "the file is gone", "--weights none"
    )

    def breaks(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        row_of(healthy, "network", "weights", breaks)
    assert row_of(healthy, "a", "b", lambda _: Verdict(True, "1 of 1")).passed is True


def test_a_stage_that_cannot_be_opened_fails_alone(trial):
    stages = HEAD_THEN_ALL.replace("train: all", "train: [nowhere]")
    report = judge(trial(stages=stages))
    assert {row.group for row in report.failed} == {"stage all", "learning"}
    assert "has no part 'nowhere'" in report.failed[0].evidence


def test_lines_are_narrow_and_end_with_what_to_look_at(trial):
    rows = (
        CheckRow("data", "counts", True, "many " * 40),
        CheckRow("network", "the first loss", False, "13.1", "a smaller head " * 12),
        CheckRow("network", "bell\x07 name", None, "no BatchNorm"),
    )
    report = CheckReport(rows, ("photographs are small",), 3.0)
    lines = report_lines(report)
    assert max(cell_len(line) for line in lines) <= 80
    assert " ".join(" ".join(lines[-2:]).split()) == (
        "1 in order, 1 not in order, 1 not judged; 3.0 s. Look at: network: the first loss"
    )
    text = "\n".join(lines)
    assert "\n  ✗ the first loss: 13.1\n    try: a smaller head" in text
    assert "\x07" not in text
    assert "  - photographs are small" in lines


def test_suggestions_follow_from_the_data_and_the_recipe(trial):
    assert any("3 : 1" in text or "fewer than 50" in text for text in suggest(trial()))
    texts = "\n".join(suggest(trial("training.imgsz=160", stages=ALL)))
    assert "enlarged to 160 px" in texts
    assert "from scratch" in texts
    assert "optimizer steps in all are few" in texts
    fast = "\n".join(suggest(trial(stages=ALL.replace("lr: 5e-3", "lr: 0.5"))))
    assert "5.0e-01 is fast" in fast


def test_rates_of_a_trained_backbone_are_weighed(trial, small_weights):
    slow = ALL.replace("lr: 5e-3", "lr: 1e-3, backbone_lr: 1e-5")
    given = f"model.weights={small_weights}"
    assert any("hardly moves" in text for text in suggest(trial(given, stages=slow)))
    fast = ALL.replace("lr: 5e-3", "lr: 1e-3, backbone_lr: 5e-3")
    assert any("unlearns" in text for text in suggest(trial(given, stages=fast)))
    head = ALL.replace("train: all", "train: head")
    assert any("only the head learns" in text for text in suggest(trial(given, stages=head)))


def test_a_solved_head_is_checked_as_if_it_were_stepped(trial):
    solved = HEAD_THEN_ALL.replace("train: head, epochs: 2", "train: head, solve: true, epochs: 1")
    report = judge(trial(stages=solved))
    assert report.ok, report_lines(report)
    assert row(report, "the optimizer").evidence == "2 tensors, each once"
