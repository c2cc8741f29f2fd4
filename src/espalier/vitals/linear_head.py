"""What a linear head makes of images before any training: do labels and pictures belong together?

Trained heads are cheap where the network is only looked through: a head on the features of the
network as it is given (trained weights or not), and one on coarse pixels. The better of the two
says whether the labels can be told from the pictures at all.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from espalier.run_record import HeadTrial
from espalier.vitals.folder import MOST_CLASSES

Features = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
FOLDS = 5
COARSE = 8
# A covariance of more directions than this is mostly noise where a few hundred images are seen.
MOST_DIRECTIONS = 128


@dataclass(frozen=True)
class Looks:
    """What images give to a linear head.

    Attributes:
        features: Input of the network's last linear layer [N, F]; None where it cannot be seen.
        pixels: Coarse pictures [N, P]; None where images are no pictures.
    """

    features: Features | None
    pixels: Features | None

    def head(self, labels: Labels) -> HeadTrial | None:
        """The better of both heads; None where neither can be judged."""
        inputs = [looks for looks in (self.features, self.pixels) if looks is not None]
        known = [trial for looks in inputs if (trial := head_trial(looks, labels)) is not None]
        return max(known, key=lambda trial: trial.recall, default=None)


def looks_of(
    batches: Iterable[Tensor], model: nn.Module, forward: Callable[[Tensor], Tensor]
) -> Looks:
    """Look at images with the network as it is; its modes are the caller's affair.

    Args:
        batches: Of images [B, ...] on its device.
        model: The network whose last linear layer is watched.
        forward: Runs it.
    """
    features: list[Tensor] = []
    pixels: list[Tensor] = []
    with torch.no_grad(), _last_input(model, features):
        for images in batches:
            forward(images)
            if images.ndim == 4:
                coarse = functional.adaptive_avg_pool2d(images.float(), COARSE)
                pixels.append(coarse.flatten(1).cpu())
    return Looks(_joined(features), _joined(pixels))


@contextmanager
def _last_input(model: nn.Module, found: list[Tensor]) -> Iterator[None]:
    """Collect what goes into the last linear or convolution layer, pooled over places."""
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    if not layers:
        yield
        return

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].detach().float()
        if values.ndim == 4:
            values = values.mean(dim=(2, 3))
        found.append(values.flatten(1).cpu())

    handle = layers[-1].register_forward_pre_hook(keep)
    try:
        yield
    finally:
        handle.remove()


def _joined(chunks: list[Tensor]) -> Features | None:
    if not chunks or any(chunk.shape[1] != chunks[0].shape[1] for chunk in chunks):
        return None
    return torch.cat(chunks).numpy().astype(np.float64)


def head_trial(inputs: Features, labels: Labels) -> HeadTrial | None:
    """What a linear head calls images that it has not seen, in five-fold cross-validation.

    Linear discriminant analysis with shrunk covariances (Ledoit and Wolf 2004; scikit-learn), every
    class counting alike however many images it has. Images that are not finite, and classes of
    which there is one image, are left out.

    Args:
        inputs: Of each image [N, F].
        labels: Class indices [N].

    Returns:
        None with fewer than two classes, too few images, or inputs that are all alike.
    """
    if len(inputs) != len(labels):
        return None
    sound = np.isfinite(inputs).all(axis=1)
    counts = np.bincount(labels[sound], minlength=int(labels.max(initial=0)) + 1)
    judged = sound & (counts[labels] >= 2)
    inputs, labels = inputs[judged], labels[judged]
    classes = np.unique(labels)
    if not 2 <= len(classes) <= MOST_CLASSES or not np.ptp(inputs, axis=0).any():
        return None
    try:
        predicted = _predicted(inputs, labels, classes)
    except (ValueError, np.linalg.LinAlgError):
        # Fewer images than a head needs; a trial is not worth somebody's training.
        return None
    return HeadTrial(_tally(labels, predicted))


def _predicted(inputs: Features, labels: Labels, classes: Labels) -> Labels:
    # A second to import, and only who has a probe needs it.
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    scaled = inputs / max(float(np.abs(inputs).max()), 1e-30)
    directions = min(MOST_DIRECTIONS, *scaled.shape)
    reduced = PCA(directions, svd_solver="full").fit_transform(scaled)
    head = LinearDiscriminantAnalysis(
        solver="lsqr", shrinkage="auto", priors=np.full(len(classes), 1 / len(classes))
    )
    most = int(np.bincount(labels).max())
    folds = StratifiedKFold(min(FOLDS, most), shuffle=True, random_state=0)
    with warnings.catch_warnings():
        # Classes with fewer images than folds are judged in the folds that hold them.
        warnings.simplefilter("ignore")
        found: Labels = cross_val_predict(head, reduced, labels, cv=folds)
    return found


def _tally(labels: Labels, predicted: Labels) -> tuple[tuple[int, int, int], ...]:
    pairs, counts = np.unique(np.stack([labels, predicted], 1), axis=0, return_counts=True)
    return tuple(
        (int(label), int(name), int(count))
        for (label, name), count in zip(pairs.tolist(), counts.tolist(), strict=True)
    )
