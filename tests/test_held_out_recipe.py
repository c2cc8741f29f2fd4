"""R4 of the fault benchmark: its network, what can be put into it, and that it is counted apart."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from benchmarks.faults import __main__ as program
from benchmarks.faults import held_out, in_code, injections, judged, recipes, report, runs
from benchmarks.faults.held_out import SIDE, WASTE, Attention, HeldOutLoop, PatchTransformer
from benchmarks.faults.pictures import Pictures, Split
from benchmarks.faults.recipes import R4_COUNTS, weights_against
from benchmarks.faults.runs import Case, all_cases

SHORT = dataclasses.replace(recipes.R4, epochs=1, batch=16)
CLASSES = ("cardboard", "glass", "metal", "paper", "plastic", "trash")


def painted(counts, seed):
    """Noise in the colour of its class."""
    made = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    colour = torch.rand(len(counts), 3, generator=torch.Generator().manual_seed(0))
    noise = torch.rand(len(labels), 3, SIDE, SIDE, generator=made)
    return Split(0.1 * colour[labels][:, :, None, None] + 0.9 * noise, labels)


@pytest.fixture
def no_photographs(monkeypatch):
    uneven = tuple(count // 10 for count in R4_COUNTS)
    made = Pictures(
        CLASSES,
        painted(uneven, 1),
        painted((15,) * 6, 2),
        painted((8,) * 6, 3),
        None,
        (0.4, 0.4, 0.4),
        (0.2, 0.2, 0.2),
    )
    monkeypatch.setattr(held_out, "waste", lambda folder: made)
    monkeypatch.setitem(recipes.PLANS, "R4", SHORT)


# --- the network


def test_attention_is_that_of_torch():
    torch.manual_seed(0)
    ours, theirs = Attention(64), nn.MultiheadAttention(64, 4, batch_first=True)
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.qkv.weight,
            "in_proj_bias": ours.qkv.bias,
            "out_proj.weight": ours.out.weight,
            "out_proj.bias": ours.out.bias,
        }
    )
    tokens = torch.randn(3, 16, 64)
    torch.testing.assert_close(ours(tokens), theirs(tokens, tokens, tokens)[0])


def test_the_network_has_nothing_that_the_others_share():
    kinds = {type(module) for module in PatchTransformer(6).modules()}
    assert {nn.LayerNorm, nn.GELU} <= kinds
    assert not kinds & {nn.BatchNorm2d, nn.ReLU, nn.GroupNorm, nn.MaxPool2d}


@pytest.mark.parametrize(
    "changes", [{}, {"width": 4}, {"kind": "none", "act": nn.Sigmoid, "residual": False}]
)
def test_every_form_of_the_network_learns_in_all_its_parts(changes):
    model = PatchTransformer(6, **changes)
    model(torch.randn(2, 3, SIDE, SIDE)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_places_tell_pictures_apart_that_have_the_same_patches():
    torch.manual_seed(0)
    model = PatchTransformer(6).eval()
    picture = torch.randn(1, 3, SIDE, SIDE)
    moved = picture.roll(held_out.PATCH, dims=3)
    assert not torch.allclose(model(picture), model(moved))
    with torch.no_grad():
        model.stem.places.zero_()
    torch.testing.assert_close(model(picture), model(moved))


# --- its data


@pytest.mark.skipif(not WASTE.is_dir(), reason="the shared photographs of waste are missing")
def test_counts_are_those_of_the_photographs():
    folders = sorted(entry for entry in (WASTE / "train").iterdir() if entry.is_dir())
    assert tuple(folder.name for folder in folders) == CLASSES
    assert tuple(len(list(folder.iterdir())) for folder in folders) == R4_COUNTS


def test_shrunken_pictures_are_decoded_once(tmp_path, monkeypatch):
    pixels = torch.arange(12 * 3 * SIDE * SIDE).reshape(12, 3, SIDE, SIDE) % 256
    stored = {"names": list(CLASSES)}
    for part in ("train", "val", "test"):
        stored |= {
            f"{part}_pixels": pixels.byte().numpy(),
            f"{part}_labels": [0, 1, 2, 3, 4, 5] * 2,
        }
    asked = []
    monkeypatch.setattr(held_out, "_shrunk", lambda: asked.append(True) or stored)
    first = held_out.waste(tmp_path / "a")
    held_out.waste.cache_clear()
    again = held_out.waste(tmp_path / "a")
    assert len(asked) == 1
    assert first.classes == again.classes == CLASSES
    torch.testing.assert_close(again.train.pixels, pixels / 255)
    torch.testing.assert_close(first.val.labels, torch.tensor([0, 1, 2, 3, 4, 5] * 2))


def test_weights_against_counts_balance_them():
    weights = weights_against(R4_COUNTS, 1.0)
    products = [weight * count for weight, count in zip(weights, R4_COUNTS, strict=True)]
    assert products == pytest.approx([products[0]] * 6)
    assert sum(weights) == pytest.approx(6)


# --- what is put into it


def test_faults_that_need_batch_norm_or_pretraining_stay_away():
    there = {fault.name for fault in injections.INJECTIONS if "R4" in fault.where}
    assert not there & {"dead_units", "stale_statistics", "no_train", "weights_lost"}
    assert {"no_warmup", "helped_twice", "vanishing", "shuffled_labels"} <= there


@pytest.mark.usefixtures("no_photographs")
def test_every_case_can_be_prepared(tmp_path):
    for case in all_cases("R4", (0,), (0,)):
        loop = runs.prepared(case, tmp_path / "run")
        assert isinstance(loop, HeldOutLoop)
        classes = len(loop.pictures.classes)
        assert loop.plan.class_weights is None or len(loop.plan.class_weights) == classes
        loop.model = loop.make_model()
        loop.after_model(loop.model)
        assert loop.model(loop.val_view(loop.val.pixels[:2])).shape[1] >= classes, case.title


def test_weights_of_the_transformer_explode_but_for_its_head():
    model = PatchTransformer(6)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    in_code._scaled(model, 6.0)
    after = model.state_dict()
    assert torch.equal(after["head.weight"], before["head.weight"])
    for name in ("stem.patches.weight", "block1.attention.qkv.weight", "block3.mlp.0.weight"):
        torch.testing.assert_close(after[name], 6 * before[name])


# --- it is counted apart


@pytest.mark.usefixtures("no_photographs")
def test_no_run_of_it_is_in_a_figure_of_the_tuned_recipes(tmp_path, monkeypatch):
    monkeypatch.setitem(program.NEEDS, "R4", tmp_path)
    words = ["--recipes", "R4", "--seeds", "0", "--plain-seeds", "0", "--severe"]
    words += ["--only", "head_not_optimized", "--cache", str(tmp_path / "cache")]
    found = json.loads(json.dumps(program.measure(program.parse(words))))
    assert (found["counts"]["runs"], found["untuned"]["counts"]["runs"]) == (0, 2)
    assert found["figures"]["espalier"]["recall"]["of"] == 0
    text = report.page(found)
    assert "## Untuned recipe R4" in text
    assert "No run of a recipe that rules were developed on" in text
    assert "## Figures" not in text


def test_what_is_said_of_a_fault_is_one_row():
    case = Case("R4", "compound", "imbalance+rate_too_low", 2, 0)
    run = judged.Examined(runs.Kept(case, WASTE, None, 0.0), None, None)
    verdict = judged._verdict(
        run,
        {("R4", case.name, 2): "killed"},
        ("plateau", "learning_rate_too_low"),
        case.causes,
        None,
    )
    assert report.said(run, verdict) == {
        "run": "R4 imbalance+rate_too_low-s2 seed 0",
        "truth": "killed",
        "place": "number 2",
        "wanted": "collapsed_to_major_classes or learning_rate_too_low",
        "said": "plateau, learning_rate_too_low",
    }


def test_slow_recipes_have_fewer_plain_seeds(tmp_path, monkeypatch):
    for name in ("R2", "R3", "R4"):
        monkeypatch.setitem(program.NEEDS, name, tmp_path)
    plain = [c for c in program.wanted(program.parse([])) if c.name == judged.PLAIN]
    counts = {name: sum(c.recipe == name for c in plain) for name in program.PLAIN_SEEDS}
    assert counts == {"R1": 10, "R2": 10, "R3": 4, "R4": 10}
    fewer = program.wanted(program.parse(["--plain-seeds", "3"]))
    assert sum(c.name == judged.PLAIN for c in fewer) == 4


def test_a_recipe_without_its_photographs_is_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(program.NEEDS, "R4", tmp_path / "nowhere")
    assert program.wanted(program.parse(["--recipes", "R4"])) == []
    assert "R4 is left out" in capsys.readouterr().err
