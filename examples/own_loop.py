"""Vital signs of a training loop that is not Espalier's: three lines in a loop of one's own.

python examples/own_loop.py
espalier diagnose runs/own/first
"""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from espalier import Vitals


def blobs(number: int, seed: int) -> TensorDataset:
    """Pictures of one bright square each, in one of three corners: what there is to learn."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (number,), generator=random)
    images = torch.randn(number, 3, 16, 16, generator=random)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:, 8 * (label // 2) :, 8 * (label % 2) :][:, :8, :8] += 0.5
    return TensorDataset(images, labels)


def main(folder: str = "runs/own/first", epochs: int = 5) -> Vitals:
    torch.manual_seed(0)
    train = DataLoader(blobs(600, seed=1), batch_size=32, shuffle=True)
    val = DataLoader(blobs(200, seed=2), batch_size=100)
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        nn.Sequential(nn.Conv2d(16, 32, 3, 2, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten()),
        nn.Linear(128, 3),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(train))
    criterion = nn.CrossEntropyLoss()

    vitals = Vitals(  # 1: everything after the folder may be left out
        model,
        optimizer,
        folder,
        classes=("top left", "top right", "bottom left"),
        loss=criterion,
        epochs=epochs,
        scheduler=scheduler,
        scheduler_interval="step",
        meant_to_train="all",
        train_loader=train,
        val_loader=val,
    )
    for epoch in range(epochs):
        model.train()
        for images, labels in train:
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            vitals.step(loss, labels)  # 2: behind backward, before clipping and the step
            optimizer.step()
            scheduler.step()
        model.eval()
        with torch.no_grad():
            judged = [(labels, model(images)) for images, labels in val]
        truth, logits = (torch.cat(column) for column in zip(*judged, strict=True))
        vitals.epoch(val=(truth, logits))  # 3: after validation
        print(f"epoch {epoch + 1}: {(logits.argmax(1) == truth).float().mean():.3f}")
    print(f"espalier diagnose {vitals.folder}")
    return vitals


if __name__ == "__main__":
    main()
