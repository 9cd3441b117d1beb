"""Outcome of a call and what to do next; every decision about retries is made here. Plain functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import orjson

from moderation_pipelines.judging.calls.limits import retry_after_seconds
from moderation_pipelines.judging.calls.transport import NoReply, Reply
from moderation_pipelines.judging.judges_file import Endpoint
from moderation_pipelines.judging.ledger.records import SETTLED, Billed
from moderation_pipelines.judging.money import NO_USAGE, Usage, usage_of
from moderation_pipelines.judging.requests.outcomes import LabelSet, Verdict, classify, refused_by_filter

LONGEST_WAIT_SECONDS = 120.0
MOST_TIMEOUTS = 2
_BROKEN_STATUS = frozenset({408, 409, 425, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
_PERHAPS_BILLED = frozenset({408, 499, 502, 504, 520, 524})
_TOO_LONG = frozenset({"context_length_exceeded", "string_above_max_length", "request_too_large"})
Result = Literal["answer", "broken", "limited", "refused"]


@dataclass(slots=True)
class Call:
    """One call's end.

    ``result``: ``answer`` (content came, good or bad), ``broken`` (infrastructure failed), ``limited`` (too fast),
    ``refused`` (this request will never do). ``stop`` is why asking on is pointless, for people, or None.
    """

    result: Result
    verdict: Verdict
    billed: Billed
    usage: Usage = NO_USAGE
    status: int | None = None
    wait: float | None = None
    stop: str | None = None
    request_id: str | None = None
    model: str | None = None
    fingerprint: str | None = None
    headers: Mapping[str, str] | None = None


def unanswered(error: NoReply) -> Call:
    """A call that no answer came to."""
    if error.kind == "timeout":
        return Call("broken", Verdict("timeout", error=error.message, kind="timeout"), "maybe")
    stop = error.message if error.kind == "certificate" else None
    billed: Billed = "maybe" if error.sent else "no"
    return Call("broken", Verdict("api_error", error=error.message, kind=error.kind), billed, stop=stop)


def answered(reply: Reply, labels: LabelSet, api: str, endpoint: Endpoint) -> Call:
    """A call that an HTTP answer came to."""
    if reply.status == 200:
        return _content(reply, labels, api)
    return _refusal(reply, endpoint)


def _content(reply: Reply, labels: LabelSet, api: str) -> Call:
    request_id = _short(reply.headers.get("x-request-id"))
    try:
        value = orjson.loads(reply.body)
    except (orjson.JSONDecodeError, RecursionError):
        value = None
    if not isinstance(value, dict):
        verdict = Verdict("api_error", error="HTTP 200, but the body is not a JSON object", kind="garbage")
        return Call("answer", verdict, "maybe", status=200, request_id=request_id, headers=reply.headers)
    verdict = classify(value, labels, api)
    return Call(
        "answer", verdict, "maybe" if verdict.outcome == "api_error" else "yes", usage_of(value), 200,
        request_id=request_id, model=_short(value.get("model")), fingerprint=_short(value.get("system_fingerprint")),
        headers=reply.headers,
    )  # fmt: skip


def _refusal(reply: Reply, endpoint: Endpoint) -> Call:
    status = reply.status
    try:
        body = orjson.loads(reply.body)
    except (orjson.JSONDecodeError, RecursionError):
        body = None
    error = body.get("error") if isinstance(body, dict) else None
    error = error if isinstance(error, dict) else body if isinstance(body, dict) else {}
    code, parameter = _word(error.get("code")) or _word(error.get("type")), _word(error.get("param"))
    request_id = _short(reply.headers.get("x-request-id"))
    wait = retry_after_seconds(reply.headers)

    def call(result: Result, verdict: Verdict, billed: Billed = "no", stop: str | None = None) -> Call:
        return Call(result, verdict, billed, NO_USAGE, status, wait, stop, request_id=request_id, headers=reply.headers)

    filtered = refused_by_filter(status, body)
    if filtered is not None:
        return call("answer", filtered)
    where, said = endpoint.base_url, f"HTTP {status}" + (f", {code}" if code else "")
    failed = Verdict("api_error", error=said, kind=f"http_{status}")
    if status == 429 and code in ("insufficient_quota", "billing_hard_limit_reached"):
        return call("refused", failed, stop=f"{where} answered 429: the quota is used up")
    if status == 429:
        return call("limited", Verdict("api_error", error=f"{said}: asked too fast", kind="rate_limited"))
    if status in (401, 403):
        why = "the key is not accepted" if status == 401 else "the key may not use this model"
        hint = f"; check {endpoint.api_key_env}" if endpoint.api_key_env else "; it wants a key: name api_key_env"
        return call("refused", failed, stop=f"{where} answered {status}: {why}{hint}")
    if status == 404:
        why = "no such model" if code == "model_not_found" else "no such address or model"
        return call("refused", failed, stop=f"{where} answered 404: {why}; check base_url and model")
    if 300 <= status < 400:
        return call("refused", failed, stop=f"{where} answered {status}: it sends elsewhere; check base_url")
    if code in _TOO_LONG or status == 413:
        return call("refused", Verdict("api_error", error=f"{said}: the item is too long", kind="context_length"))
    if status in _BROKEN_STATUS or status >= 500:
        return call("broken", failed, "maybe" if status in _PERHAPS_BILLED else "no")
    if parameter:
        failed = Verdict("api_error", error=f"{said}, parameter {parameter}", kind="bad_request")
    else:
        failed = Verdict("api_error", error=said, kind="bad_request")
    return call("refused", failed)


@dataclass(slots=True)
class Tries:
    """What one request has been through so far."""

    calls: int = 0
    broken: int = 0
    timeouts: int = 0
    limited: int = 0
    failed_at: float = 0.0
    paid_again: bool = False

    def note(self, call: Call, moment: float) -> None:
        """Count a call that was not refused as too fast; ``moment`` of the monotonic clock."""
        self.calls += 1
        if call.result == "broken":
            self.broken, self.failed_at = self.broken + 1, moment
        self.timeouts += call.verdict.outcome == "timeout"


Next = Literal["keep", "fail", "again", "repair"]


def next_step(call: Call, tries: Tries, endpoint: Endpoint, repair: bool, works: bool) -> Next:
    """What to do after a call: keep the answer, give up, ask again, or ask for a readable answer.

    What was paid for (truncated, unreadable, garbage) is asked for again at most once; a timeout at most twice in all,
    as each may be billed; failures of the infrastructure up to ``max_attempts``. ``works``: whether the endpoint has
    answered a call that was sent after this request failed the last time; if not, it is an outage, which no request is
    lost to.
    """
    verdict = call.verdict
    if call.result == "refused":
        return "fail"
    if call.result == "answer":
        if verdict.outcome in ("verdict", "refusal", "content_filter"):
            return "keep"
        if not tries.paid_again:
            readable = verdict.outcome == "parse_error" and verdict.said is not None
            if readable and not repair:
                return "keep"
            return "repair" if readable else "again"
        return "keep" if verdict.outcome in SETTLED else "fail"
    if verdict.outcome == "timeout":
        return "again" if tries.timeouts < MOST_TIMEOUTS else "fail"
    if works and tries.broken >= endpoint.max_attempts:
        return "fail"
    return "again"


def _short(value: object) -> str | None:
    return (
        value[:200].replace("\x00", "").encode("utf-8", "replace").decode()
        if isinstance(value, str) and value
        else None
    )


def _word(value: object) -> str | None:
    """A machine's word (an error code, a parameter): nothing that could hold item text."""
    is_word = isinstance(value, str) and 0 < len(value) <= 60 and value.replace("_", "").replace(".", "").isalnum()
    return value if is_word else None  # type: ignore[return-value]


def backoff_seconds(failures: int, random: float, wait: float | None = None) -> float:
    """Seconds before the next try after so many failures: doubling from half a second to twenty, jittered by half;
    never less than what the endpoint asked for."""
    base: float = min(20.0, 0.25 * 2.0 ** min(failures, 10))
    return max(wait or 0.0, base * (0.5 + random))
