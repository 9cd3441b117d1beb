"""How far probabilities are from what happens, with intervals: Brier score and calibration error."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from moderation_pipelines.stats.arrays import FloatArray, IntArray, weighted_sums
from moderation_pipelines.stats.design import Labelled
from moderation_pipelines.stats.intervals import UNDEFINED, Interval, effective_sample_size, logit_interval
from moderation_pipelines.stats.ranking import MIN_PER_CLASS

BINS = 10
_SCALES = np.concatenate([np.linspace(0, 1.5, 61), np.linspace(1.6, 6, 45)])
_UNSEEN = 0.5


def bin_of(p: FloatArray) -> IntArray:
    """Which of ten equal-width bins a probability is in."""
    return np.minimum((p * BINS).astype(np.int64), BINS - 1)


def brier_interval(items: Labelled, draws: int, seed: int, level: float = 0.95) -> Interval:
    """Interval of the Brier score: t on the logit scale, its upper end open to a large error not seen yet.

    The sample of a heavy, rarely wrong class holds few of its large errors or none. So the upper end is at least that
    of a Bayesian bootstrap in which each class has half an item more, with a squared error between the largest seen
    and 1; where all errors are equal it is all there is. Undefined with fewer than ten items of a class.
    Sources: as :func:`moderation_pipelines.stats.ranking.average_precision_interval`. Measured: docs/simulations.md.
    """
    if items.n_of_rarer < MIN_PER_CLASS:
        return UNDEFINED
    error = (items.p - items.truth) ** 2
    share = items.weight / items.weight.sum()
    value = float(share @ error)
    parts = share * (error - value)
    found = logit_interval(value, math.sqrt(items.variance(parts)), items.degrees(parts), level)
    low, high = value * (1 - _unseen(items, level)), value
    if found.low is not None and found.high is not None:
        low, high = found.low, found.high
    generator = np.random.default_rng(seed)
    drawn = np.concatenate([_error_draws(items, error, generator, size) for size in items.batches(draws)])
    return Interval(low, min(1.0, max(high, float(np.quantile(drawn, 1 - (1 - level) / 2)))))


def _error_draws(items: Labelled, error: FloatArray, generator: np.random.Generator, draws: int) -> FloatArray:
    violating = items.share_draws(generator, draws)
    total = np.zeros(draws)
    for label, share in ((1.0, violating), (0.0, 1 - violating)):
        mine = items.truth == label
        weight = np.append(items.weight[mine], items.weight[mine].mean() * _UNSEEN)
        drawn = generator.exponential(size=(draws, len(weight))) * weight
        unseen = error[mine].max() + generator.random(draws) * (1 - error[mine].max())
        total += share * (drawn[:, :-1] @ error[mine] + drawn[:, -1] * unseen) / drawn.sum(axis=1)
    return total


@dataclass(frozen=True)
class CalibrationError:
    """``value``: the expected calibration error without its bias; ``plain``: as usually printed, which n inflates."""

    value: float
    plain: float
    interval: Interval


def calibration_error(items: Labelled, draws: int, seed: int, level: float = 0.95) -> CalibrationError:
    """Expected calibration error over ten equal-width bins, with the bias of few items taken out, and its interval.

    Every bin's gap is noisy, and the size of a noisy gap is too large even where the true one is 0. So the true gaps
    are taken to be the observed ones, or their standard errors where those are larger, times some factor, and the
    plain value is compared with what that factor would give: the value is where the plain one is the median, the ends
    where it is in either tail. It can be 0: no more than noise. The upper end leaves room for an error that none of
    the items showed (as many in n as none seen allow). Undefined interval with fewer than ten items of a class.
    Source: Naeini, Cooper & Hauskrecht (2015), AAAI 29, 2901-2907 (the plain value); test inversion: Efron &
    Tibshirani (1993), section 12.4; the bias: Roelofs et al. (2022), AISTATS, 4036-4054. Measured: docs/simulations.md.
    """
    share, bins = items.weight / items.weight.sum(), bin_of(items.p)
    gaps = np.abs(weighted_sums(bins, share * (items.p - items.truth), BINS))
    plain = float(gaps.sum())
    spread = _noise(items, share, bins)
    noise = np.random.default_rng(seed).normal(size=(draws, BINS)) * spread
    gaps = np.maximum(gaps, spread)
    found = np.stack([np.abs(scale * gaps + noise).sum(axis=1) for scale in _SCALES])
    sizes = _SCALES * float(gaps.sum())
    tail = (1 - level) / 2
    below, middle, above = np.quantile(found, [tail, 0.5, 1 - tail], axis=1)
    value = float(np.interp(plain, middle, sizes)) if middle[0] < plain else 0.0
    if items.n_of_rarer < MIN_PER_CLASS:
        return CalibrationError(min(value, 1.0), plain, UNDEFINED)
    fits = (below <= plain) & (plain <= above)
    ends = sizes[fits] if fits.any() else np.array([plain])
    high = max(float(ends[-1]), value, _unseen(items, level))
    return CalibrationError(min(value, 1.0), plain, Interval(float(min(ends[0], value)), min(high, 1.0)))


def _unseen(items: Labelled, level: float) -> float:
    """Largest share of something that none of the items is, at their effective number: as Clopper & Pearson have it."""
    return float(1 - ((1 - level) / 2) ** (1 / max(effective_sample_size(items.weight), 1.0)))


def _noise(items: Labelled, share: FloatArray, bins: IntArray) -> FloatArray:
    """Standard error of each bin's gap; a bin starts with one item's worth of the noise of a calibrated judge."""
    out = np.zeros(BINS)
    for k in np.unique(bins):
        mine = bins == k
        n = int(mine.sum())
        parts = np.where(mine, share * (items.p - items.truth), 0.0)
        calibrated = (items.p[mine] * (1 - items.p[mine])).mean() * (share[mine] ** 2).mean()
        out[k] = math.sqrt((items.variance(parts) + calibrated) * n / (n + 1))
    return out
