"""``espalier train --dry-run``: the plan, its picture and its cost, without training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from espalier.cli.output import print_json, print_result, say

if TYPE_CHECKING:
    from espalier.recipe.schema import Recipe

PICTURE = Path("planned-learning-rates.png")


def dry_run(recipe: Recipe, as_json: bool) -> None:
    """Print data, stages, parameter counts, planned rates and a time estimate."""
    from espalier import planning
    from espalier.cli.screen import open_screen
    from espalier.report.numbers import duration
    from espalier.report.text import plan_table, split_table

    with open_screen() as screen:
        plan = planning.plan(recipe, PICTURE, watch=screen, progress=screen.on_scan)
    if as_json:
        print_json(plan.to_json())
        return
    print_result(split_table(plan.catalog))
    print_result("")
    print_result(plan_table(plan.stages))
    print_result(
        f"\nabout {duration(plan.seconds)} on {plan.device}, from two timed steps a stage;"
    )
    print_result("early stopping may end it sooner")
    print_result(f"planned learning rates: {PICTURE}")
    say("what was decided, and why: --dry-run --json, under recipe; later recipe.yaml of the run")
