"""The stage of agreement."""

from __future__ import annotations

from moderation_pipelines.agreement.tables import AGREEMENT, DISAGREEMENTS, GUIDELINE_COMPARISONS, RATER_PAIRS
from moderation_pipelines.wiring.stage import Stage

STAGE = Stage(
    name="agreement",
    charter="How far raters agree, and where they do not. Not here: which label is right.",
    phase="day",
    tables=(AGREEMENT, DISAGREEMENTS, RATER_PAIRS, GUIDELINE_COMPARISONS),
    assets="moderation_pipelines.agreement.assets:build",
)
