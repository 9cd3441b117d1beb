"""What a run may still spend: its own budget and its account's, asked together. All money in picodollars.

A claim holds the most its call can cost from ``take`` until ``put_back``. The account's budget stands in the ledger,
since other runs spend from it too; the run's own is counted here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from moderation_pipelines.judging.ledger.ledger import Settlement
from moderation_pipelines.judging.ledger.records import Attempt, Billed, Claim
from moderation_pipelines.judging.ledger.writer import LedgerWriter

# What became of a claim: send it; answered meanwhile; another run has it; or the budget that does not allow it.
Taken = Literal["go", "known", "taken", "budget_usd", "budget_usd_per_run"]


@dataclass
class Spending:
    """What a run spent, and what it may have spent without being told."""

    spent: int = 0
    maybe: int = 0


class Purse:
    def __init__(self, writer: LedgerWriter, run_budget: int | None, spending: Spending) -> None:
        self._writer, self._run_budget, self._spending = writer, run_budget, spending
        self._held = 0

    def _fits(self, more: int) -> bool:
        spent = self._spending.spent + self._spending.maybe + self._held
        return self._run_budget is None or spent + more <= self._run_budget

    async def take(self, claims: Sequence[Claim]) -> list[Taken]:
        """Claim requests in the ledger where both budgets hold the most they can cost. What is not ``go`` holds
        nothing afterwards."""
        asked = []
        for claim in claims:
            if self._fits(claim.hold):
                self._held += claim.hold
                asked.append(claim)
        grants = {g.key: g.result for g in await self._writer.claim(asked)}
        results: list[Taken] = []
        for claim in claims:
            result = grants.get(claim.key)
            if result is not None and result != "go":
                self.put_back(claim)
            if result is None:
                results.append("budget_usd_per_run")
            else:
                results.append("budget_usd" if result == "over_budget" else result)
        return results

    async def take_more(self, claim: Claim, attempt: Attempt, more: int) -> bool:
        """Write an attempt and ask for another, which may cost ``more`` than the claim holds. When it is not allowed
        the claim is over in the ledger, and holds here until it is put back."""
        fits = self._fits(more)
        allowed = await self._writer.may_go_on(Settlement(claim, attempt, again=fits, hold_more=more))
        if allowed:
            self._held += more
        return allowed

    def put_back(self, claim: Claim) -> None:
        """What a request held is free: its calls are counted, or were never made."""
        self._held -= claim.hold

    def count(self, billed: Billed, cost: int) -> None:
        """A call that was billed, or may have been."""
        if billed == "yes":
            self._spending.spent += cost
        elif billed == "maybe":
            self._spending.maybe += cost
