"""Clustered items, such as variants of one original: how much less they say than as many independent ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moderation_pipelines.stats.arrays import FloatArray, IntArray, weighted_sums
from moderation_pipelines.stats.intervals import UNDEFINED, Z95, Interval

MIN_CLUSTERS = 10
_PRIOR = 2.0
_TINY = 1e-24


@dataclass(frozen=True)
class DesignEffect:
    """``value``: variance over that of as many independent items, from 1. ``n_clusters``: number of clusters the items
    are in. ``by_item``: the variance of independent items."""

    value: float
    n_clusters: int
    by_item: float = 0.0

    @property
    def widening(self) -> float:
        """What a variance is multiplied by: the design effect, and that it is known from few clusters only."""
        return self.value * self.of_few

    @property
    def of_few(self) -> float:
        """The square of t over the normal at the clusters' degrees of freedom."""
        from scipy.special import stdtrit

        return float(stdtrit(max(self.n_clusters - 1, 1), 0.975) / Z95) ** 2


def design_effect(
    without_item: FloatArray, without_cluster: FloatArray, weight: FloatArray, cluster: IntArray, mask: np.ndarray
) -> DesignEffect:
    """The design effect of an estimate.

    ``without_item``, ``without_cluster``: the estimate with each item, or each cluster, left out (NaN where undefined).
    ``weight``, ``cluster`` (codes from 0): of all items; ``mask``: those the estimate rests on.

    The intracluster correlation (1: all items of a cluster alike, 0: independent) is estimated from clusters of two
    items or more by their influence on the estimate, pulled by two clusters towards 1: a single error says nothing of
    whether errors come together. With it the variance is 1 + correlation x (m - 1) times that of independent items,
    m being the weighted size of a cluster; the plain ratio of the two jackknife variances counts where it is larger.
    1, in 0 clusters, without items.
    Sources: Kish (1965), Survey Sampling, section 5.4; Wolter (2007), Introduction to Variance Estimation, 2nd ed.,
    chapter 4 (jackknife by cluster). Measured: docs/simulations.md.
    """
    n = int(cluster.max(initial=-1)) + 1
    totals = weighted_sums(cluster[mask], weight[mask], n)
    most = float((totals**2).sum() / (weight[mask] ** 2).sum()) if weight[mask].any() else 1.0
    n_clusters = len(np.unique(cluster[mask]))
    by_item, of_item = _influence(without_item)
    by_cluster, of_cluster = _influence(without_cluster)
    squares = weighted_sums(cluster[mask], of_item[mask] ** 2, n)
    sizes = np.bincount(cluster[mask], minlength=n)
    room = (sizes - 1) * squares
    several = sizes > 1
    correlation, known = 1.0, 0.0
    if room[several].sum() > _TINY:
        correlation = float((of_cluster[several] ** 2 - squares[several]).sum() / room[several].sum())
        known = float(room[several].sum() ** 2 / (room[several] ** 2).sum())
    correlation = min(max((known * correlation + _PRIOR) / (known + _PRIOR), 0.0), 1.0)
    plain = by_cluster / by_item if by_item > _TINY else 1.0
    return DesignEffect(max(1.0, plain, 1 + correlation * (most - 1)), n_clusters, by_item)


def _influence(without: FloatArray) -> tuple[float, FloatArray]:
    """(jackknife variance, influence of each unit: how far the estimate moves without it, 0 where it is undefined).

    Source: Efron & Tibshirani (1993), An Introduction to the Bootstrap, chapter 11.
    """
    known = ~np.isnan(without)
    n = int(known.sum())
    if n < 2:
        return 0.0, np.zeros(len(without))
    off = np.where(known, without[known].mean() - without, 0.0)
    return float((off**2).sum()) * (n - 1) / n, off


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
    """A mean with its standard error and the degrees of freedom of that; ``n_clusters`` behind it."""

    value: float
    se: float
    degrees: int
    n_clusters: int


def cluster_mean(x: FloatArray, cluster: IntArray) -> Mean:
    """The mean of ``x`` with a standard error by cluster; of clusters of one the usual one. Below two clusters
    the standard error is NaN and there are 0 degrees of freedom.

    Source: Liang & Zeger (1986), Biometrika 73, 13-22, with the C / (C - 1) of Wolter (2007), section 6.11.
    """
    codes = np.unique(cluster, return_inverse=True)[1].reshape(-1)
    n, mean = int(codes.max(initial=-1)) + 1, float(x.mean()) if len(x) else float("nan")
    if n < 2:
        return Mean(mean, float("nan"), 0, n)
    sums = weighted_sums(codes, x - mean, n)
    return Mean(mean, float(np.sqrt(n / (n - 1) * (sums**2).sum())) / len(x), n - 1, n)
