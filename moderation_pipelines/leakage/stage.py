"""The stage of leakage."""

from __future__ import annotations

from moderation_pipelines.leakage.tables import LEAKAGE, NEAR_TWINS, SEEN_ITEMS
from moderation_pipelines.wiring.stage import Stage

STAGE = Stage(
    name="leakage",
    charter="Near-twins of release items, and what judges learnt of them. Not here: metrics with and without.",
    tables=(NEAR_TWINS, LEAKAGE, SEEN_ITEMS),
    assets="moderation_pipelines.leakage.assets:build",
    sections=("moderation_pipelines.leakage.sections:leakage",),
)
