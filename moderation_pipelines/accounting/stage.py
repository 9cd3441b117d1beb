"""The stage that closes the day."""

from __future__ import annotations

from moderation_pipelines.accounting.tables import VALIDATIONS
from moderation_pipelines.tables.left_out import LEFT_OUT
from moderation_pipelines.wiring.stage import Stage

STAGE = Stage(
    name="accounting",
    charter="What held and what was left out, collected from every stage. Not here: the checks themselves.",
    tables=(VALIDATIONS, LEFT_OUT),
    assets="moderation_pipelines.accounting.assets:build",
)
