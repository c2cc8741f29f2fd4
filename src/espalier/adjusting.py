"""What is done for rare classes after training, where validation says that it helps.

A bias on the logits, or a head fitted anew so that every class counts the same. What is chosen is
put beside the best weights in their checkpoint; the weights themselves stay as they were.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from espalier import files
from espalier.data.balance import class_weights
from espalier.evaluate.adjust import METHODS, Adjustment, choose_adjustment, refit_candidate
from espalier.models.build import set_image_size
from espalier.models.checkpoints import load_checkpoint, save_checkpoint
from espalier.models.inference import judging_batch
from espalier.records import Predictions, Sample
from espalier.report.worth import adjustment_text
from espalier.runs import RunDir
from espalier.train.features import KeptFeatures
from espalier.train.job import Job
from espalier.train.keep import carry_best_weights
from espalier.train.kept import keep_backbone
from espalier.train.loaders import build_loader
from espalier.train.losses import build_loss
from espalier.train.solve import minimise

REFIT = "class-balanced head"
NAMES: Mapping[str, str] = dict(
    zip(("logit-adjustment", "class-bias", "head-refit"), (*METHODS, REFIT), strict=True)
)
# A head is fitted anew, which takes a pass over all training images, only where classes are at
# least this unequal, or where it is asked for.
UNEQUAL = 10.0
PENALTY = 1e-3


def adjust_logits(job: Job, val: Predictions) -> bool:
    """Choose an adjustment on validation, say it, and put it into the checkpoint if it gains.

    Args:
        job: Trained; its best weights are on disk.
        val: What these say of the validation images.

    Returns:
        Whether one was adopted: predictions are other ones from here on.
    """
    wanted = job.recipe.adjustment.method
    if wanted == "none" or not job.run.best.exists():
        return False
    head = refitted_head(job) if wants_refit(job, wanted) else None
    candidates = [] if head is None else [refit_candidate(REFIT, refitted_logits(job, head))]
    found = choose_adjustment(
        val.logits,
        val.labels,
        list(job.catalog.counts("train").values()),
        seed=job.recipe.training.seed,
        methods=[name for name in METHODS if wanted == "auto" or NAMES[wanted] == name],
        candidates=candidates,
    )
    record = found.to_json()
    job.watch.on_note(adjustment_text(record))
    files.write_text(job.run.adjustment_file, json.dumps(record, indent=2) + "\n")
    if found.method != "none":
        keep_adjustment(job, found, head if found.method == REFIT else None)
    return found.method != "none"


def wants_refit(job: Job, wanted: str) -> bool:
    """Whether a class-balanced head is worth trying."""
    counts = [count for count in job.catalog.counts("train").values() if count]
    unequal = max(counts) >= UNEQUAL * min(counts)
    return wanted == "head-refit" or (wanted == "auto" and unequal)


def refitted_head(job: Job) -> nn.Module:
    """The best head, fitted anew on the tuned backbone so that every class counts the same.

    The second step of cRT (Kang et al. 2020, arXiv:1910.09217), solved instead of stepped, on one
    unaugmented view of each training image. The job's model holds the best weights afterwards.
    """
    carry_best_weights(job)
    kept = tuned_features(job, job.train)
    counts = list(job.catalog.counts("train").values())
    plain = job.recipe.loss.model_copy(update={"name": "cross-entropy"})
    weights = class_weights(counts, "inverse", cap=None, beta=0.5)
    loss = build_loss(plain, class_weights=weights, class_counts=[float(c) for c in counts])
    head = copy.deepcopy(job.model.head).eval().requires_grad_(True)
    device = job.fabric.device
    features = torch.from_numpy(kept.matrix()).to(device)
    labels = torch.from_numpy(kept.live.labels).to(device)
    minimise(head, loss.to(device), features, labels, PENALTY)
    return head


@torch.no_grad()
def refitted_logits(job: Job, head: nn.Module) -> npt.NDArray[np.float32]:
    """What the fitted head says of the validation images [N, K]."""
    kept = tuned_features(job, job.catalog.in_split("val"))
    logits = head(torch.from_numpy(kept.matrix()).to(job.fabric.device))
    return cast(npt.NDArray[np.float32], logits.float().cpu().numpy())


def tuned_features(job: Job, samples: Sequence[Sample]) -> KeptFeatures:
    """Pooled features of the job's model as it stands, in the view that the best was judged in."""
    imgsz = load_checkpoint(job.run.best)["imgsz"]
    set_image_size(job.model, imgsz)
    live = build_loader(job, samples, "val", imgsz, judging_batch(imgsz))
    # Nobody else trains to these weights: on disk they would only take the room of others.
    return keep_backbone(job, pause=lambda: None, on_disk=False)(live, 0)


def drop_adjustment(run: RunDir) -> None:
    """Take an earlier choice back, because the run goes on and is judged anew from plain logits."""
    if run.best.exists():
        checkpoint = load_checkpoint(run.best)
        checkpoint.pop("notes")
        if checkpoint.pop("adjustment", None) is not None:
            save_checkpoint(run.best, checkpoint)


def keep_adjustment(job: Job, found: Adjustment, head: nn.Module | None) -> None:
    """Put the adjustment beside the best weights, which stay as they are."""
    checkpoint = load_checkpoint(job.run.best)
    checkpoint.pop("notes")
    adjustment = {
        "method": found.method,
        "bias": [float(value) for value in found.bias],
        "head": {} if head is None else {k: v.cpu() for k, v in head.state_dict().items()},
    }
    save_checkpoint(job.run.best, {**checkpoint, "adjustment": adjustment})
