"""What calls cost: prices with effective dates, tokens as billed, money as whole picodollars.

A picodollar is 1e-12 US dollars: a price in dollars per million tokens with up to six decimals is a whole number of
them per token, so sums are exact and fit 64 bits up to nine million dollars.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date
from fractions import Fraction
from typing import Any, NamedTuple

from pydantic import Field

from moderation_pipelines.policies.policy import Strict

PICO = 10**12
_LARGEST_COUNT = 2**40
_LARGEST_COST = 2**53
_ONE = Fraction(1)


class Price(Strict):
    """US dollars per million tokens, from a day on. ``tiers`` and ``batch_factor`` multiply the whole cost."""

    input_usd_per_million: float = Field(ge=0, le=1e6, strict=False)
    cached_input_usd_per_million: float | None = Field(default=None, ge=0, le=1e6, strict=False)
    cache_write_usd_per_million: float | None = Field(default=None, ge=0, le=1e6, strict=False)
    output_usd_per_million: float = Field(ge=0, le=1e6, strict=False)
    batch_factor: float = Field(default=0.5, ge=0, le=1, strict=False)
    tiers: dict[str, float] = Field(default_factory=dict)
    since: date | None = Field(default=None, strict=False)


class Usage(NamedTuple):
    """Tokens of one answer as billed; None where the endpoint does not say. Cached and written ones are part of input,
    reasoning is part of output."""

    input: int | None = None
    cached: int | None = None
    cache_write: int | None = None
    output: int | None = None
    reasoning: int | None = None
    tier: str | None = None


NO_USAGE = Usage()


class Rates:
    """A price as whole picodollars per token."""

    def __init__(self, price: Price) -> None:
        self.read = _per_token(price.input_usd_per_million)
        cached, write = price.cached_input_usd_per_million, price.cache_write_usd_per_million
        self.cached = self.read if cached is None else _per_token(cached)
        self.write = self.read if write is None else _per_token(write)
        self.output = _per_token(price.output_usd_per_million)
        self.tiers = {name: Fraction(str(factor)) for name, factor in price.tiers.items()}
        self.batch = Fraction(str(price.batch_factor))
        self._dearest = max(self.read, self.cached, self.write)
        self._dearest_tier = max([_ONE, *self.tiers.values()])
        self._dearest_batch = self._dearest_tier * self.batch

    def cost(self, usage: Usage, batch: bool = False) -> int | None:
        """Picodollars of an answer, rounded up, 9,007 dollars at most; None when the endpoint gave no usage."""
        if usage.input is None or usage.output is None:
            return None
        cached = min(usage.cached or 0, usage.input)
        written = min(usage.cache_write or 0, usage.input - cached)
        plain = usage.input - cached - written
        total = plain * self.read + cached * self.cached + written * self.write + usage.output * self.output
        factor = self.tiers.get(usage.tier, _ONE) if usage.tier is not None else _ONE
        if batch:
            factor *= self.batch
        return _times(total, factor)

    def most(self, input_tokens: int, output_tokens: int, batch: bool = False) -> int:
        """The most a request can cost: the dearest rate for all it reads and all it may write."""
        total = input_tokens * self._dearest + output_tokens * self.output
        return _times(total, self._dearest_batch if batch else self._dearest_tier)


def _times(picodollars: int, factor: Fraction) -> int:
    """The product, rounded up, within the largest cost. In whole numbers: ten times as fast as fractions."""
    return min(-(-picodollars * factor.numerator // factor.denominator), _LARGEST_COST)


def _per_token(usd_per_million: float) -> int:
    """Picodollars per token, rounded up beyond six decimals."""
    return math.ceil(Fraction(str(usd_per_million)) * PICO / 10**6)


def price_on(prices: Sequence[Price], day: date) -> Price | None:
    """The price in force on a day: the newest one that had begun. None before the first."""
    begun = [p for p in prices if p.since is None or p.since <= day]
    return max(begun, key=lambda p: p.since or date.min, default=None)


def usd(picodollars: int | None) -> float | None:
    """Picodollars as US dollars, for tables and people."""
    return None if picodollars is None else picodollars / PICO


def picodollars(dollars: float) -> int:
    """US dollars as whole picodollars, rounded down: a limit is never widened."""
    return math.floor(Fraction(str(dollars)) * PICO)


def _whole(value: object) -> int | None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST_COUNT
    return value if is_count else None  # type: ignore[return-value]


def usage_of(answer: dict[str, Any]) -> Usage:
    """Tokens from the ``usage`` of a chat completion, response or decision."""
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return NO_USAGE
    read = usage.get("prompt_tokens", usage.get("input_tokens"))
    written = usage.get("completion_tokens", usage.get("output_tokens"))
    read_details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    written_details = usage.get("completion_tokens_details") or usage.get("output_tokens_details")
    read_details = read_details if isinstance(read_details, dict) else {}
    written_details = written_details if isinstance(written_details, dict) else {}
    tier = answer.get("service_tier")
    return Usage(
        _whole(read),
        _whole(read_details.get("cached_tokens")),
        _whole(read_details.get("cache_write_tokens")),
        _whole(written),
        _whole(written_details.get("reasoning_tokens")),
        tier[:40].replace("\x00", "").encode("utf-8", "replace").decode() if isinstance(tier, str) else None,
    )
