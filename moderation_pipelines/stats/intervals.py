"""Confidence intervals. Undefined is None with its n beside it, never 0."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from moderation_pipelines.stats.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class Interval:
    """The two ends of an interval; both None when it is undefined."""

    low: float | None
    high: float | None


UNDEFINED = Interval(None, None)
Z95 = 1.959964  # a normal deviate lies within so many standard errors 19 times in 20
ROUNDING = 1e-12  # a standard error up to here is that of floating-point sums


def wilson_interval(successes: float, n: float, level: float = 0.95) -> Interval:
    """Wilson score interval for a binomial proportion.

    Range [0, 1]. ``n`` may be an effective sample size and need not be whole. With n = 0 the interval is undefined
    and both ends are None, never 0.
    Source: Wilson (1927), JASA 22, 209-212.
    """
    if not (n > 0 and 0 <= successes <= n * (1 + 1e-9)):
        return UNDEFINED
    z = NormalDist().inv_cdf(0.5 + level / 2)
    p = min(max(successes / n, 0.0), 1.0)
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
    low = 0.0 if p == 0 else max(0.0, centre - half)
    high = 1.0 if p == 1 else min(1.0, centre + half)
    return Interval(low, high)


def clopper_pearson_interval(successes: float, n: float, level: float = 0.95) -> Interval:
    """Exact (Clopper-Pearson) interval for a binomial proportion: covers at least ``level``, mostly more.

    Range [0, 1]. With n = 0 both ends are None. Wilson's is closer to the level; this one is for a promise that must
    hold at worst.
    Source: Clopper & Pearson (1934), Biometrika 26, 404-413.
    """
    if not (n > 0 and 0 <= successes <= n * (1 + 1e-9)):
        return UNDEFINED
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    low = 0.0 if successes <= 0 else float(betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes >= n else float(betaincinv(successes + 1, n - successes, 1 - tail))
    return Interval(low, high)


def t_interval(
    value: float, se: float, degrees: float, level: float = 0.95, low: float = -1.0, high: float = 1.0
) -> Interval:
    """value +- t * se, cut to [low, high]; undefined for a NaN or a standard error of 0 (nothing varied)."""
    if not (se > ROUNDING and degrees > 0) or np.isnan(value):
        return UNDEFINED
    from scipy.special import stdtrit

    half = float(stdtrit(degrees, 0.5 + level / 2)) * se
    return Interval(max(low, value - half), min(high, value + half))


def logit_interval(value: float, se: float, degrees: float, level: float = 0.95) -> Interval:
    """t interval of a share made on the logit scale, so that it stays within 0 and 1.

    ``se``: standard error of the value itself. Undefined at 0 and 1 and for a standard error of 0 (nothing varied).
    """
    if not (0 < value < 1 and se > ROUNDING and degrees > 0):
        return UNDEFINED
    from scipy.special import expit, logit, stdtrit

    half = float(stdtrit(degrees, 0.5 + level / 2)) * se / (value * (1 - value))
    return Interval(float(expit(logit(value) - half)), float(expit(logit(value) + half)))


def weights_differ(weights: FloatArray) -> bool:
    """Whether weights differ by more than rounding; not without any."""
    return len(weights) > 0 and bool(np.ptp(weights) > 1e-9 * weights.max())


def effective_sample_size(weights: FloatArray) -> float:
    """Kish's effective sample size, (sum w)^2 / sum w^2: between 1 and n; n when all weights are equal; 0 for none.

    Source: Kish (1965), Survey Sampling, section 11.7.
    """
    total = float(weights.sum())
    return total * total / float((weights**2).sum()) if total > 0 else 0.0


def stratified_share_interval(
    truth: FloatArray, weight: FloatArray, stratum: IntArray, sizes_fix_share: bool = False, level: float = 0.95
) -> Interval:
    """Interval of a share estimated from a stratified sample of a frame, itself a sample of what comes.

    Each stratum adds the variance of its own share, which one item pulls to that of all (so that a stratum of few equal
    items is not taken for sure), less where it is drawn whole; the frame, of as many items as the weights add up to,
    adds that of a sample of its size. The interval is Wilson's at the number of items of a simple sample with that
    variance. ``sizes_fix_share``: strata hold one kind each, so only the frame's part is left.
    Undefined without items. Source: Cochran (1977), Sampling Techniques, 3rd ed., sections 5.3 and 5A.
    """
    if not len(truth):
        return UNDEFINED
    total = float(weight.sum())
    share = min(max(float(weight @ truth) / total, 0.0), 1.0)
    variance = share * (1 - share) / max(total, 1.0)
    if not sizes_fix_share:
        for code in np.unique(stratum):
            mine = stratum == code
            size, n = float(weight[mine].sum()), effective_sample_size(weight[mine])
            left = max(1 - n / max(size, n), 0.0)
            variance += (size / total) ** 2 * left * _share_variance(truth[mine], weight[mine], share, n)
    known = total if sizes_fix_share else effective_sample_size(weight)
    n = share * (1 - share) / variance if variance > 0 else known
    return wilson_interval(share * n, n, level)


def _share_variance(truth: FloatArray, weight: FloatArray, common: float, n_effective: float) -> float:
    """Variance of a stratum's share, pulled to the common one by one item; of weights that go with the kind by
    linearisation."""
    share = float(weight @ truth / weight.sum())
    n = len(weight)
    if weights_differ(weight) and 0 < share < 1:
        return float(weight**2 @ (truth - share) ** 2) / float(weight.sum()) ** 2 * n / (n - 1)
    pulled = (share * n_effective + common) / (n_effective + 1)
    return pulled * (1 - pulled) / n_effective


def percentile_interval(replicates: FloatArray, level: float = 0.95) -> Interval:
    """Percentile bootstrap interval. Undefined replicates (NaN) are left out; more than half of them: undefined.

    Source: Efron & Tibshirani (1993), An Introduction to the Bootstrap, chapter 13.
    """
    defined = replicates[~np.isnan(replicates)]
    if defined.size * 2 <= replicates.size or defined.size == 0:
        return UNDEFINED
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def around(value: float, interval: Interval) -> Interval:
    """The interval, as much wider as it takes to hold the value."""
    if interval.low is None or interval.high is None:
        return interval
    return Interval(min(interval.low, value), max(interval.high, value))


def holding_both(one: Interval, other: Interval) -> Interval:
    """The smallest interval that holds both; the other where one is undefined."""
    if one.low is None or one.high is None:
        return other
    if other.low is None or other.high is None:
        return one
    return Interval(min(one.low, other.low), max(one.high, other.high))


def bca_interval(
    value: float, replicates: FloatArray, without_one: FloatArray, items: FloatArray, level: float = 0.95
) -> Interval:
    """Bias-corrected and accelerated bootstrap interval: a percentile interval moved for bias and skewness.

    ``without_one``: the statistic with one item left out, per kind of item; ``items``: how many items of that kind.
    Undefined (NaN) replicates are left out; more than half of them, or none that differs: undefined.
    Source: Efron (1987), JASA 82, 171-185; Efron & Tibshirani (1993), An Introduction to the Bootstrap, chapter 14.
    """
    from scipy.special import ndtr, ndtri

    defined = replicates[~np.isnan(replicates)]
    if defined.size * 2 <= replicates.size or defined.size == 0 or defined.min() == defined.max():
        return UNDEFINED
    below = ((defined < value).sum() + (defined == value).sum() / 2) / defined.size
    bias = float(ndtri(np.clip(below, 1 / (2 * defined.size), 1 - 1 / (2 * defined.size))))
    steep = acceleration(without_one, items)
    tails = ndtri(np.array([(1 - level) / 2, (1 + level) / 2])) + bias
    moved = ndtr(bias + tails / np.maximum(1 - steep * tails, 1e-9))
    low, high = np.quantile(defined, moved)
    return Interval(float(low), float(high))


def acceleration(without_one: FloatArray, items: FloatArray) -> float:
    """Skewness of the leave-one-out values: the a of BCa. 0 where nothing varies. Source: as :func:`bca_interval`."""
    known = ~np.isnan(without_one)
    count, values = items[known], without_one[known]
    if count.sum() < 2:
        return 0.0
    off = float(count @ values / count.sum()) - values
    squares = float(count @ off**2)
    return float(count @ off**3) / (6 * squares**1.5) if squares > 0 else 0.0


def seed_from(*parts: object) -> int:
    """A seed that depends only on what is computed, so that a rerun gives the same interval."""
    text = "\x1f".join(str(p) for p in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
