"""Share of items the judge flags, 0 to 1."""

from __future__ import annotations

from moderation_pipelines.metrics.classification import ratio
from moderation_pipelines.metrics.metric import Metric, Sums
from moderation_pipelines.stats.arrays import FloatArray


def flag_rate(sums: Sums) -> FloatArray:
    """Share of items the judge flags, 0 to 1."""
    tp, fp, fn, tn = (sums[k] for k in ("tp", "fp", "fn", "tn"))
    return ratio(tp + fp, tp + fp + fn + tn)


METRIC = Metric("flag_rate", 80, of_sums=flag_rate, is_rate=True, worst_case=True)
