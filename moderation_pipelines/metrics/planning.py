"""How many items it takes to see a difference, and how likely a planned sample is to show it."""

from __future__ import annotations

import math
from statistics import NormalDist

from moderation_pipelines.metrics.intervals import wilson_interval

_NORMAL = NormalDist()


def _z(level: float) -> float:
    return _NORMAL.inv_cdf(0.5 + level / 2)


def _share(name: str, value: float, closed: bool = False) -> None:
    if not (0 <= value <= 1 if closed else 0 < value < 1):
        raise ValueError(f"{name} must lie between 0 and 1, not {value:g}")


def items_for_interval(rate: float, half_width: float, level: float = 0.95) -> int:
    """Items needed so that a rate's Wilson interval is at most +- ``half_width`` wide: the smallest n, whole.

    Of a rate over part of the items (recall: the violating ones) these are the items of that part.
    """
    _share("rate", rate, closed=True)
    _share("half_width", half_width)
    _share("level", level)

    def wide(n: int) -> bool:
        ends = wilson_interval(rate * n, n, level)
        assert ends.low is not None
        assert ends.high is not None
        return (ends.high - ends.low) / 2 > half_width

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
    for name, value in (("first", first), ("second", second), ("power", power), ("level", level)):
        _share(name, value)
    if first == second:
        raise ValueError("the two rates are equal: no sample tells them apart")
    mean = (first + second) / 2
    null = _z(level) * math.sqrt(2 * mean * (1 - mean))
    alternative = _NORMAL.inv_cdf(power) * math.sqrt(first * (1 - first) + second * (1 - second))
    return math.ceil(((null + alternative) / (first - second)) ** 2 - 1e-9)


def items_for_paired_rates(only_first: float, only_second: float, power: float = 0.8, level: float = 0.95) -> int:
    """Items both judges need to judge for McNemar's test to see the difference.

    ``only_first``: share of items only the first gets right, ``only_second`` only the second; their difference is the
    difference of the rates. Source: Connor (1987), Biometrics 43, 207-211.
    """
    for name, value in (("only_first", only_first), ("only_second", only_second)):
        _share(name, value, closed=True)
    _share("power", power)
    _share("level", level)
    gap, discordant = abs(only_first - only_second), only_first + only_second
    if gap == 0:
        raise ValueError("the two shares are equal: no sample tells the judges apart")
    if discordant > 1:
        raise ValueError(f"only_first + only_second must be at most 1, not {discordant:g}")
    z = _z(level) * math.sqrt(discordant) + _NORMAL.inv_cdf(power) * math.sqrt(discordant - gap**2)
    return math.ceil((z / gap) ** 2 - 1e-9)


def power_of_two_rates(first: float, second: float, n: int, level: float = 0.95) -> float:
    """Chance that n items per group show the difference of two rates, 0 to 1 (normal approximation, two-sided).

    Source: Fleiss, Levin & Paik (2003), section 4.3, solved for the power.
    """
    for name, value in (("first", first), ("second", second), ("level", level)):
        _share(name, value)
    mean = (first + second) / 2
    gap = abs(first - second) * math.sqrt(n)
    sd = math.sqrt(first * (1 - first) + second * (1 - second))
    return _NORMAL.cdf((gap - _z(level) * math.sqrt(2 * mean * (1 - mean))) / sd)


def power_of_paired_rates(only_first: float, only_second: float, n: int, level: float = 0.95) -> float:
    """Chance that n items judged by both show the difference by McNemar's test, 0 to 1.

    Source: Connor (1987), solved for the power.
    """
    gap, discordant = abs(only_first - only_second), only_first + only_second
    _share("only_first + only_second", discordant, closed=True)
    spread = math.sqrt(discordant - gap**2)
    if spread == 0:
        return 1.0 if gap else 0.0
    return _NORMAL.cdf((gap * math.sqrt(n) - _z(level) * math.sqrt(discordant)) / spread)
