"""The stage of eval sets."""

from __future__ import annotations

from moderation_pipelines.eval_sets.tables import RELEASES
from moderation_pipelines.wiring.stage import Command, HomeFile, Stage

STAGE = Stage(
    name="eval_sets",
    charter="Frames, draws, releases, diffs. Not here: what a judge makes of them.",
    tables=(RELEASES,),
    assets="moderation_pipelines.eval_sets.assets:build",
    home_files=(HomeFile("eval_sets", "*/eval_sets.yaml"),),
    problems="moderation_pipelines.eval_sets.specs:home_problems",
    commands=(
        Command("eval-sets", "Eval-set releases: list, show, diff.", "moderation_pipelines.eval_sets.commands:app"),
    ),
)
