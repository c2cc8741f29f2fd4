"""Reads a recipe from presets, files and the command line, and writes it as YAML.

Order of precedence: default of the schema, preset, file, command line. Every value that is not a
default keeps its origin in ``Recipe.why``; every problem of all sources is in one error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from espalier.errors import RecipeError
from espalier.recipe.contradictions import contradictions
from espalier.recipe.documents import parse_document, read_document, short, to_yaml
from espalier.recipe.keys import nearest, sections
from espalier.recipe.merge import AUTO, PRESET, Draft, Layer, Setting, same, to_tree
from espalier.recipe.problems import sentences
from espalier.recipe.schema import Recipe
from espalier.recipe.sources import from_command_line, from_tree, parse_duration
from espalier.recipe.totals import shorten_warmups, spread

__all__ = [
    "change_recipe",
    "dump_yaml",
    "load_recipe",
    "parse_duration",
    "presets",
    "read_recipe",
]

DEFAULT_PRESET = "standard"
_TABLE = "augment.steps."
_BEFORE_EDIT = object()
_NOWHERE = Setting(None, "")
_HINT = "espalier train --print-config shows every key with its value"


def load_recipe(
    preset: str | None = None,
    file: Path | None = None,
    sets: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
    words: Sequence[str] = (),
) -> Recipe:
    """The recipe a person asked for; what is ``auto`` is still open.

    Args:
        preset: Name of a preset; None: the one the file names, else ``standard``.
        file: YAML or JSON; a run's ``recipe.yaml`` gives the same recipe again.
        sets: ``section.key=value`` each.
        flags: Daily name or dotted key -> value; None where a flag was not used.
        words: ``key=value`` each.

    Raises:
        RecipeError: Unknown keys, wrong values and contradictions, all at once.
    """
    tree = {} if file is None else read_document(Path(file))
    name, origin = _choose_preset(preset, tree, file)
    draft = Draft()
    draft.lay(from_tree(_preset_tree(name), f"{PRESET}{name}"), spread)
    before = _epochs(draft)
    if file is not None:
        for layer in _file_layers(tree, Path(file).name, draft):
            draft.lay(layer, spread)
    draft.lay(from_command_line(sets, flags or {}, words), spread)
    if not isinstance(tree.get("why"), dict):
        shorten_warmups(draft, before)
    return _build(draft, name, origin)


def change_recipe(
    recipe: Recipe,
    sets: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
    words: Sequence[str] = (),
) -> Recipe:
    """A recipe with only the named values changed, its automatic choices kept.

    Raises:
        RecipeError: Unknown keys, wrong values and contradictions, all at once.
    """
    draft = Draft()
    for layer in _file_layers(json.loads(recipe.model_dump_json()), "recipe.yaml", draft):
        draft.lay(layer, spread, follow=False)
    draft.lay(from_command_line(sets, flags or {}, words), spread, follow=False)
    return _build(draft, recipe.preset, recipe.why.get("preset", ""))


def dump_yaml(recipe: Recipe) -> str:
    """The recipe as YAML, in the order of the schema, with ``why`` at the end."""
    tree = recipe.model_dump(mode="json")
    for stage in tree["stages"]:
        for key in [key for key, value in stage.items() if value is None]:
            del stage[key]
    return to_yaml(tree)


def read_recipe(path: Path) -> Recipe:
    """A whole recipe as ``dump_yaml`` wrote it; no preset, no other spellings.

    Raises:
        RecipeError: The file is missing, no YAML, or holds unknown keys or wrong values.
    """
    tree = read_document(Path(path))
    recipe, problems = _validate(tree, {})
    if recipe is not None and not recipe.stages:
        problems["stages"] = "stages is missing; allowed: at least one stage"
    if recipe is None or problems:
        raise _error(list(problems.values()), f"{path} is no recipe")
    return recipe


def presets() -> dict[str, str]:
    """Name of each preset -> what it is for, in one line; ``standard`` first."""
    folder = files("espalier.recipe") / "presets"
    names = sorted(
        entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name[-5:] == ".yaml"
    )
    names.sort(key=lambda name: name != DEFAULT_PRESET)
    return {name: _purpose(_preset_text(name)) for name in names}


def _purpose(text: str) -> str:
    """The first line of the header, without the name before the colon."""
    first = text.partition("\n")[0].lstrip("# ")
    return first.partition(": ")[2] or first


def _preset_text(name: str) -> str:
    return (files("espalier.recipe") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")


def _preset_tree(name: str) -> dict[str, Any]:
    return parse_document(_preset_text(name), f"preset {name}", is_json=False)


def _choose_preset(
    preset: str | None, tree: Mapping[str, Any], file: Path | None
) -> tuple[str, str]:
    """Name and origin of the preset; one named twice, differently, is a contradiction."""
    named = tree.get("preset")
    if preset is not None and named is not None and preset != named:
        raise RecipeError(
            f"--preset {preset} and preset {short(named)} in {file} contradict",
            hint="leave out --preset, or take the line out of the file",
        )
    name = DEFAULT_PRESET if preset is None and named is None else preset or named
    known = list(presets())
    if name not in known:
        near = nearest(str(name), known)
        raise RecipeError(
            f"there is no preset {short(name)}; allowed: {', '.join(known)}",
            hint=f"--preset {near}" if near else "a file of your own is given with --config",
        )
    if preset is not None:
        return str(name), "--preset"
    if isinstance(tree.get("why"), dict):
        return str(name), str(tree["why"].get("preset", ""))
    return str(name), f"file {Path(file).name}" if named and file is not None else ""


def _epochs(draft: Draft) -> dict[str, int]:
    found = {name: draft.stage_value(name, "epochs") for name in draft.stage_names()}
    return {name: epochs for name, epochs in found.items() if isinstance(epochs, int)}


def _file_layers(tree: dict[str, Any], name: str, base: Draft) -> list[Layer]:
    """A file as a layer; a dumped recipe keeps its origins, and edits made to it since.

    The edits come as a second layer, so that what was chosen because of the old value is chosen
    again.
    """
    origin = f"file {name}"
    whole = from_tree(tree, origin)
    why = tree.get("why")
    if why is None:
        return [whole]
    if not isinstance(why, dict):
        whole.problems.append(f"why is {short(why)} ({origin}); allowed: a mapping")
        return [whole]
    edits, defaults = Layer(gentle=True), _defaults()
    for key, setting in list(whole.settings.items()):
        source = _origin_in(why, key)
        if _is_edited(key, setting.value, source, base, defaults):
            edits.settings[key] = setting
        # A default stays a default: no origin, and no part in contradictions.
        whole.settings[key] = Setting(setting.value, source or "")
    for key in edits.settings:
        whole.settings[key] = Setting(_BEFORE_EDIT, whole.settings[key].origin)
    return [whole, edits]


def _origin_in(why: Mapping[str, Any], key: str) -> str | None:
    """The recorded origin of a key, or of the table it is part of."""
    parts = key.split(".")
    for depth in range(len(parts), 1, -1):
        found = why.get(".".join(parts[:depth]))
        if isinstance(found, str):
            return found
    return None


def _is_edited(
    key: str, value: object, origin: str | None, base: Draft, defaults: Mapping[str, object]
) -> bool:
    """Whether a dumped value was changed by hand since it was written."""
    if key.startswith("augment.steps"):
        return False
    if origin is None:
        stage_default = defaults.get(f"stages.{key.rpartition('.')[2]}")
        default = stage_default if key.startswith("stages.") else defaults.get(key)
        return not key.endswith(".name") and not same(value, default)
    if origin.startswith(AUTO):
        return not origin.startswith(f"{AUTO}{short(value)}: ")
    if origin.startswith(PRESET) and base.settings.get(key, _NOWHERE).origin == origin:
        return not same(value, base.value(key))
    return False


def _defaults() -> dict[str, object]:
    """Dotted key -> default of the schema; stages without their name."""
    return {
        f"{section}.{key}": node.get("default")
        for section, keys in sections().items()
        for key, node in keys.items()
    }


def _build(draft: Draft, preset: str | None, preset_origin: str) -> Recipe:
    """Validate the merged values; all problems in one error."""
    tree = to_tree(draft.settings)
    origins = {key: setting.origin.strip() for key, setting in draft.settings.items()}
    why = {key: origin for key, origin in origins.items() if origin not in ("", AUTO.strip())}
    why = {k: v for k, v in why.items() if not (k.startswith("stages.") and k.endswith(".name"))}
    for key in [key for key in why if key.startswith(_TABLE) and why[key].startswith(AUTO)]:
        # One entry for the whole table: it has some fifty values.
        why.setdefault("augment.steps", why.pop(key))
    if preset_origin:
        why = {"preset": preset_origin, **why}
    recipe, problems = _validate({**tree, "preset": preset, "why": why}, origins)
    if recipe is None:
        recipe = _without_wrong(tree, problems, why)
    found = [*draft.problems, *problems.values()]
    if recipe is not None:
        found += contradictions(recipe)
    if found or recipe is None:
        raise _error(found, "the recipe cannot hold")
    return recipe


def _validate(
    tree: Mapping[str, Any], origins: Mapping[str, str]
) -> tuple[Recipe | None, dict[str, str]]:
    """The recipe, or a sentence for each key that is wrong.

    By way of JSON, where strict means: no text for numbers, no true for 1, lists for tuples.
    """
    text = json.dumps(tree, default=str)
    try:
        return Recipe.model_validate_json(text, strict=True), {}
    except ValidationError as error:
        return None, sentences(error, tree, origins)


def _without_wrong(
    tree: Mapping[str, Any], problems: Mapping[str, str], why: dict[str, str]
) -> Recipe | None:
    """The recipe with defaults in place of wrong values, to look for contradictions beside them."""
    clean = json.loads(json.dumps(tree, default=str))
    for key in problems:
        section, _, rest = key.partition(".")
        if section == "stages":
            _make_harmless(clean["stages"], rest)
        elif isinstance(clean.get(section), dict):
            clean[section].pop(rest.split(".")[0], None)
    recipe, _ = _validate({**clean, "why": {k: v for k, v in why.items() if k not in problems}}, {})
    return recipe


def _make_harmless(stages: list[dict[str, Any]], place: str) -> None:
    """Put a value that contradicts nothing in the place of a wrong or missing one."""
    name, _, key = place.partition(".")
    for index, stage in enumerate(stages):
        if stage.get("name", str(index)) == name or str(index) == name:
            stage.pop(key, None)
            stage.setdefault("name", f"stage{index}")
            stage.setdefault("epochs", 10**6)
            stage.setdefault("lr", 1.0)


def _error(problems: Sequence[str], opening: str) -> RecipeError:
    unique = list(dict.fromkeys(problems))
    if len(unique) == 1:
        return RecipeError(unique[0], hint=_hint(unique[0]))
    return RecipeError(f"{opening}: {len(unique)} problems", hint=_HINT, problems=unique)


def _hint(problem: str) -> str:
    """The value that was meant, where the problem names one."""
    _, asked, near = problem.rpartition("did you mean ")
    key, is_wrong, _ = problem.partition(" is ")
    if asked and is_wrong and not problem.startswith("unknown key"):
        return f"--set {key}={near.removesuffix('?')}"
    return _HINT
