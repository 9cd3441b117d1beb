"""Expected calibration error: mean gap between probability and share violating."""

from __future__ import annotations

from moderation_pipelines.metrics.classification import expected_calibration_error
from moderation_pipelines.metrics.metric import Metric

METRIC = Metric(
    "ece",
    130,
    of_probabilities=lambda given: expected_calibration_error(given.weights, given.truth, given.p),
    is_inflated=True,
)
