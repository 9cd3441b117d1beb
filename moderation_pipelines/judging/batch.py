"""The Batch API: submit what is missing, poll, collect; a crash at any point finds its batch and never makes another.

A batch goes through ``building`` (its requests are claimed, its file is being written), ``built``, ``uploaded`` (the
file's id is kept), ``submitted`` (the batch's id is kept), ``collected`` or ``abandoned``. Every id is kept before the
next step. A batch carries its name as metadata, so one that was created just before a crash is found by it.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import orjson

from moderation_pipelines.foundation.errors import UserError
from moderation_pipelines.judging.calls.calls import Call, answered
from moderation_pipelines.judging.calls.engine import EndpointStop, Job, Reader, api_key, run_async
from moderation_pipelines.judging.calls.limits import TokenEstimate
from moderation_pipelines.judging.calls.transport import DirectTransport, NoReply, Reply
from moderation_pipelines.judging.judges_file import Endpoint
from moderation_pipelines.judging.ledger.batches import Batches, BatchRow
from moderation_pipelines.judging.ledger.ledger import Ledger, Run, Settlement, now
from moderation_pipelines.judging.ledger.records import SETTLED, Answer, Attempt, Billed, Claim, Failure
from moderation_pipelines.judging.money import Price, Rates
from moderation_pipelines.judging.requests.outcomes import LabelSet
from moderation_pipelines.judging.requests.wire import PATHS
from moderation_pipelines.tables import store

TERMINAL = frozenset({"completed", "failed", "expired", "cancelled"})
GROUP = 1000
CLAIMED, CLAIMED_BYTES = 10_000, 4_000_000
_LINE = 120  # bytes of a line around its body, at most
Tell = Callable[[str], None]


@dataclass
class Collected:
    """What came of the open batches: how many are still out, and per collected batch what was settled."""

    open: int = 0
    batches: list[BatchRow] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def build_lines(job: Job, items: Reader, ledger: Ledger, run: Run, most_lines: int, most_bytes: int) -> Iterator[bytes]:
    """Lines of one batch: requests without an answer that nobody asks for, claimed before they are handed out.

    Ends when a limit is reached or nothing is left. A line is the request's key as ``custom_id`` and the exact body.
    """
    template, lines, size, held = job.template, 0, 0, 0
    head, middle = b'{"custom_id":"', b'","method":"POST","url":"/v1' + PATHS[template.api].encode() + b'","body":'
    around = template.constant_bytes + _LINE
    for bodies in _requests(job, items, ledger, run, most_bytes - around):
        missing = list(bodies)
        while missing:
            sizes = 0
            wanted: list[Claim] = []
            for key in missing:
                n = len(bodies[key]) + around
                if lines + len(wanted) >= most_lines or size + sizes + n > most_bytes:
                    break
                hold = _hold(job, len(bodies[key]))
                if job.run_budget is not None and held + hold > job.run_budget:
                    break
                wanted.append(Claim(key, hold))
                sizes, held = sizes + n, held + hold
            if not wanted:
                return
            for grant in ledger.claim(run, wanted):
                if grant.result == "go":
                    line = b"%s%s%s%s}\n" % (head, grant.key.hex().encode(), middle, template.body(bodies[grant.key]))
                    lines, size = lines + 1, size + len(line)
                    yield line
                elif grant.result == "over_budget":
                    why = "budget_usd does not allow the request"
                    ledger.fail(run, [Failure(grant.key, "over_budget", "over_budget", why, 0)])
            missing = missing[len(wanted) :]


def _requests(job: Job, items: Reader, ledger: Ledger, run: Run, longest: int) -> Iterator[dict[bytes, bytes]]:
    """Key and item of requests, in groups to be claimed at once: large ones, so that the ledger's pages are written
    once per thousands of claims. Items that are too long fail."""
    template, group, size = job.template, dict[bytes, bytes](), 0
    for chunk in items():
        long = []
        for _, text, context in chunk:
            item = template.item(text, context)
            key = template.key(item)
            if len(text) + len(context or "") <= job.max_item_characters and len(item) <= longest:
                group[key] = item
                size += len(item)
            else:
                long.append(Failure(key, "api_error", "too_long", "the item is too long for a batch", 0))
        if long:
            ledger.fail(run, long)
        if len(group) >= CLAIMED or size >= CLAIMED_BYTES:
            yield group
            group, size = {}, 0
    if group:
        yield group


def _hold(job: Job, item_bytes: int) -> int:
    if job.rates is None:
        return 0
    return job.rates.most(job.template.constant_bytes + item_bytes + 100, job.max_tokens, batch=True)


def submit(job: Job, items: Reader, ledger: Ledger, folder: Path, price: Price | None, tell: Tell | None = None) -> int:
    """Submit what is missing as batches; first finish what a crash left half done. Returns how many were submitted.

    Raises :class:`EndpointStop` when the endpoint cannot be asked: what was built stays claimed and goes on next time.
    """
    if job.refusal is not None:
        raise EndpointStop(job.refusal)
    key = api_key(job.endpoint)
    submitted = 0
    with ledger.exclusive(f"batches-{job.account}"):
        batches = Batches(ledger)
        for left in batches.unfinished(job.account):
            if left.state == "building":
                batches.abandon(left, "its file was not finished when the run ended")
                store.remove(_file(folder, left.name))
            else:
                run_async(_send(job.endpoint, key, batches, left, folder))
                submitted += 1
        while True:
            built = _build(job, items, ledger, batches, folder, price)
            if built is None:
                return submitted
            if tell is not None:
                tell(f"{job.what}: batch of {built.requests:,} requests")
            run_async(_send(job.endpoint, key, batches, built, folder))
            submitted += 1


def _build(
    job: Job, items: Reader, ledger: Ledger, batches: Batches, folder: Path, price: Price | None
) -> BatchRow | None:
    """Write the next batch's file; None when nothing is left to ask or the endpoint's queue is full."""
    endpoint = job.endpoint
    open_tokens = sum(b.tokens for b in batches.open() if b.endpoint == endpoint.base_url)
    limit = endpoint.batch_enqueued_tokens
    most_bytes = int(endpoint.batch_megabytes * 1e6)
    estimate = TokenEstimate()
    if limit is not None:
        most_bytes = min(most_bytes, int((limit - open_tokens) / estimate.of(1)))
        if most_bytes <= 0:
            return None
    name = uuid.uuid4().hex[:16]
    labels = job.template.labels
    reading = {
        "ids": labels.ids, "violating": sorted(labels.violating), "clauses": labels.clauses, "api": job.template.api,
        "price": None if price is None else price.model_dump(mode="json"), "max_tokens": job.max_tokens,
    }  # fmt: skip
    row = batches.begin(name, job.account, job.day.isoformat(), endpoint.base_url, json.dumps(reading))
    run = Run(row.owner, job.account, row.day, job.budget)
    store.make_folder(folder)
    path, n, size = _file(folder, name), 0, 0
    with path.open("wb", buffering=2**20) as stream:
        for line in build_lines(job, items, ledger, run, endpoint.batch_requests, most_bytes):
            stream.write(line)
            n, size = n + 1, size + len(line)
    if not n:
        batches.forget(row)
        store.remove(path)
        return None
    return batches.built(row, n, round(estimate.of(size)))


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.jsonl"


async def _send(endpoint: Endpoint, key: str, batches: Batches, row: BatchRow, folder: Path) -> None:
    """Upload and create, each id kept before the next step."""
    transport = DirectTransport(endpoint, key)
    path = _file(folder, row.name)
    try:
        if row.file_id is None:
            if not path.exists():
                batches.abandon(row, "its file is gone")
                return
            with path.open("rb") as stream:
                reply = await _call(endpoint, transport.upload(path.name, stream))
            row = batches.uploaded(row, _id(endpoint, reply, "file"))
        created = await _created_before(endpoint, transport, row)
        if created is None:
            reading = json.loads(row.reading)
            body = {
                "input_file_id": row.file_id, "endpoint": f"/v1{PATHS[reading['api']]}", "completion_window": "24h",
                "metadata": {"modpipe": row.name},
            }  # fmt: skip
            created = _id(endpoint, await _call(endpoint, transport.post("/batches", orjson.dumps(body))), "batch")
        batches.submitted(row, created)
    finally:
        await transport.close()


async def _created_before(endpoint: Endpoint, transport: DirectTransport, row: BatchRow) -> str | None:
    """The batch of this name, if a run that ended just then had created it."""
    after = ""
    while True:
        reply = await _call(endpoint, transport.get(f"/batches?limit=100{after}"))
        page = _object(endpoint, reply)
        for batch in page.get("data") or []:
            is_ours = (batch.get("metadata") or {}).get("modpipe") == row.name
            if is_ours or batch.get("input_file_id") == row.file_id:
                return str(batch["id"])
        if not page.get("has_more") or not page.get("data"):
            return None
        after = f"&after={page['data'][-1]['id']}"


async def _call(endpoint: Endpoint, call: Any) -> Reply:
    """A reply with HTTP 200, or :class:`EndpointStop` with why there is none."""
    try:
        reply: Reply = await call
    except NoReply as error:
        raise EndpointStop(f"{endpoint.base_url}: {error.message}; run again later") from None
    if reply.status != 200:
        if reply.status == 404:
            raise EndpointStop(
                f"{endpoint.base_url} answered 404 about a file or batch; if the provider has lost the batch, "
                "modpipe batches --give-up BATCH"
            )
        refused = answered(reply, LabelSet((), frozenset()), "chat", endpoint)
        raise EndpointStop(refused.stop or f"{endpoint.base_url} does not take batches: {refused.verdict.error}")
    return reply


def _object(endpoint: Endpoint, reply: Reply) -> dict[str, Any]:
    try:
        value = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise EndpointStop(f"{endpoint.base_url} answered about batches with something that is not JSON")
    return value


def _id(endpoint: Endpoint, reply: Reply, what: str) -> str:
    found = _object(endpoint, reply).get("id")
    if not isinstance(found, str):
        raise EndpointStop(f"{endpoint.base_url} gave no id for a {what}")
    return found


def collect(ledger: Ledger, endpoints: Sequence[Endpoint], folder: Path, day: date | None = None) -> Collected:
    """Look at every open batch (of a day); settle those that ended, whatever their end.

    Output and error file are read in every terminal state: expired and cancelled batches have paid answers too. What a
    batch did not answer is released, with a failure, and goes on with the next run. Only what the batch still claims is
    settled, so collecting twice counts once.
    """
    done = Collected()
    by_address = {e.base_url: e for e in endpoints}
    batches = Batches(ledger)
    for row in batches.open():
        if day is not None and row.day != day.isoformat():
            continue
        endpoint = by_address.get(row.endpoint)
        if endpoint is None:
            done.problems.append(f"batch {row.name}: its endpoint {row.endpoint} is not in judges.yaml any more")
            continue
        try:
            with ledger.exclusive("batches-collect"):
                now_open = {b.name: b for b in batches.open()}
                if row.name not in now_open:
                    continue
                ended = run_async(_collect(ledger, batches, now_open[row.name], endpoint, folder))
        except UserError as error:
            done.problems.append(f"batch {row.name}: {error}")
            continue
        if ended is None:
            done.open += 1
        else:
            done.batches.append(ended)
    return done


async def _collect(
    ledger: Ledger, batches: Batches, row: BatchRow, endpoint: Endpoint, folder: Path
) -> BatchRow | None:
    transport = DirectTransport(endpoint, api_key(endpoint))
    try:
        batch = _object(endpoint, await _call(endpoint, transport.get(f"/batches/{row.batch_id}")))
        status = batch.get("status")
        if status not in TERMINAL:
            return None
        settling = _Settling(batches, row, endpoint)
        for name in ("output_file_id", "error_file_id"):
            file = batch.get(name)
            if not isinstance(file, str):
                continue
            path = folder / f"{row.name}.{name}"
            try:
                await _download(endpoint, transport, f"/files/{file}/content", path)
                settling.read(path)
            finally:
                store.remove(path)
        settling.release_rest(str(status))
    finally:
        await transport.close()
    store.remove(_file(folder, row.name))
    notes = [] if status == "completed" else [f"ended as {status}"]
    notes += [f"{n:,} {kind}" for kind, n in sorted(settling.failed.items())]
    ids = [x if isinstance(x := batch.get(n), str) else None for n in ("output_file_id", "error_file_id")]
    return batches.collected(settling.row, ids[0], ids[1], ", ".join(notes) or None)


async def _download(endpoint: Endpoint, transport: DirectTransport, path: str, to: Path) -> None:
    store.make_folder(to.parent)
    try:
        status = await transport.download(path, to)
    except NoReply as error:
        raise EndpointStop(f"{endpoint.base_url}: {error.message}; run again later") from None
    if status != 200:
        raise EndpointStop(f"{endpoint.base_url} answered {status} for a batch's result file; run again later")


class _Settling:
    """Settles a batch's lines in groups, each group one transaction."""

    def __init__(self, batches: Batches, row: BatchRow, endpoint: Endpoint) -> None:
        self.batches, self.ledger, self.row, self.endpoint = batches, batches.ledger, row, endpoint
        reading = json.loads(row.reading)
        self.labels = LabelSet(tuple(reading["ids"]), frozenset(reading["violating"]), tuple(reading["clauses"]))
        self.api = reading["api"]
        self.rates = Rates(Price.model_validate(reading["price"], strict=False)) if reading["price"] else None
        self.run = Run(row.owner, row.account, row.day)
        self.holds = self.ledger.holds(row.owner)
        self.failed: Counter[str] = Counter()

    def read(self, path: Path) -> None:
        group: list[Settlement] = []
        with path.open("rb") as stream:
            for line in stream:
                settlement = self._line(line)
                if settlement is not None:
                    group.append(settlement)
                if len(group) >= GROUP:
                    self._write(group)
                    group = []
        self._write(group)

    def _write(self, group: list[Settlement]) -> None:
        if group:
            self.ledger.settle(self.run, group)
            settled = sum(s.answer is not None for s in group)
            self.row = self.batches.counted(self.row, settled, len(group) - settled)
            self.failed.update(s.failure.kind for s in group if s.failure is not None)

    def _line(self, line: bytes) -> Settlement | None:
        """What a line settles; None for lines that are none, unknown, or settled before."""
        try:
            value = orjson.loads(line)
            key = bytes.fromhex(value["custom_id"])
        except (orjson.JSONDecodeError, ValueError, KeyError, TypeError):
            return None
        hold = self.holds.pop(key, None)
        if hold is None:
            return None
        claim, response = Claim(key, hold), value.get("response")
        if not isinstance(response, dict) or not isinstance(response.get("body"), dict):
            code = (value.get("error") or {}).get("code") if isinstance(value.get("error"), dict) else None
            why = code if isinstance(code, str) and len(code) < 60 else "no response"
            return Settlement(claim, None, failure=Failure(key, "api_error", "batch_failed", f"in the batch: {why}", 1))
        status = response.get("status_code")
        headers = {"x-request-id": str(response.get("request_id") or "")[:200]}
        reply = Reply(status if isinstance(status, int) else 500, headers, orjson.dumps(response["body"]))
        return self._settlement(claim, answered(reply, self.labels, self.api, self.endpoint))

    def _settlement(self, claim: Claim, call: Call) -> Settlement:
        verdict, u, moment = call.verdict, call.usage, now()
        billed: Billed = call.billed
        cost: int | None = None
        if self.rates is not None and billed != "no":
            cost = self.rates.cost(u, batch=True) if billed == "yes" else None
            billed = "maybe" if cost is None else billed
        charged = 0 if billed == "no" or self.rates is None else claim.hold if cost is None else cost
        attempt = Attempt(
            claim.key, 1, verdict.outcome, verdict.kind, billed, charged, u, None, call.status, call.request_id, moment
        )
        if verdict.outcome not in SETTLED:
            error = verdict.error or "no answer"
            failure = Failure(claim.key, verdict.outcome, verdict.kind or "batch_failed", error, 1, moment)
            return Settlement(claim, attempt, failure=failure)
        answer = Answer(
            verdict.outcome, verdict.kind, verdict.label, verdict.clause, verdict.evidence, verdict.p_violating,
            verdict.p_source, verdict.rationale, verdict.error, verdict.signals, call.model, call.fingerprint,
            call.request_id, u.input, u.cached, u.cache_write, u.output, u.reasoning, u.tier, cost, None, 1, "batch",
            self.run.day, moment,
        )  # fmt: skip
        return Settlement(claim, attempt, answer)

    def release_rest(self, status: str) -> None:
        """What the batch did not answer was not billed: it is free to be asked again."""
        error = f"its batch ended as {status} before it was answered"
        rest = [
            Settlement(Claim(k, hold), None, failure=Failure(k, "api_error", "batch_unanswered", error, 0, now()))
            for k, hold in self.holds.items()
        ]
        for start in range(0, len(rest), GROUP):
            self._write(rest[start : start + GROUP])
        self.holds = {}


def open_batches(ledger: Ledger) -> list[BatchRow]:
    """Batches that are out."""
    return Batches(ledger).open()


def ended_batches(ledger: Ledger, endpoints: Sequence[Endpoint]) -> list[BatchRow]:
    """Open batches the endpoint says have ended; asks for each once. Those that cannot be asked about are left out."""
    by_address = {e.base_url: e for e in endpoints}
    ended = []
    for row in open_batches(ledger):
        endpoint = by_address.get(row.endpoint)
        if endpoint is not None:
            with contextlib.suppress(EndpointStop):
                if run_async(_status(endpoint, row)) in TERMINAL:
                    ended.append(row)
    return ended


async def _status(endpoint: Endpoint, row: BatchRow) -> str:
    transport = DirectTransport(endpoint, api_key(endpoint))
    try:
        return str(_object(endpoint, await _call(endpoint, transport.get(f"/batches/{row.batch_id}"))).get("status"))
    finally:
        await transport.close()
