"""The stage of probes."""

from __future__ import annotations

from moderation_pipelines.probes.tables import CANARIES, INJECTIONS
from moderation_pipelines.probes.thresholds import ProbesThresholds
from moderation_pipelines.wiring.stage import Stage

STAGE = Stage(
    name="probes",
    charter="Judges asked again on purpose: the same item, an order in the item. Not here: ordinary scores.",
    tables=(CANARIES, INJECTIONS),
    assets="moderation_pipelines.probes.assets:build",
    thresholds=ProbesThresholds,
)
