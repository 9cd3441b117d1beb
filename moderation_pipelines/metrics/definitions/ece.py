"""Expected calibration error: mean gap between probability and share violating, without the bias of few items."""

from __future__ import annotations

from moderation_pipelines.metrics.classification import expected_calibration_error
from moderation_pipelines.metrics.metric import Estimate, Metric
from moderation_pipelines.stats.calibration import calibration_error
from moderation_pipelines.stats.design import Labelled


def measure(items: Labelled, draws: int, seed: int) -> Estimate:
    """Value and interval by test inversion; the plain value as its remark."""
    found = calibration_error(items, draws, seed)
    said = f"bias of few items taken out; the plain value is {found.plain:.4f}"
    return Estimate(found.interval, "test_inversion", found.value, said)


METRIC = Metric(
    "ece",
    130,
    of_probabilities=lambda given: expected_calibration_error(given.weights, given.truth, given.p),
    measure=measure,
)
