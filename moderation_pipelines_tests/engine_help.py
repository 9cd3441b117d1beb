"""What tests of the scoring engine share: a scripted endpoint, jobs, and a PostgreSQL server."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from moderation_pipelines.fake_endpoint.answers import Said
from moderation_pipelines.fake_endpoint.endpoint import FakeEndpoint
from moderation_pipelines.fake_endpoint.plan import Plan
from moderation_pipelines.fake_endpoint.server import serving_fake
from moderation_pipelines.judging.calls.engine import Item, Job, Reader, RunReport, score, settled_items
from moderation_pipelines.judging.capabilities import profile_of
from moderation_pipelines.judging.judges_file import Endpoint, Judge
from moderation_pipelines.judging.ledger.databases import SqliteDatabase
from moderation_pipelines.judging.ledger.ledger import Ledger
from moderation_pipelines.judging.ledger.records import Answer, Failure
from moderation_pipelines.judging.money import Price, Rates, picodollars
from moderation_pipelines.judging.requests.outcomes import LabelSet
from moderation_pipelines.judging.requests.wire import RequestTemplate, request_template
from moderation_pipelines.prompting.prompts import Prompt

LABELS = LabelSet(("fine", "bad"), frozenset({"bad"}))
DAY = date(2026, 3, 2)
PROMPT = Prompt("p", "v1", 'Judge. "label": one of ["fine", "bad"]\n')
Answered = tuple[int, Any, dict[str, str]]


def completion(content: Any, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
    choice.update({k: more.pop(k) for k in ("finish_reason", "logprobs", "content_filter_results") if k in more})
    choice["message"].update(more.pop("message", {}))
    return {"id": "x", "object": "chat.completion", "created": 0, "model": "m-1", "choices": [choice], **more}


def good(*_: Any) -> Answered:
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 40}}
    return 200, completion('{"label": "bad", "p_violating": 0.8, "rationale": "r"}', usage=usage), {}


class Scripted(FakeEndpoint):
    """Answers each request by a function of (item text, attempt); ``stall`` as the body never answers."""

    def __init__(self, answer: Callable[[str, int], Answered]) -> None:
        super().__init__(Plan(stall_seconds=30))
        self.script, self.asked, self.seen = answer, {}, []  # type: ignore[var-annotated]
        self.times: list[float] = []

    async def handle(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Said:
        asked = json.loads(body)
        user = asked["messages"][1]["content"]
        name = user.split("\n")[1]
        self.asked[name] = self.asked.get(name, 0) + 1
        self.seen.append((headers, asked, body))
        self.times.append(time.monotonic())
        status, answer, more = self.script(name, self.asked[name])
        if answer == "stall":
            return Said(200, b"{}", how="stall")
        raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        return Said(status, raw, tuple(more.items()))


def template(asked: str = "here", endpoint: Endpoint | None = None, salt: str = "", **judge: Any) -> RequestTemplate:
    endpoint = endpoint or Endpoint(base_url="http://127.0.0.1:9/v1")
    made = Judge(**{"endpoint": "e", "model": "m", "max_tokens": 10, **judge})
    return request_template(endpoint.api, made, profile_of(endpoint), PROMPT, LABELS, asked, salt)


def job_for(endpoint: Endpoint, **more: Any) -> Job:
    given: dict[str, Any] = {
        "account": "j", "template": template(endpoint=endpoint), "endpoint": endpoint, "day": DAY, "max_tokens": 10,
    }  # fmt: skip
    for name in ("budget", "run_budget"):
        if name in more:
            more[name] = picodollars(more[name])
    if "price" in more:
        more["rates"] = Rates(more.pop("price"))
    return Job(**{**given, **more})


def reader(names: Sequence[str], chunk: int = 500) -> Reader:
    def read() -> Iterator[list[Item]]:
        for start in range(0, len(names), chunk):
            yield [(f"id {n}", n, None) for n in names[start : start + chunk]]

    return read


def ends(job: Job, items: Reader, ledger: Ledger, report: RunReport | None = None) -> dict[str, Answer | Failure]:
    return {item[1]: end for chunk in settled_items(job, items, ledger, report) for item, _, end in chunk}


def run(job: Job, names: Sequence[str], ledger: Ledger) -> tuple[dict[str, Answer | Failure], RunReport]:
    report = score(job, reader(names), ledger, len(names))
    return ends(job, reader(names), ledger, report), report


def sqlite_ledger(path: Path) -> Ledger:
    return Ledger(SqliteDatabase(path / "ledger.sqlite"))


@contextmanager
def running(app: FakeEndpoint, tmp_path: Path, **more: Any) -> Iterator[tuple[Endpoint, Ledger]]:
    given = {
        "timeout_seconds": 1.0, "concurrency": 4, "max_attempts": 2, "transport": "direct", "cool_down_seconds": 0.3,
    }  # fmt: skip
    with serving_fake(app) as url, sqlite_ledger(tmp_path) as ledger:
        yield Endpoint(base_url=url, **{**given, **more}), ledger


PRICE = Price(input_usd_per_million=1e6, output_usd_per_million=1e6)


@contextmanager
def postgres_server() -> Iterator[str]:
    """A PostgreSQL server of our own on a Unix socket, from Debian's package; ends with the block."""
    binaries = next((p for p in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
    found = binaries or (Path(found).parent if (found := shutil.which("initdb")) else None)
    assert found is not None, "PostgreSQL is not installed: .ci/run installs Debian's package postgresql"
    folder = Path(tempfile.mkdtemp(prefix="modpipe-pg-"))
    as_root = os.geteuid() == 0
    if as_root:
        shutil.chown(folder, "postgres", "postgres")
    user = {"user": "postgres"} if as_root else {}

    def call(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, cwd=folder, **user)  # type: ignore[call-overload]

    data = str(folder / "data")
    call(str(found / "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8")
    options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
    call(str(found / "pg_ctl"), "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield f"postgresql:///postgres?host={folder}&user=postgres"
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            call(str(found / "pg_ctl"), "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)
