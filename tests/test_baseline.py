"""The instant baseline and what is done for rare classes, through whole runs."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from espalier import adjusting, pipeline
from espalier.evaluate.predictor import Predictor
from espalier.models.build import build_model
from espalier.recipe.schema import Model
from small_runs import ALL, Seen, same, small_recipe, weights


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ESPALIER_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def trained_weights(tmp_path_factory):
    torch.manual_seed(0)
    model, _ = build_model(Model(name="small-cnn", weights="none"), 2)
    place = tmp_path_factory.mktemp("weights") / "backbone.pth"
    torch.save(model.backbone.state_dict(), place)
    return place


def run_with(uneven, tmp_path, *given, watch=None):
    return pipeline.train(small_recipe(uneven, tmp_path, *given, stages=ALL), watch=watch)


def test_a_linear_head_is_judged_before_training_and_said(uneven, tmp_path, trained_weights):
    seen = Seen()
    given = ("features.baseline=true", f"model.weights={trained_weights}")
    run = run_with(uneven, tmp_path, *given, watch=seen).run
    found = json.loads(run.baseline_file.read_text())
    low, high = found["macro_f1_interval"]
    assert 0 <= low <= found["macro_f1"] <= high <= 1
    said = [note for note in seen.notes if "linear head alone" in note]
    assert len(said) == 1
    assert f"{found['macro_f1']:.2f}" in said[0]


def test_embeddings_are_those_of_the_training_images(uneven, tmp_path, trained_weights):
    given = ("features.baseline=true", f"model.weights={trained_weights}")
    result = run_with(uneven, tmp_path, *given)
    with np.load(result.run.embeddings) as kept:
        ids, features = kept["sample_ids"].tolist(), kept["features"]
    train = [s for s in pipeline.read_catalog(result.run.catalog_file).in_split("train")]
    assert ids == [sample.sample_id for sample in train]
    assert features.shape == (len(train), 256)
    assert np.isfinite(features).all()


def test_without_trained_weights_it_would_say_nothing(uneven, tmp_path):
    run = run_with(uneven, tmp_path, "features.baseline=true").run
    assert not run.baseline_file.exists()


def test_the_baseline_changes_nothing_that_is_trained(uneven, tmp_path, trained_weights):
    given = f"model.weights={trained_weights}"
    with_it = run_with(uneven, tmp_path / "a", given, "features.baseline=true").run
    without = run_with(uneven, tmp_path / "b", given).run
    assert same(weights(with_it.last), weights(without.last))


@pytest.mark.parametrize("method", ["auto", "head-refit", "class-bias", "logit-adjustment"])
def test_every_method_is_tried_on_request_and_put_on_record(uneven, tmp_path, method):
    run = run_with(uneven, tmp_path, f"adjustment.method={method}").run
    found = json.loads(run.adjustment_file.read_text())
    names = {trial["method"] for trial in found["trials"]}
    if method != "auto":
        assert names <= {adjusting.NAMES[method]}


def test_what_is_adopted_is_used_by_every_prediction_and_spares_the_weights(
    uneven, tmp_path, monkeypatch
):
    plain = run_with(uneven, tmp_path / "a").run
    real = adjusting.choose_adjustment

    def adopt(logits, labels, counts, **given):
        found = real(logits, labels, counts, **given)
        bias = np.array([5.0, 0.0, -5.0])
        return dataclasses.replace(found, method="class bias", bias=bias, reason="made up")

    monkeypatch.setattr(adjusting, "choose_adjustment", adopt)
    adjusted = run_with(uneven, tmp_path / "b", "adjustment.method=auto").run
    assert same(weights(plain.best), weights(adjusted.best))
    samples = pipeline.read_catalog(plain.catalog_file).in_split("test")
    before = Predictor(plain).predict(samples).logits
    after = Predictor(adjusted).predict(samples).logits
    np.testing.assert_allclose(
        after - before, np.tile([5.0, 0.0, -5.0], (len(samples), 1)), atol=1e-4
    )


def test_a_head_that_is_adopted_replaces_the_head_in_predictions(uneven, tmp_path, monkeypatch):
    real = adjusting.choose_adjustment

    def adopt(logits, labels, counts, **given):
        found = real(logits, labels, counts, **given)
        return dataclasses.replace(found, method=adjusting.REFIT, bias=np.zeros(3))

    monkeypatch.setattr(adjusting, "choose_adjustment", adopt)
    run = run_with(uneven, tmp_path, "adjustment.method=head-refit").run
    held = torch.load(run.best, weights_only=True)
    head = Predictor(run).model.head.state_dict()
    assert all(torch.equal(held["adjustment"]["head"][k], v) for k, v in head.items())
    assert not torch.equal(head["logits.weight"], held["model"]["head.logits.weight"])


def test_a_run_that_goes_on_is_judged_anew_from_plain_logits(uneven, tmp_path, monkeypatch):
    real, seen = adjusting.choose_adjustment, []

    def adopt(logits, labels, counts, **given):
        seen.append(logits)
        found = real(logits, labels, counts, **given)
        return dataclasses.replace(found, method="class bias", bias=np.array([50.0, 0.0, 0.0]))

    monkeypatch.setattr(adjusting, "choose_adjustment", adopt)
    run = run_with(uneven, tmp_path, "adjustment.method=auto").run
    pipeline.resume(run, run.recipe(), epochs=3)
    assert len(seen) == 2
    assert np.abs(seen[1]).max() < 50
    assert torch.load(run.best, weights_only=True)["adjustment"]["bias"] == [50.0, 0.0, 0.0]
