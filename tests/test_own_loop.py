"""``espalier.Vitals`` in loops that are not ours: what is on record, and that nothing changes."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import random
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from espalier import Vitals
from espalier.errors import RunError
from espalier.files import read_rows
from espalier.run_record import (
    DataFacts,
    EpochSigns,
    Preflight,
    StageFacts,
    StepSigns,
    from_plain,
)

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def tensors(number: int = 96, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (number,), generator=generator)
    images = torch.randn(number, 3, 8, 8, generator=generator) + labels[:, None, None, None]
    return images, labels


def network(dropout: float = 0.3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Dropout(dropout), nn.Linear(8, 3),
    )  # fmt: skip


class Noisy(Dataset[Any]):
    """A data set with a random transform and a generator of its own."""

    def __init__(self, images: Tensor, labels: Tensor, amount: float = 0.1) -> None:
        self.images, self.targets, self.amount = images, labels.tolist(), amount
        self.random = np.random.default_rng(5)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        noise = self.random.standard_normal(self.images[index].shape) + torch.rand(1).numpy()
        moved = torch.tensor(noise, dtype=torch.float32) * self.amount * random.random()
        return self.images[index] + moved, self.targets[index]


def loop(
    folder: Path | None,
    *,
    epochs: int = 2,
    noise: float = 0.1,
    clip: float | None = None,
    zero: bool = True,
    model: nn.Module | None = None,
    **known: Any,
) -> tuple[nn.Module, Vitals | None]:
    """A loop as tutorials write it; None for the folder: without vital signs."""
    torch.manual_seed(0)
    random.seed(0)
    model = model or network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    train = DataLoader(Noisy(*tensors(), amount=noise), 16, shuffle=True)
    images, labels = tensors(30, seed=1)
    vitals = None
    if folder is not None:
        val = (images, labels)
        vitals = Vitals(model, optimizer, folder, train_loader=train, val_loader=val, **known)
    for _ in range(epochs):
        model.train()
        for batch, wanted in train:
            if zero:
                optimizer.zero_grad()
            loss = functional.cross_entropy(model(batch), wanted)
            loss.backward()
            if vitals is not None:
                vitals.step(loss, wanted)
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
        model.eval()
        with torch.no_grad():
            logits = model(images)
        if vitals is not None:
            vitals.epoch(val=(labels, logits))
    return model, vitals


def run_json(vitals: Vitals) -> dict[str, Any]:
    text = (vitals.folder / "diagnostics" / "run.json").read_text()
    found: dict[str, Any] = json.loads(text)
    return found


def rows(vitals: Vitals, name: str) -> list[dict[str, Any]]:
    return read_rows(vitals.folder / "diagnostics" / f"{name}.jsonl")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Vitals:
    _, vitals = loop(
        tmp_path_factory.mktemp("own") / "run",
        epochs=3,
        loss=nn.CrossEntropyLoss(),
        classes=("a", "b", "c"),
        probe=tensors(40, seed=2),
        meant_to_train="all",
        facts={"seed": 0, "mixup": 0.0},
    )
    assert vitals is not None
    return vitals


def test_recording_changes_nothing_of_what_is_trained(tmp_path: Path) -> None:
    with_signs, _ = loop(tmp_path / "run", probe=tensors(40, seed=2))
    without, _ = loop(None)
    pairs = zip(with_signs.state_dict().items(), without.state_dict().items(), strict=True)
    assert all(name == other and torch.equal(a, b) for (name, a), (other, b) in pairs)


def test_what_is_written_reads_as_signs(recorded: Vitals) -> None:
    plain = run_json(recorded)
    data = from_plain(DataFacts, plain["data"])
    assert data.train is not None
    assert data.train.redraw_change is not None
    assert data.train.redraw_change > 0
    assert data.val is not None
    assert data.val.redraw_change == 0
    assert (data.train_images, data.val_images) == (96, 30)
    preflight = from_plain(Preflight, plain["preflight"])
    assert preflight.initial_loss == pytest.approx(math.log(3), abs=0.8)
    assert preflight.output_sums_to_one is False
    stage = from_plain(StageFacts, plain["facts"]["stages"][0])
    assert stage.trainable == stage.optimized == stage.parts
    assert stage.meant_to_train == tuple(stage.parts)
    steps = [from_plain(StepSigns, row) for row in rows(recorded, "steps")]
    assert [step.step for step in steps] == [*range(1, 19)]
    assert all(step.parts["head"].changed and step.parts["head"].has_grad for step in steps)
    assert all(0 < step.label_entropy <= math.log(3) + 1e-6 for step in steps)
    assert all(not step.clipped for step in steps)
    epochs = [from_plain(EpochSigns, row) for row in rows(recorded, "train_diagnostics")]
    assert [epoch.step for epoch in epochs] == [6, 12, 18]
    assert all(math.isfinite(e.busy_loss) and math.isfinite(e.clean_loss) for e in epochs)
    assert epochs[-1].loss_quantiles is not None
    assert epochs[-1].drift["1"] > epochs[0].drift["1"] > 0


def test_facts_are_read_off_the_loop(recorded: Vitals) -> None:
    facts = run_json(recorded)["facts"]
    labels = tensors()[1]
    assert facts["train_counts"] == torch.bincount(labels).tolist()
    assert (facts["loss"], facts["optimizer"], facts["momentum"]) == ("cross-entropy", "sgd", 0.9)
    assert (facts["batch"], facts["steps_per_epoch"], facts["head_classes"]) == (16, 6, 3)
    assert (facts["seed"], facts["dropout"], facts["batch_norms"]) == (0, 0.3, 1)
    assert facts["activations"] == ["relu"]


def test_validation_is_judged_per_class(recorded: Vitals) -> None:
    confusion = json.loads((recorded.folder / "diagnostics" / "val_confusion.json").read_text())
    counts = np.array(confusion["counts"])
    labels = tensors(30, seed=1)[1].numpy()
    assert counts.sum(axis=1).tolist() == np.bincount(labels).tolist()
    last = rows(recorded, "val_diagnostics")[-1]
    assert last["accuracy"] == pytest.approx(counts.trace() / counts.sum())
    assert last["recall"] == pytest.approx((counts.diagonal() / counts.sum(axis=1)).tolist())
    assert last["predicted"] == pytest.approx((counts.sum(axis=0) / counts.sum()).tolist())


def test_a_fixed_training_set_is_its_own_probe(tmp_path: Path) -> None:
    _, vitals = loop(tmp_path / "run", noise=0.0, epochs=1)
    assert vitals is not None
    assert rows(vitals, "train_diagnostics")[0]["clean_loss"] is not None
    _, augmented = loop(tmp_path / "noisy", noise=0.5, epochs=1)
    assert augmented is not None
    assert "clean_loss" not in rows(augmented, "train_diagnostics")[0]


def test_clipping_is_seen_without_being_told(tmp_path: Path) -> None:
    _, vitals = loop(tmp_path / "run", clip=1e-3, epochs=1)
    assert vitals is not None
    for row in rows(vitals, "steps"):
        assert row["clipped"]
        assert row["stepped_norm"] == pytest.approx(1e-3, rel=1e-3)
        assert row["grad_norm"] > 1e-2


def test_gradients_that_are_never_zeroed_show_in_their_angle(tmp_path: Path) -> None:
    _, piled = loop(tmp_path / "piled", zero=False)
    _, sound = loop(tmp_path / "sound")
    assert piled is not None
    assert sound is not None
    angles = [
        float(np.median([row["cosine"] for row in rows(v, "steps")[1:]])) for v in (piled, sound)
    ]
    assert angles[0] > angles[1]
    assert angles[0] > 0.9


def test_parameters_that_no_optimizer_holds_do_not_change(tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model[6] = nn.Linear(8, 3)
    vitals = Vitals(model, optimizer, tmp_path / "run")
    images, labels = tensors(16)
    for _ in range(3):
        loss = functional.cross_entropy(model(images), labels)
        loss.backward()
        vitals.step(loss)
        optimizer.step()
    stage = run_json(vitals)["facts"]["stages"][0]
    assert stage["trainable"]["head"] == 27
    assert stage["optimized"]["head"] == 0
    parts = [row["parts"] for row in rows(vitals, "steps")]
    assert [part["head"]["changed"] for part in parts] == [False] * 3
    assert [part["head"]["has_grad"] for part in parts] == [True] * 3
    assert [part["0"]["changed"] for part in parts] == [True] * 3


def test_overlap_and_copies_are_found_by_content(tmp_path: Path) -> None:
    images, labels = tensors(20)
    images[7] = images[3]
    val = (torch.cat((tensors(5, seed=3)[0], images[:2])), torch.zeros(7, dtype=torch.int64))
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train = TensorDataset(images, labels)
    vitals = Vitals(model, optimizer, tmp_path / "run", train_loader=train, val_loader=val)
    data = run_json(vitals)["data"]
    assert (data["overlap"], data["train_copies"]) == (2, 1)
    # Views of a random transform cannot be compared: nobody knows.
    noisy = Noisy(images, labels)
    other = Vitals(model, optimizer, tmp_path / "run", train_loader=noisy, val_loader=val)
    assert run_json(other)["data"]["overlap"] is None


def test_the_modes_on_record_are_those_of_the_steps(tmp_path: Path) -> None:
    model = network(dropout=0.0)
    _, vitals = loop(tmp_path / "run", model=model, epochs=1, probe=tensors(32, seed=2))
    assert vitals is not None
    assert run_json(vitals)["facts"]["stages"][0]["resting_batch_norm"] == 0
    model.eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    resting = Vitals(model, optimizer, tmp_path / "rest", probe=tensors(32, seed=2))
    images, labels = tensors(16)
    loss = functional.cross_entropy(model(images), labels)
    loss.backward()
    resting.step(loss)
    optimizer.step()
    model.train()
    resting.epoch()
    assert run_json(resting)["facts"]["stages"][0]["resting_batch_norm"] == 1
    row = rows(resting, "train_diagnostics")[0]
    # Left in evaluation mode, training mode is no other mode.
    assert row["busy_loss"] == pytest.approx(row["clean_loss"], rel=1e-5)


def test_steps_that_a_scaler_leaves_out(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    vitals = Vitals(model, optimizer, tmp_path / "run", scaler=scaler)
    true = []
    for factor in (1.0, math.inf, 1.0):
        optimizer.zero_grad()
        loss = model(torch.ones(3, 4)).square().mean()
        scaler.scale(loss).backward()
        if factor != 1.0:
            model[0].weight.grad.fill_(factor)
        true.append(float(torch.cat([p.grad.flatten() for p in model.parameters()]).norm()) / 1024)
        vitals.step(loss)
        scaler.step(optimizer)
        scaler.update()
    vitals.close()
    found = rows(vitals, "steps")
    assert [row["skipped"] for row in found] == [False, True, False]
    assert [row["scale"] for row in found] == [1024.0, 1024.0, 512.0]
    assert found[0]["grad_norm"] == pytest.approx(true[0], rel=1e-5)
    assert found[1]["grad_norm"] == "inf"
    assert not found[1]["parts"]["head"]["changed"]
    assert "first_non_finite" not in run_json(vitals)["checks"]


def test_the_first_loss_that_is_not_finite_is_on_record(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    vitals = Vitals(model, optimizer, tmp_path / "run")
    for factor in (1.0, math.nan, 1.0):
        optimizer.zero_grad()
        loss = model(torch.ones(3, 4)).square().mean() * factor
        loss.backward()
        vitals.step(loss)
        optimizer.step()
    found = run_json(vitals)["checks"]["first_non_finite"]
    assert (found["step"], found["what"], found["value"]) == (2, "loss", "nan")


@pytest.mark.parametrize("place", ["behind the step", "before backward"])
def test_a_step_at_the_wrong_place_is_refused(tmp_path: Path, place: str) -> None:
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    vitals = Vitals(model, optimizer, tmp_path / "run")
    loss = model(torch.ones(3, 4)).square().mean()
    if place == "before backward":
        vitals.step(loss)
    loss.backward()
    with pytest.raises(RunError, match=r"between loss\.backward\(\) and optimizer\.step\(\)"):
        optimizer.step()


def test_an_optimizer_with_a_closure_is_no_mistake(tmp_path: Path) -> None:
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    vitals = Vitals(model, optimizer, tmp_path / "run")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(torch.ones(3, 4)).square().mean()
        loss.backward()
        vitals.step(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        return loss

    for _ in range(2):
        optimizer.step(closure)
    assert [row["clipped"] for row in rows(vitals, "steps")] == [True, True]


def test_no_run_is_overwritten(tmp_path: Path) -> None:
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "weights.pt").write_text("of the user")
    made = [Vitals(model, optimizer, tmp_path / "run").folder.name for _ in range(3)]
    assert made == ["run", "run-2", "run-3"]
    assert (tmp_path / "run" / "weights.pt").read_text() == "of the user"
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="it is a file"):
        Vitals(model, optimizer, tmp_path / "file")


def test_wrong_words_say_what_is_allowed(tmp_path: Path) -> None:
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(RunError, match=r"facts: batches unknown; allowed: .*batch"):
        Vitals(model, optimizer, tmp_path / "run", facts={"batches": 3})
    with pytest.raises(RunError, match="'layer9' is neither a part nor a module"):
        Vitals(model, optimizer, tmp_path / "run", meant_to_train=("layer9",))
    assert not (tmp_path / "run").exists()
    vitals = Vitals(model, optimizer, tmp_path / "run")
    with pytest.raises(RunError, match=r"val: 'f1' is no score; allowed: loss, accuracy"):
        vitals.epoch(val={"f1": 0.5})
    with pytest.raises(RunError, match="3 labels with outputs of shape"):
        vitals.epoch(val=(torch.zeros(3), torch.zeros(2, 2)))


def test_scores_alone_are_enough(tmp_path: Path) -> None:
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Vitals(model, optimizer, tmp_path / "run", epochs=1) as vitals:
        vitals.epoch(train={"loss": 0.5, "accuracy": 0.9}, val={"loss": 0.7, "accuracy": 0.8})
    assert rows(vitals, "train_diagnostics")[0]["accuracy"] == 0.9
    assert rows(vitals, "val_diagnostics")[0]["loss"] == 0.7
    assert run_json(vitals)["ended"] == "finished"


def test_how_a_run_ended_is_on_record(tmp_path: Path) -> None:
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    vitals = Vitals(model, optimizer, tmp_path / "run")
    assert run_json(vitals)["ended"] == "running"
    with pytest.raises(ValueError, match="broken"), vitals:
        raise ValueError("broken")
    assert run_json(vitals)["ended"] == "died"
    assert "broken" in run_json(vitals)["why_ended"]


def test_a_full_disk_ends_the_record_and_not_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    vitals = Vitals(model, optimizer, tmp_path / "run")
    (vitals.folder / "diagnostics" / "steps.jsonl").mkdir()
    for step in range(2):
        loss = model(torch.ones(3, 4)).square().mean()
        loss.backward()
        vitals.step(loss)
        if step == 0:
            with pytest.warns(UserWarning, match="training goes on"):
                optimizer.step()
        else:
            optimizer.step()
    vitals.epoch(val={"loss": 1.0})


def test_a_new_stage_has_its_own_optimizer(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model[1].parameters(), lr=0.1)
    vitals = Vitals(model, optimizer, tmp_path / "run", meant_to_train=("head",), stage="head")
    for name in ("head", "all"):
        if name == "all":
            model.requires_grad_(True)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
            vitals.stage("all", optimizer=optimizer, meant_to_train="all")
        loss = model(torch.ones(3, 4)).square().mean()
        loss.backward()
        vitals.step(loss)
        optimizer.step()
    head, every = run_json(vitals)["facts"]["stages"]
    assert head["meant_to_train"] == ["head"]
    assert head["trainable"] == {"0": 0, "head": 10}
    assert every["optimized"] == {"0": 20, "head": 10}
    assert [(row["stage"], list(row["parts"])) for row in rows(vitals, "steps")] == [
        ("head", ["head"]),
        ("all", ["0", "head"]),
    ]
    assert [row["learning_rate"] for row in rows(vitals, "steps")] == [0.1, 0.01]


def test_what_training_waited_for_is_on_record(tmp_path: Path) -> None:
    model = nn.Linear(4, 2)
    vitals = Vitals(model, torch.optim.SGD(model.parameters(), lr=0.1), tmp_path / "run")
    assert list(vitals.batches(range(3))) == [0, 1, 2]
    vitals.epoch()
    assert rows(vitals, "train_diagnostics")[0]["wait_seconds"] >= 0


def test_the_share_of_the_data_that_was_drawn(tmp_path: Path) -> None:
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    images = torch.ones(10, 4, 1, 1)
    data = (images, torch.zeros(10, dtype=torch.int64))
    vitals = Vitals(
        model, optimizer, tmp_path / "run", train_loader=data, forward=lambda x: model(x.flatten(1))
    )
    for ids in ([0, 1, 2], [2, 3, 4]):
        loss = model(torch.ones(3, 4)).square().mean()
        loss.backward()
        vitals.step(loss, ids=ids)
        optimizer.step()
    vitals.epoch()
    assert rows(vitals, "train_diagnostics")[0]["drawn_share"] == 0.5


def test_it_needs_no_fabric() -> None:
    code = (
        "import sys; from espalier import Vitals; "
        "sys.exit(any(n in sys.modules for n in ('lightning_fabric', 'timm', 'pandas')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_example_learns_and_leaves_its_signs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    vitals = runpy.run_path(str(EXAMPLES / "own_loop.py"))["main"](epochs=2)
    assert "espalier diagnose runs/own/first" in capsys.readouterr().out
    plain = run_json(vitals)
    assert plain["ended"] == "finished"
    planned = dict(map(tuple, plain["facts"]["planned_rates"]))
    for row in rows(vitals, "steps"):
        assert planned[row["step"]] == pytest.approx(row["learning_rate"])
    assert rows(vitals, "val_diagnostics")[-1]["accuracy"] > 0.6


LIGHTNING = """
import torch
from torch import nn
from torch.utils.data import DataLoader
from lightning.pytorch import LightningModule, Trainer
from lightning_callback import VitalSigns
from own_loop import blobs

class Module(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(768, 3))
    def training_step(self, batch, index):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])
    def validation_step(self, batch, index):
        return {"labels": batch[1], "logits": self.net(batch[0])}
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-3)

quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False)
Trainer(
    max_epochs=2, accelerator="cpu", gradient_clip_val=0.1, accumulate_grad_batches=2,
    enable_model_summary=False, callbacks=[VitalSigns("run")], **quiet,
).fit(Module(), DataLoader(blobs(96, 1), 16), DataLoader(blobs(32, 2), 16))
"""
HUGGING_FACE = """
import json
import torch
from transformers import ResNetConfig, ResNetForImageClassification, TrainingArguments
from huggingface_callback import VitalTrainer
from own_loop import blobs

class Pictures(torch.utils.data.Dataset):
    def __init__(self, number, seed):
        self.blobs = blobs(number, seed)
    def __len__(self):
        return len(self.blobs)
    def __getitem__(self, index):
        return {"pixel_values": self.blobs[index][0], "labels": self.blobs[index][1]}

sizes = dict(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
arguments = TrainingArguments(
    "out", num_train_epochs=2, per_device_train_batch_size=16, gradient_accumulation_steps=2,
    max_grad_norm=0.1, eval_strategy="epoch", report_to=[], save_strategy="no", use_cpu=True,
    disable_tqdm=True,
)
trainer = VitalTrainer(
    model=ResNetForImageClassification(ResNetConfig(num_labels=3, **sizes)), args=arguments,
    train_dataset=Pictures(96, 1), eval_dataset=Pictures(32, 2), vital_signs=("run", {"epochs": 2}),
)
trainer.train()
trainer.evaluate()
logged = next(row["train_loss"] for row in trainer.state.log_history if "train_loss" in row)
steps = [json.loads(line)["loss"] for line in open("run/diagnostics/steps.jsonl")]
assert abs(sum(steps) / len(steps) - logged) < 1e-3, (steps, logged)
"""


@pytest.mark.parametrize(
    ("package", "code"), [("lightning", LIGHTNING), ("transformers", HUGGING_FACE)]
)
def test_callbacks_of_other_tools_record_steps_and_epochs(
    tmp_path: Path, package: str, code: str
) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    paths = os.pathsep.join([str(EXAMPLES), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    signs = tmp_path / "run" / "diagnostics"
    steps = read_rows(signs / "steps.jsonl")
    assert [row["step"] for row in steps] == [1, 2, 3, 4, 5, 6]
    assert all(row["clipped"] for row in steps)
    assert all(row["stepped_norm"] == pytest.approx(0.1, rel=1e-3) for row in steps)
    # Of three classes 1.1; a network that does not ask how many images a step has counts it twice.
    assert 0.5 < steps[0]["loss"] < 4
    judged = read_rows(signs / "val_diagnostics.jsonl")
    assert [row["epoch"] for row in judged] == [1, 2]
    assert all(row["recall"] is not None for row in judged)
    assert json.loads((signs / "run.json").read_text())["ended"] == "finished"
