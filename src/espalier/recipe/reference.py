"""Writes docs/guide/recipes.md from the schema: ``python -m espalier.recipe.reference``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from espalier.recipe.documents import short
from espalier.recipe.keys import DAILY, allowed, sections
from espalier.recipe.load import presets
from espalier.recipe.schema import Recipe
from espalier.recipe.spelling import KEYS, SECTIONS
from espalier.recipe.switches import SWITCHES

_INTRODUCTION = """\
# Recipes

Written by `make docs` from the schema; do not edit.

A recipe is everything that is decided before the first batch. It is put together from four sources;
later ones win: the defaults below, a preset (`standard` unless you name one), a file, and what you
type.

```console
espalier train photos --preset three-stage              # a preset
espalier train photos --config mine.yaml                # a YAML or JSON file; may name its preset
espalier train photos --set augment.steps.rotation.degrees=30 --set stages.most.epochs=5
espalier train photos epochs=10 lr=3e-4 batch=32        # daily words; --epochs 10 is the same
espalier train photos --print-config > mine.yaml        # a file with every key, to edit
```

- Two values for one key on the command line, or in one file, are an error: nothing wins silently.
- A value you give is never ignored. Where it cannot hold (a focal gamma without the focal loss, a
  warmup as long as its stage), it is an error that says what it needs. Only values of a preset, and
  defaults that a file repeats, are left unused where they do not apply.
- Unknown keys are errors, with the nearest key that exists.
- A value for all stages (`imgsz`, `patience`, `schedule`, `schedule.warmup_epochs`) replaces what a
  preset says for single stages.
- `epochs=N` shares N epochs over the stages in their proportion, each at least 1; warmups of the
  preset shorten with them. `lr=X` makes X the largest peak rate and scales all others with it.
- What is `auto` is decided before training, and the reason is kept under `why` in the run's
  `recipe.yaml`. That file, given with `--config`, makes the same run again. When you edit it, or
  type other values beside it, the automatic choices that depended on them are made anew.
"""

_DAILY = """\
## Daily words

`word=value`. All but `policy`, `root` and `source` are also flags: `--word value`, with hyphens for
underscores. `time` takes 90s, 20m, 1.5h.

"""

_SPELLINGS = """\
## Other spellings

Configuration files made for other trainers are read as they are, as far as their meaning exists
here; `why` keeps how a value was spelled. Names may have spaces, hyphens or capitals
(`class weighting`, `classWeighting`). Keys that begin with `_` are comments.
"""


def markdown() -> str:
    """The whole reference: presets, daily words, every key, other spellings."""
    parts = [_INTRODUCTION, _presets(), _daily(), "## Every key\n", _top()]
    parts += [_section(name) for name in sections()]
    return "\n".join([*parts, _spellings()])


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    titles = list(head)
    lines = [titles, ["---"] * len(titles), *(list(row) for row in rows)]
    cells = ([cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n"


def _presets() -> str:
    rows = ((f"`{name}`", purpose) for name, purpose in presets().items())
    return "## Presets\n\n" + _table(("preset", "what it is for"), rows)


def _daily() -> str:
    totals = {
        "epochs": "`stages.*.epochs`, shared in proportion",
        "lr": "`stages.*.lr` and `backbone_lr`, scaled",
    }
    rows = ((f"`{word}`", totals.get(word, f"`{key}`")) for word, key in DAILY.items())
    return _DAILY + _table(("word", "sets"), rows)


def _top() -> str:
    fields = Recipe.model_fields
    return f"`preset`: {fields['preset'].description}. `why`: {fields['why'].description}.\n"


def _section(name: str) -> str:
    model: Any = Recipe.model_fields[name].annotation
    model = model.__args__[0] if name == "stages" else model
    words = " ".join(model.__doc__.split())
    note = " A list; `stages.head.lr` or `stages.0.lr` names one value." if name == "stages" else ""
    rows = (
        (f"`{key}`", allowed(_key(name, key)), _default(node), node.get("description", ""))
        for key, node in sections()[name].items()
    )
    table = _table(("key", "allowed", "default", "meaning"), rows)
    return f"### {name}\n\n{words}{note}\n\n{table}"


def _key(section: str, key: str) -> str:
    return f"stages.0.{key}" if section == "stages" else f"{section}.{key}"


def _default(node: Mapping[str, Any]) -> str:
    return f"`{short(node['default'])}`" if "default" in node else "must be given"


def _spellings() -> str:
    named = [(f"`{theirs}`", f"`{ours}`") for theirs, ours in SECTIONS.items()]
    keys = [
        (f"`{section}.{theirs}`", f"`{ours}`")
        for section, table in KEYS.items()
        for theirs, ours in table.items()
        if theirs != ours
    ]
    meant = ", ".join(f"`{section}.{key}`" for section, key in SWITCHES)
    return "\n".join(
        [
            _SPELLINGS,
            _table(("section", "read as"), named),
            _table(("key", "read as"), keys),
            f"These are understood by their meaning: {meant}. `enabled: false` beside other values "
            "of the same section is a contradiction, and an error.\n",
        ]
    )


if __name__ == "__main__":
    sys.stdout.write(markdown())
