"""Out of memory, said in words: which batch was too large and which one would fit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import cast

import torch

from espalier.errors import DeviceMemoryError
from espalier.train.session import Job


@contextlib.contextmanager
def explain_memory(job: Job) -> Iterator[None]:
    """Turn an allocation failure into a ``DeviceMemoryError`` that names a batch that fits."""
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        # Raised outside: while this error lives, its frames keep the tensors that filled memory.
        failed = True
    else:
        failed = False
    if failed:
        raise memory_error(job)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch's is a failed allocation."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return "can't allocate memory" in text or "out of memory" in text


def memory_error(job: Job) -> DeviceMemoryError:
    """The error, with the batch and accumulation that keep the steps as they were."""
    batch = cast(int, job.recipe.training.batch)
    imgsz = max(cast(int, stage.imgsz) for stage in job.stages)
    fits = largest_fitting_batch(job, batch, imgsz)
    message = (
        f"out of memory on {job.fabric.device} with batch {batch} at {imgsz} px "
        f"({job.recipe.model.name})"
    )
    if fits == 0:
        return DeviceMemoryError(
            f"{message}; not even one image fits", hint=f"imgsz={imgsz // 2}, or a smaller model"
        )
    accumulate = job.recipe.training.accumulate * -(-batch // fits)
    return DeviceMemoryError(
        f"{message}; batch {fits} fits",
        hint=f"batch={fits} accumulate={accumulate} makes the same steps",
    )


def largest_fitting_batch(job: Job, batch: int, imgsz: int) -> int:
    """The largest of batch / 2, / 4 ... whose forward and backward pass fits; 0 if none does."""
    while batch > 1:
        batch //= 2
        if fits(job, batch, imgsz):
            return batch
    return 0


def fits(job: Job, batch: int, imgsz: int) -> bool:
    """Whether one training pass over a batch of zeros succeeds."""
    job.model.zero_grad(set_to_none=True)
    if job.fabric.device.type == "cuda":
        torch.cuda.empty_cache()
    try:
        job.model(torch.zeros(batch, 3, imgsz, imgsz, device=job.fabric.device)).sum().backward()
    except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            return False
        raise
    return True
