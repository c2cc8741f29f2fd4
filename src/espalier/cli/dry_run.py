"""``espalier train --dry-run``: the plan, its picture and its cost, without training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from espalier.cli.output import print_json, print_result, say

if TYPE_CHECKING:
    from espalier.planning import Plan
    from espalier.recipe.schema import Recipe

PICTURE = Path("planned-learning-rates.png")


def dry_run(recipe: Recipe, as_json: bool) -> None:
    """Print data, stages, parameter counts, planned rates and a time estimate."""
    from espalier import planning
    from espalier.cli.screen import open_screen
    from espalier.report.text import plan_notes, plan_table, split_table

    with open_screen() as screen:
        plan = planning.plan(recipe, PICTURE, watch=screen, progress=screen.on_scan)
    if as_json:
        print_json(plan.to_json())
        return
    for text in (split_table(plan.catalog), "", plan_table(plan.stages), ""):
        print_result(text)
    for line in [*plan_notes(plan.stages), "", *cost_lines(plan)]:
        print_result(line)
    print_result(f"planned learning rates: {PICTURE}")
    say("what was decided, and why: --dry-run --json, under recipe; later recipe.yaml of the run")


def cost_lines(plan: Plan) -> list[str]:
    """How long it will take, in all and for what."""
    from espalier.report.numbers import duration
    from espalier.report.paragraphs import wrapped

    parts = [f"stages {duration(sum(stage.seconds for stage in plan.stages))}"]
    if plan.baseline_seconds:
        parts.insert(0, f"instant baseline {duration(plan.baseline_seconds)}")
    parts.append(f"pictures and final scores {duration(plan.scores_seconds)}")
    return wrapped(
        f"about {duration(plan.seconds)} on {plan.device}: {', '.join(parts)}; "
        "by timing a batch or two of each kind of work"
    )
