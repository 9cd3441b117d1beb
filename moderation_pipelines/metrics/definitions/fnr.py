"""Share of violating items that are not flagged, 0 to 1; undefined when nothing violates."""

from __future__ import annotations

from moderation_pipelines.metrics.classification import ratio
from moderation_pipelines.metrics.metric import Metric, Sums
from moderation_pipelines.stats.arrays import FloatArray


def fnr(sums: Sums) -> FloatArray:
    """Share of violating items that are not flagged, 0 to 1; undefined when nothing violates."""
    return ratio(sums["fn"], sums["tp"] + sums["fn"])


METRIC = Metric(
    "fnr",
    60,
    of_sums=fnr,
    denominator="violating",
    is_rate=True,
    worst_case=True,
    undefined="no violating item has a verdict",
)
