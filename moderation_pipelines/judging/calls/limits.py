"""How fast an endpoint may be asked: token buckets for known limits, and a feedback loop for unknown ones.

All times are seconds of a monotonic clock, passed in: a wall clock that jumps changes nothing.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def retry_after_seconds(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """What the endpoint asks to wait, in seconds: Retry-After-Ms, Retry-After as a number or as an HTTP date
    (RFC 9110, section 10.2.3). None if it asks for nothing that can be read."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name)
        if not text:
            continue
        try:
            seconds = float(text) * scale
        except ValueError:
            pass
        else:
            return max(0.0, seconds) if math.isfinite(seconds) else None
        try:
            moment = parsedate_to_datetime(text)
        except (TypeError, ValueError):
            continue
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
        return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
    return None


def span_seconds(text: str | None) -> float | None:
    """A span like "6m0s", "20ms", "1.5s" or "3" as seconds; None if it is none."""
    if not text:
        return None
    found = _SPAN.findall(text)
    if found and "".join(n + u for n, u in found) == text.strip():
        return sum(float(n) * _UNIT[u] for n, u in found)
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


class TokenBucket:
    """So much per second, with a small store for bursts. ``take`` reserves; ``refund`` gives back or takes more."""

    def __init__(self, per_second: float, burst: float, now: float) -> None:
        self.rate, self.burst = per_second, burst
        self._level, self._at = burst, now

    @property
    def level(self) -> float:
        """What is in store, as of the last look."""
        return self._level

    def _refill(self, now: float) -> None:
        self._level = min(self.burst, self._level + max(0.0, now - self._at) * self.rate)
        self._at = now

    def wait(self, amount: float, now: float) -> float:
        """Seconds until ``amount`` is there. More than the bucket holds is let through when it is full."""
        self._refill(now)
        lacking = min(amount, self.burst) - self._level
        return 0.0 if lacking <= 1e-9 else lacking / self.rate

    def take(self, amount: float, now: float) -> None:
        self._refill(now)
        self._level -= amount

    def refund(self, amount: float, now: float) -> None:
        """Correct an estimate: what was reserved too much comes back, what was too little is owed."""
        self._refill(now)
        self._level = min(self.burst, self._level + amount)

    def at_most(self, remaining: float, now: float) -> None:
        """Believe an endpoint that says less is left than this bucket thinks."""
        self._refill(now)
        self._level = min(self._level, remaining)

    def set_rate(self, per_second: float, now: float) -> None:
        self._refill(now)
        self.rate = per_second


class Concurrency:
    """Additive increase, multiplicative decrease over calls in flight (Chiu & Jain 1989).

    The limit grows by one per round of successes while it is what holds the calls back, and is halved at most once per
    ``pause`` (what Retry-After asked for, or a second).
    """

    def __init__(self, most: int) -> None:
        self.most, self.limit, self.in_flight = most, float(most), 0
        self._halved_until = -math.inf

    @property
    def has_room(self) -> bool:
        return self.in_flight < max(1, int(self.limit))

    def succeeded(self) -> None:
        if self.limit < self.most and self.in_flight >= 0.7 * self.limit:
            self.limit = min(self.most, self.limit + 1 / self.limit)

    def refused(self, pause: float, now: float) -> bool:
        """Halve, unless that was done for this pause. True if it was halved."""
        if now < self._halved_until:
            return False
        self.limit = max(1.0, min(self.limit, float(self.in_flight)) / 2)
        self._halved_until = now + max(pause, 1.0)
        return True

    def restore(self) -> None:
        self.limit = float(self.most)


class LearntRate:
    """A rate for an endpoint whose limit nobody stated: from the first refusals on.

    When more than a twentieth of the last calls (and three) were refused, the rate becomes 0.8 of what got through
    (after a second of looking, at most once in two seconds or per pause, never less than half); then it grows by five
    per cent a second. So it hovers around the limit instead of running into it, and single refusals change nothing.
    """

    CUT, SHARE, LEAST, GROWTH, WINDOW = 0.8, 0.05, 3, 0.05, 5.0

    def __init__(self) -> None:
        self.bucket: TokenBucket | None = None
        self._recent: deque[list[float]] = deque()
        self._cut_until = -math.inf
        self._grown_at = 0.0

    def _note(self, now: float, refused: bool) -> None:
        """Tenths of seconds: [begin, passed, refused]."""
        if not self._recent or now - self._recent[-1][0] >= 0.1:
            self._recent.append([now, 0.0, 0.0])
            while self._recent[0][0] < now - self.WINDOW:
                self._recent.popleft()
        self._recent[-1][2 if refused else 1] += 1

    def passed(self, now: float) -> None:
        """A call was let through by the endpoint."""
        self._note(now, False)
        if self.bucket is not None and now - self._grown_at > 0.5:
            self.bucket.set_rate(self.bucket.rate * (1 + self.GROWTH) ** min(now - self._grown_at, 5.0), now)
            self.bucket.burst = max(1.0, self.bucket.rate * 0.1)
            self._grown_at = now

    def refused(self, pause: float, now: float) -> None:
        """A call was refused as too fast."""
        self._note(now, True)
        passed, refused = sum(r[1] for r in self._recent), sum(r[2] for r in self._recent)
        if now < self._cut_until or refused < self.LEAST or refused < self.SHARE * (passed + refused):
            return
        seconds = now - self._recent[0][0]
        if seconds < 1.0 or not passed:
            return
        self._cut_until = now + max(pause, 2.0)
        rate = self.CUT * passed / seconds
        if self.bucket is None:
            self.bucket = TokenBucket(rate, max(1.0, rate * 0.1), now)
        else:
            self.bucket.set_rate(min(max(rate, self.bucket.rate / 2), self.bucket.rate), now)
            self.bucket.burst = max(1.0, self.bucket.rate * 0.1)
        self.bucket.at_most(0.0, now)
        self._recent.clear()
        self._grown_at = now


class TokenEstimate:
    """Tokens a request will read, from its bytes: the ratio of what was billed so far. Starts at a third per byte."""

    def __init__(self) -> None:
        self._tokens, self._bytes = 100.0, 300.0

    def of(self, n_bytes: int) -> float:
        return n_bytes * self._tokens / self._bytes

    def learn(self, n_bytes: int, tokens: int) -> None:
        if self._bytes > 1e7:
            self._tokens, self._bytes = self._tokens / 2, self._bytes / 2
        self._tokens, self._bytes = self._tokens + tokens, self._bytes + n_bytes
