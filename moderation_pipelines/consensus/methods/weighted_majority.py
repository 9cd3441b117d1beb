"""Weighted majority: votes weigh by the log-odds of their rater being right."""

from __future__ import annotations

from moderation_pipelines.consensus.decision import decided
from moderation_pipelines.consensus.method import Aggregate, Method
from moderation_pipelines.consensus.weights import rater_weights, weighted_majority
from moderation_pipelines.stats.arrays import IntArray
from moderation_pipelines.votes.matrix import VoteMatrix


def fit(votes: VoteMatrix, gold: IntArray | None, ordinal: bool, restarts: int) -> Aggregate:
    """Label shares of the weights behind them; gold teaches the weights."""
    posterior = weighted_majority(votes, rater_weights(votes, gold))
    return Aggregate(posterior, decided(posterior, ordinal))


METHOD = Method("weighted_majority", 3, fit, shares="weights")
