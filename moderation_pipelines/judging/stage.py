"""The stage of judging."""

from __future__ import annotations

from moderation_pipelines.judging.tables import BATCHES, JUDGE_RUNS, SCORES
from moderation_pipelines.judging.thresholds import JudgingThresholds
from moderation_pipelines.wiring.stage import Command, HomeFile, Stage

STAGE = Stage(
    name="judging",
    charter="Judges asked, every call paid once, one outcome each. Not here: how good they are.",
    tables=(SCORES, JUDGE_RUNS, BATCHES),
    assets="moderation_pipelines.judging.assets:build",
    home_files=(HomeFile("judges", "judges.yaml"),),
    problems="moderation_pipelines.judging.judges_file:home_problems",
    thresholds=JudgingThresholds,
    commands=(
        Command(
            "batches",
            "List the batches that judges with `via: batch` sent, newest last.",
            "moderation_pipelines.judging.commands:batches",
        ),
        Command(
            "probe",
            "Find out what a judge's endpoint can do and keep it for the runs.",
            "moderation_pipelines.judging.commands:probe",
        ),
    ),
)
