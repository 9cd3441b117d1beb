"""How many items it takes to see a difference, and how likely a planned sample is to show it."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from moderation_pipelines.stats.intervals import wilson_interval

_NORMAL = NormalDist()


def _z(level: float) -> float:
    return _NORMAL.inv_cdf(0.5 + level / 2)


def _share(name: str, value: float, closed: bool = False) -> None:
    if not (0 <= value <= 1 if closed else 0 < value < 1):
        raise ValueError(f"{name} must lie between 0 and 1, not {value:g}")


def items_for_interval(rate: float, half_width: float, level: float = 0.95) -> int:
    """Items needed so that neither side of a rate's Wilson interval is longer than ``half_width``: the smallest n.

    Near 0 and 1 the interval is longer on the inner side. Of a rate over part of the items (recall: the violating
    ones) these are the items of that part.
    """
    _share("rate", rate, closed=True)
    _share("half_width", half_width)
    _share("level", level)

    def wide(n: int) -> bool:
        ends = wilson_interval(rate * n, n, level)
        assert ends.low is not None
        assert ends.high is not None
        return max(ends.high - rate, rate - ends.low) > half_width

    high = 1
    while wide(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if wide(middle) else (low, middle)
    return high


def items_for_two_rates(first: float, second: float, power: float = 0.8, level: float = 0.95) -> int:
    """Items per group to tell two rates on different items apart (two-sided, without continuity correction).

    Source: Fleiss, Levin & Paik (2003), Statistical Methods for Rates and Proportions, 3rd ed., formula 4.14.
    """
    for name, value in (("the first rate", first), ("the second rate", second), ("power", power), ("level", level)):
        _share(name, value)
    if first == second:
        raise ValueError("the two rates are equal: no sample tells them apart")
    mean = (first + second) / 2
    null = _z(level) * math.sqrt(2 * mean * (1 - mean))
    alternative = _NORMAL.inv_cdf(power) * math.sqrt(first * (1 - first) + second * (1 - second))
    return math.ceil(((null + alternative) / (first - second)) ** 2 - 1e-9)


def items_for_paired_rates(
    only_first: float, only_second: float, power: float = 0.8, level: float = 0.95, exact: bool = True
) -> int:
    """Items both judges need to judge for McNemar's test to see the difference.

    ``only_first``: share of items only the first gets right, ``only_second`` only the second; their difference is the
    difference of the rates. ``exact``: for the exact test, which comparisons use; else Connor's formula for the
    asymptotic one, which asks for a few per cent less.
    Source: Connor (1987), Biometrics 43, 207-211.
    """
    gap, discordant = _paired_shares(only_first, only_second)
    _share("power", power)
    _share("level", level)
    if gap == 0:
        raise ValueError("the two shares are equal: no sample tells the judges apart")
    z = _z(level) * math.sqrt(discordant) + _NORMAL.inv_cdf(power) * math.sqrt(max(discordant - gap**2, 0.0))
    n = math.ceil((z / gap) ** 2 - 1e-9)
    if not exact:
        return n
    # The exact power rises in saw teeth: the smallest n from here on that has it.
    step = max(1, n // 500)
    while power_of_paired_rates(only_first, only_second, n, level) < power:
        n += step
    return n


def _paired_shares(only_first: float, only_second: float) -> tuple[float, float]:
    _share("the share only the first gets right", only_first, closed=True)
    _share("the share only the second gets right", only_second, closed=True)
    gap, discordant = abs(only_first - only_second), only_first + only_second
    if discordant > 1:
        raise ValueError(f"the two shares add up to {discordant:g}; together they are at most 1")
    return gap, discordant


def _items(n: int) -> None:
    if n < 1:
        raise ValueError(f"the number of items must be 1 or more, not {n}")


def power_of_two_rates(first: float, second: float, n: int, level: float = 0.95) -> float:
    """Chance that n items per group show the difference of two rates, 0 to 1 (normal approximation, two-sided).

    Source: Fleiss, Levin & Paik (2003), section 4.3, solved for the power.
    """
    for name, value in (("the first rate", first), ("the second rate", second), ("level", level)):
        _share(name, value)
    _items(n)
    mean = (first + second) / 2
    gap = abs(first - second) * math.sqrt(n)
    needed = _z(level) * math.sqrt(2 * mean * (1 - mean))
    sd = math.sqrt(first * (1 - first) + second * (1 - second))
    return _NORMAL.cdf((gap - needed) / sd) + _NORMAL.cdf((-gap - needed) / sd)


def power_of_paired_rates(only_first: float, only_second: float, n: int, level: float = 0.95) -> float:
    """Chance that n items judged by both show the difference by the exact McNemar test, 0 to 1.

    Summed over the number of discordant items, which is binomial, as is the split between the judges given it.
    Source: the test's own distribution; Connor (1987) for the set-up.
    """
    from scipy.stats import binom

    _, discordant = _paired_shares(only_first, only_second)
    _share("level", level)
    _items(n)
    if discordant == 0:
        return 0.0
    low, high = (int(binom.ppf(q, n, discordant)) for q in (1e-9, 1 - 1e-9))
    pairs = np.arange(max(low, 1), high + 1)
    # Largest count on the smaller side that still rejects; -1 where none does.
    critical = binom.ppf((1 - level) / 2, pairs, 0.5).astype(int)
    critical = np.where(2 * binom.cdf(critical, pairs, 0.5) <= 1 - level, critical, critical - 1)
    share = only_first / discordant
    rejects = np.where(
        critical >= 0, binom.cdf(critical, pairs, share) + binom.sf(pairs - critical - 1, pairs, share), 0
    )
    return float(min(1.0, (binom.pmf(pairs, n, discordant) * rejects).sum()))
