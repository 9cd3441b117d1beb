"""Average precision: precision at each violating item down the ranking, averaged."""

from __future__ import annotations

from moderation_pipelines.metrics.classification import average_precision
from moderation_pipelines.metrics.metric import Metric

METRIC = Metric(
    "average_precision",
    110,
    of_probabilities=lambda given: average_precision(given.ranked),
    undefined="no violating item is there",
)
