"""The one thread that writes: it gathers what comes within a few milliseconds and commits it in one transaction."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from moderation_pipelines.judging.ledger.ledger import Ledger, Run, Settlement
from moderation_pipelines.judging.ledger.records import Claim, Failure, Grant

WINDOW_SECONDS = 0.01


@dataclass(slots=True)
class _Claiming:
    claims: Sequence[Claim]
    future: asyncio.Future[list[Grant]]


@dataclass(slots=True)
class _Settling:
    settlement: Settlement
    future: asyncio.Future[bool] | None


@dataclass(slots=True)
class _Orphans:
    future: asyncio.Future[None]


class LedgerWriter:
    """Takes claims and settlements from an event loop, writes them in groups, answers through futures.

    A claim or a question (may this call go on?) is committed at once, with whatever waits; settlements wait up to
    ``window`` seconds or until ``most`` of them wait. When writing fails, the error is kept and raised to everybody.
    """

    def __init__(self, ledger: Ledger, run: Run, most: int, window: float = WINDOW_SECONDS) -> None:
        self._ledger, self._run, self._most, self._window = ledger, run, max(1, most), window
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Claiming | _Settling | _Orphans | list[Claim] | list[Failure]] = deque()
        self._wake = threading.Condition()
        self._urgent = self._closing = False
        self.uncommitted = 0
        self.error: BaseException | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._thread = threading.Thread(target=self._write_all, name="ledger-writer", daemon=True)
        self._thread.start()

    async def claim(self, claims: Sequence[Claim]) -> list[Grant]:
        """Claims, once they are committed."""
        future: asyncio.Future[list[Grant]] = self._loop.create_future()
        self._put(_Claiming(claims, future), urgent=True)
        return await future

    async def settle(self, settlement: Settlement) -> None:
        """Hand over a settlement; waits only when too many are not committed yet."""
        while self.uncommitted >= self._most and self.error is None:
            self._room.clear()
            await self._room.wait()
        self.put(settlement)

    def put(self, settlement: Settlement) -> None:
        """Hand over a settlement without waiting for room."""
        self.uncommitted += 1
        self._put(_Settling(settlement, None), urgent=self.uncommitted >= self._most)

    async def may_go_on(self, settlement: Settlement) -> bool:
        """Write a call's attempt and ask, within the budget, for another."""
        future: asyncio.Future[bool] = self._loop.create_future()
        self.uncommitted += 1
        self._put(_Settling(settlement, future), urgent=True)
        return await future

    def release(self, claims: list[Claim]) -> None:
        self._put(claims, urgent=False)

    async def settle_orphaned_claims(self) -> None:
        """Settle what dead runs left, in turn with everything else that is written."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._put(_Orphans(future), urgent=True)
        await future

    def fail(self, failures: list[Failure]) -> None:
        self._put(failures, urgent=False)

    def _put(self, work: Any, urgent: bool) -> None:
        with self._wake:
            if self.error is not None:
                raise self.error
            self._waiting.append(work)
            if urgent or len(self._waiting) == 1:
                self._urgent = self._urgent or urgent
                self._wake.notify()

    async def close(self) -> None:
        """Write what waits, end the thread. Raises what writing raised."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        await asyncio.to_thread(self._thread.join)
        if self.error is not None:
            raise self.error

    def _write_all(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._closing:
                    self._wake.wait()
                if not self._waiting:
                    return
                if not self._urgent and not self._closing:
                    deadline = time.monotonic() + self._window
                    while not self._urgent and not self._closing and (left := deadline - time.monotonic()) > 0:
                        self._wake.wait(left)
                group = list(self._waiting)
                self._waiting.clear()
                self._urgent = False
            try:
                self._commit(group)
            except BaseException as error:  # noqa: BLE001 - handed to the event loop, which raises it
                with self._wake:
                    self.error = error
                    group += self._waiting
                    self._waiting.clear()
                self._loop.call_soon_threadsafe(self._failed, group, error)
                return

    def _commit(self, group: list[Any]) -> None:
        ledger, run = self._ledger, self._run
        settling = [w for w in group if isinstance(w, _Settling)]
        answers: list[tuple[asyncio.Future[Any], Any]] = []
        with ledger._db.transaction():
            if settling:
                allowed = ledger._settle(run, [w.settlement for w in settling])
                answers += [(w.future, ok) for w, ok in zip(settling, allowed, strict=True) if w.future is not None]
            for work in group:
                if isinstance(work, _Claiming):
                    answers.append((work.future, ledger._claim(run, work.claims)))
                elif isinstance(work, _Orphans):
                    ledger._settle_orphaned()
                    answers.append((work.future, None))
                elif isinstance(work, list) and work:
                    if isinstance(work[0], Claim):
                        ledger._release(run, work)
                    else:
                        ledger._fail(run, work)
        self._loop.call_soon_threadsafe(self._committed, len(settling), answers)

    def _committed(self, settled: int, answers: list[tuple[asyncio.Future[Any], Any]]) -> None:
        self.uncommitted -= settled
        if self.uncommitted < self._most:
            self._room.set()
        for future, result in answers:
            if not future.done():
                future.set_result(result)

    def _failed(self, group: list[Any], error: BaseException) -> None:
        self.uncommitted = 0
        self._room.set()
        for work in group:
            future = getattr(work, "future", None)
            if future is not None and not future.done():
                future.set_exception(error)
