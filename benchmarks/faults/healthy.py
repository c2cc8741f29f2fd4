"""Healthy runs: plain ones, and look-alikes that naive rules take for ill. None may alarm."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.faults import in_code, in_data, networks
from benchmarks.faults.loop import Loop
from benchmarks.faults.pictures import Split
from benchmarks.faults.recipes import R4_COUNTS, Plan, weights_against

LOOPS = ("R1", "R2", "R4")
# Two classes of each recipe that anybody tells apart.
EASY = {"R1": (0, 1), "R2": (6, 8), "R4": (0, 4)}


@dataclass(frozen=True)
class Control:
    """One healthy way to train.

    Attributes:
        name: Of the control.
        look_alike: What it looks like; empty for a plain healthy run.
        plan: Changes the plan.
        patch: Changes the loop or its data.
        where: Recipes it is for.
    """

    name: str
    look_alike: str = ""
    plan: Callable[[Plan], Plan] = lambda plan: plan
    patch: Callable[[Loop], None] | None = None
    where: tuple[str, ...] = LOOPS


def _values(**changes: object) -> Callable[[Plan], Plan]:
    return lambda plan: dataclasses.replace(plan, **changes)  # type: ignore[arg-type]


def _one_cycle(plan: Plan) -> Plan:
    return dataclasses.replace(plan, schedule="one-cycle", lr=3 * plan.lr)


def _easy(loop: Loop) -> None:
    """Two classes that anybody tells apart."""
    pair = EASY[loop.plan.recipe]
    for name in ("train", "val"):
        setattr(loop, name, _only(getattr(loop, name), pair))
    names = tuple(loop.pictures.classes[label] for label in pair)
    loop.pictures = dataclasses.replace(
        loop.pictures, classes=names, test=_only(loop.pictures.test, pair)
    )
    loop.val_classes = names


def _only(split: Split, pair: tuple[int, int]) -> Split:
    chosen = split.take(((split.labels == pair[0]) | (split.labels == pair[1])).nonzero()[:, 0])
    return Split(chosen.pixels, (chosen.labels == pair[1]).long())


def _small_val(loop: Loop) -> None:
    loop.val = loop.val.take(torch.linspace(0, len(loop.val) - 1, 60).long())


def _sloped(loop: Loop) -> None:
    in_data.thin_out(loop, [float(share) for share in torch.logspace(0, -1.3, 10)])


def _blurred(loop: Loop) -> None:
    """A task that is hard for anybody: most of each picture is noise."""
    made = torch.Generator().manual_seed(5)
    for name in ("train", "val"):
        split: Split = getattr(loop, name)
        setattr(loop, name, Split(_noised(split.pixels, made), split.labels))
    test = loop.pictures.test
    loop.pictures = dataclasses.replace(
        loop.pictures, test=Split(_noised(test.pixels, made), test.labels)
    )


def _noised(pixels: torch.Tensor, made: torch.Generator) -> torch.Tensor:
    return (0.5 * pixels + 0.5 * torch.rand(pixels.shape, generator=made)).clamp(0, 1)


def _ten_percent_noise(loop: Loop) -> None:
    in_data.flip_some(loop, 0.1)


def _square_root_weights(plan: Plan) -> Plan:
    """Weights for counts that fall 20 : 1."""
    raw = torch.logspace(0, 1.3, 10).sqrt()
    weights = tuple((raw / raw.mean()).tolist())
    return dataclasses.replace(plan, class_weights=weights, epochs=20)


def _skipped_first_steps(loop: Loop) -> None:
    """Mixed precision looks for its scale: the first three steps overflow and are left out."""
    in_code.use_scaler(loop)
    scaled, done = loop.backward, []

    def backward(loss: torch.Tensor) -> None:
        scaled(loss)
        done.append(True)
        if len(done) <= 3:
            next(loop.model.parameters()).grad.fill_(float("inf"))

    loop.backward = backward


def _transformer(loop: Loop) -> None:
    """Patches by two convolutions, three blocks of attention: GELU and LayerNorm throughout."""

    class Attention(torch.nn.Module):
        def __init__(self, classes: int, width: int = 48) -> None:
            super().__init__()
            self.stem = torch.nn.Sequential(
                torch.nn.Conv2d(3, width, 3, 2, 1),
                torch.nn.GELU(),
                torch.nn.Conv2d(width, width, 3, 2, 1),
            )
            self.places = torch.nn.Parameter(torch.zeros(1, 16, width))
            layer = torch.nn.TransformerEncoderLayer(
                width, 4, 96, 0.0, "gelu", batch_first=True, norm_first=True
            )
            self.blocks = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.norm = torch.nn.LayerNorm(width)
            self.head = torch.nn.Linear(width, classes)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens = self.stem(x).flatten(2).transpose(1, 2) + self.places
            logits: torch.Tensor = self.head(self.norm(self.blocks(tokens)).mean(dim=1))
            return logits

    # So few pictures of ten classes teach such a network nothing.
    _easy(loop)

    def make() -> torch.nn.Module:
        torch.manual_seed(loop.seed)
        model = Attention(len(loop.pictures.classes))
        networks.fresh_head(model, len(loop.pictures.classes))
        return model

    loop.make_model = make


def _mixup(plan: Plan) -> Plan:
    """Longer than usual, as mixed pictures need; a transformer from scratch above all."""
    return dataclasses.replace(plan, mixup=1.0, epochs=18 if plan.recipe == "R4" else 12)


LOOK_ALIKES: tuple[Control, ...] = (
    Control("one_cycle", "H2: a rate three times the usual", _one_cycle),
    Control(
        "sgd_high_rate",
        "H3: rate 0.1",
        _values(optimizer="sgd", lr=0.1, weight_decay=5e-4),
        where=("R2",),
    ),
    Control("easy_classes", "H4: all right after two epochs", patch=_easy),
    Control(
        "tiny_backbone_rate",
        "H5: a backbone that hardly moves",
        _values(lr=3e-3, backbone_lr=1e-6),
        where=("R1",),
    ),
    Control(
        "linear_probe",
        "H6: frozen on purpose, evaluation mode",
        _values(train_part="head", lr=1e-2),
        where=("R1",),
    ),
    Control("label_smoothing", "H8: a loss that ends at 1.1", _values(label_smoothing=0.2)),
    Control("mixup", "H9: better in validation than in training", _mixup),
    Control(
        "strong_augmentation",
        "H10: a training loss above that of validation",
        _values(augment="heavy", dropout=0.3, epochs=14),
        where=("R1",),
    ),
    Control(
        "handled_imbalance",
        "H11: 20 : 1, sqrt weights",
        _square_root_weights,
        _sloped,
        where=("R1", "R2"),
    ),
    Control(
        "weighed_as_they_come",
        "H11: 4.4 : 1, sqrt weights",
        _values(class_weights=weights_against(R4_COUNTS, 0.5)),
        where=("R4",),
    ),
    Control(
        "balanced_sampler",
        "H11: rare classes drawn more often, and nothing else",
        _values(sampler="balanced"),
        where=("R4",),
    ),
    Control(
        "long_warmup",
        "hardly moves in the first third",
        _values(warmup_epochs=4.0, epochs=14),
        where=("R4",),
    ),
    Control("small_validation", "H13: validation jumps", patch=_small_val),
    Control(
        "from_scratch",
        "H14: still gaining at the end",
        _values(pretrained=False, epochs=14, lr=2e-3),
        where=("R1",),
    ),
    Control("skipped_steps", "H17: the first steps are skipped", patch=_skipped_first_steps),
    Control(
        "calibration_drift",
        "H18: validation loss rises, accuracy does not fall",
        _values(epochs=16, augment="none"),
        where=("R1",),
    ),
    Control("hard_task", "H19: converged far from perfect", patch=_blurred, where=("R1", "R4")),
    Control("some_label_noise", "H20: a tenth of the labels is wrong", patch=_ten_percent_noise),
    Control(
        "transformer",
        "H22: GELU and LayerNorm",
        _values(pretrained=False, lr=1e-3, epochs=20, batch=8),
        _transformer,
        where=("R1",),
    ),
    Control(
        "not_normalised",
        "H24: pixels in 0..1, BatchNorm, from scratch",
        _values(normalise=False, pretrained=False, epochs=12, lr=2e-3),
        where=("R1",),
    ),
    Control("group_norm", "no BatchNorm", _values(kind="group", pretrained=False), where=("R2",)),
    Control("restarts", "a rate that jumps up again", _values(schedule="restarts", epochs=12)),
    Control("clipped", "clipped most of the time, on purpose", _values(clip_norm=0.5)),
    Control("last_weights", "keeps the last weights, which are as good", _values(kept="last")),
    Control(
        "early_stopping",
        "stops before the end of the schedule, when nothing is gained",
        _values(patience=4, epochs=24),
        where=("R1", "R4"),
    ),
)
PLAIN = Control("plain")
CONTROLS: tuple[Control, ...] = (PLAIN, *LOOK_ALIKES)
BY_NAME = {control.name: control for control in CONTROLS}
