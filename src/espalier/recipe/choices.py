"""A recipe in the making: values that were chosen, each with its reason, and problems found."""

from __future__ import annotations

from typing import Any

from espalier.errors import RecipeError
from espalier.recipe.documents import short
from espalier.recipe.merge import AUTO, is_given
from espalier.recipe.schema import Recipe


class Choices:
    """A recipe in the making: values, reasons, and problems found on the way.

    Keys are dotted, stages by name: ``stages.head.lr``.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._tree: dict[str, Any] = recipe.model_dump()
        self._why = dict(recipe.why)
        self.stage_names = [stage.name for stage in recipe.stages]
        self.problems: list[str] = []
        self.hint = ""

    def get(self, key: str) -> Any:
        """A value as it stands."""
        section, _, name = key.partition(".")
        if section == "stages":
            stage, _, name = name.partition(".")
            return self._tree["stages"][self.stage_names.index(stage)][name]
        return self._tree[section][name]

    def choose(self, key: str, value: object, reason: str) -> None:
        """Put in a value with its reason."""
        section, _, name = key.partition(".")
        place = self._tree[section]
        if section == "stages":
            stage, _, name = name.partition(".")
            place = place[self.stage_names.index(stage)]
        place[name] = value
        shown = list(value) if isinstance(value, tuple) else value
        self._why[key] = f"{AUTO}{short(shown)}: {reason}"

    def note(self, key: str, origin: str) -> None:
        """Record where a value comes from that stays as it is, or that is a whole table."""
        self._why.setdefault(key, origin)

    def place(self, key: str, value: object) -> None:
        """Put in a value whose origins are already on record."""
        section, _, name = key.partition(".")
        self._tree[section][name] = value

    def is_given(self, key: str) -> bool:
        """Whether a person gave this value."""
        return is_given(self._why.get(key))

    def said(self, key: str) -> str:
        """``training.batch is 64 (--batch 64)``."""
        origin = self._why.get(key, "")
        return f"{key} is {short(self.get(key))}" + (f" ({origin})" if origin else "")

    def problem(self, text: str, hint: str) -> None:
        """Note what cannot hold; the first hint is the one that is shown."""
        self.problems.append(text)
        self.hint = self.hint or hint

    def check(self) -> None:
        """Raise what was found, all of it.

        Raises:
            RecipeError: There are problems.
        """
        if len(self.problems) == 1:
            raise RecipeError(self.problems[0], hint=self.hint)
        if self.problems:
            raise RecipeError(
                f"the recipe cannot hold here: {len(self.problems)} problems",
                hint=self.hint,
                problems=self.problems,
            )

    def recipe(self) -> Recipe:
        """The recipe as decided so far."""
        return Recipe.model_validate({**self._tree, "why": self._why})
