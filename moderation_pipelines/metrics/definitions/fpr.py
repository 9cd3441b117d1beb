"""Share of fine items that are flagged, 0 to 1; undefined when everything violates."""

from __future__ import annotations

from moderation_pipelines.metrics.classification import ratio
from moderation_pipelines.metrics.metric import Metric, Sums
from moderation_pipelines.stats.arrays import FloatArray


def fpr(sums: Sums) -> FloatArray:
    """Share of fine items that are flagged, 0 to 1; undefined when everything violates."""
    return ratio(sums["fp"], sums["fp"] + sums["tn"])


METRIC = Metric(
    "fpr", 50, of_sums=fpr, denominator="fine", is_rate=True, worst_case=True, undefined="no fine item has a verdict"
)
