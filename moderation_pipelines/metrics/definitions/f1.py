"""F1: the harmonic mean of precision and recall, 0 to 1."""

from __future__ import annotations

from moderation_pipelines.metrics.classification import ratio
from moderation_pipelines.metrics.metric import Judged, Metric, Sums
from moderation_pipelines.stats.arrays import FloatArray
from moderation_pipelines.stats.intervals import UNDEFINED, Interval, effective_sample_size, wilson_interval


def f1(sums: Sums) -> FloatArray:
    """2 tp / (2 tp + fp + fn); undefined when nothing violates and nothing is flagged."""
    tp, fp, fn = (sums[k] for k in ("tp", "fp", "fn"))
    return ratio(2 * tp, 2 * tp + fp + fn)


def interval_by_jaccard(judged: Judged) -> Interval:
    """Interval of F1 through J = tp / (tp + fp + fn), a proportion with a Wilson interval: F1 = 2 J / (1 + J)."""
    concerned = (judged.truth + judged.flagged) > 0
    weight = judged.weight[concerned]
    hits = judged.truth[concerned] * judged.flagged[concerned]
    n = effective_sample_size(weight)
    if n <= 0:
        return UNDEFINED
    ends = wilson_interval(float(weight @ hits) / float(weight.sum()) * n, n)
    low, high = (None if e is None else 2 * e / (1 + e) for e in (ends.low, ends.high))
    return Interval(low, high)


METRIC = Metric(
    "f1",
    40,
    of_sums=f1,
    worst_case=True,
    undefined="no item with a verdict violates, and none was flagged",
    fallback=("wilson_jaccard", interval_by_jaccard),
)
