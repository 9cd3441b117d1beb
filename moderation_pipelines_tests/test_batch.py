"""The Batch API against the fake endpoint: every end, every crash, once each."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from moderation_pipelines.fake_endpoint.endpoint import FakeEndpoint
from moderation_pipelines.fake_endpoint.plan import Plan
from moderation_pipelines.fake_endpoint.server import serving_fake
from moderation_pipelines.judging import batch
from moderation_pipelines.judging.batch import collect, ended_batches, submit
from moderation_pipelines.judging.calls.engine import EndpointStop, Job
from moderation_pipelines.judging.calls.transport import DirectTransport
from moderation_pipelines.judging.judges_file import Endpoint
from moderation_pipelines.judging.ledger.batches import Batches
from moderation_pipelines.judging.ledger.ledger import Ledger, Spend
from moderation_pipelines.judging.ledger.records import Answer, Failure
from moderation_pipelines.judging.money import Price
from moderation_pipelines_tests.engine_help import DAY, ends, job_for, reader, run, sqlite_ledger

NAMES = [f"text {k}" for k in range(100)]
PRICE = Price(input_usd_per_million=2.0, output_usd_per_million=8.0, batch_factor=0.5)


@contextmanager
def sent(plan: Plan, tmp_path: Path, **more: Any) -> Iterator[tuple[FakeEndpoint, Ledger, Endpoint, Job, Path]]:
    app = FakeEndpoint(plan)
    with serving_fake(app) as url, sqlite_ledger(tmp_path) as ledger:
        endpoint = Endpoint(base_url=url, transport="direct", **more)
        job = job_for(endpoint, price=PRICE, budget=1.0)
        yield app, ledger, endpoint, job, tmp_path / "batches"


def outcomes(job: Job, ledger: Ledger) -> Counter[str]:
    return Counter(e.outcome for e in ends(job, reader(NAMES), ledger).values())


def test_a_batch_goes_out_and_comes_back(tmp_path: Path) -> None:
    with sent(Plan(batch_polls=1, faults={"prose": 0.05, "content_filter": 0.05}), tmp_path) as (
        app,
        ledger,
        endpoint,
        job,
        folder,
    ):
        assert submit(job, reader(NAMES), ledger, folder, PRICE) == 1
        (row,) = Batches(ledger).open()
        assert (row.requests, row.state, ledger.count("claims")) == (100, "submitted", 100)
        held = ledger.spend(str(DAY), "j").reserved
        assert held > 0
        # Nothing is sent twice while it is out: not by another batch, not live.
        assert submit(job, reader(NAMES), ledger, folder, PRICE) == 0
        assert ended_batches(ledger, [endpoint]) == []
        assert ended_batches(ledger, [endpoint]) == [row]
        done = collect(ledger, [endpoint], folder)
        assert [(b.settled, b.failed, b.state) for b in done.batches] == [(100, 0, "collected")]
        got = ends(job, reader(NAMES), ledger)
        assert {e.outcome for e in got.values()} == {"verdict", "parse_error", "content_filter"}
        # Half the price: a whole number of picodollars each.
        answer = next(e for e in got.values() if e.outcome == "verdict")
        assert isinstance(answer, Answer)
        assert answer.cost == (answer.input_tokens * 2_000_000 + answer.output_tokens * 8_000_000) // 2  # type: ignore[operator]
        assert (answer.via, answer.latency_ms) == ("batch", None)
        spend = ledger.spend(str(DAY), "j")
        assert (spend.maybe, spend.reserved) == (0, 0)
        assert spend.spent == sum(e.cost for e in got.values() if isinstance(e, Answer) and e.cost is not None)
        # Collected again: nothing more.
        assert collect(ledger, [endpoint], folder).batches == []
        assert list(folder.iterdir()) == []
        assert app.stats()["billed_twice"] == 0


@pytest.mark.parametrize(("end", "share"), [("expired", 0.6), ("cancelled", 0.6), ("completed", 0.6), ("failed", 1.0)])
def test_whatever_its_end_what_was_paid_is_kept_and_the_rest_goes_on(tmp_path: Path, end: str, share: float) -> None:
    with sent(Plan(batch_polls=0, batch_ends=end, batch_share=share), tmp_path) as (app, ledger, endpoint, job, folder):
        submit(job, reader(NAMES), ledger, folder, PRICE)
        (row,) = collect(ledger, [endpoint], folder).batches
        billed = app.stats()["billed"]
        assert (row.settled, row.failed) == (billed, 100 - billed)
        assert (30 < billed < 90) if end != "failed" else billed == 0
        failed = f"{100 - billed} {'batch_failed' if end == 'expired' else 'batch_unanswered'}"
        assert row.note == (failed if end == "completed" else f"ended as {end}, {failed}")
        assert ledger.count("responses") == billed
        assert ledger.count("claims") == 0
        assert ledger.spend(str(DAY), "j").reserved == 0
        failure = next((e for e in ends(job, reader(NAMES), ledger).values() if isinstance(e, Failure)), None)
        assert failure is not None
        assert failure.kind in ("batch_unanswered", "batch_failed")
        # Only what is missing goes on, live.
        got, report = run(job, NAMES, ledger)
        assert Counter(e.outcome for e in got.values()) == {"verdict": 100}
        assert report.progress.calls == 100 - billed
        assert app.stats()["billed_twice"] == 0


def test_only_errors_come_back(tmp_path: Path) -> None:
    with sent(Plan(batch_polls=0, faults={"error_500": 1.0}), tmp_path) as (_, ledger, endpoint, job, folder):
        submit(job, reader(NAMES), ledger, folder, PRICE)
        (row,) = collect(ledger, [endpoint], folder).batches
        assert (row.settled, row.failed, row.output_file_id) == (0, 100, None)
        assert row.note == "100 http_500"
        assert outcomes(job, ledger) == {"api_error": 100}
        # The next batch asks for them again.
        assert submit(job, reader(NAMES), ledger, folder, PRICE) == 1


def test_chunks_keep_to_lines_bytes_and_tokens(tmp_path: Path) -> None:
    with sent(Plan(batch_polls=99), tmp_path, batch_requests=40) as (app, ledger, _, job, folder):
        assert submit(job, reader(NAMES, 30), ledger, folder, PRICE) == 3
        assert sorted(b.requests for b in Batches(ledger).open()) == [20, 40, 40]
        assert app.stats()["batches"] == {"files": 3, "batches": 3}
    with sent(Plan(batch_polls=99), tmp_path / "b", batch_megabytes=0.01) as (app, ledger, _, job, folder):
        submit(job, reader(NAMES), ledger, folder, PRICE)
        assert all(len(f) <= 10_000 for f in app.batches.files.values())
        assert sum(b.requests for b in Batches(ledger).open()) == 100
    with sent(Plan(batch_polls=0), tmp_path / "c", batch_enqueued_tokens=4000) as (app, ledger, endpoint, job, folder):
        submit(job, reader(NAMES), ledger, folder, PRICE)
        out = Batches(ledger).open()
        assert sum(b.tokens for b in out) <= 4000
        assert 0 < sum(b.requests for b in out) < 100
        # When they are back there is room for the next.
        for _ in range(20):
            collect(ledger, [endpoint], folder)
            if not submit(job, reader(NAMES), ledger, folder, PRICE):
                break
        assert outcomes(job, ledger) == {"verdict": 100}


def test_a_line_is_the_live_request(tmp_path: Path) -> None:
    with sent(Plan(batch_polls=99), tmp_path) as (app, ledger, _, job, folder):
        submit(job, reader(NAMES), ledger, folder, PRICE)
        (content,) = app.batches.files.values()
        line = json.loads(content.split(b"\n")[0])
        item = job.template.item("text 0", None)
        assert line["custom_id"] == job.template.key(item).hex()
        assert (line["method"], line["url"]) == ("POST", "/v1/chat/completions")
        assert line["body"] == json.loads(job.template.body(item))


class Crash(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("where", ["building", "before upload", "after upload", "before create", "after create"])
def test_a_crash_at_any_step_finds_its_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    with sent(Plan(batch_polls=0), tmp_path) as (app, ledger, endpoint, job, folder):

        def crash(*_: Any, **__: Any) -> None:
            raise Crash

        async def crash_async(*_: Any, **__: Any) -> None:
            raise Crash

        with monkeypatch.context() as patch:
            if where == "building":
                patch.setattr(Batches, "built", crash)
            elif where == "before upload":
                patch.setattr(DirectTransport, "upload", crash_async)
            elif where == "after upload":
                patch.setattr(Batches, "uploaded", crash)
            elif where == "before create":
                patch.setattr(batch, "_created_before", crash_async)
            else:
                patch.setattr(Batches, "submitted", crash)
            with pytest.raises(Crash):
                submit(job, reader(NAMES), ledger, folder, PRICE)
        assert submit(job, reader(NAMES), ledger, folder, PRICE) == 1
        assert app.stats()["batches"]["batches"] == 1
        assert [b.requests for b in Batches(ledger).open()] == [100]
        collect(ledger, [endpoint], folder)
        assert outcomes(job, ledger) == {"verdict": 100}
        assert app.stats()["billed_twice"] == 0
        assert ledger.count("claims") == ledger.spend(str(DAY), "j").reserved == 0


def test_a_crash_while_collecting_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "GROUP", 30)
    with sent(Plan(batch_polls=0), tmp_path) as (_app, ledger, endpoint, job, folder):
        submit(job, reader(NAMES), ledger, folder, PRICE)
        settle, seen = Ledger.settle, []

        def crash_at_third(self: Ledger, *args: Any) -> list[bool]:
            seen.append(1)
            if len(seen) == 3:
                raise Crash
            return settle(self, *args)

        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "settle", crash_at_third)
            with pytest.raises(Crash):
                collect(ledger, [endpoint], folder)
        assert ledger.count("responses") == 60
        (row,) = collect(ledger, [endpoint], folder).batches
        assert row.settled == 100
        assert outcomes(job, ledger) == {"verdict": 100}
        assert ledger.attempt_counts() == {"yes": 100}


def test_the_budget_holds_for_batches(tmp_path: Path) -> None:
    with sent(Plan(batch_polls=0), tmp_path) as (_app, ledger, endpoint, job, folder):
        hold = batch._hold(job, len(job.template.item("text 00", None)))
        small = job_for(endpoint, price=PRICE, budget=hold * 10.5 / 10**12)
        submit(small, reader(NAMES), ledger, folder, PRICE)
        assert 9 <= sum(b.requests for b in Batches(ledger).open()) <= 10
        assert outcomes(small, ledger)["over_budget"] >= 90
        assert ledger.spend(str(DAY), "j").total <= small.budget  # type: ignore[operator]


def test_an_endpoint_without_batches_says_so_and_nothing_is_lost(tmp_path: Path) -> None:
    with sent(Plan(batches=False), tmp_path) as (_, ledger, __, job, folder):
        with pytest.raises(EndpointStop, match="answered 404"):
            submit(job, reader(NAMES), ledger, folder, PRICE)
        assert [b.state for b in Batches(ledger).all()] == ["built"]
        assert ledger.count("claims") == 100


def test_a_batch_the_provider_has_lost_can_be_given_up(tmp_path: Path) -> None:
    with sent(Plan(batch_polls=0), tmp_path) as (app, ledger, endpoint, job, folder):
        submit(job, reader(NAMES), ledger, folder, PRICE)
        app.batches.batches.clear()
        done = collect(ledger, [endpoint], folder)
        assert done.batches == []
        assert "modpipe batches --give-up" in done.problems[0]
        held = ledger.spend(str(DAY), "j").reserved
        Batches(ledger).give_up(Batches(ledger).open()[0])
        assert ledger.spend(str(DAY), "j") == Spend(0, held, 0)
        assert ledger.attempt_counts() == {"maybe": 100}
        assert Batches(ledger).open() == []


def test_batches_of_an_endpoint_that_is_gone_are_named(tmp_path: Path) -> None:
    with sent(Plan(), tmp_path) as (_, ledger, __, job, folder):
        submit(job, reader(NAMES), ledger, folder, PRICE)
        done = collect(ledger, [Endpoint(base_url="http://127.0.0.1:9/v1")], folder)
        assert "is not in judges.yaml any more" in done.problems[0]
