"""The stage of rater cards."""

from __future__ import annotations

from moderation_pipelines.raters.tables import RATERS
from moderation_pipelines.wiring.stage import Stage

STAGE = Stage(
    name="raters",
    charter="Rater cards: accuracy, bias, drift, speed, repeats. Not here: what to pay or teach them.",
    phase="day",
    tables=(RATERS,),
    assets="moderation_pipelines.raters.assets:build",
)
