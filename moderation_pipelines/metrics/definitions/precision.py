"""Share of flagged items that violate, 0 to 1; undefined when nothing is flagged."""

from __future__ import annotations

from moderation_pipelines.metrics.classification import ratio
from moderation_pipelines.metrics.metric import Metric, Sums
from moderation_pipelines.stats.arrays import FloatArray


def precision(sums: Sums) -> FloatArray:
    """Share of flagged items that violate, 0 to 1; undefined when nothing is flagged."""
    return ratio(sums["tp"], sums["tp"] + sums["fp"])


METRIC = Metric(
    "precision",
    20,
    of_sums=precision,
    denominator="flagged",
    is_rate=True,
    worst_case=True,
    undefined="no item was flagged",
)
