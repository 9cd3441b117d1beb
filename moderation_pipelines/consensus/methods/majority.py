"""Majority: the label with the most votes, vote shares as posterior."""

from __future__ import annotations

from moderation_pipelines.consensus.decision import decided
from moderation_pipelines.consensus.method import Aggregate, Method
from moderation_pipelines.stats.arrays import IntArray
from moderation_pipelines.votes.matrix import VoteMatrix


def majority(votes: VoteMatrix, gold: IntArray | None, ordinal: bool, restarts: int) -> Aggregate:
    """The label with the most votes; gold teaches it nothing."""
    return Aggregate(votes.shares, decided(votes.shares, by_median=False))


METHOD = Method("majority", 1, majority, learns=False, shares="votes")
