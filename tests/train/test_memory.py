import weakref

import pytest
import torch

from espalier.cli import main
from espalier.errors import DeviceMemoryError
from espalier.models.build import Classifier
from espalier.train.interrupts import Interrupts
from espalier.train.loop import fit
from espalier.train.memory import explain_memory, is_out_of_memory
from small_runs import FIXED, HEAD_THEN_ALL, open_job, small_recipe


@pytest.fixture
def small_memory(monkeypatch):
    """A device that trains a head on so many images at once, and all layers on so many."""
    real = Classifier.forward

    def limit(head, whole):
        def forward(self, images):
            learns = any(p.requires_grad for p in self.backbone.parameters())
            if torch.is_grad_enabled() and len(images) > (whole if learns else head):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return real(self, images)

        monkeypatch.setattr(Classifier, "forward", forward)

    return limit


def fail_to_fit(recipe):
    job, state = open_job(recipe)
    with pytest.raises(DeviceMemoryError) as caught, explain_memory(job):
        fit(job, state, Interrupts())
    return job, caught.value


def test_the_batch_that_fits_is_named_with_the_accumulation_that_keeps_the_steps(
    uneven, tmp_path, small_memory
):
    small_memory(head=3, whole=3)
    job, error = fail_to_fit(
        small_recipe(uneven, tmp_path, "training.batch=8", "training.accumulate=2")
    )
    assert "batch 8 at 32 px (small-cnn); batch 2 fits" in error.message
    assert "batch=2 accumulate=8, which makes the same steps" in error.hint
    assert all(p.grad is None for p in job.model.parameters())


def test_steps_that_are_only_nearly_the_same_are_not_called_the_same(
    uneven, tmp_path, small_memory
):
    small_memory(head=4, whole=4)
    _, error = fail_to_fit(small_recipe(uneven, tmp_path, "training.batch=7"))
    assert "batch=3 accumulate=3, which makes nearly the same steps" in error.hint


def test_a_batch_must_fit_in_every_stage(uneven, tmp_path, small_memory):
    small_memory(head=3, whole=1)
    _, error = fail_to_fit(small_recipe(uneven, tmp_path))
    assert "; batch 1 fits" in error.message


def test_where_one_image_is_too_many_another_size_is_the_way_out(uneven, tmp_path, small_memory):
    small_memory(head=3, whole=0)
    _, error = fail_to_fit(small_recipe(uneven, tmp_path))
    assert "no smaller batch fits" in error.message
    assert "imgsz" in error.hint


def test_stages_of_several_sizes_are_tried_each_at_its_own(uneven, tmp_path, small_memory):
    small_memory(head=2, whole=2)
    stages = HEAD_THEN_ALL.replace("lr: 5e-3", "lr: 5e-3, imgsz: 48")
    recipe = small_recipe(uneven, tmp_path, "model.name=test_vit", stages=stages)
    _, error = fail_to_fit(recipe)
    assert "batch 4 at 48 px (test_vit); batch 2 fits" in error.message


def test_what_filled_the_memory_is_let_go_before_smaller_batches_are_tried(
    uneven, tmp_path, monkeypatch
):
    held, alive = [], []

    def forward(self, images):
        if not held:
            activations = images * 2
            held.append(weakref.ref(activations))
            raise torch.OutOfMemoryError("out of memory")
        alive.append(held[0]() is not None)
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(Classifier, "forward", forward)
    fail_to_fit(small_recipe(uneven, tmp_path))
    assert alive == [False, False]


def test_the_command_ends_with_code_2_and_one_message(
    uneven, tmp_path, small_memory, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    small_memory(head=2, whole=2)
    words = [word for text in (*FIXED, HEAD_THEN_ALL) for word in ("--set", text)]
    with pytest.raises(SystemExit) as ended:
        main(["train", str(uneven), "--preset", "baseline", *words])
    said = capfd.readouterr().err
    assert ended.value.code == 2
    assert "batch 2 fits" in said
    assert "try: the same command with batch=2 accumulate=2" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_failed_allocations_are_told_from_other_errors(error, expected):
    assert is_out_of_memory(error) is expected


def test_other_errors_keep_their_traceback(uneven, tmp_path):
    job, _ = open_job(small_recipe(uneven, tmp_path))
    with pytest.raises(RuntimeError, match="shapes"), explain_memory(job):
        raise RuntimeError("shapes do not match")
