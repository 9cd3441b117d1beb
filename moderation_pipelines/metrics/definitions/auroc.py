"""AUROC: the chance that a violating item gets a higher probability than a fine one."""

from __future__ import annotations

from moderation_pipelines.metrics.classification import auroc
from moderation_pipelines.metrics.metric import Metric

METRIC = Metric("auroc", 100, of_probabilities=lambda given: auroc(given.ranked), undefined="only one class is there")
