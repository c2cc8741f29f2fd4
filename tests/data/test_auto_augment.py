"""RandAugment and TrivialAugment are torchvision's, and share no random state with anybody."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from espalier.data.auto_augment import AutoAugment
from espalier.data.transforms import TrainTransform
from espalier.recipe.policies import Steps, resolve_steps

Pixels = npt.NDArray[np.uint8]
SIDE = 64
NAMES = ["randaugment", "trivialaugment"]


def photo() -> Pixels:
    noise = np.random.default_rng(7).random((SIDE, SIDE, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3.0)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return (40 + 170 * smooth).astype(np.uint8)


def alone(name: str, **params: float) -> Steps:
    return resolve_steps("none", {name: {"p": 1.0, **params}})


def torchvisions(name: str, **params: int) -> v2.Transform:
    return v2.RandAugment(**params) if name == "randaugment" else v2.TrivialAugmentWide()


@pytest.mark.parametrize("name", NAMES)
def test_the_views_are_torchvisions_for_the_same_seed(name: str) -> None:
    auto, image, operator = AutoAugment(alone(name)), photo(), torchvisions(name)
    views = set()
    for seed in range(60):
        torch.manual_seed(seed)
        theirs = np.asarray(operator(Image.fromarray(image)))
        assert (auto(image, {name: seed}) == theirs).all()
        views.add(theirs.tobytes())
    assert len(views) > 30


@pytest.mark.parametrize("name", NAMES)
def test_tensors_get_torchvisions_operators_for_the_same_seed(name: str) -> None:
    auto, operator = AutoAugment(alone(name)), torchvisions(name)
    image = torch.from_numpy(photo()).permute(2, 0, 1)
    for seed in range(60):
        torch.manual_seed(seed)
        assert torch.equal(auto.on_tensor(image, {name: seed}), operator(image))


def test_number_and_magnitude_are_those_of_the_recipe() -> None:
    image = photo()
    auto = AutoAugment(alone("randaugment", num_ops=3, magnitude=30))
    operator = torchvisions("randaugment", num_ops=3, magnitude=30)
    for seed in range(30):
        torch.manual_seed(seed)
        theirs = np.asarray(operator(Image.fromarray(image)))
        assert (auto(image, {"randaugment": seed}) == theirs).all()


def test_probability_is_the_share_of_images() -> None:
    auto = AutoAugment(alone("trivialaugment") | alone("randaugment", p=0.3))
    drawn = [auto.draw(np.random.default_rng(seed)) for seed in range(500)]
    assert all("trivialaugment" in one for one in drawn)
    assert sum("randaugment" in one for one in drawn) == pytest.approx(150, abs=35)
    assert len({one["trivialaugment"] for one in drawn}) == 500
    assert AutoAugment(resolve_steps("standard", None)).draw(np.random.default_rng(0)) == {}


@pytest.mark.parametrize("policy", NAMES)
def test_a_view_is_a_pure_function_of_its_generator_and_leaves_global_states_alone(
    policy: str,
) -> None:
    transform = TrainTransform(SIDE, "crop", resolve_steps(policy, None))
    torch.manual_seed(1)
    before, image = torch.get_rng_state(), photo()
    first = [transform(image, np.random.default_rng(seed)) for seed in range(40)]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    again = [transform(image, np.random.default_rng(seed)) for seed in range(40)]
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (image == photo()).all()
    assert len({view.tobytes() for view in first}) > 30


@pytest.mark.parametrize("policy", NAMES)
def test_threads_that_augment_and_one_that_trains_do_not_disturb_each_other(policy: str) -> None:
    transform = TrainTransform(SIDE, "crop", resolve_steps(policy, None))
    image = photo()
    wanted = [transform(image, np.random.default_rng(seed)) for seed in range(200)]

    def draws(number: int) -> list[torch.Tensor]:
        torch.manual_seed(5)
        return [torch.nn.functional.dropout(torch.ones(64), 0.5) for _ in range(number)]

    undisturbed = draws(2000)
    with ThreadPoolExecutor(3) as pool:
        views = pool.map(lambda seed: transform(image, np.random.default_rng(seed)), range(200))
        disturbed = draws(2000)
        seen = list(views)
    assert all((a == b).all() for a, b in zip(seen, wanted, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(disturbed, undisturbed, strict=True))


def test_another_thread_draws_from_the_global_generator_while_an_operator_runs() -> None:
    drawn: list[torch.Tensor] = []

    class Slow(v2.Transform):
        def forward(self, *inputs: Image.Image) -> Image.Image:
            thread = threading.Thread(target=lambda: drawn.append(torch.rand(3)))
            thread.start()
            thread.join()
            drawn.append(torch.rand(3))
            return inputs[0]

    auto = AutoAugment(alone("trivialaugment"))
    auto._operators["trivialaugment"] = Slow()
    torch.manual_seed(11)
    wanted = torch.rand(3)
    torch.manual_seed(11)
    auto(photo(), {"trivialaugment": 12})
    assert torch.equal(drawn[0], wanted)
    assert torch.equal(drawn[1], torch.rand(3, generator=torch.Generator().manual_seed(12)))
