"""GLAD: raters differ in skill and items in how hard they are."""

from __future__ import annotations

from moderation_pipelines.consensus.decision import decided
from moderation_pipelines.consensus.glad_model import glad
from moderation_pipelines.consensus.method import Aggregate, Method
from moderation_pipelines.stats.arrays import IntArray
from moderation_pipelines.votes.matrix import VoteMatrix


def fit(votes: VoteMatrix, gold: IntArray | None, ordinal: bool, restarts: int) -> Aggregate:
    """The model's posterior, gold held fixed."""
    found = glad(votes, gold)
    return Aggregate(found.posterior, decided(found.posterior, ordinal), found.iterations, found.converged)


METHOD = Method("glad", 7, fit)
