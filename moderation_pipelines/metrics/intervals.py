"""Confidence intervals. Undefined is None with its n beside it, never 0."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """The two ends of an interval; both None when it is undefined."""

    low: float | None
    high: float | None


UNDEFINED = Interval(None, None)


def wilson_interval(successes: float, n: float, level: float = 0.95) -> Interval:
    """Wilson score interval for a binomial proportion.

    Range [0, 1]. ``n`` may be an effective sample size and need not be whole. With n = 0 the interval is undefined
    and both ends are None, never 0.
    Source: Wilson (1927), JASA 22, 209-212.
    """
    if n <= 0:
        return UNDEFINED
    z = NormalDist().inv_cdf(0.5 + level / 2)
    p = min(max(successes / n, 0.0), 1.0)
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
    low = 0.0 if p == 0 else max(0.0, centre - half)
    high = 1.0 if p == 1 else min(1.0, centre + half)
    return Interval(low, high)


def effective_sample_size(weights: FloatArray) -> float:
    """Kish's effective sample size, (sum w)^2 / sum w^2: between 1 and n; n when all weights are equal; 0 for none.

    Source: Kish (1965), Survey Sampling, section 11.7.
    """
    total = float(weights.sum())
    return total * total / float((weights**2).sum()) if total > 0 else 0.0


def percentile_interval(replicates: FloatArray, level: float = 0.95) -> Interval:
    """Percentile bootstrap interval. Undefined replicates (NaN) are left out; more than half of them: undefined.

    Source: Efron & Tibshirani (1993), An Introduction to the Bootstrap, chapter 13.
    """
    defined = replicates[~np.isnan(replicates)]
    if defined.size * 2 <= replicates.size or defined.size == 0:
        return UNDEFINED
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def seed_from(*parts: object) -> int:
    """A seed that depends only on what is computed, so that a rerun gives the same interval."""
    text = "\x1f".join(str(p) for p in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
