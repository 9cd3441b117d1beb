"""Brier score: mean squared distance of probability and truth."""

from __future__ import annotations

from moderation_pipelines.metrics.classification import brier_score
from moderation_pipelines.metrics.metric import Estimate, Metric
from moderation_pipelines.stats.calibration import brier_interval
from moderation_pipelines.stats.design import Labelled


def measure(items: Labelled, draws: int, seed: int) -> Estimate:
    """t on the logit scale, open to large errors not seen yet."""
    return Estimate(brier_interval(items, draws, seed), "logit_t")


METRIC = Metric(
    "brier",
    120,
    of_probabilities=lambda given: brier_score(given.weights, given.truth, given.p),
    measure=measure,
)
