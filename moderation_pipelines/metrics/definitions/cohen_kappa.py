"""Cohen's kappa: agreement of judge and labels beyond chance, -1 to 1."""

from __future__ import annotations

from moderation_pipelines.metrics.classification import ratio
from moderation_pipelines.metrics.metric import Metric, Sums
from moderation_pipelines.stats.arrays import FloatArray


def cohen_kappa(sums: Sums) -> FloatArray:
    """Agreement beyond chance; undefined when judge and labels are one and the same single class.

    Source: Cohen (1960), Educational and Psychological Measurement 20, 37-46.
    """
    tp, fp, fn, tn = (sums[k] for k in ("tp", "fp", "fn", "tn"))
    n = tp + fp + fn + tn
    observed = ratio(tp + tn, n)
    chance = ratio((tp + fn) * (tp + fp) + (tn + fp) * (tn + fn), n * n)
    return ratio(observed - chance, 1 - chance)


METRIC = Metric("cohen_kappa", 90, of_sums=cohen_kappa, undefined="labels and judge are one single class")
