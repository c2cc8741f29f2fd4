"""``epochs`` and ``lr`` of a run as a whole, spread over its stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from espalier.recipe.documents import short
from espalier.recipe.keys import TOTALS
from espalier.recipe.merge import Draft, Layer, Setting, is_given

_RATES = ("lr", "backbone_lr")


def spread(draft: Draft, layer: Layer) -> None:
    """Turn the totals that a source gives into values of the stages below it.

    A stage that is solved has one epoch, and no rate: totals are those of the others.
    """
    for name in draft.stage_names():
        _settle_solved(draft, f"stages.{name}")
    if "epochs" in layer.settings:
        _spread_epochs(draft, layer, layer.settings["epochs"])
    if "lr" in layer.settings:
        _spread_lr(draft, layer, layer.settings["lr"])


def shares(total: int, parts: list[int]) -> list[int]:
    """``total`` split in the proportion of ``parts``, each share at least 1; they sum to it."""
    exact = [total * part / sum(parts) for part in parts]
    found = [max(1, int(share)) for share in exact]
    while sum(found) < total:
        lacking = max(range(len(parts)), key=lambda index: exact[index] - found[index])
        found[lacking] += 1
    while sum(found) > total:
        above = [index for index in range(len(parts)) if found[index] > 1]
        found[max(above, key=lambda index: found[index] - exact[index])] -= 1
    return found


def shorten_warmups(draft: Draft, before: dict[str, int]) -> None:
    """Keep the share of warmups that nobody asked for, where the epochs became fewer.

    Args:
        draft: The recipe with its final epochs.
        before: Stage name -> epochs of the preset.
    """
    after = {name: draft.stage_value(name, "epochs") for name in draft.stage_names()}
    if not before or not all(_is_count(epochs) for epochs in after.values()):
        return
    for name in after:
        if name in before:
            ratio = cast(int, after[name]) / before[name]
            _shorten(draft, f"stages.{name}.warmup_epochs", ratio)
    total = sum(cast("list[int]", list(after.values())))
    _shorten(draft, "schedule.warmup_epochs", total / sum(before.values()))


def _shorten(draft: Draft, key: str, ratio: float) -> None:
    setting = draft.settings.get(key)
    if setting is None or is_given(setting.origin) or ratio >= 1:
        return
    if isinstance(setting.value, (int, float)) and setting.value > 0:
        value = float(f"{setting.value * ratio:.3g}")
        origin = f"{setting.origin}, shortened with the epochs"
        draft.settings[key] = Setting(value, origin)


def _settle_solved(draft: Draft, stage: str) -> None:
    """Let what nobody asked for give way: solving to other layers that learn, epochs to solving."""
    solve, train = draft.settings.get(f"{stage}.solve"), draft.settings.get(f"{stage}.train")
    if solve is None or solve.value is not True:
        return
    if train and train.value != "head" and is_given(train.origin) and not is_given(solve.origin):
        origin = f"{solve.origin}, off with {stage}.train={short(train.value)}"
        draft.settings[f"{stage}.solve"] = Setting(False, origin)
        return
    epochs = draft.settings.get(f"{stage}.epochs")
    if epochs and epochs.value != 1 and not is_given(epochs.origin):
        draft.settings[f"{stage}.epochs"] = Setting(1, f"{epochs.origin}, one as it is solved")


def _is_solved(draft: Draft, name: str) -> bool:
    return draft.stage_value(name, "solve") is True


def _spread_epochs(draft: Draft, layer: Layer, setting: Setting) -> None:
    old = {name: draft.stage_value(name, "epochs") for name in draft.stage_names()}
    if not _is_count(setting.value):
        draft.problems.append(
            f"epochs is {short(setting.value)} ({setting.origin}); allowed: {TOTALS['epochs']}"
        )
    elif old and all(_is_count(epochs) for epochs in old.values()):
        total, planned = cast(int, setting.value), cast("dict[str, int]", old)
        own = _given_in(layer, "epochs", draft)
        if own and total != sum(planned.values()):
            draft.problems.append(
                f"epochs={total} ({setting.origin}) and {own} contradict: the stages have "
                f"{sum(planned.values())} epochs; give the total or the stages"
            )
        elif not own:
            _share_epochs(draft, total, planned, setting.origin)


def _share_epochs(draft: Draft, total: int, planned: dict[str, int], origin: str) -> None:
    """Give each stage its part of the epochs; one that is solved has one."""
    solved = [name for name in planned if _is_solved(draft, name)]
    stepped = {name: epochs for name, epochs in planned.items() if name not in solved}
    if total < len(planned):
        draft.problems.append(_too_few(total, list(planned)))
    elif not stepped and total > len(solved):
        draft.problems.append(_too_many(total, solved))
    else:
        parts = shares(total - len(solved), list(stepped.values()))
        shared = {**dict.fromkeys(solved, 1), **dict(zip(stepped, parts, strict=True))}
        _put_all(draft, "epochs", shared, origin)


def _too_few(total: int, names: list[str]) -> str:
    return (
        f"epochs={total} is fewer than the {len(names)} stages ({', '.join(names)}): give at "
        f"least epochs={len(names)}, or take a recipe of one stage (--preset improved)"
    )


def _too_many(total: int, names: list[str]) -> str:
    return (
        f"epochs={total} is more than stages can take that are solved ({', '.join(names)}): each "
        f"has one epoch; give epochs={len(names)}, or stages.{names[-1]}.solve=false"
    )


def _spread_lr(draft: Draft, layer: Layer, setting: Setting) -> None:
    names = [name for name in draft.stage_names() if not _is_solved(draft, name)]
    old = {(name, key): draft.stage_value(name, key) for name in names for key in _RATES}
    rates = {where: float(cast(float, rate)) for where, rate in old.items() if _is_rate(rate)}
    if not _is_rate(setting.value):
        draft.problems.append(
            f"lr is {short(setting.value)} ({setting.origin}); allowed: {TOTALS['lr']}"
        )
    elif rates:
        largest, wanted = max(rates.values()), float(cast(float, setting.value))
        own = _given_in(layer, "lr", draft) or _given_in(layer, "backbone_lr", draft)
        if own and largest != wanted:
            draft.problems.append(
                f"lr={wanted:g} ({setting.origin}) and {own} contradict: the largest rate of the "
                f"stages is {largest:g}; give lr or the rates of the stages"
            )
        elif not own:
            for key in _RATES:
                new = {n: _scaled(r, largest, wanted) for (n, k), r in rates.items() if k == key}
                _put_all(draft, key, new, setting.origin)


def _scaled(rate: float, largest: float, wanted: float) -> float:
    return wanted if rate == largest else float(f"{wanted * (rate / largest):.6g}")


def _put_all(draft: Draft, key: str, values: Mapping[str, float], origin: str) -> None:
    several = len(draft.stage_names()) > 1
    how = "shared over the stages" if key == "epochs" else "with the largest rate at this"
    for name, value in values.items():
        text = f"{origin}, {how}" if several else origin
        draft.settings[f"stages.{name}.{key}"] = Setting(value, text)


def _given_in(layer: Layer, key: str, draft: Draft) -> str:
    """Stage keys of this kind that the same source gives, as a list; empty if none."""
    found = [k for k in layer.settings if k.startswith("stages.") and k.endswith(f".{key}")]
    return ", ".join(found)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_rate(value: object) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 < cast(float, value) < float("inf")
