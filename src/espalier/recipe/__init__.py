"""The recipe: its schema, where its values come from, and the choice of what is left open.

``schema`` says what there is; ``load`` reads it; ``resolve`` decides what is ``auto``. Importing
this package loads pydantic and PyYAML, no torch and no numpy.
"""

from espalier.recipe.load import (
    change_recipe,
    dump_yaml,
    load_recipe,
    parse_duration,
    presets,
    read_recipe,
)
from espalier.recipe.resolve import resolve
from espalier.recipe.schema import Recipe, Stage

__all__ = [
    "Recipe",
    "Stage",
    "change_recipe",
    "dump_yaml",
    "load_recipe",
    "parse_duration",
    "presets",
    "read_recipe",
    "resolve",
]
