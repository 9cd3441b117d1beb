"""One request's life in a run: claimed, called until it is settled, settled once.

Belongs here: what is known of one request, and the rows its end is written as. Not here: when to call (the engine and
its gate) and what may be spent (the purse).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from moderation_pipelines.judging.calls.calls import Call, Tries
from moderation_pipelines.judging.ledger.records import SETTLED, Answer, Attempt, Claim, Failure
from moderation_pipelines.judging.money import Rates, Usage


@dataclass(slots=True)
class Request:
    """``cost`` (picodollars) and ``usage``: of the calls that said what they cost; ``last``: the newest call, also one
    that was refused as too fast; ``ms``: how long it took."""

    claim: Claim
    item: bytes
    tries: Tries = field(default_factory=Tries)
    cost: int = 0
    usage: Usage | None = None
    last: Call | None = None
    ms: float = 0.0

    @property
    def key(self) -> bytes:
        return self.claim.key

    def holds(self, more: int) -> None:
        """Hold more money: the next call may cost more than the last."""
        if more:
            self.claim = replace(self.claim, hold=self.claim.hold + more)

    def attempt(self, call: Call, rates: Rates | None) -> Attempt:
        """The call as a row, counted to the request. What may have been billed without saying so counts with all it
        could have cost."""
        billed, cost = call.billed, 0
        if rates is not None and billed != "no":
            exact = rates.cost(call.usage) if billed == "yes" else None
            billed = billed if exact is not None else "maybe"
            cost = self.claim.hold if exact is None else exact
        if billed == "yes":
            self.cost += cost
            self.usage = call.usage if self.usage is None else _added(self.usage, call.usage)
        verdict = call.verdict
        return Attempt(
            self.key, self.tries.calls, verdict.outcome, verdict.kind, billed, cost, call.usage, self.ms, call.status,
            call.request_id, _now(),
        )  # fmt: skip

    def answer(self, call: Call, attempt: Attempt, priced: bool, day: str) -> Answer:
        """What the call said, as it is kept; its cost is that of all calls, None where nothing has a price."""
        verdict, u = call.verdict, self.usage or call.usage
        cost = self.cost if priced and self.usage is not None else None
        return Answer(
            verdict.outcome, verdict.kind, verdict.label, verdict.clause, verdict.evidence, verdict.p_violating,
            verdict.p_source, verdict.rationale, verdict.error, verdict.signals, call.model, call.fingerprint,
            call.request_id, u.input, u.cached, u.cache_write, u.output, u.reasoning, u.tier,
            cost, self.ms, self.tries.calls, "live", day, attempt.at,
        )  # fmt: skip

    def failure(self, call: Call) -> Failure:
        """Why there is no answer: what the call showed."""
        outcome = call.verdict.outcome if call.verdict.outcome not in SETTLED else "api_error"
        kind, error = call.verdict.kind or "unknown", call.verdict.error or "no answer"
        return Failure(self.key, outcome, kind, error, self.tries.calls, _now())

    def over_budget(self, call: Call) -> Failure:
        """Another call was wanted after this one and is not allowed."""
        why = f"the budget does not allow another attempt (the last: {call.verdict.error})"
        return Failure(self.key, "over_budget", "over_budget", why, self.tries.calls, _now())

    def lost(self) -> Attempt:
        """A call was out when the run was interrupted: it may have been billed."""
        return Attempt(self.key, self.tries.calls + 1, "lost", "interrupted", "maybe", self.claim.hold, at=_now())


def _added(a: Usage, b: Usage) -> Usage:
    def plus(x: int | None, y: int | None) -> int | None:
        return x if y is None else y if x is None else x + y

    return Usage(
        plus(a.input, b.input), plus(a.cached, b.cached), plus(a.cache_write, b.cache_write),
        plus(a.output, b.output), plus(a.reasoning, b.reasoning), b.tier or a.tier,
    )  # fmt: skip


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
