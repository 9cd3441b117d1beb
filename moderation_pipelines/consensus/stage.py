"""The stage of consensus."""

from __future__ import annotations

from moderation_pipelines.consensus.tables import CONSENSUS, CONSENSUS_METHODS, RELIABILITY
from moderation_pipelines.wiring.stage import Command, Stage

STAGE = Stage(
    name="consensus",
    charter="Votes to labels, by methods measured on gold. Not here: who the raters are.",
    phase="day",
    tables=(CONSENSUS_METHODS, RELIABILITY, CONSENSUS),
    assets="moderation_pipelines.consensus.assets:build",
    commands=(
        Command(
            "consensus",
            "A label for every item of a file of votes.",
            "moderation_pipelines.consensus.commands:consensus_command",
        ),
    ),
)
