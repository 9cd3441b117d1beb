"""Brier score: mean squared distance of probability and truth."""

from __future__ import annotations

from moderation_pipelines.metrics.classification import brier_score
from moderation_pipelines.metrics.metric import Metric

METRIC = Metric("brier", 120, of_probabilities=lambda given: brier_score(given.weights, given.truth, given.p))
