"""Out of memory, said in words: which batch was too large and which one would fit."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from typing import cast

import torch

from espalier.errors import DeviceMemoryError
from espalier.models.build import set_image_size
from espalier.models.inference import autocast
from espalier.models.stages import set_trainable
from espalier.recipe.schema import Stage
from espalier.train.job import Job


@contextlib.contextmanager
def explain_memory(job: Job) -> Iterator[None]:
    """Turn an allocation failure into a ``DeviceMemoryError`` that names a batch that fits."""
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        # The frames of the step that failed keep the tensors that filled the memory.
        traceback.clear_frames(error.__traceback__)
        raise memory_error(job) from None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch's is a failed allocation."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # Of a CPU; of CUDA and Apple GPUs; of cuDNN and cuBLAS, which allocate for themselves.
    signs = ("can't allocate memory", "out of memory", "ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


def memory_error(job: Job) -> DeviceMemoryError:
    """The error, with the batch and accumulation that keep the steps as they were."""
    batch, accumulate = cast(int, job.recipe.training.batch), job.recipe.training.accumulate
    imgsz = max(cast(int, stage.imgsz) for stage in job.stages)
    fitting = largest_fitting_batch(job, batch)
    message = (
        f"out of memory on {job.fabric.device} with batch {batch} at {imgsz} px "
        f"({job.recipe.model.name})"
    )
    if fitting == 0:
        return DeviceMemoryError(
            f"{message}; no smaller batch fits",
            hint="a smaller image size (imgsz=...), or a smaller model: espalier models",
        )
    more = accumulate * -(-batch // fitting)
    steps = "the same steps" if batch % fitting == 0 else "nearly the same steps"
    return DeviceMemoryError(
        f"{message}; batch {fitting} fits",
        hint=f"the same command with batch={fitting} accumulate={more}, which makes {steps}",
    )


def largest_fitting_batch(job: Job, batch: int) -> int:
    """The largest of batch / 2, / 4 ... that every stage can train with; 0 if none is."""
    try:
        while batch > 1:
            batch //= 2
            if all(fits(job, stage, batch) for stage in job.stages):
                return batch
        return 0
    finally:
        forget(job)


def fits(job: Job, stage: Stage, batch: int) -> bool:
    """Whether a training pass of a stage over so many images of zeros succeeds."""
    forget(job)
    set_image_size(job.model, cast(int, stage.imgsz))
    set_trainable(job.model, stage)
    # One image alone is no batch for BatchNorm; what it keeps for backward is the same.
    job.model.eval()
    try:
        train_on_zeros(job, cast(int, stage.imgsz), batch)
    except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            return False
        raise
    return True


def train_on_zeros(job: Job, imgsz: int, batch: int) -> None:
    """Forward and backward, beside the two moments that Adam keeps of what learns."""
    device = job.fabric.device
    learning = [tensor for tensor in job.model.parameters() if tensor.requires_grad]
    moments = [torch.zeros_like(tensor) for tensor in learning * 2]
    with autocast(device, job.recipe.training.precision):
        logits = job.model(torch.zeros(batch, 3, imgsz, imgsz, device=device))
    logits.float().sum().backward()
    del moments


def forget(job: Job) -> None:
    """Free what an attempt has left behind."""
    job.model.zero_grad(set_to_none=True)
    if job.fabric.device.type == "cuda":
        torch.cuda.empty_cache()
