"""A request's way through gate and purse: whatever ends it, its place and its money come back once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation_pipelines.judging.calls.gate import Gate, Stopped
from moderation_pipelines.judging.calls.purse import Purse, Spending
from moderation_pipelines.judging.calls.request import Request
from moderation_pipelines.judging.judges_file import Endpoint
from moderation_pipelines.judging.ledger.databases import SqliteDatabase
from moderation_pipelines.judging.ledger.ledger import Ledger, Settlement
from moderation_pipelines.judging.ledger.records import Attempt, Billed, Claim, Failure
from moderation_pipelines.judging.ledger.writer import LedgerWriter

DAY = date(2026, 3, 2)
ENDPOINT = Endpoint(base_url="http://127.0.0.1:9/v1", concurrency=1, timeout_seconds=5)


async def admitted_once(gate: Gate, error: BaseException | None) -> None:
    async with gate.admitted(10):
        if error is not None:
            raise error


@pytest.mark.parametrize("error", [None, RuntimeError("a mistake"), asyncio.CancelledError()])
def test_the_place_at_the_gate_is_free_again_however_a_call_ends(error: BaseException | None) -> None:
    async def twice() -> int:
        gate = Gate(ENDPOINT)
        try:
            await admitted_once(gate, error)
        except (RuntimeError, asyncio.CancelledError):
            assert error is not None
        await asyncio.wait_for(admitted_once(gate, None), 1)
        return gate.concurrency.in_flight

    assert asyncio.run(twice()) == 0


def test_a_cancelled_probe_leaves_the_breaker_to_the_next() -> None:
    async def states() -> tuple[str, str]:
        gate = Gate(ENDPOINT)
        now = time.monotonic()
        for _ in range(50):
            gate.breaker.failed(now - 2 * ENDPOINT.cool_down_seconds, False)
        opened = gate.breaker.state
        with pytest.raises(asyncio.CancelledError):
            await admitted_once(gate, asyncio.CancelledError())
        return opened, gate.breaker.state

    assert asyncio.run(states()) == ("open", "open")


def test_nothing_goes_out_once_the_run_is_over() -> None:
    async def late() -> None:
        gate = Gate(ENDPOINT)
        gate.stop("enough")
        await admitted_once(gate, None)

    with pytest.raises(Stopped):
        asyncio.run(late())


def with_purse(folder: Path, budget: int | None, run_budget: int | None, use: Callable[[Purse, Spending], Awaitable[None]]) -> None:  # fmt: skip
    async def main() -> None:
        ledger = Ledger(SqliteDatabase(folder / "ledger.sqlite"))
        run = ledger.begin("judge", DAY, budget=budget)
        writer, spending = LedgerWriter(ledger, run, 4), Spending()
        await use(Purse(writer, run_budget, spending), spending)
        await writer.close()
        ledger.end(run, {}, True)
        ledger.close()

    asyncio.run(main())


def claims(*holds: int) -> list[Claim]:
    return [Claim(bytes([k]) * 16, hold) for k, hold in enumerate(holds)]


def test_the_budget_that_does_not_allow_a_request_is_named(tmp_path: Path) -> None:
    async def use(purse: Purse, _: Spending) -> None:
        assert await purse.take(claims(40, 40, 40)) == ["go", "go", "budget_usd_per_run"]

    with_purse(tmp_path, None, 100, use)

    async def ledgered(purse: Purse, _: Spending) -> None:
        assert await purse.take(claims(40, 40, 40)) == ["go", "go", "budget_usd"]

    (tmp_path / "other").mkdir()
    with_purse(tmp_path / "other", 100, None, ledgered)


def test_what_is_not_sent_and_what_is_over_hold_nothing(tmp_path: Path) -> None:
    async def use(purse: Purse, spending: Spending) -> None:
        first, second, third = claims(60, 60, 60)
        assert await purse.take([first]) == ["go"]
        assert await purse.take([first, second]) == ["budget_usd_per_run", "budget_usd_per_run"]
        purse.put_back(first)
        assert await purse.take([second]) == ["go"]
        purse.count("yes", 30)
        purse.put_back(second)
        assert await purse.take([third]) == ["go"]
        assert (spending.spent, spending.maybe) == (30, 0)

    with_purse(tmp_path, None, 100, use)


def test_a_dearer_second_call_needs_room_in_both_budgets(tmp_path: Path) -> None:
    async def use(purse: Purse, _: Spending) -> None:
        request = Request(claims(40)[0], b"item")
        assert await purse.take([request.claim]) == ["go"]
        attempt = Attempt(request.key, 1, "parse_error", "no_json", "no", 0, at="t")
        assert await purse.take_more(request.claim, attempt, 50)
        request.holds(50)
        other = Claim(b"o" * 16, 20)
        assert await purse.take([other]) == ["budget_usd_per_run"]
        purse.put_back(request.claim)
        assert await purse.take([other]) == ["go"]
        assert not await purse.take_more(other, Attempt(other.key, 1, "parse_error", "no_json", "no", 0, at="t"), 90)

    with_purse(tmp_path, None, 100, use)


@given(st.lists(st.tuples(st.integers(1, 60), st.sampled_from(["yes", "maybe", "no"])), min_size=1, max_size=12))
def test_a_run_never_spends_more_than_its_budget(calls: list[tuple[int, Billed]]) -> None:
    class Willing:
        """Grants every claim: only the run's own budget is looked at."""

        async def claim(self, asked: list[Claim]) -> list[object]:
            return [type("Grant", (), {"key": c.key, "result": "go"}) for c in asked]

    async def use() -> int:
        spending = Spending()
        purse = Purse(Willing(), 100, spending)  # type: ignore[arg-type] # only claim() is called
        granted = await purse.take(claims(*(hold for hold, _ in calls)))
        for claim, (hold, billed), result in zip(claims(*(h for h, _ in calls)), calls, granted, strict=True):
            if result == "go":
                purse.count(billed, hold)
                purse.put_back(claim)
        more = await purse.take([Claim(b"m" * 16, 101 - spending.spent - spending.maybe)])
        assert more == ["budget_usd_per_run"]
        return spending.spent + spending.maybe

    assert asyncio.run(use()) <= 100


def test_a_settled_request_leaves_no_claim(tmp_path: Path) -> None:
    async def use(purse: Purse, _: Spending) -> None:
        (claim,) = claims(10)
        assert await purse.take([claim]) == ["go"]
        failure = Failure(claim.key, "api_error", "server", "said no", 1)
        attempt = Attempt(claim.key, 1, "api_error", "server", "no", 0, at="t")
        await purse._writer.settle(Settlement(claim, attempt, failure=failure))
        purse.put_back(claim)

    with_purse(tmp_path, None, 100, use)
    ledger = Ledger(SqliteDatabase(tmp_path / "ledger.sqlite"))
    assert list(ledger.failures([bytes([0]) * 16])) == [bytes([0]) * 16]
    assert ledger.claimed([bytes([0]) * 16]) == {}
    ledger.close()
