"""Active tests are tried on runs that are sick on purpose, and each by breaking what it is for."""

from __future__ import annotations

import copy
import csv
import dataclasses
import hashlib
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

import espalier
from espalier import diagnosing, pipeline
from espalier.active_tests import learning, validating
from espalier.active_tests.bench import Bench, Clock
from espalier.active_tests.learning import RateCurve
from espalier.active_tests.results import FILE, result_lines
from espalier.active_tests.sequence import TESTS, try_run
from espalier.active_tests.validating import matched_accuracy
from espalier.cli import main
from espalier.data.synthetic.tiny import write_tiny
from espalier.diagnose.matching import match_classes
from espalier.models.checkpoints import load_checkpoint, rebuild_model
from espalier.rules import CannotJudge
from espalier.runs import RunDir
from small_runs import small_recipe

CLASSES = 4
LONG = Clock(1e9)


@dataclasses.dataclass(frozen=True)
class Clinic:
    """Three runs of one pretrained network: in order, with labels shuffled, at a rate of 1e-7."""

    folder: Path
    healthy: RunDir
    labels: RunDir
    rate: RunDir


@pytest.fixture(scope="module")
def clinic(tmp_path_factory) -> Clinic:
    folder = tmp_path_factory.mktemp("clinic")
    photos = write_tiny(folder / "photos", classes=CLASSES, per_class=40, imgsz=36, seed=0)
    teacher = train(folder, photos, "teacher", "5e-3", seed=5)
    backbone = rebuild_model(load_checkpoint(teacher.best)).backbone.state_dict()
    weights = folder / "teacher.safetensors"
    save_file({name: value.contiguous() for name, value in backbone.items()}, weights)
    use = f"model.weights={weights}"
    return Clinic(
        folder,
        healthy=train(folder, photos, "healthy", "1e-3", use),
        labels=train(folder, shuffled(photos, folder / "shuffled.csv"), "labels", "1e-3", use),
        rate=train(folder, photos, "rate", "1e-7", use, "schedule.min_lr=0"),
    )


def train(folder: Path, source: Path, name: str, rate: str, *more: str, seed: int = 0) -> RunDir:
    stages = f"stages=[{{name: all, train: all, epochs: 4, lr: {rate}}}]"
    own = (f"logging.name={name}", "training.batch=16", f"training.seed={seed}", *more)
    recipe = small_recipe(source, folder / "runs", *own, stages=stages)
    return pipeline.train(recipe).run


def shuffled(photos: Path, manifest: Path) -> Path:
    """The same photographs, with labels that belong to others of them."""
    paths = sorted(photos.rglob("*.png"))
    labels = [path.parent.name for path in paths]
    random.Random(1).shuffle(labels)
    with manifest.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *zip(paths, labels, strict=True)])
    return manifest


@pytest.fixture
def run(clinic, tmp_path) -> RunDir:
    """A copy of the healthy run, to be changed."""
    return RunDir(shutil.copytree(clinic.healthy.path, tmp_path / "run"))


@pytest.fixture
def bench(clinic, tmp_path) -> Bench:
    """The healthy run on the bench."""
    return Bench(clinic.healthy, tmp_path)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def causes(found: diagnosing.Diagnosis) -> dict[str, float]:
    return {finding.rule: finding.confidence for finding in found.report.findings}


# What it decides


def test_the_probe_tells_shuffled_labels_from_a_rate_that_is_too_low(clinic):
    """Both runs are at chance; only a linear head on the frozen backbone tells them apart."""
    before = diagnosing.diagnose(clinic.labels.path)
    after = diagnosing.diagnose(clinic.labels.path, probe=True)
    assert causes(before).get("labels_shuffled", 0.0) < 0.9
    assert after.report.findings[0].rule == "labels_shuffled"
    assert causes(after)["labels_shuffled"] > 0.9
    assert "labels_shuffled" in after.decided
    tried = after.record.preflight
    assert tried.probe_chance == pytest.approx(1 / CLASSES, abs=0.02)
    assert abs(tried.probe_accuracy - tried.probe_chance) < 0.15
    # Shuffled or not, a network that learns can learn sixteen of them by heart.
    assert tried.overfit_accuracy >= 0.95

    slow = diagnosing.diagnose(clinic.rate.path, probe=True)
    assert "learning_rate_too_low" in causes(slow)
    assert "labels_shuffled" in slow.report.clear
    assert slow.record.preflight.probe_accuracy > 0.9
    assert slow.record.preflight.best_rate > 1e3 * 1e-7
    assert slow.record.preflight.overfit_accuracy >= 0.95


def test_a_healthy_run_stays_healthy_and_is_left_as_it_was(clinic):
    run, numbers = clinic.healthy, torch.get_rng_state()
    before, drawn = digests(run.path), random.getstate()
    found = diagnosing.diagnose(run.path, probe=True)
    assert digests(run.path) == before
    assert torch.equal(torch.get_rng_state(), numbers)
    assert random.getstate() == drawn
    assert torch.get_num_threads() == 1
    assert found.report.findings[0].rule == "healthy", result_lines(found.tests)
    rows = {row.name: row for row in found.tests.rows}
    assert list(rows) == [name for name, _ in TESTS]
    assert not [row for row in rows.values() if row.reason]
    tried = found.record.preflight
    assert tried.repeat_change == 0
    assert tried.output_sums_to_one is False
    assert tried.matched_accuracy > 0.8
    assert tried.zero_input_loss > 1.0
    # What training itself measured before its first step holds.
    assert (
        tried.initial_loss
        == json.loads((run.diagnostics / "run.json").read_text())["preflight"]["initial_loss"]
    )
    assert found.tests.preflight.initial_loss == pytest.approx(tried.initial_loss, abs=0.02)


def test_what_was_tried_is_read_again_until_the_run_goes_on(run, monkeypatch):
    found = espalier.diagnose_run(run.path, probe=True)
    path = run.diagnostics / FILE
    later = diagnosing.diagnose(run.path)
    assert later.record.preflight == found.record.preflight
    assert later.report == found.report
    plain = json.loads(path.read_text())
    path.write_text(json.dumps({**plain, "epochs": 3}))
    stale = diagnosing.diagnose(run.path)
    assert stale.record.preflight.probe_accuracy is None
    assert "is of 3 epochs" in stale.report.notes[-1]
    for damaged in ("{", "[1]", json.dumps({**plain, "preflight": 3})):
        path.write_text(damaged)
        assert "cannot be read" in diagnosing.diagnose(run.path).report.notes[-1]


def test_the_command_says_what_was_tried_and_keeps_it(run, tmp_path, capsys, monkeypatch):
    def tell(run, record, *, tell=None, seconds=60.0):
        return try_run(run, record, tell=tell, seconds=0)

    # Whether it takes time is the matter of other tests.
    monkeypatch.setattr("espalier.active_tests.sequence.try_run", tell)
    assert call(["diagnose", str(run.path), "--probe"]) == 0
    shown = capsys.readouterr()
    assert "trying the first loss" in shown.err
    assert str(run.diagnostics / FILE) in shown.err
    assert "the first loss: not tried: the 0 s for all tests were up" in shown.out
    assert call(["diagnose", str(run.path), "--probe", "--json", "--out", str(tmp_path / "o")]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert len(plain["tried"]["tests"]) == len(TESTS)
    assert (tmp_path / "o" / FILE).is_file()


def call(words: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)


# What cannot be tried


def test_a_record_of_another_tool_says_why_nothing_is_tried(tmp_path):
    log = tmp_path / "log.csv"
    rows = [("epoch", "loss", "accuracy", "val_loss", "val_accuracy")]
    rows += [(n, 1 / (n + 1), 0.5, 1 / (n + 1), 0.5) for n in range(5)]
    with log.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    found = diagnosing.diagnose(log, probe=True)
    assert found.tests.rows == ()
    assert found.report == diagnosing.diagnose(log).report
    assert result_lines(found.tests)[0].startswith("nothing was tried: model and photographs")
    assert diagnosing.write_diagnosis(found, tmp_path / "out")[-1].name == "report.html"


def test_photographs_that_are_gone_are_named_and_weights_are_tried_without(run):
    text = run.catalog_file.read_text().replace("/photos/", "/moved/")
    run.catalog_file.write_text(text)
    found = diagnosing.tried(run, diagnosing.diagnose(run.path).record)
    assert all("photographs are not where they were: /" in row.reason for row in found.rows)
    assert "16 of 16 validation photographs" in found.rows[0].reason
    assert "128 of 128 training photographs" in found.rows[-1].reason


def test_weights_that_are_gone_are_named_and_the_rest_is_tried(run):
    shutil.rmtree(run.path / "checkpoints")
    text = run.recipe_file.read_text().replace("teacher.safetensors", "nowhere.safetensors")
    run.recipe_file.write_text(text)
    found = diagnosing.tried(run, diagnosing.diagnose(run.path).record)
    assert all(row.reason for row in found.rows)
    assert "needs the trained weights" in found.rows[0].reason
    assert "nowhere.safetensors" in found.rows[-1].reason


def test_a_catalog_that_is_gone_is_why_nothing_is_tried(run):
    run.catalog_file.unlink()
    found = diagnosing.tried(run, diagnosing.diagnose(run.path).record)
    assert found.rows == ()
    assert "catalog.csv" in found.reason


def test_a_few_missing_photographs_stop_nothing(bench, tmp_path):
    samples = list(bench.catalog.samples)
    first = next(i for i, s in enumerate(samples) if s.split == "train")
    samples[first] = dataclasses.replace(samples[first], path=str(tmp_path / "gone.png"))
    bench.catalog = dataclasses.replace(bench.catalog, samples=tuple(samples))
    assert len(bench.here("train")) == 127
    assert learning.one_batch(bench, LONG).figures["overfit_accuracy"] >= 0.95


def test_a_test_that_has_no_time_says_so(bench):
    with pytest.raises(CannotJudge, match="0 s were not enough"):
        learning.rising_rates(bench, Clock(0.0))
    stuck(bench)
    with pytest.raises(CannotJudge, match="0 s were not enough"):
        learning.one_batch(bench, Clock(0.0))


def test_weights_of_another_epoch_do_not_tell_the_modes_apart(bench):
    bench.__dict__["_trained"] = dataclasses.replace(bench.trained, epoch=2)
    with pytest.raises(CannotJudge, match=r"last\.pt is of epoch 2, and 4 are on record"):
        validating.modes(bench, LONG)


# Each test, by breaking what it is for


def stuck(bench: Bench) -> None:
    """A network that gives the same for every picture."""

    class Blind(nn.Module):
        def forward(self, features):
            return 0 * features

    head = bench.trial.job.model.head
    bench.trial.job.model.head = nn.Sequential(Blind(), head)


def test_a_network_that_sees_nothing_cannot_learn_one_batch(bench):
    stuck(bench)
    found = learning.one_batch(bench, LONG)
    assert found.figures["overfit_accuracy"] < 0.6
    assert "after 60 steps" in found.text


def test_dropout_does_not_keep_one_batch_from_being_learned(bench):
    model = bench.trial.job.model
    model.head = nn.Sequential(nn.Dropout(0.97), model.head)
    assert learning.one_batch(bench, LONG).figures["overfit_accuracy"] >= 0.95
    assert model.head[0].p == 0.97


def test_a_head_that_starts_too_large_has_a_first_loss_far_from_chance(bench):
    plain = learning.first_loss(bench, LONG).figures["initial_loss"]
    assert plain == pytest.approx(np.log(CLASSES), abs=0.05)
    model = bench.trial.job.model
    torch.nn.init.normal_(model.head.logits.weight, std=5.0)
    assert learning.first_loss(bench, LONG).figures["initial_loss"] > 2 * plain


def test_rates_that_fall_steepest_and_diverge_are_found_on_a_made_curve():
    rates = np.geomspace(1e-6, 10, 40).tolist()
    decades = np.log10(rates)
    falling = 2.0 - 1.8 / (1 + np.exp(-4 * (decades + 3)))
    losses = np.where(decades > -0.5, 50.0, falling).tolist()
    curve = RateCurve(rates, losses)
    assert np.log10(curve.steepest) == pytest.approx(-3, abs=0.3)
    # The step before the first loss that is lost was made with the rate before it.
    assert curve.diverging == rates[int(np.argmax(decades > -0.5)) - 1]
    assert RateCurve(rates, falling.tolist()).diverging is None
    assert RateCurve(rates, [2.0] * 40).steepest is None
    spiked = [9.0 if i == 20 else 2.0 for i in range(40)]
    assert RateCurve(rates, spiked).diverging is None
    assert RateCurve(rates[:8], [*[2.0] * 7, float("nan")]).diverging == rates[6]


def test_probabilities_are_told_from_logits(bench):
    model = bench.trained.model
    model.head = nn.Sequential(model.head, nn.Softmax(dim=1))
    assert validating.outputs(bench, LONG).figures["output_sums_to_one"]


def test_outputs_that_are_not_finite_are_judged_by_no_test(bench):
    with torch.no_grad():
        bench.trained.model.head.logits.bias.fill_(float("nan"))
    with pytest.raises(CannotJudge, match="not finite"):
        validating.outputs(bench, LONG)


def test_the_loss_without_a_picture_is_that_of_torch(bench):
    found = validating.zero_input(bench, LONG).figures["zero_input_loss"]
    labels = torch.tensor([bench.catalog.classes.index(s.label) for s in bench.here("val")])
    with torch.no_grad():
        row = bench.trained.model(torch.zeros(1, 3, 32, 32))
    wanted = F.cross_entropy(row.expand(len(labels), -1), labels)
    assert found == pytest.approx(float(wanted), rel=1e-5)


def test_dropout_that_is_never_switched_off_changes_a_second_validation(bench):
    class Always(nn.Module):
        def forward(self, features):
            return F.dropout(features, 0.5, training=True)

    model = bench.trained.model
    model.head = nn.Sequential(Always(), model.head)
    assert validating.twice(bench, LONG).figures["repeat_change"] > 0.01


def test_broken_statistics_show_between_the_modes_and_stay_as_they_were(bench):
    model = bench.trained.model
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.add_(3.0)
    before = copy.deepcopy(model.state_dict())
    busy = validating.modes(bench, LONG).figures["train_mode_accuracy"]
    assert busy > bench.validation(LONG).accuracy + 0.3
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_classes_in_another_order_are_named(bench):
    classes = bench.catalog.classes
    turned = dict(zip(classes, (*classes[1:], classes[0]), strict=True))
    samples = tuple(
        dataclasses.replace(s, label=turned[s.label]) if s.split == "val" else s
        for s in bench.catalog.samples
    )
    bench.catalog = dataclasses.replace(bench.catalog, samples=samples)
    figures = validating.renamed(bench, LONG).figures
    assert bench.validation(LONG).accuracy < 0.2
    assert figures["matched_accuracy"] > 0.8
    assert figures["matched_classes"] == {new: old for old, new in turned.items()}


def test_guesses_among_many_classes_are_not_made_right_by_renaming():
    """Judged on the images on which it was found, a renaming makes half of such guesses right."""
    numbers = np.random.default_rng(0)
    labels, called = numbers.integers(0, 200, 400), numbers.integers(0, 200, 400)
    counts = np.zeros((200, 200), dtype=np.int64)
    np.add.at(counts, (labels, called), 1)
    assert match_classes(counts.tolist()).matched > 0.3
    assert matched_accuracy(labels, called, 200) < 0.05
    order = numbers.permutation(20)
    true = numbers.integers(0, 20, 400)
    assert matched_accuracy(true, order[true], 20) == 1.0


def test_the_linear_head_takes_what_the_run_has_kept(run, clinic, tmp_path):
    fresh = Bench(run, tmp_path / "a")
    assert "looked at now" in learning.linear_head(fresh, LONG).text
    samples = fresh.catalog.in_split("train")
    names = np.array([sample.sample_id for sample in samples])
    # One feature per class, which only the labels of the catalog can have given.
    kept = np.eye(CLASSES)[[fresh.catalog.classes.index(s.label) for s in samples]]
    kept = kept + np.random.default_rng(0).normal(0, 0.1, kept.shape)
    np.savez(run.embeddings, sample_ids=names, features=kept.astype(np.float16))
    by_features = learning.linear_head(fresh, LONG)
    assert "embeddings.npz" in by_features.text
    assert by_features.figures["probe_accuracy"] == 1.0
    per_class = [{"class": str(n), "f1": 0.5, "support": 10 * (n + 1)} for n in range(CLASSES)]
    run.baseline_file.write_text(json.dumps({"accuracy": 0.7, "per_class": per_class}))
    by_baseline = learning.linear_head(fresh, LONG)
    assert by_baseline.figures == {"probe_accuracy": 0.7, "probe_chance": 0.4}
    run.embeddings.write_bytes(b"PK damaged")
    run.baseline_file.write_text("{")
    assert "looked at now" in learning.linear_head(fresh, LONG).text


def test_without_pretrained_weights_a_linear_head_says_nothing(bench):
    section = bench.recipe.model.model_copy(update={"weights": "none"})
    bench.recipe = bench.recipe.model_copy(update={"model": section})
    with pytest.raises(CannotJudge, match="without trained weights"):
        learning.linear_head(bench, LONG)


def test_a_run_whose_heads_are_solved_for_has_no_rates(bench):
    stages = tuple(stage.model_copy(update={"solve": True}) for stage in bench.recipe.stages)
    bench.recipe = bench.recipe.model_copy(update={"stages": stages})
    with pytest.raises(CannotJudge, match="solves for its head"):
        learning.fastest_stage(bench)
