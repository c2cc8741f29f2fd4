"""The benchmark of faults: its figures, its truth, its cache, other tools' rules, a smoke set."""

import dataclasses
import inspect
import json
import math
import subprocess
import sys

import pytest
from scipy import stats

from benchmarks.faults import __main__ as program
from benchmarks.faults import healthy, in_code, injections, judged, recipes, repair, report, runs
from benchmarks.faults import staged as r3
from benchmarks.faults.baselines import autotrainer, mldoct, sagemaker, umlaut
from benchmarks.faults.loop import Loop, rate_factor
from benchmarks.faults.runs import Case
from benchmarks.faults.score import (
    Verdict,
    detection_time,
    figures,
    share,
    truncated,
    truth_of,
    worse,
)
from espalier.api import recipe_of
from espalier.diagnose.doctor import known_rules
from espalier.diagnose.readers import read_record
from espalier.findings import Edit
from espalier.run_record import (
    DataFacts,
    EpochSigns,
    PartSigns,
    RunFacts,
    RunRecord,
    SplitPixels,
    StepSigns,
)

SHORT = dataclasses.replace(recipes.R1, epochs=2, images=128, pretrained=False)


# --- figures, against numbers worked out by hand or by another implementation


def test_share_has_wilsons_interval():
    found = share(9, 12)
    theirs = stats.binomtest(9, 12).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))
    assert found.value == 0.75


def test_share_without_a_hit_follows_the_rule_of_three():
    assert share(0, 150).high == pytest.approx(0.02)
    assert share(150, 150).low == pytest.approx(0.98)
    assert math.isnan(share(0, 0).value)


def test_worse_is_welch_and_for_one_run_a_prediction_interval():
    healthy_scores = [0.80, 0.82, 0.81, 0.83]
    several = worse([0.70, 0.72, 0.74], healthy_scores)
    theirs = stats.ttest_ind([0.70, 0.72, 0.74], healthy_scores, equal_var=False)
    assert several == pytest.approx(theirs.pvalue / 2)
    # mean 0.815, s 0.01291, s sqrt(1 + 1/4) = 0.014434: t = 0.115 / 0.014434 = 7.967, 3 degrees
    assert worse([0.70], healthy_scores) == pytest.approx(stats.t.sf(7.9674, 3), rel=1e-3)
    assert worse([0.9], healthy_scores) > 0.9


@pytest.mark.parametrize(
    ("faulty", "truth"),
    [
        ([(0.60, 0.62, 0.65), (0.61, 0.62, 0.65)], "killed"),
        ([(0.81, 0.82, 0.95), (0.82, 0.82, 0.95)], "invalid"),
        ([(0.81, 0.82, 0.40), (0.82, 0.82, 0.40)], "invalid"),
        ([(0.81, 0.82, 0.86), (0.82, 0.83, 0.86)], "latent"),
        ([], "killed"),
    ],
)
def test_truth_is_score_lost_or_a_validation_that_misleads(faulty, truth):
    # Healthy validation reports 0.04 too much: it chose the epoch.
    healthy_runs = [(0.81, 0.82, 0.86), (0.82, 0.83, 0.87), (0.83, 0.84, 0.88)]
    assert truth_of(faulty, healthy_runs) == truth
    assert truth_of(faulty, healthy_runs[:1]) in ("undecided", "killed" if not faulty else "")


def verdict(fault, truth, alarms=(), causes=("a",), **more):
    defaults = {"tricky": False, "detected_at": None, "compound": False}
    return Verdict("run", "R1", fault, truth, causes=causes, alarms=alarms, **{**defaults, **more})


def test_figures_are_means_over_fault_types_and_over_runs():
    found = figures(
        [
            verdict("x", "killed", ("a", "b"), detected_at=0.5),
            verdict("x", "killed", ("b", "c", "a"), detected_at=0.1),
            verdict("x", "killed", ("b", "c", "d", "a"), detected_at=0.9),
            verdict("y", "invalid"),
            verdict("z", "latent", ("a",)),
            verdict("plain", "healthy"),
            verdict("mixup", "healthy", ("a", "b"), tricky=True),
            verdict("smoothing", "healthy", tricky=True),
            verdict("x+y", "killed", ("a",), compound=True),
        ]
    )
    assert (found.recall.hits, found.recall.of) == (3, 4)
    assert found.recall_by_type == pytest.approx((1 + 0) / 2)
    assert (found.first.hits, found.first_by_type) == (1, pytest.approx(1 / 6))
    assert (found.top3.hits, found.top3_by_type) == (2, pytest.approx(1 / 3))
    assert (found.plain_alarms, found.plain_ill.of) == (0, 1)
    assert (found.tricky_alarms, found.tricky_ill.hits) == (1.0, 1)
    assert (found.latent_alarmed.hits, found.compound_first.hits) == (1, 1)
    assert found.median_time == 0.5


def record(**columns):
    """A record of as many epochs as the columns are long, ten steps each."""
    length = len(next(iter(columns.values())))
    epochs = tuple(
        EpochSigns(epoch=i + 1, step=10 * (i + 1), **{k: v[i] for k, v in columns.items()})
        for i in range(length)
    )
    steps = tuple(
        StepSigns(
            step=s,
            loss=2.0 - 0.01 * s,
            learning_rate=0.001,
            grad_norm=1.0,
            parts={"stem": PartSigns(1.0, 1e-3, 0.0, True), "head": PartSigns(1.0, 1e-3, 0, True)},
        )
        for s in range(1, 10 * length + 1)
    )
    return RunRecord("somewhere", "own loop", epochs, steps=steps, confusion=((5, 0), (1, 4)))


def test_truncated_knows_nothing_of_later():
    found = truncated(record(val_loss=[3.0, 2.0, 1.0, 0.5]), 2)
    assert [e.val_loss for e in found.epochs] == [3.0, 2.0]
    assert found.steps[-1].step == 20
    assert found.confusion is None
    assert found.ended == "running"


def test_time_to_detect_is_when_the_cause_is_named_for_good():
    said = {1: "a", 2: "b", 3: "a", 4: "a"}
    run = record(val_loss=[1.0, 1.0, 1.0, 1.0])
    assert detection_time(run, ("a",), lambda r: said[len(r.epochs)]) == 0.75
    assert detection_time(run, ("z",), lambda r: said[len(r.epochs)]) is None


# --- other tools' rules


def curves(accuracy, **parts):
    """A run with the same accuracy in training and validation, and these gradients."""
    run = record(train_accuracy=accuracy, val_accuracy=accuracy)
    step = StepSigns(1, loss=1.0, parts={name: PartSigns(*signs) for name, signs in parts.items()})
    return dataclasses.replace(run, steps=(step,)) if parts else run


def test_autotrainer_judges_curves_from_a_third_of_the_run_on():
    calm = [0.3, 0.5, 0.7, 0.8]
    assert autotrainer.alarms(curves(calm)) == []
    assert autotrainer.alarms(curves([0.1] * 6)) == ["not_converge"]
    # At 0.6 at its first look, and only then is jumping a symptom of its own.
    jumpy = [0.6, 0.7, 0.6, 0.7, 0.6, 0.7, 0.6]
    assert autotrainer.alarms(curves(jumpy)) == ["unstable"]
    assert autotrainer.alarms(curves([a - 0.3 for a in jumpy])) == []


def test_autotrainer_looks_at_gradients_of_what_has_not_converged():
    low, high = [0.1, 0.2, 0.3, 0.4], [0.6, 0.7, 0.8, 0.9]
    none = math.nan
    faint = {"stem": (1e-6, none, 0.1), "head": (1.0, none, 0.0)}
    assert autotrainer.alarms(curves(low, **faint)) == ["vanish"]
    assert autotrainer.alarms(curves(high, **faint)) == []
    dead = {"stem": (1e-6, none, 0.9), "head": (1.0, none, 0.9)}
    assert autotrainer.alarms(curves(low, **dead)) == ["relu"]
    assert autotrainer.alarms(curves(low, stem=(100.0,), head=(1.0,))) == ["explode"]
    # Small beside the last layer, and yet no small gradient: both are asked.
    assert autotrainer.alarms(curves(low, stem=(1e-3,), head=(10.0,))) == []
    lost = dataclasses.replace(curves(high), steps=(StepSigns(1, loss=math.inf),))
    assert autotrainer.alarms(lost) == ["explode"]


def test_umlaut_warns_of_ordinary_things():
    pixels = SplitPixels(4, (0.0,), (1.0,), -2.1, 2.6)
    usual = dataclasses.replace(
        record(val_accuracy=[0.5, 0.96], train_accuracy=[0.4, 0.9], train_loss=[2.0, 1.0]),
        data=DataFacts(train=pixels),
        facts=RunFacts(dropout=0.6),
    )
    found = umlaut.alarms(usual)
    assert found == ["input_range", "val_above_train", "accuracy_suspicious", "dropout_high"]


def test_sagemaker_rules():
    found = sagemaker.alarms(record(train_loss=[1.0, 1.0], val_loss=[1.05, 1.2]))
    assert found == ["Overfit", "Confusion"]
    sure = dataclasses.replace(record(val_loss=[1.0]), confusion=((9, 1), (0, 9)))
    assert sagemaker.alarms(sure) == []
    # Both classes are found in full; of what is called the second, a tenth is not right.
    unsure = dataclasses.replace(sure, confusion=((9, 0), (2, 9)))
    assert sagemaker.alarms(unsure) == ["Confusion"]
    waited = record(val_loss=[1.0] + [0.95] * 10)
    assert sagemaker.alarms(waited) == ["Overtraining", "Confusion"]
    assert "Overtraining" not in sagemaker.alarms(truncated(waited, 10))
    uneven = dataclasses.replace(record(val_loss=[1.0]), facts=RunFacts(train_counts=(200, 10)))
    assert "ClassImbalance" in sagemaker.alarms(uneven)


def test_mldoct_without_its_environment_says_so(tmp_path):
    with pytest.raises((OSError, subprocess.CalledProcessError)):
        mldoct.diagnoses(sys.executable, [record(train_loss=[1.0, 0.5])])


@pytest.mark.parametrize("tool", [autotrainer, sagemaker, umlaut, mldoct])
def test_what_others_say_could_mean_rules_that_exist(tool):
    rules = {rule.name for rule in known_rules()}
    assert {name for names in tool.MEANS.values() for name in names} <= rules


# --- the table of faults


def test_every_cause_in_the_frozen_table_is_a_rule():
    assert judged.unknown_causes([rule.name for rule in known_rules()]) == []


def test_every_fault_can_be_made():
    for fault in injections.INJECTIONS:
        in_r3 = fault.name in r3.FAULTS
        assert fault.plan or fault.patch or in_r3, fault.name
        assert in_r3 == ("R3" in fault.where) or in_r3, fault.name
    assert set(r3.FAULTS) <= set(injections.BY_NAME)
    assert set(r3.CONTROLS) <= set(healthy.BY_NAME)


def test_every_value_of_r3_is_one_of_the_recipe():
    for fault in (*r3.FAULTS.values(), *r3.CONTROLS.values()):
        for values in (fault.moderate, fault.severe):
            if values is not None:
                recipe_of("photos", "quick", None, {**recipes.R3.values, **values}, {})


def test_plans_of_faults_differ_from_the_sound_one():
    for name, plan in recipes.PLANS.items():
        for fault in injections.INJECTIONS:
            if fault.plan is not None and name in fault.where and fault.name != "helped_twice":
                assert all(fault.plan(plan, level) != plan for level in fault.severities)


def test_rates_warm_up_fall_and_restart():
    factor = rate_factor(recipes.R1, 10, 100)
    assert factor(0) == pytest.approx(1 / 11)
    assert factor(10) == 1.0
    assert factor(99) < 0.001
    early = rate_factor(dataclasses.replace(recipes.R1, decay_share=0.15, warmup_epochs=0), 10, 100)
    assert early(15) == 0
    again = rate_factor(
        dataclasses.replace(recipes.R1, schedule="restarts", warmup_epochs=0), 10, 90
    )
    assert again(29) < 0.01 < 0.99 < again(30)


# --- the cache


def test_a_run_is_made_once_and_found_again(tmp_path, monkeypatch):
    monkeypatch.setitem(recipes.PLANS, "R1", SHORT)
    case = Case("R1", "healthy", "plain", 0, 3)
    assert runs.run(case, tmp_path, train=False) is None
    first = runs.run(case, tmp_path)
    written = (first.folder / runs.OUTCOME).stat().st_mtime_ns
    second = runs.run(case, tmp_path, train=False)
    assert second == first
    assert (second.folder / runs.OUTCOME).stat().st_mtime_ns == written
    assert 0 <= first.outcome.test_macro_f1 <= 1
    assert len(read_record(first.folder).epochs) == 2


def test_the_same_case_gives_the_same_run(tmp_path, monkeypatch):
    monkeypatch.setitem(recipes.PLANS, "R1", SHORT)
    case = Case("R1", "fault", "no_zero_grad", 2, 3)
    outcomes = [runs.run(case, tmp_path / name).outcome for name in ("a", "b")]
    assert outcomes[0] == outcomes[1]


def test_identity_follows_what_decides_a_run(monkeypatch):
    case = Case("R1", "fault", "rate_too_low", 1, 0)
    edit = Edit("stages.train.lr", "multiply", 10.0, "why")
    others = [
        dataclasses.replace(case, severity=2),
        dataclasses.replace(case, seed=1),
        dataclasses.replace(case, recipe="R2"),
        dataclasses.replace(case, edits=(edit,)),
    ]
    assert len({runs.identity(one) for one in (case, *others)}) == 5
    again = dataclasses.replace(edit, because="another reason")
    same = [runs.identity(dataclasses.replace(case, edits=(e,))) for e in (edit, again)]
    assert same[0] == same[1]


def test_meaning_passes_over_words_and_layout():
    assert "sigmoid" not in runs.meaning(in_code.vanishing).lower().replace("sigmoid'", "")
    assert runs.meaning(in_code.ascent) != runs.meaning(in_code.no_zero_grad)
    assert inspect.getdoc(in_code.vanishing) not in runs.meaning(in_code.vanishing)


# --- repair


def test_a_prescription_becomes_a_change_of_the_plan():
    edits = (
        Edit("stages.train.lr", "multiply", 0.1, ""),
        Edit("schedule.name", "set", "warmup-cosine", ""),
        Edit("training.batch", "multiply", 2, ""),
        Edit("augment.policy", "set", "strong", ""),
        Edit("data.mean", "unset", None, ""),
    )
    sick = dataclasses.replace(recipes.R1, schedule="constant", decay_share=0.1)
    found = repair.treated(sick, edits)
    assert found.lr == pytest.approx(1e-4)
    assert (found.schedule, found.decay_share, found.batch) == ("cosine", 1.0, 64)
    assert found.augment == "heavy"


def test_recovered_is_two_points_or_a_tenth_of_the_gap():
    assert repair.recovered(0.785, 0.80, 0.70)
    assert not repair.recovered(0.775, 0.80, 0.70)
    assert repair.recovered(0.75, 0.80, 0.20)
    assert not repair.recovered(0.73, 0.80, 0.20)


def test_random_repair_is_the_same_for_the_same_run_and_can_be_applied():
    assert repair.random_repair("R1 x", 0) == repair.random_repair("R1 x", 0)
    assert len({repair.random_repair(f"R1 {i}", i) for i in range(40)}) > 8
    assert all(repair.can_treat(edit) for edit in repair.ACTIONS)
    assert len(repair.random_search("R1 x", 0)) == 3


# --- a smoke set, by the whole way: train, record, read, examine

HARD_FACTS = (
    "head_not_optimized",
    "scheduler_forgotten",
    "leak",
    "val_not_normalised",
)


def first_alarms(name, kind, folder):
    severity = 0 if kind == "healthy" else 2
    kept = runs.run(Case("R1", kind, name, severity, 0), folder)
    return [finding.rule for finding in judged.examined(kept).said]


@pytest.mark.parametrize("name", HARD_FACTS)
def test_hard_facts_are_named_even_in_a_short_run(name, tmp_path, monkeypatch):
    monkeypatch.setitem(recipes.PLANS, "R1", SHORT)
    causes = injections.BY_NAME[name].causes
    assert set(causes) & set(first_alarms(name, "fault", tmp_path)[:3])


@pytest.mark.slow
@pytest.mark.parametrize("control", ["plain", *(c.name for c in healthy.LOOK_ALIKES[:14])])
def test_healthy_runs_raise_no_alarm(control, tmp_path):
    if "R1" not in healthy.BY_NAME[control].where:
        pytest.skip("not a control of R1")
    assert first_alarms(control, "healthy", tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "rate_noisy",
        "rate_too_low",
        "no_zero_grad",
        "odd_momentum",
        "ascent",
        "frozen_backbone",
        "weights_lost",
        "double_softmax",
        "heavy_dropout",
        "class_order",
        "sorted_classes",
        "extreme_weights",
    ],
)
def test_faults_are_named_first(name, tmp_path):
    assert first_alarms(name, "fault", tmp_path)[0] in injections.BY_NAME[name].causes


def test_the_program_writes_figures_and_names_every_miss(tmp_path, monkeypatch):
    monkeypatch.setitem(recipes.PLANS, "R1", SHORT)
    words = ["--recipes", "R1", "--seeds", "0", "--plain-seeds", "0", "1", "--severe"]
    words += ["--only", "leak", "label_smoothing", "--cache", str(tmp_path / "cache")]
    found = program.measure(program.parse([*words, "--times"]))
    assert found["counts"]["runs"] == 4
    assert found["counts"]["same"] == found["counts"]["read"] == 4
    text = report.page(json.loads(json.dumps(found)))
    for part in ("## Figures", "UMLAUT", "| leak | D5 |", "## False alarms"):
        assert part in text
    again = program.measure(program.parse([*words, "--score-only"]))
    assert again["figures"]["espalier"]["recall"] == found["figures"]["espalier"]["recall"]


def test_a_run_that_dies_is_kept_as_dead(tmp_path, monkeypatch):
    monkeypatch.setitem(recipes.PLANS, "R1", SHORT)

    def broken(self, epoch):
        raise RuntimeError("no memory")

    monkeypatch.setattr(Loop, "one_epoch", broken)
    kept = runs.run(Case("R1", "healthy", "plain", 0, 0), tmp_path)
    assert kept.outcome is None
