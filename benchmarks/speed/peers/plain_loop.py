"""A plain PyTorch loop as tutorials write it: ImageFolder, PIL transforms, fp32, three stages.

Head, then the top blocks, then everything, with Adam at 1e-3, 3e-4 and 1e-4. ``model.train()``
before every epoch, so that BatchNorm of frozen parts goes on learning, as it does in tutorials. The
head is a fresh ``nn.Linear``.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import torch
from epoch_log import EpochLog, macro_f1
from job import Job, create_model, predict, read_job
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

RATES = {"head": 1e-3, "top": 3e-4, "full": 1e-4}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Of a network, from its end: the tutorial's "last few layers".
TOP_SHARE = 0.3


def main() -> None:
    job = read_job()
    log = EpochLog(job.log)
    model = with_linear_head(create_model(job))
    train = loader(job, "train")
    # With one number only, all of it trains from the start.
    phases = dict(zip(RATES if len(job.epochs) == 3 else ["full"], job.epochs, strict=True))
    for phase, epochs in phases.items():
        thaw(model, phase)
        wanted = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = torch.optim.Adam(wanted, lr=RATES[phase])
        for _ in range(epochs):
            train_epoch(job, model, optimizer, train, log)
            judge(job, model, log, phase)
    torch.save(model.state_dict(), job.out / "model.pth")
    log.end()


def with_linear_head(model: nn.Module) -> nn.Module:
    name = str(model.default_cfg["classifier"])
    old = model.get_submodule(name)
    assert isinstance(old, nn.Linear)
    setattr(model, name, nn.Linear(old.in_features, old.out_features))
    return model


def loader(job: Job, split: str) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
    normalize = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    changed = [
        transforms.RandomResizedCrop(job.imgsz, scale=(0.5, 1.0)),
        transforms.RandomHorizontalFlip(),
    ]
    plain = [
        transforms.Resize(round(job.imgsz * 256 / 224)),
        transforms.CenterCrop(job.imgsz),
    ]
    is_train = split == "train"
    steps = transforms.Compose([*(changed if is_train else plain), *normalize])
    images = ImageFolder(str(job.data / split), steps)
    return DataLoader(images, job.batch, shuffle=is_train, num_workers=job.workers)


def thaw(model: nn.Module, phase: str) -> None:
    """Let the head train, or the last share of the tensors, or all of them."""
    weights = list(model.parameters())
    first = {"head": len(weights) - 2, "top": round(len(weights) * (1 - TOP_SHARE)), "full": 0}
    for index, weight in enumerate(weights):
        weight.requires_grad = index >= first[phase]


def train_epoch(
    job: Job,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    log: EpochLog,
) -> None:
    criterion = nn.CrossEntropyLoss()
    model.train()
    for images, labels in islice(batches, job.max_batches):
        optimizer.zero_grad()
        loss = criterion(model(images), labels)
        loss.backward()
        optimizer.step()
        log.step(len(labels))
    log.end_training()


def judge(job: Job, model: nn.Module, log: EpochLog, phase: str) -> None:
    if job.max_batches is not None:
        log.end_epoch(phase, None, None)
        return
    val = macro_f1(*predict(model, loader(job, "val")), job.classes)
    with log.not_counted():
        test = macro_f1(*predict(model, loader(job, "test")), job.classes)
    log.end_epoch(phase, val, test)


if __name__ == "__main__":
    main()
