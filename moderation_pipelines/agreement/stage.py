"""The stage of agreement."""

from __future__ import annotations

from moderation_pipelines.agreement.tables import AGREEMENT, DISAGREEMENTS, GUIDELINE_COMPARISONS, RATER_PAIRS
from moderation_pipelines.wiring.stage import Command, Stage

STAGE = Stage(
    name="agreement",
    charter="How far raters agree, and where they do not. Not here: which label is right.",
    phase="day",
    tables=(AGREEMENT, DISAGREEMENTS, RATER_PAIRS, GUIDELINE_COMPARISONS),
    assets="moderation_pipelines.agreement.assets:build",
    commands=(
        Command(
            "agreement",
            "Every agreement coefficient of a file of votes, with intervals and notes.",
            "moderation_pipelines.agreement.commands:agreement_command",
        ),
    ),
)
