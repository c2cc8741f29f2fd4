"""Frozen layers with OpenVINO: the same numbers as in torch, the same bits again, no calls home."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from espalier.errors import ModelError, RecipeError, TrainingInterrupted
from espalier.models import openvino_layers
from espalier.models.build import Classifier, build_model
from espalier.models.cut import Piece, sequential_view
from espalier.models.frozen import FrozenLayers
from espalier.models.openvino_layers import COMPILED_IMAGES, OpenVinoLayers, openvino_version
from espalier.pipeline import resume, train
from espalier.recipe.schema import Model, Recipe
from espalier.train.interrupts import Interrupts
from espalier.train.kept import frozen_layers
from espalier.train.loop import fit
from small_runs import Seen, open_job, same, small_recipe, weights

installed = pytest.mark.skipif(
    openvino_version() is None, reason="OpenVINO is not installed (espalier[openvino])"
)
FAMILIES = ("resnet18", "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224")
TOP = "stages=[{name: top, train: 0.4, epochs: 2, lr: 1e-2}]"


def made(name: str, imgsz: int = 64) -> Classifier:
    torch.manual_seed(0)
    model, _ = build_model(Model(name=name, weights="none"), 5, imgsz=imgsz)
    # Statistics as after training: with those of a fresh network a folded norm would be none.
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def pieces_of(model: Classifier) -> tuple[Piece, ...]:
    found = sequential_view(model)
    assert found is not None
    return found


def compiled(pieces: tuple[Piece, ...], precision: str = "fp32", **given: object) -> OpenVinoLayers:
    values = {"channels_last": True, "threads": 1, **given}
    return OpenVinoLayers(pieces, precision=precision, **values)


class Branching(nn.Module):
    """Cannot be compiled: what is computed depends on the images."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.layer(images)
        return found if float(found.sum()) > 0 else -found


@installed
@pytest.mark.parametrize("name", FAMILIES)
def test_it_gives_what_the_backbone_gives(name: str) -> None:
    model = made(name)
    layers = compiled(pieces_of(model))
    images = torch.randn(COMPILED_IMAGES + 3, 3, 64, 64)
    found = layers(images)
    with torch.no_grad():
        wanted = model.backbone(images)
    scale = max(1.0, float(wanted.abs().max()))
    torch.testing.assert_close(found, wanted, atol=1e-5 * scale, rtol=0)
    assert found.dtype == torch.float32
    assert layers.shape(64) == found.shape[1:]


@installed
def test_bf16_is_near_and_a_part_of_the_backbone_will_do() -> None:
    pieces = pieces_of(made("mobilenetv2_100"))[:3]
    layers = compiled(pieces, "bf16")
    images = torch.randn(4, 3, 64, 64)
    wanted = layers.eager(images, "fp32")
    found = layers(images)
    assert found.shape == wanted.shape
    assert found.is_contiguous(memory_format=torch.channels_last)
    error = (found - wanted).square().mean().sqrt() / wanted.square().mean().sqrt()
    assert float(error) < 2e-2


@installed
def test_an_image_is_the_same_in_any_company_and_enters_a_graph() -> None:
    layers = compiled(pieces_of(made("small-cnn")))
    images = torch.randn(2 * COMPILED_IMAGES + 1, 3, 48, 48)
    whole = layers(images.to(memory_format=torch.channels_last))
    for count in (1, COMPILED_IMAGES, COMPILED_IMAGES + 1):
        torch.testing.assert_close(layers(images[:count]), whole[:count], atol=1e-6, rtol=1e-5)
    head = nn.Linear(whole.shape[1], 2)
    head(whole).sum().backward()
    assert head.weight.grad is not None


@installed
def test_it_is_compiled_once_for_each_size(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = openvino_layers._compile

    def counted(layers: nn.Module, size: torch.Size, precision: str, threads: int) -> object:
        seen.append(size[-1])
        return real(layers, size, precision, threads)

    monkeypatch.setattr(openvino_layers, "_compile", counted)
    layers = compiled(pieces_of(made("small-cnn")))
    assert layers.shape(48)
    assert seen == []
    for side in (48, 32, 48, 32):
        layers(torch.zeros(2, 3, side, side))
    assert seen == [48, 32]


@installed
def test_later_changes_of_the_model_do_not_reach_it() -> None:
    model = made("small-cnn")
    layers = compiled(pieces_of(model))
    images = torch.randn(2, 3, 48, 48)
    before = layers(images)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(layers(images), before)
    assert float(before.abs().max()) > 0


DIGESTS = """
import hashlib, torch
from espalier.models.cut import Piece
from espalier.models.openvino_layers import OpenVinoLayers

def digests():
    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 24, 3), torch.nn.ReLU(), torch.nn.Conv2d(24, 24, 3, groups=24),
        torch.nn.Conv2d(24, 64, 1), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
    ).requires_grad_(False)
    images = torch.randn(11, 3, 40, 40)
    for precision in ("fp32", "bf16"):
        for threads in (1, 2):
            run = OpenVinoLayers(
                [Piece("all", layers)], precision=precision, channels_last=True, threads=threads
            )
            yield hashlib.sha256(run(images).numpy().tobytes()).hexdigest()
"""
ALONE = """
import json, sys
calls = []
sys.addaudithook(lambda event, _: calls.append(event) if event.startswith("socket.") else None)
found = list(digests())
print(json.dumps([found, calls, "openvino_telemetry" in sys.modules]))
"""


@installed
def test_every_process_gives_the_same_bits_and_calls_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    command = [sys.executable, "-W", "error", "-c", DIGESTS + ALONE]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    names: dict[str, Any] = {}
    exec(DIGESTS, names)
    assert json.loads(done.stdout) == [list(names["digests"]()), [], False]
    assert list(tmp_path.iterdir()) == []


@installed
def test_what_cannot_be_compiled_is_an_error_with_a_way_out() -> None:
    layers = compiled((Piece("odd", Branching().requires_grad_(False)),))
    with pytest.raises(ModelError, match="cannot compile them") as caught:
        layers(torch.randn(2, 3, 16, 16))
    assert caught.value.hint == "--set features.engine=eager"
    assert "\n" not in caught.value.message


@installed
def test_where_that_is_allowed_it_runs_in_the_ordinary_way_and_says_so_once() -> None:
    notes: list[str] = []
    pieces = (Piece("odd", Branching().requires_grad_(False)),)
    layers = compiled(pieces, on_refusal=notes.append)
    ordinary = FrozenLayers(
        pieces, precision="fp32", channels_last=True, device=torch.device("cpu")
    )
    images = torch.randn(2, 3, 16, 16)
    for _ in range(2):
        assert torch.equal(layers(images), ordinary(images))
    (note,) = notes
    assert "cannot compile them" in note
    assert "in the ordinary way" in note


@installed
@pytest.mark.parametrize("wrong", [0.0, float("nan"), 1.5])
def test_a_wrong_result_is_never_used(monkeypatch: pytest.MonkeyPatch, wrong: float) -> None:
    real = openvino_layers._run
    monkeypatch.setattr(openvino_layers, "_run", lambda *given: wrong * real(*given))
    notes: list[str] = []
    pieces = pieces_of(made("small-cnn"))
    images = torch.randn(2, 3, 48, 48)
    with pytest.raises(ModelError, match="gives something else"):
        compiled(pieces, "bf16")(images)
    layers = compiled(pieces, on_refusal=notes.append)
    assert torch.equal(layers(images), layers.eager(images, "fp32"))
    assert "gives something else" in notes[0]


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_layers, "openvino_version", lambda: None)
    with pytest.raises(ModelError, match="not installed") as caught:
        compiled(pieces_of(made("small-cnn")))
    assert caught.value.hint == "pip install 'espalier[openvino]'"


@installed
def test_broken_weights_are_no_fault_of_the_engine() -> None:
    model = made("small-cnn")
    pieces = pieces_of(model)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    assert compiled(pieces)(torch.randn(2, 3, 48, 48)).isnan().any()


def recipe_for(photos: Path, out: Path, *given: str, engine: str = "openvino") -> Recipe:
    values = (f"features.engine={engine}", *(given or ("features.keep=memory",)))
    return small_recipe(photos, out, *values, stages=TOP)


class TestRun:
    """A run whose frozen layers are compiled."""

    @pytest.fixture(autouse=True)
    def own_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ESPALIER_CACHE", str(tmp_path / "cache"))

    @installed
    @pytest.mark.parametrize(
        "given",
        [
            ("features.keep=memory", "features.stored=fp32", "features.views=2"),
            ("features.keep=off", "training.batch=7"),
        ],
    )
    def test_it_learns_what_it_learns_in_the_ordinary_way(
        self, uneven: Path, tmp_path: Path, given: tuple[str, ...]
    ) -> None:
        plain = train(recipe_for(uneven, tmp_path / "plain", *given, engine="eager"))
        seen = Seen()
        found = train(recipe_for(uneven, tmp_path / "compiled", *given), watch=seen)
        assert not [note for note in seen.notes if "ordinary" in note]
        first, second = weights(plain.run.last), weights(found.run.last)
        for name, value in first.items():
            # Adam makes a step of a tiny gradient, and of its rounding.
            torch.testing.assert_close(second[name], value, atol=2e-3, rtol=1e-2)

    @installed
    def test_stopped_and_resumed_equals_never_stopped(
        self, uneven: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given = ("features.keep=memory", "features.precision=bf16")
        whole = train(recipe_for(uneven, tmp_path / "whole", *given))
        job, state = open_job(recipe_for(uneven, tmp_path / "cut", *given))
        interrupts = Interrupts()
        job = dataclasses.replace(job, watch=StopAt(3, interrupts))
        with pytest.raises(TrainingInterrupted):
            fit(job, state, interrupts)
        resumed = resume(job.run, job.run.recipe())
        assert same(weights(whole.run.last), weights(resumed.run.last))

    @installed
    @pytest.mark.parametrize("is_asked_for", [True, False])
    def test_a_choice_may_be_taken_back_and_an_order_may_not(
        self, uneven: Path, tmp_path: Path, is_asked_for: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*given: object) -> None:
            raise RuntimeError("no such instruction\nand more")

        monkeypatch.setattr(openvino_layers, "_compile", refuse)
        seen = Seen()
        job, _ = open_job(recipe_for(uneven, tmp_path), seen)
        if not is_asked_for:
            why = {**job.recipe.why, "features.engine": "auto openvino: it was faster"}
            job = dataclasses.replace(job, recipe=job.recipe.model_copy(update={"why": why}))
        layers = frozen_layers(job, pieces_of(job.model.eval()))
        images = torch.randn(2, 3, 32, 32)
        if is_asked_for:
            with pytest.raises(ModelError, match="no such instruction"):
                layers(images)
        else:
            assert torch.equal(layers(images), layers.eager(images, "fp32"))
            assert "no such instruction" in seen.notes[-1]

    @pytest.mark.skipif(openvino_version() is not None, reason="OpenVINO is installed")
    def test_a_person_who_asks_for_what_is_not_installed_is_told_the_command(
        self, uneven: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(RecipeError, match="not installed") as caught:
            train(recipe_for(uneven, tmp_path))
        assert caught.value.hint == "pip install 'espalier[openvino]'"


class StopAt(Seen):
    """Interrupts the run behind a step."""

    def __init__(self, step: int, interrupts: Interrupts) -> None:
        super().__init__()
        self.step, self.interrupts = step, interrupts

    def on_step(self, done: int, total: int, loss: float | None) -> None:
        if done == self.step:
            self.interrupts.signal = signal.SIGINT
