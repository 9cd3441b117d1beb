"""Share of items whose label violates, 0 to 1: of all items, whether the judge answered or not."""

from __future__ import annotations

from moderation_pipelines.metrics.classification import ratio
from moderation_pipelines.metrics.metric import Metric, Sums
from moderation_pipelines.stats.arrays import FloatArray


def prevalence(sums: Sums) -> FloatArray:
    """Share of items whose label violates, 0 to 1."""
    tp, fp, fn, tn = (sums[k] for k in ("tp", "fp", "fn", "tn"))
    return ratio(tp + fn, tp + fp + fn + tn)


METRIC = Metric("prevalence", 70, of_sums=prevalence, is_rate=True, of_reference=True, undefined="no item")
