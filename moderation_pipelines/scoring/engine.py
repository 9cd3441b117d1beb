"""The scoring engine: requests in, one settled outcome each out. One function; the only place that retries.

A fixed set of workers shares a queue; answers go to the ledger as they settle. Content outcomes (refusal, filter,
unreadable, truncated) are answers and are kept; errors are not, so a later run asks again.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from moderation_pipelines.errors import UserError
from moderation_pipelines.scoring.judges import Endpoint, Price
from moderation_pipelines.scoring.ledger import Ledger, Settled
from moderation_pipelines.scoring.outcomes import LabelSet, Verdict, classify, token_counts

Progress = Callable[[int], None]
RETRY_STATUS = frozenset({408, 409, 429, 500, 502, 503, 504, 529})
STOP_STATUS = {
    401: "the key is not accepted",
    403: "the key may not use this model",
    404: "no such address or model",
}
LONGEST_WAIT_SECONDS = 120.0


@dataclass(frozen=True)
class Request:
    """One item put to one judge: its identity, the exact body, and the labels it may answer with."""

    key: str
    body: dict[str, Any]
    labels: LabelSet


class EndpointStop(UserError):
    """The endpoint refuses everything (bad key, no such model, quota gone): asking on would be pointless."""


def score_requests(
    requests: Sequence[Request],
    endpoint: Endpoint,
    ledger: Ledger,
    day: date,
    price: Price | None = None,
    budget_usd: float | None = None,
    progress: Progress | None = None,
) -> dict[str, Settled]:
    """Settle every request: from the ledger where it was asked before, else from the endpoint.

    Returns one outcome per key. ``budget_usd`` is never crossed: what does not fit ends as ``over_budget``. Raises
    :class:`EndpointStop` with what would be right when the endpoint refuses everything.
    """
    unique = {r.key: r for r in requests}
    settled = ledger.known(list(unique))
    if progress is not None and settled:
        progress(len(settled))
    missing = [r for key, r in unique.items() if key not in settled]
    if missing:
        key = api_key(endpoint)
        run = _Run(endpoint, key, ledger, day, price, budget_usd, progress)
        settled |= asyncio.run(run.all(missing))
    return settled


def api_key(endpoint: Endpoint) -> str:
    """The endpoint's key from the environment; a placeholder where it needs none."""
    if endpoint.api_key_env is None:
        return "none"
    key = os.environ.get(endpoint.api_key_env, "").strip()
    if not key:
        raise EndpointStop(f"{endpoint.base_url}: the environment variable {endpoint.api_key_env} is not set")
    return key


def cost_usd(price: Price | None, tokens: tuple[int | None, int | None, int | None]) -> float | None:
    """Cost of an answer from billed tokens; None when the price or the usage is not known."""
    read, cached, written = tokens
    if price is None or read is None or written is None:
        return None
    cached = cached or 0
    rate = price.cached_input_usd_per_million
    per_cached = price.input_usd_per_million if rate is None else rate
    dollars = (
        (read - cached) * price.input_usd_per_million + cached * per_cached + written * price.output_usd_per_million
    )
    return dollars / 1e6


def retry_after_seconds(headers: Any, now: datetime) -> float | None:
    """What the endpoint asks to wait, in seconds: Retry-After-Ms, Retry-After as a number or as an HTTP date."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name)
        if not text:
            continue
        try:
            return max(0.0, float(text) * scale)
        except ValueError:
            pass
        try:
            moment = parsedate_to_datetime(text)
        except (TypeError, ValueError):
            continue
        return max(0.0, (moment - now).total_seconds())
    return None


class _Run:
    def __init__(
        self,
        endpoint: Endpoint,
        key: str,
        ledger: Ledger,
        day: date,
        price: Price | None,
        budget_usd: float | None,
        progress: Progress | None,
    ) -> None:
        self.endpoint, self.key, self.ledger, self.day = endpoint, key, ledger, day
        self.price, self.budget, self.progress = price, budget_usd, progress
        self.spent = self.reserved = 0.0
        self.random = random.Random(0)  # noqa: S311 - jitter of waits, not a secret
        self.out: dict[str, Settled] = {}
        self.unwritten: list[tuple[str, Settled]] = []

    async def all(self, requests: Iterable[Request]) -> dict[str, Settled]:
        from openai import AsyncOpenAI

        queue = iter(requests)
        try:
            async with (
                AsyncOpenAI(
                    api_key=self.key,
                    base_url=self.endpoint.base_url,
                    max_retries=0,
                    timeout=self.endpoint.timeout_seconds,
                ) as client,
                asyncio.TaskGroup() as group,
            ):
                for _ in range(self.endpoint.concurrency):
                    group.create_task(self._worker(client, queue))
        except* EndpointStop as stops:
            raise stops.exceptions[0] from None
        finally:
            self._write()
        return self.out

    async def _worker(self, client: Any, queue: Any) -> None:
        for request in queue:
            settled = await self._settle(client, request)
            self.out[request.key] = settled
            self.unwritten.append((request.key, settled))
            if len(self.unwritten) >= 100:
                self._write()
            if self.progress is not None:
                self.progress(1)

    def _write(self) -> None:
        if self.unwritten:
            self.ledger.keep(self.unwritten)
            self.unwritten = []

    def _reservation(self, request: Request) -> float:
        """The most a request can cost: a token per UTF-8 byte read, and all it may write."""
        if self.price is None:
            return 0.0
        read = sum(len(m["content"].encode()) for m in request.body["messages"]) + 100
        written = request.body.get("max_tokens") or request.body.get("max_completion_tokens") or 0
        return cost_usd(self.price, (read, 0, written)) or 0.0

    async def _settle(self, client: Any, request: Request) -> Settled:
        hold = self._reservation(request)
        if self.budget is not None and self.spent + self.reserved + hold > self.budget:
            return self._settled(
                Verdict("over_budget", error=f"the budget of ${self.budget:g} is used up"), {}, None, 0
            )
        self.reserved += hold
        try:
            settled = await self._ask(client, request)
        finally:
            self.reserved -= hold
        # A request without known cost may have been billed: count what it could have cost at most.
        self.spent += settled.cost_usd if settled.cost_usd is not None else hold
        return settled

    async def _ask(self, client: Any, request: Request) -> Settled:
        import openai

        verdict = Verdict("api_error", error="not asked")
        for attempt in range(1, self.endpoint.max_attempts + 1):
            wait: float | None = None
            started = time.perf_counter()
            try:
                raw = await client.chat.completions.with_raw_response.create(**request.body)
                response = raw.http_response.json()
                elapsed = (time.perf_counter() - started) * 1000
                if not isinstance(response, dict):
                    response = {}
                return self._settled(classify(response, request.labels), response, elapsed, attempt)
            except openai.APITimeoutError:
                verdict = Verdict("timeout", error=f"no answer within {self.endpoint.timeout_seconds:g} s")
            except openai.APIStatusError as error:
                if _is_content_filter(error):
                    filtered = Verdict("content_filter", error=f"HTTP {error.status_code}, content filter")
                    return self._settled(filtered, {}, (time.perf_counter() - started) * 1000, attempt)
                self._stop_if_final(error)
                verdict = Verdict("api_error", error=f"HTTP {error.status_code}")
                if error.status_code not in RETRY_STATUS:
                    break
                wait = retry_after_seconds(error.response.headers, datetime.now(UTC))
            except openai.APIConnectionError:
                verdict = Verdict("api_error", error="connection failed")
            except (ValueError, openai.APIError):
                verdict = Verdict("api_error", error="HTTP 200, but the body is not JSON")
            if attempt < self.endpoint.max_attempts:
                if wait is not None and wait > LONGEST_WAIT_SECONDS:
                    break
                backoff = min(20.0, 0.25 * 2**attempt) * (0.5 + self.random.random())
                await asyncio.sleep(max(wait or 0.0, backoff))
        return self._settled(verdict, {}, None, self.endpoint.max_attempts)

    def _stop_if_final(self, error: Any) -> None:
        status = error.status_code
        code = getattr(error, "code", None)
        if status in STOP_STATUS or code == "insufficient_quota":
            why = "the quota is used up" if code == "insufficient_quota" else STOP_STATUS[status]
            hint = f"; check {self.endpoint.api_key_env}" if status in (401, 403) and self.endpoint.api_key_env else ""
            raise EndpointStop(f"{self.endpoint.base_url} answered {status}: {why}{hint}")

    def _settled(self, verdict: Verdict, response: dict[str, Any], latency: float | None, attempts: int) -> Settled:
        tokens = token_counts(response)
        model = response.get("model")
        return Settled(
            outcome=verdict.outcome,
            label=verdict.label,
            p_violating=verdict.p_violating,
            p_source=verdict.p_source,
            rationale=verdict.rationale,
            error=verdict.error,
            model_returned=model if isinstance(model, str) else None,
            input_tokens=tokens[0],
            cached_tokens=tokens[1],
            output_tokens=tokens[2],
            cost_usd=cost_usd(self.price, tokens),
            latency_ms=latency,
            attempts=attempts,
            first_day=self.day.isoformat(),
            created_at=datetime.now(UTC).isoformat(),
        )


def _is_content_filter(error: Any) -> bool:
    if error.status_code != 400:
        return False
    body = error.body if isinstance(error.body, dict) else {}
    inner = body.get("innererror")
    codes = {
        getattr(error, "code", None),
        body.get("code"),
        inner.get("code") if isinstance(inner, dict) else None,
    }
    return bool(codes & {"content_filter", "ResponsibleAIPolicyViolation", "content_policy_violation"})
