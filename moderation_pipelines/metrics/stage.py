"""The stage of metrics."""

from __future__ import annotations

from moderation_pipelines.metrics.tables import COMPARISONS, METRICS
from moderation_pipelines.wiring.stage import Command, Stage

STAGE = Stage(
    name="metrics",
    charter="Metrics of judges with intervals, and judges compared. Not here: which judge to use.",
    tables=(METRICS, COMPARISONS),
    assets="moderation_pipelines.metrics.assets:build",
    commands=(
        Command(
            "compare",
            "Two judges on one release, or one judge on two.",
            "moderation_pipelines.metrics.commands:compare",
        ),
        Command("plan", "How many items it takes to see a difference.", "moderation_pipelines.metrics.commands:plan"),
    ),
)
