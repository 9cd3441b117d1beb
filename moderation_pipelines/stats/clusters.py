"""Items that hang together, such as variants of one original: how much less they say than as many independent ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moderation_pipelines.stats.arrays import FloatArray, IntArray, weighted_sums
from moderation_pipelines.stats.intervals import ROUNDING, UNDEFINED, Z95, Interval

MIN_CLUSTERS = 10
_PRIOR = 2.0


@dataclass(frozen=True)
class DesignEffect:
    """``value``: variance over that of as many independent items, from 1. ``n_clusters``: that the items are in."""

    value: float
    n_clusters: int

    @property
    def widening(self) -> float:
        """What a variance is multiplied by: the design effect, and that it is known from few clusters only."""
        from scipy.special import stdtrit

        return self.value * float(stdtrit(max(self.n_clusters - 1, 1), 0.975) / Z95) ** 2


def design_effect(
    without_item: FloatArray, without_cluster: FloatArray, weight: FloatArray, cluster: IntArray
) -> DesignEffect:
    """The design effect of an estimate.

    ``without_item``, ``without_cluster``: the estimate with one item, or one cluster, left out (NaN where undefined).
    ``weight``, ``cluster``: of the items it rests on. The ratio of the two jackknife variances, pulled by two clusters
    towards that of clusters all of whose items are alike: a single error says nothing of whether errors come together.
    Sources: Kish (1965), Survey Sampling, section 5.4; Wolter (2007), Introduction to Variance Estimation, 2nd ed.,
    chapter 4 (jackknife by cluster). Measured: docs/simulations.md.
    """
    n_clusters = len(np.unique(cluster))
    totals = weighted_sums(cluster, weight, int(cluster.max(initial=-1)) + 1)
    most = float((totals**2).sum() / (weight**2).sum()) if weight.any() else 1.0
    by_item, _ = _jackknife(without_item)
    by_cluster, contributing = _jackknife(without_cluster)
    found = by_cluster / by_item if by_item > ROUNDING**2 else most
    value = (contributing * found + _PRIOR * most) / (contributing + _PRIOR)
    return DesignEffect(max(1.0, value), n_clusters)


def _jackknife(without: FloatArray) -> tuple[float, float]:
    """(jackknife variance, effective number of units behind it). Source: Efron & Tibshirani (1993), chapter 11."""
    known = without[~np.isnan(without)]
    n = len(known)
    if n < 2:
        return 0.0, 0.0
    squares = (known - known.mean()) ** 2
    total = float(squares.sum())
    if total <= ROUNDING**2:
        return 0.0, 0.0
    return total * (n - 1) / n, total**2 / float((squares**2).sum())


def widened(value: float, interval: Interval, factor: float, low: float = 0.0, high: float = 1.0) -> Interval:
    """The interval as if its variance were ``factor`` times as large, between the bounds ``low`` and ``high``.

    On the logit scale; where the value is at a bound the odds of an end go with one over n, so by the factor itself.
    With an infinite upper bound on the plain scale. Undefined stays undefined.
    """
    if interval.low is None or interval.high is None or np.isnan(value):
        return UNDEFINED
    if np.isinf(high):
        root = float(np.sqrt(factor))
        return Interval(max(low, value - (value - interval.low) * root), value + (interval.high - value) * root)
    ends = [_moved(value, end, factor, low, high) for end in (interval.low, interval.high)]
    return Interval(ends[0], ends[1])


def _moved(value: float, end: float, factor: float, low: float, high: float) -> float:
    from scipy.special import expit, logit

    at, to = (value - low) / (high - low), (end - low) / (high - low)
    if to <= 0 or to >= 1 or at == to:
        return end
    if at <= 0:
        moved = logit(to) + np.log(factor)
    elif at >= 1:
        moved = logit(to) - np.log(factor)
    else:
        moved = logit(at) + (logit(to) - logit(at)) * np.sqrt(factor)
    return float(low + (high - low) * expit(moved))


@dataclass(frozen=True)
class Mean:
    """A mean with its standard error and the degrees of freedom of that."""

    value: float
    se: float
    degrees: int


def cluster_mean(x: FloatArray, cluster: IntArray) -> Mean:
    """The mean of ``x`` with a standard error by cluster; of clusters of one the usual one. NaN below two clusters.

    Source: Liang & Zeger (1986), Biometrika 73, 13-22, with the C / (C - 1) of Wolter (2007), section 6.11.
    """
    codes = np.unique(cluster, return_inverse=True)[1].reshape(-1)
    n, mean = int(codes.max(initial=-1)) + 1, float(x.mean()) if len(x) else float("nan")
    if n < 2:
        return Mean(mean, float("nan"), 0)
    sums = weighted_sums(codes, x - mean, n)
    return Mean(mean, float(np.sqrt(n / (n - 1) * (sums**2).sum())) / len(x), n - 1)
