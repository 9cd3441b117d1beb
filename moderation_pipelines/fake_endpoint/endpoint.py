"""The fake endpoint: routes, limits, counters. Knows no sockets."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import orjson

from moderation_pipelines.fake_endpoint.answers import Said, answer, asked, error, latency_seconds
from moderation_pipelines.fake_endpoint.files import BatchStore
from moderation_pipelines.fake_endpoint.plan import Plan
from moderation_pipelines.judging.calls.limits import TokenBucket

_APIS = {"/v1/chat/completions": "chat", "/v1/responses": "responses", "/v1/decisions": "decisions"}


class FakeEndpoint:
    """Answers requests by a plan. ``down`` makes every call fail with HTTP 500 while it is set.

    Counts what it served (``calls``, by fault and by status) and, for every distinct body, how often it was billed.
    """

    def __init__(self, plan: Plan | None = None) -> None:
        self.plan = plan or Plan()
        self.down = False
        self.calls = 0
        self.in_flight = self.most_in_flight = 0
        self.statuses: Counter[int] = Counter()
        self.faults: Counter[str] = Counter()
        self.attempts: dict[bytes, int] = {}
        self.billed: dict[bytes, int] = {}
        self.call_times: list[float] | None = None
        self.batches = BatchStore(self.plan)
        now = time.monotonic()
        self._requests = self._bucket(self.plan.requests_per_minute, now)
        self._tokens = self._bucket(self.plan.tokens_per_minute, now)

    def _bucket(self, per_minute: float | None, now: float) -> TokenBucket | None:
        if per_minute is None:
            return None
        rate = per_minute / 60
        return TokenBucket(rate, max(1.0, rate * self.plan.burst_seconds), now)

    def stats(self) -> dict[str, Any]:
        """What it did so far."""
        return {
            "calls": self.calls,
            "in_flight": self.in_flight,
            "most_in_flight": self.most_in_flight,
            "statuses": {str(k): n for k, n in sorted(self.statuses.items())},
            "faults": dict(sorted(self.faults.items())),
            "items": len(self.attempts),
            "billed": sum(self.billed.values()),
            "billed_bodies": len(self.billed),
            "billed_twice": sum(n - 1 for n in self.billed.values()),
            "batches": self.batches.stats(),
        }

    async def handle(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Said:
        """The answer to one HTTP request, after its latency."""
        path = path.split("?", 1)[0].rstrip("/")
        if path == "/fake/stats":
            return Said(200, orjson.dumps(self.stats()))
        if self.plan.key is not None and headers.get("authorization") != f"Bearer {self.plan.key}":
            return self._counted(error(401, "Incorrect API key provided", "invalid_api_key"))
        api = _APIS.get(path)
        if method == "POST" and api is not None:
            return await self._call(api, body)
        if method == "GET" and path == "/v1/models":
            return Said(200, orjson.dumps({"object": "list", "data": self._models()}))
        if self.plan.batches and path.startswith(("/v1/files", "/v1/batches")):
            return self.batches.handle(method, path, headers, body, self._batch_line)
        return self._counted(error(404, "no such address", "not_found"))

    def _models(self) -> list[dict[str, Any]]:
        listed = []
        for m in self.plan.models:
            entry: dict[str, Any] = {"id": m.id, "object": "model", "created": 0, "owned_by": "fake"}
            listed.append({**entry, "shutdown_date": m.shutdown_date} if m.shutdown_date else entry)
        return listed

    def _counted(self, said: Said) -> Said:
        self.statuses[said.status] += 1
        if said.fault is not None:
            self.faults[said.fault] += 1
        return said

    async def _call(self, api: str, raw: bytes) -> Said:
        self.calls += 1
        now = time.monotonic()
        if self.call_times is not None:
            self.call_times.append(now)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self.down:
                return self._counted(error(500, "down", "server_error", fault="down"))
            try:
                question = asked(api, orjson.loads(raw), len(raw), self.plan)
            except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, StopIteration, AttributeError):
                return self._counted(error(400, "not a request of this kind", "invalid_request"))
            if self.plan.models and question.model not in {m.id for m in self.plan.models}:
                return self._counted(error(404, f"no model {question.model}", "model_not_found"))
            limited, told = self._limits(question.n_bytes // 4 + question.max_tokens, now)
            if limited is not None:
                return self._counted(limited)
            attempt = self.attempts[question.item] = self.attempts.get(question.item, 0) + 1
            said = answer(self.plan, question, attempt)
            if said.billed:
                name = _name(raw)
                self.billed[name] = self.billed.get(name, 0) + 1
            self._counted(said)
            if self._tokens is not None:
                self._tokens.refund(question.n_bytes // 4 + question.max_tokens - said.tokens, now)
            seconds = latency_seconds(self.plan, question, attempt)
            if seconds:
                await asyncio.sleep(seconds)
            return said if not told else Said(said.status, said.body, (*said.headers, *told), said.how, said.billed)
        finally:
            self.in_flight -= 1

    def _limits(self, tokens: int, now: float) -> tuple[Said | None, tuple[tuple[str, str], ...]]:
        """A refusal if a limit is reached, and the headers that tell of the limits."""
        told: list[tuple[str, str]] = []
        waits = []
        parts = (("requests", self._requests, 1.0), ("tokens", self._tokens, float(tokens)))
        for name, bucket, amount in parts:
            if bucket is None:
                continue
            waits.append(bucket.wait(amount, now))
            if self.plan.limit_headers:
                limit = bucket.rate * 60
                used = max(0.0, bucket.burst - bucket.level + (0 if waits[-1] else amount))
                told += [
                    (f"x-ratelimit-limit-{name}", f"{limit:.0f}"),
                    (f"x-ratelimit-remaining-{name}", f"{max(0.0, limit - used):.0f}"),
                    (f"x-ratelimit-reset-{name}", f"{used / bucket.rate * 1000:.0f}ms"),
                ]
        if any(w > 0 for w in waits):
            wait = (("retry-after-ms", f"{max(waits) * 1000:.0f}"),) if self.plan.limit_retry_after else ()
            return error(429, "Rate limit reached", "rate_limit_exceeded", fault="limit", headers=(*wait, *told)), ()
        for _, bucket, amount in parts:
            if bucket is not None:
                bucket.take(amount, now)
        return None, tuple(told)

    def _batch_line(self, url: str, body: dict[str, Any]) -> Said:
        """One line of a batch, answered as a call would be (rate limits and delays left out)."""
        api = _APIS.get(url)
        if api is None:
            return error(404, "no such address", "not_found")
        raw = orjson.dumps(body)
        try:
            question = asked(api, body, len(raw), self.plan)
        except (KeyError, IndexError, TypeError, StopIteration, AttributeError):
            return error(400, "not a request of this kind", "invalid_request")
        attempt = self.attempts[question.item] = self.attempts.get(question.item, 0) + 1
        said = answer(self.plan, question, attempt)
        if said.how != "whole" or said.status == 429 or said.fault in ("garbage", "empty_body"):
            said = error(500, "failed in the batch", "server_error", fault=said.fault)
        if said.billed:
            name = _name(raw)
            self.billed[name] = self.billed.get(name, 0) + 1
        return said


def _name(raw: bytes) -> bytes:
    import hashlib

    return hashlib.blake2b(raw, digest_size=12).digest()
