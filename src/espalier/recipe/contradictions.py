"""Values that a person gave and that cannot hold beside the others: never ignored, always an error.

Only values given on purpose count. A preset's value, a default or an automatic choice that does
not apply is simply not used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from espalier.errors import RecipeError
from espalier.recipe.documents import short
from espalier.recipe.keys import field_schema
from espalier.recipe.merge import is_given
from espalier.recipe.policies import resolve_steps
from espalier.recipe.schema import Recipe, Stage

Check = Callable[["Given"], Iterator[str]]


class Given:
    """A recipe, and which of its values a person gave."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def has(self, key: str) -> bool:
        """Whether a person gave this key."""
        return is_given(self.recipe.why.get(key))

    def said(self, key: str) -> str:
        """``loss.focal_gamma=3.0 (--set loss.focal_gamma=3)``: the value with its origin."""
        origin, shown = self.recipe.why.get(key, ""), self._value(key)
        return f"{key}={short(shown)} ({origin})" if origin else f"{key}={short(shown)}"

    def _value(self, key: str) -> object:
        value: object = self.recipe
        for part in key.split("."):
            if isinstance(value, tuple):
                value = next(stage for stage in value if stage.name == part)
            else:
                value = getattr(value, part)
        return list(value) if isinstance(value, tuple) else value

    def comes_with(self, key: str, other: str) -> bool:
        """Whether one source gave both keys, as where a file lists a whole stage."""
        return self.has(key) and self.recipe.why[key] == self.recipe.why.get(other)

    def _repeats_default(self, key: str) -> bool:
        """A file that lists every key asks for nothing by repeating a default."""
        node = field_schema(key)
        is_filed = self.recipe.why[key].startswith("file ")
        return is_filed and node is not None and node.get("default") == self._value(key)

    def only_with(self, key: str, holds: bool, needs: str) -> Iterator[str]:
        """A problem when the key was given although it cannot hold."""
        if self.has(key) and not holds and not self._repeats_default(key):
            yield f"{self.said(key)} has no effect: it needs {needs}"


def contradictions(recipe: Recipe) -> list[str]:
    """One sentence for each value that was given and cannot hold."""
    given = Given(recipe)
    return [problem for check in _CHECKS for problem in check(given)]


def stepped(recipe: Recipe) -> list[Stage]:
    """The stages that follow a schedule; the others are solved for, in one step."""
    return [stage for stage in recipe.stages if not stage.solve]


def _stage_schedules(recipe: Recipe) -> dict[str, str]:
    return {stage.name: stage.schedule or recipe.schedule.name for stage in recipe.stages}


def _schedule(given: Given) -> Iterator[str]:
    section = given.recipe.schedule
    used = set(_stage_schedules(given.recipe).values())
    warm = section.warmup_epochs > 0 or any(s.warmup_epochs for s in given.recipe.stages)
    yield from given.only_with("schedule.step_epochs", "step" in used, "schedule step")
    yield from given.only_with(
        "schedule.gamma", bool(used & {"step", "plateau"}), "schedule step or plateau"
    )
    yield from given.only_with("schedule.plateau_patience", "plateau" in used, "schedule plateau")
    yield from given.only_with("schedule.warmup_start", warm, "a warmup (schedule.warmup_epochs)")
    yield from given.only_with(
        "schedule.min_lr", used != {"constant"}, "a schedule other than constant"
    )


def _stage_warmups(given: Given) -> Iterator[str]:
    recipe = given.recipe
    for stage in stepped(recipe):
        own = f"stages.{stage.name}.warmup_epochs"
        key = "schedule.warmup_epochs" if stage.warmup_epochs is None else own
        warmup = (
            recipe.schedule.warmup_epochs if stage.warmup_epochs is None else (stage.warmup_epochs)
        )
        if given.has(key) and warmup >= stage.epochs:
            yield (
                f"{given.said(key)} leaves no epoch after the warmup in stage {stage.name} of "
                f"{stage.epochs}; allowed: below {stage.epochs}, or a value of its own in "
                f"{own}"
            )


def _stage_rates(given: Given) -> Iterator[str]:
    floor = given.recipe.schedule.min_lr
    for stage in given.recipe.stages:
        yield from _rates_of(given, stage, floor)


def _rates_of(given: Given, stage: Stage, floor: float) -> Iterator[str]:
    prefix = f"stages.{stage.name}"
    is_head = stage.train == "head"
    yield from given.only_with(f"{prefix}.backbone_lr", not is_head, "more than the head to train")
    yield from given.only_with(
        f"{prefix}.layer_decay",
        not is_head or stage.layer_decay == 1,
        "more than the head to train",
    )
    if stage.solve:
        return
    lowest = stage.lr if is_head or stage.backbone_lr is None else min(stage.lr, stage.backbone_lr)
    name = _stage_schedules(given.recipe)[stage.name]
    if lowest <= floor and name != "constant":
        yield (
            f"schedule.min_lr={floor:g} is not below the peak rate {lowest:g} of stage "
            f"{stage.name}; lower the one or raise the other"
        )


def _solving(given: Given) -> Iterator[str]:
    for stage in given.recipe.stages:
        if stage.solve:
            yield from _solved_stage(given, stage)
        else:
            key = f"stages.{stage.name}.penalty"
            yield from given.only_with(key, False, f"stages.{stage.name}.solve true")


def _solved_stage(given: Given, stage: Stage) -> Iterator[str]:
    prefix = f"stages.{stage.name}"
    solve, epochs = f"{prefix}.solve", f"{prefix}.epochs"
    yield from given.only_with(solve, stage.train == "head", f"{prefix}.train head")
    no_cutmix = given.recipe.augment.cutmix == 0
    yield from given.only_with(solve, no_cutmix, "augment.cutmix 0, as whole images are solved for")
    if stage.epochs != 1 and given.has(epochs):
        yield (
            f"{given.said(epochs)} cannot hold: stage {stage.name} is solved for, in one epoch; "
            f"allowed: 1, or more with {solve}=false"
        )
    for name in ("lr", "warmup_epochs", "schedule", "patience", "imgsz_from"):
        key = f"{prefix}.{name}"
        listed = name != "imgsz_from" and given.comes_with(key, solve)
        yield from given.only_with(key, listed, f"{solve}=false: what is solved for has one step")


def _mixing(given: Given) -> Iterator[str]:
    stages, augment = given.recipe.stages, given.recipe.augment
    for name, alpha in (("mixup", augment.mixup), ("cutmix", augment.cutmix)):
        holds = alpha == 0 or not stages or bool(stepped(given.recipe))
        yield from given.only_with(f"augment.{name}", holds, "a stage that is not solved for")


def _rising_size(given: Given) -> Iterator[str]:
    for stage in stepped(given.recipe):
        key = f"stages.{stage.name}.imgsz_from"
        if stage.imgsz_from is None or not given.has(key):
            continue
        yield from given.only_with(key, stage.epochs > 1, "at least 2 epochs in its stage")
        last = stage.imgsz or given.recipe.training.imgsz
        if last != "auto" and stage.imgsz_from > last:
            yield (
                f"{given.said(key)} is above the {last} px of stage {stage.name}; allowed: at most "
                f"{last}, as the resolution only rises"
            )


def _features(given: Given) -> Iterator[str]:
    section = given.recipe.features
    kept = section.keep != "off"
    needs = "kept features (features.keep is off)"
    yield from given.only_with("features.views", kept or section.views == "auto", needs)
    yield from given.only_with("features.budget_gib", kept, needs)
    # What a head is solved on is stored in any case, in memory.
    solved = any(stage.solve for stage in given.recipe.stages)
    yield from given.only_with("features.stored", kept or solved, needs)


def _loss(given: Given) -> Iterator[str]:
    name = given.recipe.loss.name
    yield from given.only_with("loss.focal_alpha", name == "focal", "loss focal")
    yield from given.only_with("loss.focal_gamma", name == "focal", "loss focal")
    yield from given.only_with("loss.tau", name == "logit-adjusted", "loss logit-adjusted")


def _class_weighting(given: Given) -> Iterator[str]:
    section = given.recipe.class_weighting
    yield from given.only_with(
        "class_weighting.beta",
        section.strategy == "effective-number",
        "class_weighting.strategy effective-number",
    )
    if section.cap is not None:
        yield from given.only_with(
            "class_weighting.cap", section.strategy != "none", "a class_weighting.strategy"
        )


def _early_stopping(given: Given) -> Iterator[str]:
    recipe = given.recipe
    stages = [stage for stage in recipe.stages if stage.patience is not None]
    on = recipe.early_stopping.patience is not None or bool(stages)
    needs = "early_stopping.patience (early stopping is off)"
    yield from given.only_with("early_stopping.min_delta", on, needs)
    yield from given.only_with("early_stopping.monitor", on, needs)
    if recipe.early_stopping.patience is None and given.has("early_stopping.patience"):
        for stage in stages:
            yield from given.only_with(f"stages.{stage.name}.patience", False, needs)


def _model(given: Given) -> Iterator[str]:
    yield from given.only_with("model.hidden", given.recipe.model.head == "mlp", "model.head mlp")


def _optimizer(given: Given) -> Iterator[str]:
    name = given.recipe.optimizer.name
    yield from given.only_with("optimizer.momentum", name == "sgd", "optimizer sgd")
    yield from given.only_with("optimizer.betas", name != "sgd", "optimizer adamw or adam")


def _data(given: Given) -> Iterator[str]:
    data = given.recipe.data
    yield from given.only_with("data.crop_share", data.fit == "crop", "data.fit crop")
    yield from given.only_with("data.store_gib", data.store != "off", "a store (data.store is off)")
    if data.source is not None and data.root is not None:
        is_set = data.source.startswith("torchvision:")
        yield from given.only_with("data.root", is_set, "a source torchvision:NAME")
    if data.split_from is not None:
        for key in ("data.val_share", "data.test_share"):
            yield from given.only_with(key, False, "a new split (data.split_from takes an old one)")
    if data.classes is not None and data.num_classes not in (None, len(data.classes)):
        yield (
            f"data.num_classes={data.num_classes} and data.classes contradict: there are "
            f"{len(data.classes)} names"
        )


def _checkpointing(given: Given) -> Iterator[str]:
    yield from given.only_with(
        "checkpointing.monitor",
        given.recipe.checkpointing.save_best,
        "checkpointing.save_best true",
    )
    if not (given.recipe.checkpointing.save_best or given.recipe.checkpointing.save_last):
        yield (
            "checkpointing.save_best and checkpointing.save_last are both false: no weights would "
            "be kept; at least one must be true"
        )


def _augment(given: Given) -> Iterator[str]:
    section = given.recipe.augment
    try:
        resolve_steps(section.policy, section.steps)
    except RecipeError as error:
        yield from error.problems or (error.message,)


_CHECKS: tuple[Check, ...] = (
    _schedule,
    _stage_warmups,
    _stage_rates,
    _solving,
    _mixing,
    _rising_size,
    _features,
    _loss,
    _class_weighting,
    _early_stopping,
    _model,
    _optimizer,
    _data,
    _checkpointing,
    _augment,
)
