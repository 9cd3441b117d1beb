"""The scoring engine: requests in, one settled outcome each out. One function; the only place that retries.

A fixed set of workers shares a queue; answers go to the ledger as they settle. Content outcomes (refusal, filter,
unreadable, truncated) are answers and are kept; errors are not, so a later run asks again.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlparse

from moderation_pipelines.errors import UserError
from moderation_pipelines.scoring.judges import Endpoint, Price
from moderation_pipelines.scoring.ledger import Ledger, Settled
from moderation_pipelines.scoring.outcomes import LabelSet, Outcome, Verdict, classify, token_counts

Progress = Callable[[int], None]
RETRY_STATUS = frozenset({408, 409, 429, 500, 502, 503, 504, 529})
STOP_STATUS = {
    401: "the key is not accepted",
    403: "the key may not use this model",
    404: "no such address or model",
}
LONGEST_WAIT_SECONDS = 120.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")


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
    account: str = "",
) -> dict[str, Settled]:
    """Settle every request: from the ledger where it was asked before, else from the endpoint.

    Returns one outcome per key. ``budget_usd`` is what may be spent on ``account`` (the judge) on that day, over all
    runs and retries, and is never crossed: what does not fit ends as ``over_budget``. Raises :class:`EndpointStop`
    with what would be right when the endpoint refuses everything; what was settled by then is in the ledger.
    """
    unique = {r.key: r for r in requests}
    settled = ledger.known(list(unique))
    if progress is not None and settled:
        progress(len(settled))
    missing = [r for key, r in unique.items() if key not in settled]
    if missing:
        key = api_key(endpoint)
        run = _Run(endpoint, key, ledger, day, price, budget_usd, progress, account)
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
        account: str,
    ) -> None:
        self.account = account
        self.endpoint, self.key, self.ledger, self.day = endpoint, key, ledger, day
        self.price, self.budget, self.progress = price, budget_usd, progress
        self.spent, self.reserved = ledger.spent(day.isoformat(), account), 0.0
        self.random = random.Random(0)  # noqa: S311 - jitter of waits, not a secret
        self.out: dict[str, Settled] = {}
        self.unwritten: list[tuple[str, Settled]] = []

    async def all(self, requests: Iterable[Request]) -> dict[str, Settled]:
        import openai

        queue = iter(requests)
        # A proxy from the environment never gets to see what goes to this machine.
        on_this_machine = (urlparse(self.endpoint.base_url).hostname or "") in LOOPBACK
        try:
            async with (
                openai.DefaultAsyncHttpxClient(trust_env=not on_this_machine) as http_client,
                openai.AsyncOpenAI(
                    api_key=self.key,
                    base_url=self.endpoint.base_url,
                    max_retries=0,
                    timeout=self.endpoint.timeout_seconds,
                    http_client=http_client,
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
        """Ask until there is an answer, the attempts are used up, or the budget does not allow another."""
        hold = self._reservation(request)
        settled: Settled | None = None
        for attempt in range(1, self.endpoint.max_attempts + 1):
            if self.budget is not None and self.spent + self.reserved + hold > self.budget:
                over = Verdict("over_budget", error=f"the budget of ${self.budget:g} does not allow the request")
                return settled or self._settled(over, {}, None, 0)
            self.reserved += hold
            try:
                settled, wait, maybe_billed = await self._ask(client, request, attempt)
            finally:
                self.reserved -= hold
            # What may have been billed without saying so counts with all it could have cost.
            cost = settled.cost_usd if settled.cost_usd is not None else hold if maybe_billed else 0.0
            if cost:
                self.spent += cost
                self.ledger.spend(self.day.isoformat(), self.account, cost)
            if wait is None or wait > LONGEST_WAIT_SECONDS or attempt == self.endpoint.max_attempts:
                return settled
            backoff = min(20.0, 0.25 * 2**attempt) * (0.5 + self.random.random())
            await asyncio.sleep(max(wait, backoff))
        raise AssertionError("max_attempts is at least 1")

    async def _ask(self, client: Any, request: Request, attempt: int) -> tuple[Settled, float | None, bool]:
        """(outcome, seconds to wait before another attempt or None if there is to be none, may have been billed)."""
        import openai

        started = time.perf_counter()

        def failed(outcome: Outcome, error: str) -> Settled:
            return self._settled(Verdict(outcome, error=error), {}, None, attempt)

        try:
            async with asyncio.timeout(self.endpoint.timeout_seconds):
                raw = await client.chat.completions.with_raw_response.create(**request.body)
            elapsed = (time.perf_counter() - started) * 1000
            response = _json_object(raw.http_response)
            if response is None:
                return failed("api_error", "HTTP 200, but the body is not a JSON object"), 0.0, True
            settled = self._settled(classify(response, request.labels), response, elapsed, attempt)
            return settled, 0.0 if settled.outcome == "api_error" else None, True
        except (openai.APITimeoutError, TimeoutError):
            return failed("timeout", f"no answer within {self.endpoint.timeout_seconds:g} s"), 0.0, True
        except openai.APIStatusError as error:
            if _is_content_filter(error):
                return failed("content_filter", f"HTTP {error.status_code}, content filter"), None, False
            self._stop_if_final(error)
            settled = failed("api_error", f"HTTP {error.status_code}")
            if error.status_code not in RETRY_STATUS:
                return settled, None, False
            return settled, retry_after_seconds(error.response.headers, datetime.now(UTC)) or 0.0, False
        except openai.APIConnectionError:
            return failed("api_error", "connection failed"), 0.0, True
        except openai.APIError:
            return failed("api_error", "the client could not read the answer"), 0.0, True

    def _stop_if_final(self, error: Any) -> None:
        status = error.status_code
        code = _error_code(error)
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
            model_returned=model[:200].encode("utf-8", "replace").decode() if isinstance(model, str) else None,
            input_tokens=tokens[0],
            cached_tokens=tokens[1],
            output_tokens=tokens[2],
            cost_usd=cost_usd(self.price, tokens),
            latency_ms=latency,
            attempts=attempts,
            first_day=self.day.isoformat(),
            created_at=datetime.now(UTC).isoformat(),
        )


def _json_object(response: Any) -> dict[str, Any] | None:
    """The body of an answer as a JSON object, or None if it is anything else."""
    try:
        value = response.json()
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _error_code(error: Any) -> str | None:
    code = getattr(error, "code", None)
    return code if isinstance(code, str) else None


def _is_content_filter(error: Any) -> bool:
    if error.status_code != 400:
        return False
    body = error.body if isinstance(error.body, dict) else {}
    inner = body.get("innererror")
    codes = [_error_code(error), body.get("code"), inner.get("code") if isinstance(inner, dict) else None]
    return any(c in ("content_filter", "ResponsibleAIPolicyViolation", "content_policy_violation") for c in codes)
