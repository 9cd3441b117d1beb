"""The gate every call passes: breaker, pauses, concurrency, rates. One per run, shared by its workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from moderation_pipelines.judging.calls.breaker import Breaker
from moderation_pipelines.judging.calls.calls import LONGEST_WAIT_SECONDS, Call
from moderation_pipelines.judging.calls.limits import Concurrency, LearntRate, TokenBucket, TokenEstimate, span_seconds
from moderation_pipelines.judging.judges_file import Endpoint

MARGIN = 0.985
LIMITED_PATIENCE_SECONDS = 120.0


class Stopped(Exception):
    """Nothing more may be sent in this run."""


@dataclass(slots=True)
class Turn:
    """One call that may go out: whether it is the probe of a half-open breaker, the tokens reserved for it, its bytes,
    and when it began. ``call``: what came of it; None when it was cancelled."""

    probe: bool
    reserved: float
    n_bytes: int
    began: float
    call: Call | None = None

    @property
    def ms(self) -> float:
        return (time.monotonic() - self.began) * 1000


class Gate:
    """A call goes out within ``admitted``; what it taught is learnt when the block ends, however it ends. ``stopped``
    says why the run is over."""

    def __init__(self, endpoint: Endpoint) -> None:
        now = time.monotonic()
        self.endpoint = endpoint
        self.breaker = Breaker(
            endpoint.cool_down_seconds,
            least=min(10, max(3, endpoint.concurrency)),
            most=max(20, endpoint.concurrency),
            seconds=max(30.0, 3 * endpoint.timeout_seconds),
        )
        self.concurrency = Concurrency(endpoint.concurrency)
        self.learnt = LearntRate()
        self.estimate = TokenEstimate()
        self.requests = _per_minute(endpoint.requests_per_minute, now)
        self.tokens = _per_minute(endpoint.tokens_per_minute, now)
        self.stopped: str | None = None
        self._paused_until = 0.0
        self._turnstile = asyncio.Lock()
        self._room = asyncio.Event()
        self.passes = 0
        self._answered_began = 0.0
        self._limited_since: float | None = None
        self._last_failure = ""

    def stop(self, why: str) -> None:
        """Let nothing more through. The first reason counts."""
        self.stopped = self.stopped or why
        self._room.set()

    @asynccontextmanager
    async def admitted(self, n_bytes: int) -> AsyncIterator[Turn]:
        """Wait for a turn and hold it for the block. Raises :class:`Stopped` before it when the run is over."""
        probe, reserved = await self._admit(n_bytes)
        turn = Turn(probe, reserved, n_bytes, time.monotonic())
        try:
            yield turn
        finally:
            self.concurrency.in_flight -= 1
            self._room.set()
            if turn.call is None:
                self.breaker.cancelled(turn.probe, time.monotonic())
            else:
                self._learn(turn.call, turn)

    async def _admit(self, n_bytes: int) -> tuple[bool, float]:
        """Wait for a turn. Returns whether the call is the probe of a half-open breaker, and the tokens reserved."""
        tokens = self.estimate.of(n_bytes) if self.tokens is not None else 0.0
        if not self._turnstile.locked() and (turn := self._try(tokens)) is not None:
            return turn, tokens
        async with self._turnstile:
            while (turn := self._try(tokens)) is None:
                if self._wait:
                    await asyncio.sleep(min(self._wait, 0.5))
                else:
                    self._room.clear()
                    await self._room.wait()
            return turn, tokens

    def _try(self, tokens: float) -> bool | None:
        """A turn (whether it is a probe) or None; then ``_wait`` says for how long, 0 for "until a call ends"."""
        if self.stopped is not None:
            raise Stopped
        now = time.monotonic()
        if now < self._paused_until:
            self._wait = self._paused_until - now
            return None
        if not self.concurrency.has_room:
            self._wait = 0.0
            return None
        wait = 0.0
        if self.requests is not None:
            wait = self.requests.wait(1, now)
        if self.tokens is not None:
            wait = max(wait, self.tokens.wait(tokens, now))
        if self.learnt.bucket is not None:
            wait = max(wait, self.learnt.bucket.wait(1, now))
        if wait > 0:
            self._wait = wait
            return None
        if not self.breaker.may_go(now):
            self._check_patience(now)
            self._wait = self.breaker.wait(now)
            return None
        for bucket, amount in ((self.requests, 1.0), (self.tokens, tokens), (self.learnt.bucket, 1.0)):
            if bucket is not None:
                bucket.take(amount, now)
        self.concurrency.in_flight += 1
        return self.breaker.state == "half_open"

    def _check_patience(self, now: float) -> None:
        patience = self.endpoint.patience_seconds
        if not self.passes:
            patience = min(patience, 2 * self.endpoint.cool_down_seconds)
        down = self.breaker.down_for(now)
        if down > patience:
            self.stop(
                f"{self.endpoint.base_url} is down: {self._last_failure}; gave up after {down:.0f} s and "
                f"{self.breaker.probes} tries. Run again when it is back"
            )
            raise Stopped

    def worked_since(self, moment: float) -> bool:
        """Whether a call that was sent after a moment (of the monotonic clock) has been answered."""
        return self._answered_began > moment

    def _learn(self, call: Call, turn: Turn) -> None:
        """Adjust to what a call showed: tokens, headers, limits, outages."""
        now, probe = time.monotonic(), turn.probe
        if call.usage.input is not None and self.tokens is not None:
            used = call.usage.input + (call.usage.output or 0)
            self.estimate.learn(turn.n_bytes, used)
            self.tokens.refund(turn.reserved - used, now)
        if call.headers is not None:
            self._apply_rate_limit_headers(call.headers, now)
        if call.result == "limited":
            self._slow_down(call, now)
            self.breaker.cancelled(probe, now)
            return
        self._limited_since = None
        if call.result == "broken":
            self._last_failure = call.verdict.error or "no answer"
            if call.verdict.kind in ("unresolved", "tls") and not self.passes:
                self.stop(f"{self._last_failure}; check base_url")
            self.breaker.failed(now, probe)
            if call.wait:
                self._pause(call.wait, now)
            return
        self.passes += 1
        self._answered_began = max(self._answered_began, turn.began)
        self.learnt.passed(now)
        self.concurrency.succeeded()
        if self.breaker.succeeded(now, probe):
            self.concurrency.restore()
            self._room.set()

    def _slow_down(self, call: Call, now: float) -> None:
        if self._limited_since is None:
            self._limited_since = now
        elif now - self._limited_since > LIMITED_PATIENCE_SECONDS:
            self.stop(f"{self.endpoint.base_url} answered 429 (too many requests) to everything for two minutes")
        pause = call.wait or 0.0
        # Also beside a known limit: others may share it, or it may be another than stated.
        self.concurrency.refused(pause, now)
        self.learnt.refused(pause, now)
        if pause:
            self._pause(pause, now)

    def _pause(self, seconds: float, now: float) -> None:
        if seconds > LONGEST_WAIT_SECONDS:
            self.stop(
                f"{self.endpoint.base_url} asks to wait {seconds:.0f} s: parked. Run again after that; "
                "what is settled stays settled"
            )
        self._paused_until = max(self._paused_until, now + seconds)

    def _apply_rate_limit_headers(self, headers: Mapping[str, str], now: float) -> None:
        """Correct the buckets by what the endpoint says of its limits (per minute) and of what is left of them."""
        limit = headers.get("x-ratelimit-limit-requests")
        if limit is None:
            return
        self.requests = _corrected(self.requests, limit, headers, "requests", now)
        self.tokens = _corrected(self.tokens, headers.get("x-ratelimit-limit-tokens"), headers, "tokens", now)


def _per_minute(limit: float | None, now: float) -> TokenBucket | None:
    if limit is None:
        return None
    rate = limit * MARGIN / 60
    return TokenBucket(rate, max(1.0, rate * 0.1), now)


def _corrected(
    bucket: TokenBucket | None, limit: str | None, headers: Mapping[str, str], what: str, now: float
) -> TokenBucket | None:
    """A bucket corrected by headers, where they speak of a limit per minute.

    What was used and when it will be back tells how fast the limit refills: some endpoints state one per day there.
    """
    stated, remaining = span_seconds(limit), span_seconds(headers.get(f"x-ratelimit-remaining-{what}"))
    reset = span_seconds(headers.get(f"x-ratelimit-reset-{what}"))
    if not stated or remaining is None or not reset or remaining >= stated:
        return bucket
    if not 0.5 <= (stated - remaining) / reset / (stated / 60) <= 2:
        return bucket
    rate = stated * MARGIN / 60
    if bucket is None:
        bucket = _per_minute(stated, now)
    elif rate < bucket.rate:
        bucket.set_rate(rate, now)
    if bucket is not None:
        bucket.at_most(remaining, now)
    return bucket
