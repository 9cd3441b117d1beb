"""The stage of policies."""

from __future__ import annotations

from moderation_pipelines.policies.tables import POLICIES
from moderation_pipelines.wiring.stage import HomeFile, Stage

STAGE = Stage(
    name="policies",
    charter="Policy files, loaded and checked; label sets. Not here: prompts made from them.",
    phase="day",
    tables=(POLICIES,),
    assets="moderation_pipelines.policies.assets:build",
    home_files=(HomeFile("policy", "*/policy.yaml"),),
    problems="moderation_pipelines.policies.policy:home_problems",
)
