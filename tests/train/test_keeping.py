import pytest

from espalier.recipe.schema import Features
from espalier.train.keeping import Demand, plan_keeping

GB = 10**9
WANTED = Demand(images=1000, other_images=200, image_bytes=20_000, draws=8000, epochs=8)


def planned(demand=WANTED, memory=16 * GB, disk=50 * GB, **section):
    return plan_keeping(Features(**section), demand, free_memory=memory, free_disk=disk)


def test_it_keeps_on_disk_by_itself_and_says_how_much():
    found = planned()
    assert (found.where, found.views) == ("disk", 4)
    assert found.reason == "4 views of each image, 84 MB, on disk"


@pytest.mark.parametrize(
    ("keep", "memory", "disk", "where"),
    [
        ("auto", 16 * GB, 0, "memory"),
        ("auto", 0, 0, "off"),
        ("memory", 16 * GB, 0, "memory"),
        ("memory", 10**8, 50 * GB, "off"),
        ("disk", 16 * GB, 10**8, "off"),
        ("off", 16 * GB, 50 * GB, "off"),
    ],
)
def test_it_goes_where_there_is_room(keep, memory, disk, where):
    assert planned(keep=keep, memory=memory, disk=disk).where == where


def test_what_does_not_fit_the_budget_runs_live_and_says_so():
    found = planned(budget_gib=0.05)
    assert (found.where, found.views) == ("off", 0)
    assert "84 MB" in found.reason
    assert "features.budget_gib=0.05" in found.reason


def test_views_that_would_be_used_once_are_not_kept():
    once = Demand(images=1000, other_images=200, image_bytes=20_000, draws=2000, epochs=2)
    assert planned(once).where == "off"
    assert planned(once, views=1).views == 1


def test_few_batches_an_epoch_use_few_views():
    # 40 epochs of 50 images draw 2,000: less than four views of a thousand.
    few = Demand(images=1000, other_images=0, image_bytes=1, draws=2000, epochs=40)
    assert planned(few).where == "off"


def test_an_obstacle_is_passed_on():
    cutmix = Demand(1000, 0, 1, 8000, 8, obstacle="CutMix exchanges pixels")
    assert planned(cutmix).reason == "CutMix exchanges pixels"
