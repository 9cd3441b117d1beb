"""Circuit breaker: when the endpoint is down, stop asking; then ask with exactly one call per cool-down.

Looks at a rolling window of infrastructure results only (answers of any content count as success), so it opens when
half of them fail, alternating or not. Times are seconds of a monotonic clock, passed in.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

State = Literal["closed", "open", "half_open"]


class Breaker:
    """``closed``: all may go. ``open``: none. ``half_open``: one probe is out, its result decides.

    Opens when at least ``share`` of the last results (``least`` of them or more, at most ``seconds`` old) failed.
    """

    def __init__(
        self, cool_down: float, share: float = 0.5, least: int = 10, most: int = 100, seconds: float = 30.0
    ) -> None:
        self.cool_down, self.share, self.least, self.seconds = cool_down, share, least, seconds
        self.state: State = "closed"
        self.opened_at: float | None = None
        self.probes = 0
        self._results: deque[tuple[float, bool]] = deque(maxlen=most)
        self._failed = 0
        self._open_until = 0.0

    def may_go(self, now: float) -> bool:
        """Whether a call may go now. When it grants the probe of a half-open breaker, the next asked are refused."""
        if self.state == "closed":
            return True
        if self.state == "open" and now >= self._open_until:
            self.state = "half_open"
            self.probes += 1
            return True
        return False

    def wait(self, now: float) -> float:
        """Seconds after which it is worth asking again."""
        return max(0.01, self._open_until - now) if self.state == "open" else 0.05

    def succeeded(self, now: float, probe: bool) -> bool:
        """An answer came. True if that closed the breaker: only the probe can, not a call from before the outage."""
        if self.state == "half_open" and probe:
            self.state, self.opened_at = "closed", None
            self._results.clear()
            self._failed = 0
            return True
        if self.state == "closed":
            self._note(now, False)
        return False

    def failed(self, now: float, probe: bool) -> bool:
        """No answer came, or one that says the endpoint is broken. True if that opened the breaker."""
        if self.state == "half_open" and probe:
            self._open(now)
            return True
        if self.state == "closed":
            self._note(now, True)
            n = len(self._results)
            if n >= self.least and self._failed >= self.share * n:
                self.opened_at = now
                self._open(now)
                return True
        return False

    def cancelled(self, probe: bool, now: float) -> None:
        """The probe ended without a result (the run was stopped): the next may try."""
        if self.state == "half_open" and probe:
            self.state, self._open_until = "open", now

    def down_for(self, now: float) -> float:
        """Seconds since it opened for the outage that is on; 0 when it is closed."""
        return 0.0 if self.opened_at is None else now - self.opened_at

    def _open(self, now: float) -> None:
        self.state, self._open_until = "open", now + self.cool_down

    def _note(self, now: float, failed: bool) -> None:
        if len(self._results) == self._results.maxlen:
            self._failed -= self._results[0][1]
        self._results.append((now, failed))
        self._failed += failed
        while self._results and self._results[0][0] < now - self.seconds:
            self._failed -= self._results.popleft()[1]
