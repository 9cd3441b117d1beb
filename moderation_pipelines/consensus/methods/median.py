"""Median: the middle vote, for ordered labels."""

from __future__ import annotations

from moderation_pipelines.consensus.decision import decided
from moderation_pipelines.consensus.method import Aggregate, Method
from moderation_pipelines.stats.arrays import IntArray
from moderation_pipelines.votes.matrix import VoteMatrix


def median(votes: VoteMatrix, gold: IntArray | None, ordinal: bool, restarts: int) -> Aggregate:
    """The label of the middle vote; gold teaches it nothing."""
    return Aggregate(votes.shares, decided(votes.shares, by_median=True))


METHOD = Method("median", 2, median, needs_order=True, learns=False, shares="votes", calibrates=False)
