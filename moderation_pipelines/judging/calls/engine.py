"""The scoring engine: items in, exactly one settled outcome each in the ledger. One function, ``score``.

A lazy reader hands over chunks; what the ledger knows is skipped; the rest is claimed a few at a time and passed to a
fixed set of workers through a short queue, so memory grows with concurrency and chunk, not with the number of items.
Results go to one writer thread that commits in groups. Knows no Dagster.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from moderation_pipelines.foundation.collector import relaxed_gc
from moderation_pipelines.foundation.errors import UserError
from moderation_pipelines.judging.calls.calls import Call, answered, backoff_seconds, next_step, unanswered
from moderation_pipelines.judging.calls.gate import Gate, Stopped
from moderation_pipelines.judging.calls.purse import Purse, Spending
from moderation_pipelines.judging.calls.request import Request
from moderation_pipelines.judging.calls.transport import NoReply, Transport, transport_for
from moderation_pipelines.judging.judges_file import Endpoint
from moderation_pipelines.judging.ledger.ledger import Ledger, Run, Settlement
from moderation_pipelines.judging.ledger.records import SETTLED, Answer, Attempt, Claim, Failure
from moderation_pipelines.judging.ledger.writer import LedgerWriter
from moderation_pipelines.judging.money import Rates, usd
from moderation_pipelines.judging.requests.wire import RequestTemplate

CHUNK = 2000
REFUSED_AT_FIRST = 20
MOST_LIMITED = 6
MOST_DEFERRED = 10_000
Item = tuple[str, str, str | None]
Reader = Callable[[], Iterable[Sequence[Item]]]


@dataclass(frozen=True)
class Job:
    """One judge on one set of items. ``account`` is whom its spending counts for, budgets are in picodollars.
    ``refusal`` says why it must not be asked at all. ``transport`` makes the way requests go, from the endpoint's key;
    None: over the wire."""

    account: str
    template: RequestTemplate
    endpoint: Endpoint
    day: date
    max_tokens: int
    rates: Rates | None = None
    budget: int | None = None
    run_budget: int | None = None
    repair: bool = True
    max_item_characters: int = 60_000
    retry_errors: bool = False
    what: str = ""
    refusal: str | None = None
    transport: Callable[[str], Transport] | None = None


@dataclass
class Progress(Spending):
    """How far a run is, and what it spent (picodollars)."""

    total: int | None = None
    done: int = 0
    known: int = 0
    calls: int = 0
    limited: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    started: float = field(default_factory=time.monotonic)

    @property
    def asked(self) -> int:
        return self.done - self.known

    def line(self) -> str:
        """One line for people: how many, how fast, what it cost, what came of it, how long it will take."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        rate = self.asked / seconds
        parts = [f"{self.done:,}" + (f" of {self.total:,}" if self.total else "")]
        if self.asked:
            parts.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s")
        if self.spent or self.maybe:
            maybe = f" (+{usd(self.maybe):.4f} maybe)" if self.maybe else ""
            parts.append(f"${usd(self.spent):.4f}{maybe}")
        missing = {k: n for k, n in sorted(self.outcomes.items()) if k != "verdict"}
        parts += [f"{n:,} {k}" for k, n in missing.items()]
        if self.limited:
            parts.append(f"{self.limited:,} × asked too fast")
        if self.total and rate > 0 and self.done < self.total:
            parts.append(f"{_span((self.total - self.done) / rate)} left")
        return ", ".join(parts)


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@dataclass(frozen=True)
class RunReport:
    """What a run did. ``stopped`` is why it ended early, for people, or None."""

    run: str
    progress: Progress
    stopped: str | None

    def as_dict(self) -> dict[str, Any]:
        p = self.progress
        return {
            "done": p.done, "known": p.known, "calls": p.calls, "limited": p.limited, "spent_usd": usd(p.spent),
            "maybe_usd": usd(p.maybe), "outcomes": dict(sorted(p.outcomes.items())), "stopped": self.stopped,
        }  # fmt: skip


class EndpointStop(UserError):
    """The endpoint cannot be asked at all (no key in the environment)."""


def api_key(endpoint: Endpoint) -> str:
    """The endpoint's key from the environment; a placeholder where it needs none."""
    if endpoint.api_key_env is None:
        return "none"
    key = os.environ.get(endpoint.api_key_env, "").strip()
    if not key:
        raise EndpointStop(f"{endpoint.base_url}: the environment variable {endpoint.api_key_env} is not set")
    return key


def run_async(main: Any) -> Any:
    """Run a coroutine on the fastest event loop there is."""
    try:
        import uvloop

        factory: Any = uvloop.new_event_loop
    except ImportError:
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


def score(
    job: Job,
    items: Reader,
    ledger: Ledger,
    total: int | None = None,
    tell: Callable[[Progress], None] | None = None,
) -> RunReport:
    """Ask for every item that has no answer yet; afterwards each has an answer or a failure in the ledger.

    ``items`` is called for each pass over them and gives chunks of (item id, text, context). ``tell`` hears of the
    progress twice a second. What an endpoint refuses for good, an outage beyond the endpoint's patience and a wait of
    more than two minutes end the run early (``stopped``); what had no answer by then is asked for by the next run.
    Raises :class:`EndpointStop` when the key is not in the environment, :class:`UserError` when the ledger cannot be
    written.
    """
    if job.refusal is not None:
        raise EndpointStop(job.refusal)
    key = api_key(job.endpoint)
    run = ledger.begin(job.account, job.day, job.what, job.budget)
    progress = Progress(total=total)
    engine = _Engine(job, items, ledger, run, key, progress, tell)
    stopped = "it was interrupted"
    try:
        with relaxed_gc():
            stopped = run_async(engine.run())
        if stopped is not None and not job.retry_errors:
            note_unasked(job, items, ledger, run, stopped)
    finally:
        report = RunReport(run.id, progress, stopped)
        with contextlib.suppress(UserError):
            ledger.end(run, report.as_dict(), engine.all_written)
    return report


def note_unasked(job: Job, items: Reader, ledger: Ledger, run: Run, why: str) -> None:
    """Note for what has no answer, and met no failure of its own in this run, why it was not asked for."""
    for chunk in items():
        keys = dict.fromkeys(job.template.key(job.template.item(text, context)) for _, text, context in chunk)
        known = ledger.known_keys(list(keys))
        missing = [k for k in keys if k not in known]
        taken, failed = ledger.claimed(missing), ledger.failures(missing)
        rest = [k for k in missing if k not in taken and not (k in failed and failed[k].run == run.id)]
        ledger.fail(run, [Failure(k, "api_error", "not_asked", why, 0) for k in rest])


def settled_items(
    job: Job, items: Reader, ledger: Ledger, report: RunReport | None = None
) -> Iterator[list[tuple[Item, bytes, Answer | Failure]]]:
    """Every item with its key and what became of it, chunk by chunk, in the reader's order."""
    why = "it was not asked for" if report is None else report.stopped or "it was not asked for"
    for chunk in items():
        keys = [job.template.key(job.template.item(text, context)) for _, text, context in chunk]
        answers = ledger.known(keys)
        missing = [k for k in keys if k not in answers]
        failures = ledger.failures(missing) if missing else {}
        yield [
            (item, key, answers.get(key) or failures.get(key) or Failure(key, "api_error", "not_asked", why, 0))
            for item, key in zip(chunk, keys, strict=True)
        ]


class _Engine:
    def __init__(
        self,
        job: Job,
        items: Reader,
        ledger: Ledger,
        run: Run,
        key: str,
        progress: Progress,
        tell: Callable[[Progress], None] | None,
    ) -> None:
        self.job, self.items, self.ledger, self.run_, self.key = job, items, ledger, run, key
        self.progress, self.tell = progress, tell
        self.endpoint, self.template = job.endpoint, job.template
        self.random = random.Random(0)  # noqa: S311 - jitter of waits, not a secret
        self.answers = self.refused = 0
        self.deferred: set[bytes] = set()
        self.in_batches: set[bytes] = set()
        self.postponed = self.busy = 0
        self.last_chance = job.retry_errors
        self.asked_again: set[bytes] = set()
        self.seen: dict[bytes, str] = {}
        self.all_written = True
        self.fed = False

    async def run(self) -> str | None:
        """All passes. Returns why it stopped early, or None."""
        workers = self.endpoint.concurrency
        self.gate = Gate(self.endpoint)
        self.reader = self.ledger.reader()
        self.writer = LedgerWriter(self.ledger, self.run_, workers // 2)
        self.purse = Purse(self.writer, self.job.run_budget, self.progress)
        self.queue: asyncio.Queue[Request | None] = asyncio.Queue(max(1, workers // 4))
        make = self.job.transport
        self.transport = transport_for(self.endpoint, self.key) if make is None else make(self.key)
        try:
            async with asyncio.TaskGroup() as group:
                teller = group.create_task(self._tell()) if self.tell is not None else None
                tasks = [group.create_task(self._worker()) for _ in range(workers)]
                await self._feed()
                for _ in tasks:
                    await self.queue.put(None)
                await asyncio.gather(*tasks)
                if teller is not None:
                    teller.cancel()
        except* UserError as errors:
            raise _first(errors) from None
        finally:
            await self.transport.close()
            self.reader.close()
            with contextlib.suppress(UserError):
                await self.writer.close()
            self.all_written = self.writer.error is None
        if self.writer.error is not None:
            raise self.writer.error
        if self.tell is not None:
            self.tell(self.progress)
        return self.gate.stopped

    async def _tell(self) -> None:
        assert self.tell is not None
        while True:
            await asyncio.sleep(0.5)
            self.tell(self.progress)

    # Feeding

    async def _feed(self) -> None:
        """Passes over the items until nothing is left that another run, or this one, is still asking for.

        Requests that were refused as too fast again and again wait for the next pass; when a whole pass answers none of
        them, they fail.
        """
        first = True
        while True:
            self.deferred.clear()
            self.postponed, passes = 0, self.gate.passes
            for chunk in self.items():
                await self._feed_chunk(chunk, first)
                if self.gate.stopped:
                    return
            self.fed = True
            await self._idle()
            self.fed = False
            if self.gate.stopped or self.job.retry_errors or not (self.deferred or self.postponed):
                return
            await self._others_settle()
            self.last_chance = not first and self.postponed > 0 and self.gate.passes == passes
            first = False

    async def _idle(self) -> None:
        """Wait until every worker has nothing to do and everything is written."""
        while self.busy or self.queue.qsize() or self.writer.uncommitted:
            if self.writer.error is not None:
                raise self.writer.error
            await asyncio.sleep(0.02)

    async def _others_settle(self) -> None:
        """Wait until no other run asks for what was deferred. What dead runs left is settled; batches are not waited
        for: what they hold stays without an answer in this run."""
        while self.deferred and not self.gate.stopped:
            claimed = await asyncio.to_thread(self.reader.claimed, list(self.deferred))
            owners = {o for o in claimed.values() if o != self.run_.id and not o.startswith("batch:")}
            in_batches = {k for k, o in claimed.items() if o.startswith("batch:")}
            self.deferred -= in_batches
            self.in_batches |= in_batches
            alive = [await asyncio.to_thread(self.reader.is_alive, o) for o in owners]
            if not all(alive):
                await self.writer.settle_orphaned_claims()
            if not any(alive):
                return
            await asyncio.sleep(0.2)

    async def _feed_chunk(self, chunk: Sequence[Item], first: bool) -> None:
        template, limit = self.template, self.job.max_item_characters
        bodies = [template.item(text, context) for _, text, context in chunk]
        keys = [template.key(body) for body in bodies]
        items = dict(zip(keys, bodies, strict=True))
        todo = await asyncio.to_thread(self._unanswered, list(items), first)
        if not todo:
            self.progress.known += len(keys) if first else 0
            self.progress.done += len(keys) if first else 0
            return
        long = {k for k, (_, text, context) in zip(keys, chunk, strict=True) if len(text) + len(context or "") > limit}
        if first:
            there = len(keys) - sum(1 for k in keys if k in todo)
            self.progress.known += there
            self.progress.done += there
        too_long = [k for k in items if k in long and k in todo]
        if too_long:
            error = f"the item has more than {limit:,} characters (max_item_characters)"
            self._fail([Failure(k, "api_error", "too_long", error, 0) for k in too_long])
        wanted = [k for k in items if k in todo and k not in long]
        repeated = sum(1 for k in keys if k in todo) - len(wanted) - len(too_long)
        self.progress.done += repeated if first else 0
        step = max(1, self.endpoint.concurrency // 4)
        for start in range(0, len(wanted), step):
            if self.gate.stopped:
                return
            part = wanted[start : start + step]
            seen = self.seen
            await self._claim([Request(Claim(k, self._hold(items[k]), seen.get(k)), items[k]) for k in part], first)

    def _unanswered(self, keys: list[bytes], first: bool) -> set[bytes]:
        if self.job.retry_errors:
            known = self.reader.known(keys)
            unreadable = {k: a.created_at for k, a in known.items() if a.outcome in ("parse_error", "truncated")}
            again = ({k for k in self.reader.failures(keys) if k not in known} | set(unreadable)) - self.asked_again
            self.asked_again |= again
            self.seen |= {k: v for k, v in unreadable.items() if k in again}
            return again
        missing = set(keys) - self.reader.known_keys(keys)
        if first or not missing:
            return missing
        missing -= self.in_batches
        return missing - {k for k, f in self.reader.failures(list(missing)).items() if f.run == self.run_.id}

    def _hold(self, item: bytes) -> int:
        """The most one call can cost."""
        return self._most(self.template.constant_bytes + len(item))

    def _most(self, n_bytes: int) -> int:
        """The most a body of so many bytes can cost: a token per byte (no tokenizer makes more), all it may write."""
        return 0 if self.job.rates is None else self.job.rates.most(n_bytes + 100, self.job.max_tokens)

    async def _claim(self, requests: list[Request], first: bool) -> None:
        if not first:  # counted when somebody else had them
            self.progress.known -= len(requests)
            self.progress.done -= len(requests)
        for request, taken in zip(requests, await self.purse.take([r.claim for r in requests]), strict=True):
            if taken == "go":
                await self.queue.put(request)
            elif taken in ("budget_usd", "budget_usd_per_run"):
                self._over_budget(request.key, taken)
            else:
                if taken == "taken" and len(self.deferred) < MOST_DEFERRED:
                    self.deferred.add(request.key)
                self.progress.known += 1
                self.progress.done += 1

    def _over_budget(self, key: bytes, budget: str) -> None:
        self._fail([Failure(key, "over_budget", "over_budget", f"{budget} does not allow the request", 0)])

    def _fail(self, failures: list[Failure]) -> None:
        self.writer.fail(failures)
        self.progress.done += len(failures)
        for f in failures:
            self.progress.outcomes[f.outcome] += 1

    # Working

    async def _worker(self) -> None:
        while (request := await self.queue.get()) is not None:
            self.busy += 1
            try:
                await self._settle(request)
            finally:
                self.busy -= 1
                self.purse.put_back(request.claim)

    async def _settle(self, request: Request) -> None:
        """Ask until there is an answer, the tries are used up, or nothing more may be asked."""
        body, tries = self.template.body(request.item), request.tries
        while (call := await self._call(request, body)) is not None:
            if call.result == "limited":
                if self._refused_too_often(request):
                    self._postpone(request, call)
                    return
                pause = backoff_seconds(min(tries.limited, 4), self.random.random())
                if (call.wait or 0.0) < pause:
                    await asyncio.sleep(pause)
                continue
            works = self.gate.worked_since(tries.failed_at) or (self.fed and self.busy == 1)
            tries.note(call, time.monotonic())
            attempt = request.attempt(call, self.job.rates)
            self.purse.count(attempt.billed, attempt.cost)
            step = next_step(call, tries, self.endpoint, self.job.repair, works)
            if step in ("keep", "fail"):
                await self._done(request, call, attempt, step)
                return
            repair = self.template.repair_body(request.item, call.verdict.said or "") if step == "repair" else None
            more = 0 if repair is None else max(0, self._most(len(repair)) - request.claim.hold)
            body = repair or body
            if not await self.purse.take_more(request.claim, attempt, more):
                self._fail([request.over_budget(call)])
                return
            request.holds(more)
            if call.result == "answer":
                tries.paid_again = True
            elif self.gate.breaker.state == "closed":  # else its cool-down sets the pace
                await asyncio.sleep(backoff_seconds(tries.broken, self.random.random()))
        self._give_back(request)

    async def _call(self, request: Request, body: bytes) -> Call | None:
        """One call, once the gate lets it out; None when the run is over."""
        try:
            async with self.gate.admitted(len(body)) as turn:
                try:
                    reply = await self.transport.post(self.template.path, body)
                    call = answered(reply, self.template.labels, self.template.api, self.endpoint)
                except NoReply as error:
                    call = unanswered(error)
                except asyncio.CancelledError:
                    self._lost(request)
                    raise
                turn.call, request.last, request.ms = call, call, turn.ms
        except Stopped:
            return None
        self.progress.calls += 1
        self._watch(call)
        return call

    def _refused_too_often(self, request: Request) -> bool:
        self.progress.limited += 1
        request.tries.limited += 1
        return request.tries.limited >= MOST_LIMITED and not self.gate.stopped

    def _watch(self, call: Call) -> None:
        """Stop when the endpoint refuses for good, or refuses everything from the start."""
        if call.stop is not None:
            self.gate.stop(call.stop)
        if call.result == "answer":
            self.answers += 1
        elif call.verdict.kind == "bad_request" and not self.answers:
            self.refused += 1
            if self.refused >= REFUSED_AT_FIRST:
                self.gate.stop(
                    f"{self.endpoint.base_url} refused the first {self.refused} requests: {call.verdict.error}; "
                    "check what judges.yaml says it can do, and the size of the items"
                )

    async def _done(self, request: Request, call: Call, attempt: Attempt, step: str) -> None:
        if step == "keep" and call.verdict.outcome in SETTLED:
            answer = request.answer(call, attempt, self.job.rates is not None, self.run_.day)
            settlement = Settlement(request.claim, attempt, answer, replace=self.job.retry_errors)
            self.progress.outcomes[answer.outcome] += 1
        else:
            failure = request.failure(call)
            settlement = Settlement(request.claim, attempt, failure=failure)
            self.progress.outcomes[failure.outcome] += 1
        self.progress.done += 1
        await self.writer.settle(settlement)

    def _give_back(self, request: Request) -> None:
        """The run stopped before this request could be sent (again): its claim goes, its failure is noted."""
        with contextlib.suppress(UserError):
            self.writer.release([request.claim])
            if request.last is not None:
                self._fail([request.failure(request.last)])

    def _postpone(self, request: Request, call: Call) -> None:
        """A request refused as too fast again and again makes room for others; it fails when nothing else is left."""
        self.writer.release([request.claim])
        if self.last_chance:
            self._fail([request.failure(call)])
        else:
            self.postponed += 1
            self.progress.known += 1
            self.progress.done += 1

    def _lost(self, request: Request) -> None:
        """The run was interrupted while the call was out: it may have been billed."""
        attempt = request.lost()
        self.purse.count(attempt.billed, attempt.cost)
        with contextlib.suppress(UserError):
            self.writer.put(Settlement(request.claim, attempt))


def _first(errors: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
