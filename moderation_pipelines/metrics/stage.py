"""The stage of metrics."""

from __future__ import annotations

from moderation_pipelines.metrics.tables import COMPARISONS, JUDGE_VALIDITY, METRICS, OPERATING_POINTS
from moderation_pipelines.metrics.thresholds import MetricsThresholds
from moderation_pipelines.wiring.stage import Command, Stage

STAGE = Stage(
    name="metrics",
    charter="Metrics of judges with intervals, and judges compared. Not here: which judge to use.",
    tables=(METRICS, COMPARISONS, OPERATING_POINTS, JUDGE_VALIDITY),
    assets="moderation_pipelines.metrics.assets:build",
    thresholds=MetricsThresholds,
    sections=(
        "moderation_pipelines.metrics.sections:judge_validity",
        "moderation_pipelines.metrics.sections:operating_points",
    ),
    commands=(
        Command(
            "compare",
            "Two judges on one release, or one judge on two.",
            "moderation_pipelines.metrics.commands:compare",
        ),
        Command("plan", "How many items it takes to see a difference.", "moderation_pipelines.metrics.commands:plan"),
    ),
)
