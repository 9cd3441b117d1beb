"""The stage of reports."""

from __future__ import annotations

from moderation_pipelines.wiring.stage import Stage

STAGE = Stage(
    name="reports",
    charter="Pages made of sections and advice of every stage. Not here: how a number is computed.",
    assets="moderation_pipelines.reports.assets:build",
)
