"""AUROC: the chance that a violating item gets a higher probability than a fine one."""

from __future__ import annotations

from moderation_pipelines.metrics.classification import auroc
from moderation_pipelines.metrics.metric import Estimate, Metric
from moderation_pipelines.stats.design import Labelled
from moderation_pipelines.stats.ranking import auroc_interval


def measure(items: Labelled, draws: int, seed: int) -> Estimate:
    """Weighted DeLong on the logit scale."""
    return Estimate(auroc_interval(items), "delong")


METRIC = Metric(
    "auroc",
    100,
    of_probabilities=lambda given: auroc(given.ranked),
    undefined="only one class is there",
    measure=measure,
)
