"""timm as its training script uses it, in our own words: its loaders, optimizer and schedule.

The script is in timm's repository, but in no package that can be installed, so this is the same
loop over timm's public parts. Everything not named here has the script's default: augmentation,
label smoothing 0.1, random interpolation, no mixing, no average of the weights. What a person who
fine-tunes would set is named at the top of the file.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import torch
from epoch_log import EpochLog, macro_f1
from job import Job, create_model, predict, read_job
from timm.data import create_dataset, create_loader, resolve_data_config
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import CheckpointSaver
from torch import nn

OPTIMIZER = {"opt": "adamw", "lr": 1e-3, "weight_decay": 0.05}
WARMUP_EPOCHS = 1
WARMUP_LR = 1e-5
# --head-init-scale: without it MobileNetV2 starts with a loss of about 14 on 6 classes.
HEAD_SCALE = 0.05
# --scale; the default of 0.08 is for hundreds of epochs.
CROP_SCALE = (0.35, 1.0)


def main() -> None:
    job = read_job()
    log = EpochLog(job.log)
    model = create_model(job)
    scale_head(model)
    model = model.to(memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(model, **OPTIMIZER)
    train = loader(job, model, "train")
    schedule, epochs = create_scheduler_v2(
        optimizer,
        sched="cosine",
        num_epochs=job.epochs[0],
        warmup_epochs=min(WARMUP_EPOCHS, job.epochs[0] - 1),
        warmup_lr=WARMUP_LR,
        min_lr=0.0,
        cooldown_epochs=0,
        step_on_epochs=False,
        updates_per_epoch=len(train),
    )
    assert schedule is not None
    saver = CheckpointSaver(model, optimizer, checkpoint_dir=str(job.out), max_history=1)
    for epoch in range(epochs):
        train_epoch(job, model, optimizer, schedule, train, log, epoch)
        judge(job, model, log, saver, epoch)
    log.end()


def scale_head(model: nn.Module) -> None:
    head = model.get_submodule(str(model.default_cfg["classifier"]))
    with torch.no_grad():
        for weight in head.parameters():
            weight.mul_(HEAD_SCALE)


def loader(job: Job, model: nn.Module, split: str) -> Any:
    config = resolve_data_config({"img_size": job.imgsz}, model=model)
    is_train = split == "train"
    drawn = {"scale": CROP_SCALE, "hflip": 0.5, "color_jitter": 0.4}
    return create_loader(
        create_dataset("", root=str(job.data), split=split, is_training=is_train),
        input_size=config["input_size"],
        batch_size=job.batch,
        is_training=is_train,
        interpolation="random" if is_train else config["interpolation"],
        mean=config["mean"],
        std=config["std"],
        crop_pct=config["crop_pct"],
        num_workers=job.workers,
        pin_memory=False,
        device=torch.device("cpu"),
        **(drawn if is_train else {}),
    )


def train_epoch(
    job: Job,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: Any,
    batches: Any,
    log: EpochLog,
    epoch: int,
) -> None:
    criterion = LabelSmoothingCrossEntropy(smoothing=0.1)
    model.train()
    updates = epoch * len(batches)
    for images, labels in islice(batches, job.max_batches):
        loss = criterion(model(images.contiguous(memory_format=torch.channels_last)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        updates += 1
        schedule.step_update(num_updates=updates)
        log.step(len(labels))
    log.end_training()
    schedule.step(epoch + 1)


def judge(job: Job, model: nn.Module, log: EpochLog, saver: CheckpointSaver, epoch: int) -> None:
    if job.max_batches is not None:
        log.end_epoch("full", None, None)
        return
    val = macro_f1(*predict(model, loader(job, model, "val")), job.classes)
    saver.save_checkpoint(epoch, metric=val)
    with log.not_counted():
        test = macro_f1(*predict(model, loader(job, model, "test")), job.classes)
    log.end_epoch("full", val, test)


if __name__ == "__main__":
    main()
