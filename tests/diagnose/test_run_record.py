"""Signs and facts survive the way through JSON; records that lack things say so."""

from __future__ import annotations

import json
import math

import pytest

from espalier.rules import CannotJudge
from espalier.run_record import (
    DataFacts,
    EpochSigns,
    PartSigns,
    RunFacts,
    RunRecord,
    SplitPixels,
    StageFacts,
    StepSigns,
    from_plain,
    to_plain,
)


def test_facts_survive_json() -> None:
    facts = RunFacts(
        classes=("a", "b"),
        class_weights=(1.0, 2.5),
        betas=(0.9, 0.999),
        planned_rates=((0, 0.0), (10, 1e-3)),
        pretrained=False,
        kept="best",
        stages=(StageFacts("head", epochs=3, parts={"head": 10}, meant_to_train=("head",)),),
    )
    assert from_plain(RunFacts, json.loads(json.dumps(to_plain(facts)))) == facts


def test_step_signs_survive_json_with_what_is_not_finite() -> None:
    step = StepSigns(
        3, loss=math.inf, grad_norm=-math.inf, parts={"head": PartSigns(0.5, changed=False)}
    )
    again = from_plain(StepSigns, json.loads(json.dumps(to_plain(step))))
    assert (again.loss, again.grad_norm, again.step) == (math.inf, -math.inf, 3)
    assert again.parts["head"].grad_norm == 0.5
    assert again.parts["head"].changed is False
    assert math.isnan(again.parts["head"].update_ratio)
    assert math.isnan(again.learning_rate)


def test_unknown_keys_are_passed_over() -> None:
    assert from_plain(EpochSigns, {"epoch": 1, "colour": "green"}).epoch == 1


def test_nested_data_facts_survive_json() -> None:
    pixels = SplitPixels(4, (0.1, 0.2, 0.3), (1.0, 1.0, 1.0), -2.0, 2.0, size=(96, 96))
    data = DataFacts(train=pixels, overlap=2, val_images=10)
    assert from_plain(DataFacts, json.loads(json.dumps(to_plain(data)))) == data


def test_what_is_missing_is_named() -> None:
    record = RunRecord("here", "test", (EpochSigns(1, val_loss=1.0),))
    assert record.require_column("val_loss") == [1.0]
    with pytest.raises(CannotJudge, match="train loss"):
        record.require_column("train_loss")
    with pytest.raises(CannotJudge, match="2 epochs"):
        record.require_column("val_loss", least=2)
    with pytest.raises(CannotJudge, match="class weights"):
        record.require_fact("class_weights")


def test_chance_is_the_entropy_of_the_labels() -> None:
    balanced = RunRecord("", "test", (), RunFacts(train_counts=(5, 5, 5, 5)))
    assert balanced.chance_loss == pytest.approx(math.log(4))
    skewed = RunRecord("", "test", (), RunFacts(train_counts=(99, 1)))
    assert skewed.chance_loss == pytest.approx(0.0560, abs=1e-4)
    assert RunRecord("", "test", (), RunFacts(head_classes=10)).chance_loss == math.log(10)
    assert RunRecord("", "test", ()).chance_loss is None
