"""Rows of the ledger. Keys are 16 raw bytes, money is whole picodollars, times are UTC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from moderation_pipelines.judging.money import NO_USAGE, Usage

SETTLED = frozenset({"verdict", "refusal", "content_filter", "parse_error", "truncated"})
Billed = Literal["yes", "no", "maybe"]
Granted = Literal["go", "known", "taken", "over_budget"]


class Answer(NamedTuple):
    """What a request was answered with: a verdict, or why there is none. The only thing that is ever cached."""

    outcome: str
    kind: str | None = None
    label: str | None = None
    clause: str | None = None
    evidence: str | None = None
    p_violating: float | None = None
    p_source: str | None = None
    rationale: str | None = None
    error: str | None = None
    signals: str | None = None
    model_returned: str | None = None
    fingerprint: str | None = None
    request_id: str | None = None
    input_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    tier: str | None = None
    cost: int | None = None
    latency_ms: float | None = None
    attempts: int = 0
    via: str | None = "live"
    first_day: str = ""
    created_at: str = ""

    @property
    def usage(self) -> Usage:
        return Usage(
            self.input_tokens, self.cached_tokens, self.cache_write_tokens, self.output_tokens, self.reasoning_tokens,
            self.tier,
        )  # fmt: skip


ANSWER_COLUMNS = Answer._fields


@dataclass(slots=True)
class Attempt:
    """One call: what came of it and whether it was billed. ``maybe``: no answer came, and it may have cost ``cost``."""

    key: bytes
    number: int
    outcome: str
    kind: str | None
    billed: Billed
    cost: int
    usage: Usage = NO_USAGE
    ms: float | None = None
    status: int | None = None
    request_id: str | None = None
    at: str = ""


@dataclass(slots=True)
class Claim:
    """A request about to be sent, and the most one call of it can cost. ``seen``: when the answer that is to be asked
    for again was given; without it a settled request is never asked again."""

    key: bytes
    hold: int
    seen: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request has no answer. Never cached: the next run asks again."""

    key: bytes
    outcome: str
    kind: str
    error: str
    attempts: int
    at: str = ""
    run: str = ""


@dataclass(slots=True)
class Grant:
    """What became of a claim: ``go`` (send it), ``known`` (answered meanwhile), ``taken`` (another run has it), or
    ``over_budget``."""

    key: bytes
    result: Granted
