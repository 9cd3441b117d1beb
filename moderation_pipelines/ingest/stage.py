"""The stage of ingestion."""

from __future__ import annotations

from moderation_pipelines.ingest.feed import FEEDS
from moderation_pipelines.ingest.tables import CONVERSIONS, DROPS, QUARANTINE
from moderation_pipelines.wiring.stage import Stage

STAGE = Stage(
    name="ingest",
    charter="Drop files in; content, votes, quarantine and drops out, every row counted. Not here: which votes count.",
    phase="day",
    tables=(DROPS, QUARANTINE, CONVERSIONS, *(t for feed in FEEDS for t in (feed.table, *feed.along))),
    assets="moderation_pipelines.ingest.assets:build",
    problems="moderation_pipelines.ingest.sides:home_problems",
)
