"""Average precision: precision at each violating item down the ranking, averaged."""

from __future__ import annotations

from moderation_pipelines.metrics.classification import average_precision
from moderation_pipelines.metrics.metric import Estimate, Metric
from moderation_pipelines.stats.design import Labelled
from moderation_pipelines.stats.ranking import average_precision_interval


def measure(items: Labelled, draws: int, seed: int) -> Estimate:
    """Smoothed Bayesian bootstrap."""
    return Estimate(average_precision_interval(items, draws, seed), "smoothed_bootstrap")


METRIC = Metric(
    "average_precision",
    110,
    of_probabilities=lambda given: average_precision(given.ranked),
    undefined="no violating item is there",
    measure=measure,
)
