"""A plain training loop, as people write it, with ``Vitals``: clean, and open to injections.

Every piece of it is an attribute that an injection may replace, and nothing else is done to it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, WeightedRandomSampler

from benchmarks.faults import networks
from benchmarks.faults.pictures import Pictures, Split, digits, photos
from benchmarks.faults.recipes import Plan
from espalier.vitals.own_loop import Vitals

PRETRAIN_SEED = 977
EVERY = 5


@dataclass
class View:
    """A transform of pictures in [0, 1]: chance first, if any, then normalisation."""

    mean: Tensor
    std: Tensor
    augment: str = "none"
    flips: bool = False
    generator: torch.Generator = field(default_factory=torch.Generator)

    def __call__(self, pixels: Tensor) -> Tensor:
        """One picture [3, S, S] or several [N, 3, S, S]."""
        batch = pixels if pixels.ndim == 4 else pixels[None]
        drawn = (self.drawn(batch) - self.mean[:, None, None]) / self.std[:, None, None]
        return drawn if pixels.ndim == 4 else drawn[0]

    def drawn(self, batch: Tensor) -> Tensor:
        """The same pictures as chance would have them, still in [0, 1]."""
        if self.augment == "none":
            return batch
        batch = self._shifted(batch)
        if self.augment == "destructive":
            return self._turned(batch)
        return self._heavier(batch) if self.augment == "heavy" else batch

    def _shifted(self, batch: Tensor) -> Tensor:
        """Each picture moved by up to an eighth, round the edge; half of them mirrored."""
        size, side = len(batch), batch.shape[-1]
        reach = side // 8
        moves = torch.randint(-reach, reach + 1, (2, size, 1), generator=self.generator)
        rows, columns = (torch.arange(side) + move for move in moves)
        if self.flips:
            mirrored = torch.rand(size, 1, generator=self.generator) < 0.5
            columns = torch.where(mirrored, -1 - columns, columns)
        rows, columns = rows % side, columns % side
        every = torch.arange(size)[:, None, None]
        return batch.permute(0, 2, 3, 1)[every, rows[:, :, None], columns[:, None, :]].permute(
            0, 3, 1, 2
        )

    def _coin(self, share: float = 0.5) -> bool:
        return float(torch.rand((), generator=self.generator)) < share

    def _heavier(self, batch: Tensor) -> Tensor:
        """Contrast, brightness, noise and a rubbed-out square."""
        size, side = len(batch), batch.shape[-1]
        amounts = torch.rand(2, size, 3, 1, 1, generator=self.generator)
        batch = batch * (0.5 + amounts[0]) + 0.4 * (amounts[1] - 0.5)
        batch = batch + 0.08 * torch.randn(batch.shape, generator=self.generator)
        corners = torch.randint(0, side // 2, (size, 2), generator=self.generator).tolist()
        for image, (top, left) in zip(batch, corners, strict=True):
            image[:, top : top + side // 2, left : left + side // 2] = 0.5
        return batch.clamp(0, 1)

    def _turned(self, batch: Tensor) -> Tensor:
        """Any quarter turn and mirror image, of a crop so tight that nobody knows what it is."""
        side = batch.shape[-1]
        small, turned = side // 4, []
        for image in batch:
            turns = int(torch.randint(0, 4, (), generator=self.generator))
            top, left = torch.randint(0, side - small + 1, (2,), generator=self.generator).tolist()
            crop = image[:, top : top + small, left : left + small]
            crop = torch.rot90(crop, turns, (1, 2))
            large = F.interpolate(crop[None], side, mode="bilinear", align_corners=False)[0]
            turned.append(large.flip(2) if self._coin() else large)
        return torch.stack(turned)

    def __repr__(self) -> str:
        chance = {"none": "", "light": "RandomShift, ", "heavy": "RandomShift, RandomErasing, "}
        steps = chance.get(self.augment, "RandomRotation, RandomFlip, ")
        return f"Compose({steps}Normalize({_rounded(self.mean)}, {_rounded(self.std)}))"


def _rounded(values: Tensor) -> list[float]:
    return [round(float(value), 4) for value in values]


class Photographs(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """A data set as torch knows them: indexable, with its transform, its labels, its classes."""

    def __init__(self, split: Split, transform: Any, classes: tuple[str, ...]) -> None:
        self.data = split.pixels
        self.targets = split.labels
        self.transform = transform
        self.classes = list(classes)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.data[index]), int(self.targets[index])

    def batch(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Several pictures at once, transformed, and their labels."""
        return self.transform(self.data[chosen]), self.targets[chosen]


@dataclass(frozen=True)
class Outcome:
    """What a run was worth, by pictures that it never saw and nobody touched.

    Attributes:
        test_macro_f1: Of the weights that the loop hands out.
        test_accuracy: The same.
        reported: Validation accuracy of these weights, as the loop itself measured it.
    """

    test_macro_f1: float
    test_accuracy: float
    reported: float


class Loop:
    """One training run. Injections replace attributes of it before ``run``."""

    def __init__(self, plan: Plan, seed: int, folder: Path) -> None:
        self.plan, self.seed, self.folder = plan, seed, folder
        self.pictures: Pictures = digits() if plan.recipe == "R1" else photos()
        self.rng = np.random.default_rng([seed, 17])
        self.train = self._drawn(self.pictures.train)
        self.val = self.pictures.val
        self.val_classes = self.pictures.classes
        mean, std = torch.tensor(self.pictures.mean), torch.tensor(self.pictures.std)
        if not plan.normalise:
            mean, std = torch.zeros(3), torch.ones(3)
        flips = plan.recipe == "R2"
        self.train_view = View(mean, std, plan.augment, flips)
        self.val_view = View(mean, std)
        self.train_view.generator.manual_seed(seed)
        self.facts: dict[str, Any] = {}
        self.val_batch = 200
        self.schedule_each = "step"
        self.told_each: str | None = None
        self.schedule_class: Callable[[Any], Any] | None = None
        self.scaler: Any = None
        self.make_model: Callable[[], nn.Module] = self._model
        self.after_model: Callable[[nn.Module], None] = lambda model: None
        self.learning: Callable[[nn.Module], list[dict[str, Any]]] = self._groups
        self.order: Callable[[], Tensor] = self._order
        self.criterion: Callable[[Tensor, Tensor], Tensor] = self._loss
        self.backward: Callable[[Tensor], None] = lambda loss: loss.backward()
        self.clear: Callable[[], None] = lambda: self.optimizer.zero_grad()
        self.clip: Callable[[], None] = self._clip
        self.step: Callable[[], None] = lambda: self.optimizer.step()
        self.schedule: Callable[[], None] = self._schedule
        self.better: Callable[[float, float], bool] = lambda score, best: score > best
        self.for_training: Callable[[], None] = self._for_training
        self.for_validation: Callable[[], None] = lambda: self.model.eval()

    def _drawn(self, split: Split) -> Split:
        if self.plan.images is None:
            return split
        chosen = self.rng.permutation(len(split))[: self.plan.images]
        return split.take(torch.from_numpy(np.sort(chosen)))

    # -- what a sound run does --------------------------------------------------------------

    def _model(self) -> nn.Module:
        plan, classes = self.plan, len(self.pictures.classes)
        torch.manual_seed(self.seed)
        kind = networks.ResNet8 if plan.network == "resnet8" else networks.SmallCNN
        model = kind(classes, width=plan.width, kind=plan.kind, dropout=plan.dropout)
        if plan.pretrained:
            state = pretrained_state(self.folder.parent, plan)
            body = {name: value for name, value in state.items() if not name.startswith("head")}
            model.load_state_dict(body, strict=False)
        networks.fresh_head(model, classes)
        return model

    def _groups(self, model: nn.Module) -> list[dict[str, Any]]:
        plan = self.plan
        head = list(model.head.parameters())  # type: ignore[union-attr]
        known = {id(parameter) for parameter in head}
        rest = [p for p in model.parameters() if id(p) not in known]
        if plan.train_part == "head":
            for parameter in rest:
                parameter.requires_grad_(False)
            return [{"params": head, "lr": plan.lr}]
        rate = plan.lr if plan.backbone_lr is None else plan.backbone_lr
        return [{"params": rest, "lr": rate}, {"params": head, "lr": plan.lr}]

    def _optimizer(self) -> torch.optim.Optimizer:
        plan, groups = self.plan, self.learning(self.model)
        if plan.optimizer == "sgd":
            return torch.optim.SGD(
                groups, plan.lr, momentum=plan.momentum, weight_decay=plan.weight_decay
            )
        betas = (plan.momentum, 0.999)
        return torch.optim.AdamW(
            groups, plan.lr, betas=betas, eps=plan.eps, weight_decay=plan.weight_decay
        )

    def _order(self) -> Tensor:
        labels = self.train.labels.numpy()
        if self.plan.sampler == "none":
            return torch.from_numpy(self.rng.permutation(len(labels)))
        counts = np.bincount(labels, minlength=len(self.pictures.classes))
        weights = 1 / counts[labels]
        drawn = self.rng.choice(len(labels), len(labels), p=weights / weights.sum())
        return torch.from_numpy(drawn)

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.plan.loss == "mse":
            labels = F.one_hot(labels, logits.shape[1]).float()
        loss: Tensor = self.loss_module(logits, labels)
        return loss

    def _clip(self) -> None:
        if self.plan.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.clip_norm)

    def _schedule(self) -> None:
        self.scheduler.step()

    def _for_training(self) -> None:
        self.model.train()
        if self.plan.train_part == "head":
            self.model.eval()

    def _loss_module(self) -> nn.Module:
        plan = self.plan
        if plan.loss == "mse":
            return nn.MSELoss()
        weights = None if plan.class_weights is None else torch.tensor(plan.class_weights)
        return nn.CrossEntropyLoss(weights, label_smoothing=plan.label_smoothing)

    # -- the run ----------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Train, record, and judge on the clean test pictures."""
        self.train_set = Photographs(self.train, self.train_view, self.pictures.classes)
        self.val_set = Photographs(self.val, self.val_view, self.val_classes)
        self.model = self.make_model()
        self.after_model(self.model)
        self.loss_module = self._loss_module()
        self.optimizer = self._optimizer()
        self.steps = math.ceil(len(self.train) / self.plan.batch)
        total = self.steps * self.plan.epochs
        factor = rate_factor(self.plan, self.steps, total)
        usual = lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, factor)  # noqa: E731
        self.scheduler = (self.schedule_class or usual)(self.optimizer)
        self.vitals = self._vitals()
        kept, reported, since = None, 0.0, 0
        self.best = math.nan
        with self.vitals:
            for epoch in range(1, self.plan.epochs + 1):
                self.one_epoch(epoch)
                score, accuracy = self.judged(epoch)
                better = math.isnan(self.best) or self.better(score, self.best)
                since = 0 if better else since + 1
                if better or self.plan.kept == "last":
                    kept, reported = copy.deepcopy(self.model.state_dict()), accuracy
                self.best = score if better else self.best
                if self.plan.patience and since >= self.plan.patience:
                    break
        if kept is not None:
            self.model.load_state_dict(kept)
        return self._outcome(reported)

    def one_epoch(self, epoch: int) -> None:
        """All training pictures once."""
        self.for_training()
        order = self.order()
        self.epoch_losses: list[float] = []
        self.epoch_right: list[float] = []
        for first in range(0, len(order), self.plan.batch):
            chosen = order[first : first + self.plan.batch]
            if len(chosen) > 1:
                self.one_step(chosen)
        if self.schedule_each == "epoch":
            self.schedule()

    def one_step(self, chosen: Tensor) -> None:
        """One batch, one step of the optimizer."""
        pixels, labels = self.train_set.batch(chosen)
        self.clear()
        if self.plan.mixup:
            loss, logits = self._mixed(pixels, labels)
        else:
            logits = self.model(pixels)
            loss = self.criterion(logits, labels)
        self.backward(loss)
        self.vitals.step(loss, labels, ids=chosen)
        self.clip()
        self.step()
        if self.schedule_each == "step":
            self.schedule()
        self.epoch_losses.append(float(loss.detach()))
        self.epoch_right.append(float((logits.detach().argmax(1) == labels).float().mean()))

    def _mixed(self, pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        share = float(self.rng.beta(self.plan.mixup, self.plan.mixup))
        other = torch.from_numpy(self.rng.permutation(len(labels)))
        logits = self.model(share * pixels + (1 - share) * pixels[other])
        first, second = self.criterion(logits, labels), self.criterion(logits, labels[other])
        return share * first + (1 - share) * second, logits

    @torch.no_grad()
    def judged(self, epoch: int) -> tuple[float, float]:
        """Macro-F1 and accuracy on validation, told to the record."""
        self.for_validation()
        found = [
            self.model(self.val_set.batch(torch.arange(a, b))[0])
            for a, b in _chunks(len(self.val), self.val_batch)
        ]
        logits, labels = torch.cat(found), self.val.labels
        guessed = logits.argmax(1)
        score = macro_f1(labels, guessed, len(self.pictures.classes))
        train = {
            "loss": float(np.mean(self.epoch_losses)),
            "accuracy": float(np.mean(self.epoch_right)),
        }
        best = math.isnan(self.best) or self.better(score, self.best)
        self.vitals.epoch(train=train, val=(labels, logits), best=best)
        return score, float((guessed == labels).float().mean())

    @torch.no_grad()
    def _outcome(self, reported: float) -> Outcome:
        """Of the weights handed out, as anybody would use them: clean pictures, as trained."""
        self.model.eval()
        clean = copy.copy(self.train_view)
        clean.augment = "none"
        test = self.pictures.test
        logits = torch.cat(
            [self.model(clean(test.pixels[a:b])) for a, b in _chunks(len(test), 250)]
        )
        guessed = torch.nan_to_num(logits).argmax(1)
        score = macro_f1(test.labels, guessed, len(self.pictures.classes))
        return Outcome(score, float((guessed == test.labels).float().mean()), reported)

    def _vitals(self) -> Vitals:
        """The record, told what the author of such a loop knows and means."""
        plan = self.plan
        facts = {
            "mixup": plan.mixup,
            "dropout": plan.dropout,
            "augment": plan.augment,
            "patience": plan.patience,
            "monitor": "macro_f1",
            "kept": plan.kept,
            "pretrained": plan.pretrained,
            "seed": self.seed,
        }
        if plan.pretrained:
            facts |= {"expected_mean": self.pictures.mean, "expected_std": self.pictures.std}
        return Vitals(
            self.model,
            self.optimizer,
            self.folder,
            classes=self.pictures.classes,
            loss=self.loss_module,
            epochs=plan.epochs,
            scheduler=self.scheduler,
            scheduler_interval=self.told_each or self.schedule_each,
            meant_to_train=plan.train_part,
            train_loader=self._loader(),
            val_loader=self.val_set,
            probe=Photographs(self.train, self.val_view, self.pictures.classes),
            scaler=self.scaler,
            clip_norm=plan.clip_norm or 0.0,
            facts={**facts, **self.facts},
            step_every=EVERY,
        )

    def _loader(self) -> Any:
        """Never read from: it tells the record how batches are drawn."""
        sampler = None
        if self.plan.sampler == "balanced":
            sampler = WeightedRandomSampler([1.0] * len(self.train), len(self.train))
        return DataLoader(self.train_set, self.plan.batch, sampler=sampler)


def _chunks(length: int, size: int) -> list[tuple[int, int]]:
    return [(first, min(first + size, length)) for first in range(0, length, size)]


def macro_f1(labels: Tensor, guessed: Tensor, classes: int) -> float:
    found = f1_score(
        labels.numpy(),
        guessed.numpy(),
        labels=list(range(classes)),
        average="macro",
        zero_division=0,
    )
    return float(found)


def rate_factor(plan: Plan, steps: int, total: int) -> Callable[[int], float]:
    """Share of the peak rate at each step, from 0: a pure function."""
    warmup = plan.warmup_epochs * steps
    span = max(1.0, plan.decay_share * (total - warmup))

    def factor(step: int) -> float:
        if plan.schedule == "one-cycle":
            return _one_cycle(step, total)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        gone = (step - warmup) / span
        if plan.schedule == "constant":
            return 1.0
        if plan.schedule == "step":
            return float(plan.gamma ** int(gone))
        place = gone * 3 % 1 if plan.schedule == "restarts" else min(1.0, gone)
        return 0.5 * (1 + math.cos(math.pi * place))

    return factor


def _one_cycle(step: int, total: int) -> float:
    rise = 0.3 * total
    if step < rise:
        return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * step / rise))
    return max(1e-4, 0.5 * (1 + math.cos(math.pi * (step - rise) / (total - rise))))


def pretrained_state(cache: Path, plan: Plan) -> dict[str, Tensor]:
    """Weights of a network that saw another part of the digits; trained once and kept."""
    path = cache / f"pretrained-{plan.network}-{plan.kind}-{plan.width}.pt"
    if path.exists():
        state: dict[str, Tensor] = torch.load(path, weights_only=True)
        return state
    return _pretrain(path, plan)


def _pretrain(path: Path, plan: Plan) -> dict[str, Tensor]:
    source = digits()
    assert source.elsewhere is not None
    torch.manual_seed(PRETRAIN_SEED)
    model = networks.ResNet8(10, width=plan.width, kind=plan.kind)
    view = View(torch.tensor(source.mean), torch.tensor(source.std), "light")
    view.generator.manual_seed(PRETRAIN_SEED)
    data, epochs = source.elsewhere, 12
    steps = epochs * math.ceil(len(data) / 32)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    for _ in range(epochs):
        for chosen in torch.randperm(len(data)).split(32):
            optimizer.zero_grad()
            F.cross_entropy(model(view(data.pixels[chosen])), data.labels[chosen]).backward()
            optimizer.step()
            schedule.step()
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), path)
    return model.state_dict()
