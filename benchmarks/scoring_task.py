"""One task of benchmarks/scoring.py, alone in its process. Prints one line of JSON."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moderation_pipelines.foundation.collector import relaxed_gc
from moderation_pipelines.judging.calls.engine import Item, Job, run_async, score
from moderation_pipelines.judging.capabilities import profile_of
from moderation_pipelines.judging.judges_file import Endpoint, Judge
from moderation_pipelines.judging.ledger.databases import SqliteDatabase
from moderation_pipelines.judging.ledger.ledger import Ledger, Settlement
from moderation_pipelines.judging.ledger.records import Answer, Attempt, Claim
from moderation_pipelines.judging.money import Price, Rates, Usage
from moderation_pipelines.judging.requests.outcomes import label_set
from moderation_pipelines.judging.requests.wire import RequestTemplate, request_template
from moderation_pipelines.prompting.prompts import Prompt

if TYPE_CHECKING:  # the wire's tasks load neither polars nor Arrow: the engine does not
    from moderation_pipelines.judging.scores import ScoringTask

DAY = date(2026, 1, 1)
LABELS = label_set(["fine", "bad"], ["bad"])
PRICE = Price(input_usd_per_million=1.0, output_usd_per_million=2.0)
SYSTEM = 'You judge one item against one policy. "label": one of ["fine", "bad"]\n' + "Be careful. " * 150


def template(url: str) -> RequestTemplate:
    judge, endpoint = Judge(endpoint="e", model="m", max_tokens=60), Endpoint(base_url=url)
    return request_template("chat", judge, profile_of(endpoint), Prompt("p", "v1", SYSTEM), LABELS, "bench")


def items(n: int) -> Iterator[list[Item]]:
    for start in range(0, n, 2000):
        yield [
            (f"i{k}", f"item {k}: a text of a few words, as posts are", None)
            for k in range(start, min(n, start + 2000))
        ]


def job_for(url: str, concurrency: int, transport: Any) -> Job:
    endpoint = Endpoint(base_url=url, concurrency=concurrency, transport=transport)
    return Job("j", template(url), endpoint, DAY, 60, Rates(PRICE), budget=10**18)


def opened(folder: str, name: str = "ledger.sqlite") -> Ledger:
    """A ledger in a file of the folder, whatever the environment names."""
    return Ledger(SqliteDatabase(Path(folder) / name))


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report(n: int, seconds: float, cpu: float) -> dict[str, float]:
    return {"rate": n / seconds, "cpu_ms": cpu / n * 1000, "peak_mib": peak(), "seconds": seconds}


def engine(url: str, n: int, concurrency: int, transport: str, folder: str) -> dict[str, float]:
    with opened(folder) as ledger:
        job = job_for(url, concurrency, transport)
        started, cpu = time.perf_counter(), time.process_time()
        done = score(job, lambda: items(n), ledger, n)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        assert done.progress.done == n, done
        assert done.progress.outcomes["verdict"] + done.progress.known == n, done
    return report(n, seconds, cpu)


def two(url: str, n: int, concurrency: int, folder: str) -> dict[str, float]:
    """Two worker processes on one ledger: seconds until both have ended, start-up of the interpreter left out."""
    command = [sys.executable, __file__, "engine-direct", url, str(n), str(concurrency), folder]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    found = [json.loads(p.communicate()[0].splitlines()[-1]) for p in processes]
    seconds = max(f["seconds"] for f in found)
    return {
        "rate": n / seconds,
        "cpu_ms": sum(f["cpu_ms"] for f in found),
        "peak_mib": max(f["peak_mib"] for f in found),
    }


async def bare(kind: str, url: str, n: int, concurrency: int) -> dict[str, float]:
    """The client alone: prepared bodies, no ledger, no reading of answers."""
    made = template(url)
    bodies = [made.body(made.item(text, context)) for chunk in items(n) for _, text, context in chunk]
    closing: Any
    if kind == "aiohttp":
        import aiohttp

        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        headers = {"content-type": "application/json", "authorization": "Bearer none"}

        async def post(body: bytes) -> bytes:
            async with session.post(url + "/chat/completions", data=body, headers=headers) as answer:
                return await answer.read()

        closing = session.close
    else:
        import httpx2
        import openai

        http_client: Any = {}
        if kind == "sdk-bytes":
            limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
            http_client = {"http_client": openai.DefaultAioHttpClient(limits=limits)}
        client = openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0, **http_client)
        options: Any = {"headers": {"content-type": "application/json"}}

        async def post(body: bytes) -> bytes:
            if kind == "sdk-bytes":
                answer = await client.post("/chat/completions", content=body, cast_to=httpx2.Response, options=options)
                return answer.content
            await client.chat.completions.create(**json.loads(body))
            return b""

        closing = client.close
    queue = iter(bodies)

    async def worker() -> None:
        for body in queue:
            await post(body)

    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    result = report(n, time.perf_counter() - started, time.process_time() - cpu)
    await closing()
    return result


def key(k: int) -> bytes:
    return hashlib.blake2b(k.to_bytes(8, "big"), digest_size=16).digest()


ANSWER = Answer(
    "verdict", label="bad", p_violating=0.8, p_source="stated", rationale="a short reason", input_tokens=500,
    output_tokens=40, cost=123456, latency_ms=200.0, attempts=1, model_returned="m", first_day=str(DAY),
    created_at="2026-01-01T00:00:00.000+00:00",
)  # fmt: skip


def settled(claim: Claim) -> Settlement:
    attempt = Attempt(claim.key, 1, "verdict", None, "yes", 900, Usage(500, 0, None, 40, None), 200.0, 200, None, "t")
    return Settlement(claim, attempt, ANSWER)


def fill_ledger(n: int, folder: str) -> None:
    """``n`` answers with their attempts, in large groups, in the order of their random keys."""
    with opened(folder) as book:
        run = book.begin("j", DAY)
        keys = sorted(key(k) for k in range(n))
        for start in range(0, n, 50_000):
            book.settle(run, [settled(Claim(k, 0)) for k in keys[start : start + 50_000]])


def ledger(n: int, folder: str) -> dict[str, float]:
    """At ``n`` rows: a check of known keys, claims, attempts and answers of 50,000 more in groups of a hundred, and the
    check again: the first one may have to fetch the file's pages from the disk."""
    subprocess.run([sys.executable, __file__, "fill_ledger", str(n), folder], check=True, stdout=subprocess.DEVNULL)
    os.sync()  # the disk still writes what was filled in; that is not what is measured
    more, group = 50_000, 100
    keys = [key(k) for k in range(0, n, max(1, n // 200_000))]

    def check(book: Ledger) -> float:
        started = time.perf_counter()
        for start in range(0, len(keys), 2000):
            assert len(book.known_keys(keys[start : start + 2000])) == len(keys[start : start + 2000])
        return len(keys) / (time.perf_counter() - started)

    with opened(folder) as book:
        run = book.begin("j", DAY, budget=10**18)
        first = check(book)
        started = time.perf_counter()
        for start in range(n, n + more, group):
            claims = [Claim(key(k), 1000) for k in range(start, start + group)]
            book.claim(run, claims)
            book.settle(run, [settled(c) for c in claims])
        writing = time.perf_counter() - started
        return {"first": first, "writes": more / writing, "checks": check(book), "peak_mib": peak()}


def task_of(folder: str) -> ScoringTask:
    """A judge on the release in a folder."""
    from moderation_pipelines.eval_sets.release import Release
    from moderation_pipelines.judging.scores import ScoringTask
    from moderation_pipelines.policies.policy import Label, Policy

    judge = Judge(endpoint="e", model="m", max_tokens=60, price=PRICE)
    endpoint = Endpoint(base_url="http://127.0.0.1:9/v1", concurrency=512, transport="direct")
    labels = tuple(Label(id=i, definition=i, violating=i in LABELS.violating) for i in LABELS.ids)
    policy = Policy(id="p", title="p", version="1", labels=labels, definition="d")
    release = Release("bench", "v0001", Path(folder))
    return ScoringTask("j", judge, endpoint, release, policy, Prompt("p", "v1", SYSTEM), profile=profile_of(endpoint))


def fill(n: int, folder: str) -> None:
    """A release of ``n`` items, and a ledger in which every one is settled."""
    import polars as pl

    file = Path(folder) / "items.parquet"
    rows = (pl.DataFrame(c, schema=["item_id", "text", "context"], orient="row") for c in items(n))
    pl.concat(rows).with_columns(pl.col("context").cast(pl.String)).write_parquet(file, compression="zstd")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    (Path(folder) / "manifest.json").write_text(json.dumps({"items_sha256": digest, "policy": "p", "rows": n}))
    template = task_of(folder).template()
    with opened(folder) as book:
        run = book.begin("j", DAY)
        for chunk in items(n):
            keys = [template.key(template.item(text, context)) for _, text, context in chunk]
            book.settle(run, [Settlement(Claim(k, 0), None, ANSWER) for k in keys])


def filled(n: int, folder: str) -> ScoringTask:
    """What ``fill`` makes, made in another process so that its memory is not counted here."""
    subprocess.run([sys.executable, __file__, "fill", str(n), folder], check=True, stdout=subprocess.DEVNULL)
    return task_of(folder)


def plan(n: int, folder: str) -> dict[str, float]:
    """A dry run: every request of a release rendered, its tokens counted, its cost added up; none is settled yet."""
    from moderation_pipelines.judging.planning import plan_run

    task = filled(n, folder)
    with opened(folder, "empty.sqlite") as book:
        started = time.perf_counter()
        planned = plan_run(task, book, DAY)
        assert planned.to_ask == n
        return {"seconds": time.perf_counter() - started, "peak_mib": peak()}


def resume(n: int, folder: str) -> dict[str, float]:
    """The engine on a release of which everything is settled: read, render, key, check."""
    task = filled(n, folder)
    with opened(folder) as book:
        started = time.perf_counter()
        done = score(task.job(DAY), task.items, book, n)
        assert (done.progress.known, done.progress.calls) == (n, 0)
        return {"seconds": time.perf_counter() - started, "peak_mib": peak()}


def warm(n: int, folder: str) -> dict[str, float]:
    """The rows of the scores table of a release of which everything is settled, written as Parquet."""
    import pyarrow.parquet as pq

    from moderation_pipelines.judging.scores import score_frames

    task = filled(n, folder)
    started = time.perf_counter()
    with opened(folder) as book, relaxed_gc():
        writer = None
        for frame in score_frames(task, DAY, book):
            table = frame.to_arrow()
            writer = writer or pq.ParquetWriter(Path(folder) / "scores.parquet", table.schema, compression="zstd")
            writer.write_table(table)
        assert writer is not None
        writer.close()
    assert pq.ParquetFile(Path(folder) / "scores.parquet").metadata.num_rows == n
    return {"seconds": time.perf_counter() - started, "peak_mib": peak()}


def batch(n: int, folder: str) -> dict[str, float]:
    """Claimed lines of a batch file of ``n`` requests, as ``build_lines`` writes them."""
    from moderation_pipelines.judging.batch import build_lines

    job = job_for("http://127.0.0.1:9/v1", 128, "direct")
    with opened(folder) as book:
        run = book.begin("j", DAY, budget=10**18)
        started, lines = time.perf_counter(), 0
        with (Path(folder) / "batch.jsonl").open("wb", buffering=2**20) as stream:
            for line in build_lines(job, lambda: items(n), book, run, 10**9, 10**12):
                stream.write(line)
                lines += 1
        assert lines == n
        return {"seconds": time.perf_counter() - started, "peak_mib": peak()}


def main() -> None:
    task, *given = sys.argv[1:]
    with contextlib.ExitStack() as stack:
        folder = given[3] if task == "engine-direct" and len(given) > 3 else ""
        if task.startswith("fill"):
            folder = given[1]
        if not folder:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="modpipe-bench-"))
        if task.startswith("engine"):
            url, n, concurrency = given[0], int(given[1]), int(given[2])
            if task == "engine-two":
                found = two(url, n, concurrency, folder)
            else:
                found = engine(url, n, concurrency, task.removeprefix("engine-"), folder)
        elif task in ("aiohttp", "sdk-bytes", "sdk-create"):
            found = run_async(bare(task, given[0], int(given[1]), int(given[2])))
        elif task.startswith("fill"):
            {"fill": fill, "fill_ledger": fill_ledger}[task](int(given[0]), folder)
            found = {}
        else:
            found = {"ledger": ledger, "plan": plan, "resume": resume, "warm": warm, "batch": batch}[task](
                int(given[0]), folder
            )
    print(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
