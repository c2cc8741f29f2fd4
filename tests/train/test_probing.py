"""Measuring how to compute: what is timed, what is kept, and what is left as it was."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch

from espalier.errors import ModelError
from espalier.models import openvino_layers
from espalier.models.openvino_layers import openvino_version
from espalier.recipe.load import load_recipe
from espalier.recipe.precision import WAYS, EngineSpeeds
from espalier.recipe.schema import Recipe
from espalier.train import kept_plans, probing

PLAIN = ["fp32-channels-last", "fp32", "bf16-channels-last"]
GROUPED = "bf16-channels-last-grouped-fp32"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, on a machine of two cores whatever this one has."""
    monkeypatch.setenv("ESPALIER_CACHE", str(tmp_path / "cache"))
    for module in (probing, kept_plans):
        monkeypatch.setattr(module, "usable_cores", lambda: 2)
    return tmp_path / "cache"


def recipe(*words: str, model: str = "small-cnn") -> Recipe:
    """Open as far as the words leave it."""
    fixed = (f"model={model}", "imgsz=32", "batch=4", "device=cpu")
    return load_recipe(words=[*fixed, *words])


def plans(cache: Path) -> list[Path]:
    return sorted((cache / "plans").glob("*"))


def no_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object) -> object:
        raise AssertionError("measured")

    monkeypatch.setattr(probing, "_open_subject", refuse)


def test_every_way_and_the_frozen_backbone_and_the_threads_are_timed() -> None:
    measured = probing.measure_plan(recipe())
    assert sorted(measured.training) == sorted(PLAIN)
    assert sorted(measured.frozen) == ["bf16", "fp32"]
    assert sorted(measured.threads) == [1, 2]
    figures = [*measured.training.values(), *measured.frozen.values(), *measured.threads.values()]
    assert all(0 < seconds < 10 for seconds in figures)
    assert measured.date == ""
    assert measured.load is None or measured.load >= 0


def test_grouped_convolutions_add_a_way() -> None:
    measured = probing.measure_plan(recipe("training.threads=1", model="test_efficientnet"))
    assert list(measured.training) == list(WAYS)
    assert measured.threads == {}


def test_ways_compute_what_their_names_say(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[tuple[bool, torch.dtype], set[torch.dtype]] = {}

    def look(model: torch.nn.Module, images: torch.Tensor, precision: str, grouped: bool) -> None:
        is_last = images.is_contiguous(memory_format=torch.channels_last)
        kinds = seen.setdefault((is_last, images.dtype), set())
        outputs = []
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d):
                outputs.append(module.register_forward_hook(lambda m, i, o: kinds.add(o.dtype)))
                is_wide = module.weight.shape[1] > 1 and module.weight.shape[2] > 1
                if is_wide:
                    assert module.weight.is_contiguous(memory_format=torch.channels_last) == is_last
        step(model, images, precision, grouped)
        for hook in outputs:
            hook.remove()

    step = probing._step
    monkeypatch.setattr(probing, "_step", look)
    probing.measure_plan(recipe("training.threads=1", model="test_efficientnet"))
    assert seen == {
        (False, torch.float32): {torch.float32},
        (True, torch.float32): {torch.float32, torch.bfloat16},
    }


def test_nothing_else_changes() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    probing.measure_plan(recipe())
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == 1
    assert not torch.is_autocast_enabled("cpu")


def test_only_what_is_open_is_measured(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = ("precision=fp32", "training.channels_last=true")
    measured = probing.measure_plan(recipe(*fixed))
    assert (measured.training, measured.frozen) == ({}, {})
    assert sorted(measured.threads) == [1, 2]
    assert plans(cache) == []
    monkeypatch.setattr(probing, "usable_cores", lambda: 1)
    no_measuring(monkeypatch)
    assert probing.measure_plan(recipe(*fixed)).threads == {}


def test_a_way_that_the_model_does_not_have_is_refused() -> None:
    with pytest.raises(ModelError, match="small-cnn has no grouped convolutions"):
        probing.measure_plan(recipe("training.grouped_fp32=true"))


class TestKeptFigures:
    """The second run reads what the first one measured."""

    words = ("training.threads=1",)

    @pytest.fixture
    def first(self) -> dict[str, float]:
        return dict(probing.measure_plan(recipe(*self.words)).training)

    def test_the_same_figures_with_their_day(
        self, first: dict[str, float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        no_measuring(monkeypatch)
        again = probing.measure_plan(recipe(*self.words))
        assert again.training == first
        assert again.date == datetime.now(UTC).date().isoformat()

    def test_threads_are_measured_anew(self, first: dict[str, float]) -> None:
        again = probing.measure_plan(recipe())
        assert again.training == first
        assert sorted(again.threads) == [1, 2]

    @pytest.mark.parametrize("word", ["imgsz=48", "batch=2", "model=test_efficientnet"])
    def test_another_job_has_figures_of_its_own(
        self, cache: Path, first: dict[str, float], word: str
    ) -> None:
        key = word.partition("=")[0]
        fixed = [w for w in ("model=small-cnn", "imgsz=32", "batch=4") if not w.startswith(key)]
        other = load_recipe(words=[*fixed, word, *self.words, "device=cpu"])
        assert probing.measure_plan(other).date == ""
        assert len(plans(cache)) == 2

    @pytest.mark.parametrize("name", ["usable_cores", "cpu_name"])
    def test_another_machine_has_figures_of_its_own(
        self, first: dict[str, float], monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.setattr(kept_plans, name, lambda: 77)
        assert probing.measure_plan(recipe(*self.words)).date == ""

    @pytest.mark.parametrize(("days", "is_kept"), [(29, True), (31, False), (-2, False)])
    def test_they_age(self, cache: Path, first: dict[str, float], days: int, is_kept: bool) -> None:
        (path,) = plans(cache)
        record = json.loads(path.read_text("utf-8"))
        record["measured"] = (datetime.now(UTC) - timedelta(days=days)).isoformat()
        path.write_text(json.dumps(record), "utf-8")
        again = probing.measure_plan(recipe(*self.words))
        assert again.date == (record["measured"][:10] if is_kept else "")

    @pytest.mark.parametrize(
        "damage",
        [
            lambda record: "{",
            lambda record: "[]",
            lambda record: "[" * 100_000,
            lambda record: "\0",
            lambda record: json.dumps({**record, "training": {"fp32": -1}}),
            lambda record: json.dumps({**record, "training": {"fp32": float("nan")}}),
            lambda record: json.dumps({**record, "training": {"fp8": 1}}),
            lambda record: json.dumps({**record, "training": {}}),
            lambda record: json.dumps({**record, "training": [1]}),
            lambda record: json.dumps({**record, "frozen": None}),
            lambda record: json.dumps({**record, "measured": "today"}),
            lambda record: json.dumps({**record, "measured": "2026-11-21"}),
            lambda record: json.dumps({**record, "key": {}}),
        ],
    )
    def test_a_damaged_file_is_measured_anew_and_replaced(
        self, cache: Path, first: dict[str, float], damage: Callable[[object], str]
    ) -> None:
        (path,) = plans(cache)
        path.write_text(damage(json.loads(path.read_text("utf-8"))), "utf-8")
        found = kept_plans.read_plan(kept_plans.plan_key(recipe(*self.words), 4))
        assert found is None
        assert probing.measure_plan(recipe(*self.words)).date == ""
        assert kept_plans.read_plan(kept_plans.plan_key(recipe(*self.words), 4)) is not None
        assert plans(cache) == [path]


def test_without_a_place_to_write_it_is_measured_every_time(cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    for _ in range(2):
        measured = probing.measure_plan(recipe("training.threads=1"))
        assert measured.training
        assert measured.date == ""
    assert cache.is_file()


class TestEngine:
    """Frozen layers in the ordinary way and with OpenVINO."""

    words = ("training.threads=1", "training.channels_last=true", "features.precision=fp32")

    @pytest.fixture
    def speeds(self, monkeypatch: pytest.MonkeyPatch) -> EngineSpeeds:
        """Kept of a measurement of another run."""
        found = EngineSpeeds(100.0, 200.0, 1.5)
        monkeypatch.setattr(probing, "openvino_version", lambda: "2026.4.1")
        kept_plans.write_engine(
            kept_plans.engine_key(recipe(*self.words), probing.ENGINE_IMAGES, "2026.4.1"), found
        )
        return found

    def refuse(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def measured(*given: object) -> EngineSpeeds:
            raise AssertionError("measured")

        monkeypatch.setattr(probing, "_engine_speeds", measured)

    @pytest.mark.skipif(openvino_version() is None, reason="needs espalier[openvino]")
    def test_both_are_measured_and_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        found = probing.measure_engine(recipe(*self.words))
        assert torch.equal(torch.rand(3), expected)
        assert all(1 < rate < 1e6 for rate in found[:2])
        assert 0 < found.compile_seconds < 60
        self.refuse(monkeypatch)
        assert probing.measure_engine(recipe(*self.words)) == found

    def test_figures_of_another_run_serve(
        self, speeds: EngineSpeeds, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.refuse(monkeypatch)
        assert probing.measure_engine(recipe(*self.words)) == speeds

    @pytest.mark.parametrize(
        "word", ["features.precision=bf16", "training.channels_last=false", "version", "damage"]
    )
    def test_those_of_another_job_do_not(
        self, cache: Path, speeds: EngineSpeeds, monkeypatch: pytest.MonkeyPatch, word: str
    ) -> None:
        self.refuse(monkeypatch)
        given = {text.partition("=")[0]: text for text in self.words}
        if "=" in word:
            given[word.partition("=")[0]] = word
        elif word == "version":
            monkeypatch.setattr(probing, "openvino_version", lambda: "2027.0")
        else:
            (path,) = plans(cache)
            path.write_text(path.read_text("utf-8").replace("1.5", "-1.5"), "utf-8")
        with pytest.raises(AssertionError, match="measured"):
            probing.measure_engine(recipe(*given.values()))

    def test_it_stands_beside_the_plan(self, cache: Path, speeds: EngineSpeeds) -> None:
        key = kept_plans.plan_key(recipe(*self.words), probing.ENGINE_IMAGES)
        assert kept_plans.read_plan(key) is None
        assert len(plans(cache)) == 1

    def test_without_the_package_nothing_is_measured(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(openvino_layers, "openvino_version", lambda: None)
        with pytest.raises(ModelError, match="not installed"):
            probing.measure_engine(recipe(*self.words))


def burn(milliseconds: float) -> Callable[[], None]:
    """Work that takes CPU, and so long."""

    def work() -> None:
        end = time.process_time() + milliseconds / 1000
        while time.process_time() < end:
            pass

    return work


def test_a_contest_finds_the_times_in_cpu_seconds() -> None:
    def rest() -> None:
        time.sleep(0.05)

    found = probing.contest({"slow": burn(30), "fast": burn(10), "asleep": rest}, seconds=5)
    assert found["slow"] == pytest.approx(0.030, rel=0.2)
    assert found["fast"] == pytest.approx(0.010, rel=0.2)
    assert found["asleep"] < 0.01


@pytest.mark.parametrize(("seconds", "order"), [(9.0, "ababab"), (0.05, "ab")])
def test_a_contest_takes_all_in_turn_as_long_as_it_may(seconds: float, order: str) -> None:
    done: list[str] = []
    works = {name: lambda name=name: (burn(20)(), done.append(name)) for name in "ab"}
    probing.contest(works, seconds)
    assert "".join(done) == order


@pytest.mark.parametrize(
    ("names", "seconds", "order"),
    [("abc", 5.0, "abcabcab"), ("ac", 5.0, "acac"), ("abc", 0.2, "abcab"), ("ac", 0.15, "ac")],
)
def test_what_is_far_behind_is_not_done_again(names: str, seconds: float, order: str) -> None:
    done: list[str] = []
    times = {"a": 20, "b": 25, "c": 80}
    works = {name: lambda name=name: (burn(times[name])(), done.append(name)) for name in names}
    probing.contest(works, seconds)
    assert "".join(done) == order


def test_threads_that_wait_for_each_other_are_not_tried_on_a_long_step() -> None:
    """One thread works, two sleep beside it: as with a neighbour who holds the core."""
    steps: list[int] = []

    def look() -> None:
        time.sleep(0.002 if torch.get_num_threads() == 1 else 0.02)

    def step() -> None:
        steps.append(torch.get_num_threads())
        time.sleep(0.04 / torch.get_num_threads())

    found = probing.thread_seconds(look, step, 2)
    torch.set_num_threads(1)
    assert steps == []
    assert found[2] > 5 * found[1]
    found = probing.thread_seconds(step, step, 2)
    torch.set_num_threads(1)
    assert found[1] / found[2] == pytest.approx(2, rel=0.4)
    assert steps.count(1) == steps.count(2)


@pytest.mark.parametrize(
    ("values", "largest"),
    [
        ({"STEP": 60.0}, 32),
        ({"STEP": 1e-6}, 8),
        ({"QUICK_PAIR": 0.0, "SLOW_PAIRS": ((60.0, 4),)}, 4),
        ({"QUICK_PAIR": 0.0, "SLOW_PAIRS": ((0.0, 4), (60.0, 2))}, 2),
    ],
)
def test_slow_models_are_timed_with_fewer_images(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, object], largest: int
) -> None:
    sizes: list[int] = []
    step = probing._step

    def counted(model: torch.nn.Module, images: torch.Tensor, *rest: object) -> None:
        sizes.append(len(images))
        step(model, images, *rest)

    monkeypatch.setattr(probing, "_step", counted)
    for name, value in values.items():
        monkeypatch.setattr(probing, name, value)
    words = ["model=small-cnn", "imgsz=32", "device=cpu", "training.threads=1", "batch=32"]
    probing.measure_plan(load_recipe(words=words))
    assert sizes[-1] == largest
    assert max(sizes) <= max(8, largest)
