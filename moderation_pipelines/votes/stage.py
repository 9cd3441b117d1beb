"""The stage of votes: no table of its own, but the check of stored votes against the policies."""

from __future__ import annotations

from moderation_pipelines.wiring.stage import Stage

STAGE = Stage(
    name="votes",
    charter="Which votes count, by item, as a matrix, on a scale. Not here: what they add up to.",
    phase="day",
    problems="moderation_pipelines.votes.stored:home_problems",
)
