"""The list of models: recommended ones first, sizes, and what fits."""

from __future__ import annotations

import pytest
import timm

from espalier.errors import ModelError
from espalier.models.listing import RECOMMENDED, list_models, matching, training_bytes
from espalier.records import Machine

SMALL = Machine("cpu", "test", cores=2, memory=1_000_000_000)
LARGE = Machine("cuda", "test", cores=2, memory=10**9, device_memory=80 * 10**9)


def test_recommended_models_come_first_and_all_exist() -> None:
    assert RECOMMENDED[:3] == ("resnet50", "efficientnet_b0", "mobilenetv3_small_100")
    assert "mobilenetv2_100" in RECOMMENDED
    assert all(timm.is_model(name) for name in RECOMMENDED if name != "small-cnn")
    rows = list_models(None, LARGE, limit=4)
    assert [row.name for row in rows] == list(RECOMMENDED[:4])


def test_sizes_are_those_of_the_mission() -> None:
    rows = {row.name: row for row in list_models(None, LARGE, limit=3)}
    assert rows["resnet50"].size_mb == pytest.approx(98, rel=0.06)
    assert rows["efficientnet_b0"].size_mb == pytest.approx(20, rel=0.25)
    assert rows["mobilenetv3_small_100"].parameters == pytest.approx(1.52, abs=0.01)
    assert rows["resnet50"].imgsz == 224


def test_memory_decides_what_fits_and_the_device_counts_where_there_is_one() -> None:
    assert not list_models("resnet50", SMALL, limit=1)[0].fits
    assert list_models("resnet50", LARGE, limit=1)[0].fits
    assert training_bytes("resnet50") > training_bytes("resnet18") > training_bytes("test_resnet")


def test_a_pattern_searches_all_of_timm() -> None:
    names = matching("test_*")
    assert "test_vit" in names
    assert all(name.startswith("test_") for name in names)
    assert matching("resnet50")[0] == "resnet50"
    assert matching("cnn") == ["small-cnn"] or "small-cnn" in matching("cnn")


def test_nothing_found_offers_near_names() -> None:
    with pytest.raises(ModelError, match="No model matches 'resnett50'") as caught:
        matching("resnett50")
    assert "resnet50" in caught.value.hint
