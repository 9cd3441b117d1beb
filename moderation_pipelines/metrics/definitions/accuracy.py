"""Share of items judged as the label says, 0 to 1."""

from __future__ import annotations

from moderation_pipelines.metrics.classification import ratio
from moderation_pipelines.metrics.metric import Metric, Sums
from moderation_pipelines.stats.arrays import FloatArray


def accuracy(sums: Sums) -> FloatArray:
    """Share of items judged as the label says, 0 to 1."""
    tp, fp, fn, tn = (sums[k] for k in ("tp", "fp", "fn", "tn"))
    return ratio(tp + tn, tp + fp + fn + tn)


METRIC = Metric("accuracy", 10, of_sums=accuracy, is_rate=True, worst_case=True)
