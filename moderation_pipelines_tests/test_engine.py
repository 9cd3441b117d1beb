"""The engine against real local endpoints: every fault, limit, outage and mistake."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from moderation_pipelines.fake_endpoint.endpoint import FakeEndpoint
from moderation_pipelines.fake_endpoint.plan import FAULTS, Plan
from moderation_pipelines.fake_endpoint.server import serving_fake
from moderation_pipelines.foundation.errors import UserError
from moderation_pipelines.judging.calls import engine
from moderation_pipelines.judging.calls.calls import Tries, answered, backoff_seconds, next_step
from moderation_pipelines.judging.calls.engine import EndpointStop, Progress, score
from moderation_pipelines.judging.calls.transport import Reply
from moderation_pipelines.judging.judges_file import Endpoint
from moderation_pipelines.judging.ledger.databases import SqliteDatabase
from moderation_pipelines.judging.ledger.ledger import Run, Spend
from moderation_pipelines.judging.ledger.records import Answer, Claim, Failure
from moderation_pipelines.judging.money import PICO
from moderation_pipelines_tests.engine_help import (
    DAY,
    LABELS,
    PRICE,
    Answered,
    Scripted,
    completion,
    ends,
    good,
    job_for,
    reader,
    run,
    running,
    sqlite_ledger,
)

TRANSPORTS = ("direct", "sdk")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_every_outcome_from_a_real_endpoint(tmp_path: Path, transport: str) -> None:
    said: dict[str, Answered] = {
        "verdict": good(),
        "refusal": (200, completion("I can't help with that."), {}),
        "content_filter": (400, {"error": {"code": "content_filter", "message": "filtered"}}, {}),
        "parse_error": (200, completion("hm"), {}),
        "truncated": (200, completion('{"la', finish_reason="length"), {}),
        "timeout": (200, "stall", {}),
        "api_error": (500, {"error": {"message": "down"}}, {}),
        "garbage": (200, b"<html>not json", {}),
    }
    app = Scripted(lambda name, _: said[name])
    with running(app, tmp_path, transport=transport, timeout_seconds=0.5) as (endpoint, ledger):
        got, _ = run(job_for(endpoint), list(said), ledger)
        assert {n: e.outcome for n, e in got.items()} == {**{n: n for n in said}, "garbage": "api_error"}
        for name, end in got.items():
            assert isinstance(end, Answer) == (name not in ("timeout", "api_error", "garbage"))
            assert (isinstance(end, Answer) and end.label is not None) == (name == "verdict")
        first = got["verdict"]
        assert isinstance(first, Answer)
        assert (first.input_tokens, first.cached_tokens, first.output_tokens, first.model_returned) == (
            100,
            40,
            10,
            "m-1",
        )
        # Answers are asked for once; what was paid and cannot be used once more; a failing server as often as allowed.
        assert app.asked == {
            "verdict": 1, "refusal": 1, "content_filter": 1, "parse_error": 2, "truncated": 2, "timeout": 2,
            "api_error": 2, "garbage": 2,
        }  # fmt: skip
        # A second run asks again only for what has no answer.
        before = dict(app.asked)
        run(job_for(endpoint), list(said), ledger)
        assert {n for n in said if app.asked[n] > before[n]} == {"timeout", "api_error", "garbage"}


def test_an_unreadable_answer_is_shown_once_for_repair(tmp_path: Path) -> None:
    app = Scripted(
        lambda name, attempt: (200, completion("I think it is bad, because"), {}) if attempt == 1 else good()
    )
    with running(app, tmp_path) as (endpoint, ledger):
        got, _report = run(job_for(endpoint, price=PRICE), ["a"], ledger)
        answer = got["a"]
        assert isinstance(answer, Answer)
        assert (answer.outcome, answer.label, answer.attempts) == ("verdict", "bad", 2)
        messages = app.seen[1][1]["messages"]
        assert [m["role"] for m in messages] == ["system", "user", "assistant", "user"]
        assert messages[2]["content"] == "I think it is bad, because"
        assert 'one of ["fine", "bad"]' in messages[3]["content"]
        assert messages[:2] == app.seen[0][1]["messages"]
    with running(app, tmp_path / "other") as (endpoint, ledger):
        app.asked.clear()
        got, _ = run(job_for(endpoint, repair=False), ["a"], ledger)
        assert (got["a"].outcome, app.asked["a"]) == ("parse_error", 1)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_rate_limit_is_waited_out_and_is_no_attempt(tmp_path: Path, transport: str) -> None:
    app = Scripted(lambda _, n: (429, {"error": {"message": "slow"}}, {"Retry-After": "1"}) if n <= 2 else good())
    with running(app, tmp_path, max_attempts=1, transport=transport) as (endpoint, ledger):
        got, report = run(job_for(endpoint), ["a"], ledger)
        assert ledger.attempt_counts() == {"yes": 1}
    assert (got["a"].outcome, got["a"].attempts, report.progress.limited) == ("verdict", 1, 2)
    assert app.times[1] - app.times[0] >= 1.0
    assert app.times[2] - app.times[1] >= 1.0


def test_a_long_wait_parks_the_run(tmp_path: Path) -> None:
    app = Scripted(lambda name, _: (429, {"error": {}}, {"Retry-After": "300"}) if name == "b" else good())
    with running(app, tmp_path, concurrency=1) as (endpoint, ledger):
        got, report = run(job_for(endpoint), ["a", "b", "c"], ledger)
        assert report.stopped is not None
        assert "asks to wait 300 s: parked" in report.stopped
        assert [got[n].outcome for n in "abc"] == ["verdict", "api_error", "api_error"]
        assert "parked" in (got["c"].error or "")
        assert ledger.count("claims") == 0
        assert app.asked == {"a": 1, "b": 1}
        # What was not asked for failed too: --retry-errors asks for it.
        app.script = good
        got, _ = run(job_for(endpoint, retry_errors=True), ["a", "b", "c", "new"], ledger)
    assert [got[n].outcome for n in ("a", "b", "c", "new")] == ["verdict", "verdict", "verdict", "api_error"]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (401, "invalid_api_key", "401: the key is not accepted; check MY_KEY"),
        (403, "forbidden", "403: the key may not use this model; check MY_KEY"),
        (404, "model_not_found", "404: no such model; check base_url and model"),
        (404, None, "404: no such address or model"),
        (429, "insufficient_quota", "the quota is used up"),
        (301, None, "301: it sends elsewhere; check base_url"),
    ],
)
def test_an_endpoint_that_refuses_everything_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, code: str | None, said: str, transport: str
) -> None:
    monkeypatch.setenv("MY_KEY", "secret-key")
    app = Scripted(lambda *_: (status, {"error": {"code": code, "message": "no"}}, {"location": "http://127.0.0.1:9/"}))
    with running(app, tmp_path, api_key_env="MY_KEY", concurrency=1, transport=transport) as (endpoint, ledger):
        got, report = run(job_for(endpoint), list("abcdefgh"), ledger)
        assert said in (report.stopped or "")
        assert "secret-key" not in str(report)
        assert {e.outcome for e in got.values()} == {"api_error"}
        assert ledger.count("claims") == ledger.count("responses") == 0
    assert sum(app.asked.values()) == 1
    assert app.seen[0][0]["authorization"] == "Bearer secret-key"


def test_an_endpoint_that_refuses_every_request_is_noticed(tmp_path: Path) -> None:
    app = Scripted(
        lambda *_: (400, {"error": {"code": "unsupported_parameter", "param": "seed", "message": "text 1"}}, {})
    )
    with running(app, tmp_path) as (endpoint, ledger):
        _got, report = run(job_for(endpoint), [f"text {k}" for k in range(500)], ledger)
    assert "refused the first 20 requests: HTTP 400, unsupported_parameter, parameter seed" in (report.stopped or "")
    assert sum(app.asked.values()) <= 24
    assert "text 1" not in str(report)


def test_a_missing_key_is_named_before_anything_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    app = Scripted(good)
    with running(app, tmp_path, api_key_env="MY_KEY") as (endpoint, ledger):
        with pytest.raises(EndpointStop, match="MY_KEY is not set"):
            score(job_for(endpoint), reader(["a"]), ledger)
        assert ledger.count("claims") == 0
    assert app.asked == {}


# Money


def test_a_budget_is_never_crossed(tmp_path: Path) -> None:
    app = Scripted(good)
    with running(app, tmp_path, concurrency=3) as (endpoint, ledger):
        job = job_for(endpoint, price=PRICE)
        template = job.template
        # A call may cost a token per byte, a hundred more and ten written, at one dollar each; it does cost 110.
        hold = template.constant_bytes + len(template.item("a", None)) + 110
        limit = 110 * 2 + hold + 1
        job = job_for(endpoint, price=PRICE, budget=limit)
        got, _report = run(job, list("abcdef"), ledger)
        outcomes = Counter(e.outcome for e in got.values())
        asked = sum(app.asked.values())
        assert outcomes == {"verdict": asked, "over_budget": 6 - asked}
        assert 1 <= asked <= 3
        spend = ledger.spend(str(DAY), "j")
        assert spend == Spend(110 * asked * PICO, 0, 0)
        # Run again until nothing more fits: 110 each while a whole hold is left.
        for _ in range(3):
            got, _ = run(job, list("abcdef"), ledger)
        assert sum(e.outcome == "verdict" for e in got.values()) == 3
        assert "budget_usd does not allow the request" in {e.error for e in got.values() if isinstance(e, Failure)}
        # Another judge has its own.
        got, _ = run(job_for(endpoint, price=PRICE, budget=limit, account="k"), ["f"], ledger)
        assert got["f"].outcome == "verdict"


def test_a_budget_per_run_begins_anew_with_each(tmp_path: Path) -> None:
    app = Scripted(good)
    with running(app, tmp_path, concurrency=1) as (endpoint, ledger):
        job = job_for(endpoint, price=PRICE)
        hold = job.template.constant_bytes + len(job.template.item("a", None)) + 110
        job = job_for(endpoint, price=PRICE, run_budget=hold + 1)
        asked = []
        for _ in range(2):
            got, _report = run(job, list("abcdef"), ledger)
            asked.append(sum(e.outcome == "verdict" for e in got.values()))
            assert "budget_usd_per_run" in str([e.error for e in got.values() if isinstance(e, Failure)])
    assert asked == [1, 2]


def test_retries_that_may_be_billed_count_against_the_budget(tmp_path: Path) -> None:
    app = Scripted(lambda *_: (200, "stall", {}))
    with running(app, tmp_path, timeout_seconds=0.2, max_attempts=9, concurrency=1) as (endpoint, ledger):
        job = job_for(endpoint, price=PRICE)
        hold = job.template.constant_bytes + len(job.template.item("a", None)) + 110
        got, _ = run(job_for(endpoint, price=PRICE, budget=hold * 1.5), ["a"], ledger)
        assert ledger.spend(str(DAY), "j") == Spend(0, hold * PICO, 0)
        assert (app.asked["a"], got["a"].outcome) == (1, "over_budget")
        got, _ = run(job_for(endpoint, price=PRICE, budget=hold * 10), ["a"], ledger)
        assert (app.asked["a"], got["a"].outcome) == (3, "timeout")
        assert ledger.spend(str(DAY), "j") == Spend(0, 3 * hold * PICO, 0)


def test_an_answer_costs_what_all_its_attempts_did(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    app = Scripted(lambda _, n: (200, completion("hm", usage=usage), {}) if n == 1 else good())
    with running(app, tmp_path) as (endpoint, ledger):
        got, _ = run(job_for(endpoint, price=PRICE), ["a"], ledger)
        answer = got["a"]
        assert isinstance(answer, Answer)
        assert (answer.cost, answer.input_tokens, answer.output_tokens) == (220 * PICO, 200, 20)


# One outcome each


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_many_faults_at_once_end_every_item_in_one_outcome(tmp_path: Path, transport: str) -> None:
    kinds = [f for f in FAULTS if f not in ("rate_limited", "stall", "slow_body")]
    plan = Plan(
        faults=dict.fromkeys(kinds, 0.1 / 8) | {"stall": 0.005, "rate_limited": 0.005}, retry_after_seconds=0.05
    )
    app = FakeEndpoint(plan)
    names = [f"text {k}" for k in range(400)]
    with running(app, tmp_path, transport=transport, max_attempts=4, concurrency=32) as (endpoint, ledger):
        got, report = run(job_for(endpoint), names, ledger)
        assert report.stopped is None
        assert set(got) == set(names)
        kept = {n for n, e in got.items() if isinstance(e, Answer)}
        assert ledger.count("responses") == len(kept)
        assert ledger.count("failures") == len(names) - len(kept)
        assert ledger.count("claims") == 0
        assert sum(report.progress.outcomes.values()) == report.progress.done == len(names)
        counts = ledger.attempt_counts()
        # Everything the endpoint billed is in the ledger, as billed or perhaps billed.
        assert app.stats()["billed"] <= counts["yes"] + counts["maybe"]
    shares = Counter(e.outcome for e in got.values())
    assert shares["verdict"] > 300
    assert {"refusal", "content_filter"} <= set(shares)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ((200, [], {}), "api_error"),
        ((200, b"[" * 200_000, {}), "api_error"),
        ((200, {"error": {"code": 502, "message": "upstream"}}, {}), "api_error"),
        ((400, {"error": {"code": {"deep": 1}, "message": "x"}}, {}), "api_error"),
        ((400, {"error": {"code": "context_length_exceeded"}}, {}), "api_error"),
        ((200, completion('{"label": "bad", "rationale": "\\ud83d"}'), {}), "verdict"),
        ((200, completion('{"label": "bad"}', usage={"prompt_tokens": 10**30, "completion_tokens": 1}), {}), "verdict"),
        ((200, completion('{"label": "bad"}', model="m" * 5000), {}), "verdict"),
    ],
)
def test_an_odd_answer_settles_its_item_and_no_other(tmp_path: Path, answer: Answered, outcome: str) -> None:
    app = Scripted(lambda name, _: answer if name == "odd" else good())
    with running(app, tmp_path, max_attempts=1) as (endpoint, ledger):
        got, _ = run(job_for(endpoint), ["odd", "a", "b"], ledger)
    assert [got[n].outcome for n in ("odd", "a", "b")] == [outcome, "verdict", "verdict"]


def test_repeated_items_are_asked_for_once(tmp_path: Path) -> None:
    app = Scripted(good)
    names = [f"i{k}" for k in range(60)]
    with running(app, tmp_path, concurrency=5) as (endpoint, ledger):
        report = score(job_for(endpoint), reader([*names, *names], 40), ledger, 120)
        assert report.progress.done == 120
    assert set(app.asked.values()) == {1}
    assert app.asked.keys() == set(names)


def test_an_item_that_is_too_long_is_not_sent(tmp_path: Path) -> None:
    app = Scripted(good)
    with running(app, tmp_path) as (endpoint, ledger):
        got, _ = run(job_for(endpoint, max_item_characters=100), ["a", "x" * 101], ledger)
    end = got["x" * 101]
    assert isinstance(end, Failure)
    assert (end.outcome, end.kind) == ("api_error", "too_long")
    assert "max_item_characters" in end.error
    assert app.asked == {"a": 1}


def test_retry_errors_asks_only_what_failed(tmp_path: Path) -> None:
    broken = {"on": True}
    app = Scripted(lambda name, _: (200, completion("hm"), {}) if broken["on"] and name == "p"
                   else (500, {}, {}) if broken["on"] and name == "e" else good())  # fmt: skip
    with running(app, tmp_path, max_attempts=1) as (endpoint, ledger):
        got, _ = run(job_for(endpoint), ["v", "p", "e"], ledger)
        assert [got[n].outcome for n in "vpe"] == ["verdict", "parse_error", "api_error"]
        broken["on"] = False
        app.asked.clear()
        got, _ = run(job_for(endpoint, retry_errors=True), ["v", "p", "e", "new"], ledger)
        assert [got[n].outcome for n in "vpe"] == ["verdict", "verdict", "verdict"]
        assert isinstance(got["new"], Failure)
        assert app.asked == {"p": 1, "e": 1}
        assert [a[1] for a in ledger.attempts_of(job_for(endpoint).template.key(job_for(endpoint).template.item("p", None)))] == [
            "parse_error", "parse_error", "verdict",
        ]  # fmt: skip


# Outages and limits


@pytest.mark.slow
def test_an_outage_loses_nothing_and_asks_little(tmp_path: Path) -> None:
    app = FakeEndpoint(Plan(latency_ms=20))
    names = [f"text {k}" for k in range(3000)]
    with running(app, tmp_path, concurrency=128, cool_down_seconds=0.5, max_attempts=2) as (endpoint, ledger):
        marks: dict[str, Any] = {}

        def outage() -> None:
            while app.calls < 200:
                time.sleep(0.01)
            app.down = True
            time.sleep(0.1)
            marks["calls"] = app.calls
            time.sleep(2.0)
            marks["during"] = app.calls - marks["calls"]
            app.down = False
            marks["up"] = time.monotonic()

        watcher = threading.Thread(target=outage)
        watcher.start()
        app.call_times = []
        got, _report = run(job_for(endpoint), names, ledger)
        watcher.join()
    assert Counter(e.outcome for e in got.values()) == {"verdict": 3000}
    # One probe per cool-down of half a second.
    assert marks["during"] <= 5
    first_failures = app.stats()["faults"]["down"]
    assert first_failures <= 2 * 128 + 6
    # Full speed within two cool-downs: a hundred calls in some tenth of a second.
    after = [t - marks["up"] for t in app.call_times if t > marks["up"]]
    assert after[100] < 2 * 0.5 + 0.3


def test_an_endpoint_that_is_down_from_the_start_is_given_up_soon(tmp_path: Path) -> None:
    endpoint = Endpoint(base_url="http://127.0.0.1:9/v1", concurrency=8, cool_down_seconds=0.2, transport="direct")
    with sqlite_ledger(tmp_path) as ledger:
        began = time.monotonic()
        got, report = run(job_for(endpoint), [f"t{k}" for k in range(100)], ledger)
        assert time.monotonic() - began < 15
        assert ledger.attempt_counts().keys() == {"no"}
        assert ledger.count("claims") == 0
    assert "127.0.0.1:9/v1 is down: no connection to 127.0.0.1:9; gave up" in (report.stopped or "")
    assert {e.outcome for e in got.values()} == {"api_error"}


@pytest.mark.slow
def test_patience_with_an_outage_ends(tmp_path: Path) -> None:
    app = FakeEndpoint(Plan(latency_ms=5))
    with running(app, tmp_path, cool_down_seconds=0.1, patience_seconds=0.5, concurrency=16) as (endpoint, ledger):
        watcher = threading.Thread(target=down_for, args=(app, 100, 5.0))
        watcher.start()
        got, report = run(job_for(endpoint), [f"t{k}" for k in range(5000)], ledger)
        watcher.join()
        assert "is down: HTTP 500, server_error; gave up after" in (report.stopped or "")
        counts = Counter(e.outcome for e in got.values())
        assert counts["verdict"] > 10
        assert counts["api_error"] == 5000 - counts["verdict"]
        assert ledger.count("claims") == 0


@pytest.mark.slow
def test_a_known_limit_is_used_and_not_run_into(tmp_path: Path) -> None:
    app = FakeEndpoint(Plan(latency_ms=20, requests_per_minute=3000))
    names = [f"text {k}" for k in range(1000)]
    with running(app, tmp_path, concurrency=64, requests_per_minute=3000) as (endpoint, ledger):
        began = time.monotonic()
        got, report = run(job_for(endpoint), names, ledger)
        seconds = time.monotonic() - began
    assert Counter(e.outcome for e in got.values()) == {"verdict": 1000}
    assert report.progress.limited <= 0.005 * report.progress.calls
    assert 1000 / seconds >= 0.95 * 50


@pytest.mark.slow
def test_an_unknown_limit_is_learnt(tmp_path: Path) -> None:
    app = FakeEndpoint(Plan(latency_ms=20, requests_per_minute=3000, limit_headers=False))
    marks: list[tuple[float, int, int]] = []
    names = [f"text {k}" for k in range(2000)]
    with running(app, tmp_path, concurrency=64) as (endpoint, ledger):
        began = time.monotonic()

        def tell(p: Progress) -> None:
            marks.append((time.monotonic() - began, p.calls, p.limited))

        score(job_for(endpoint), reader(names), ledger, 2000, tell)
        got = ends(job_for(endpoint), reader(names), ledger)
    assert Counter(e.outcome for e in got.values()) == {"verdict": 2000}
    after = next(m for m in marks if m[0] >= 30)
    assert marks[-1][2] - after[2] <= 0.10 * (marks[-1][1] - after[1])


# Bad input


def test_a_certificate_nobody_signed_stops_the_run(tmp_path: Path) -> None:
    made = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-keyout", str(made[0]), "-out", str(made[1])],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made[1], made[0])
    for transport in TRANSPORTS:
        with (
            serving_fake(FakeEndpoint(), context) as url,
            sqlite_ledger(tmp_path / transport) as ledger,
        ):
            endpoint = Endpoint(base_url=url, transport=transport)  # type: ignore[arg-type]
            _, report = run(job_for(endpoint), ["a"], ledger)
            assert "the certificate of 127.0.0.1" in (report.stopped or "")
            assert ledger.attempt_counts() == {"no": 1}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_name_that_does_not_exist_is_told(tmp_path: Path, transport: str) -> None:
    endpoint = Endpoint(
        base_url="http://no-such-host.invalid/v1", transport=transport, concurrency=2  # type: ignore[arg-type]
    )  # fmt: skip
    with sqlite_ledger(tmp_path) as ledger:
        _, report = run(job_for(endpoint), [f"t{k}" for k in range(30)], ledger)
    assert "the name no-such-host.invalid cannot be resolved" in (report.stopped or "")


def test_no_proxy_sees_loopback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    for transport in TRANSPORTS:
        with running(Scripted(good), tmp_path / transport, transport=transport) as (endpoint, ledger):
            got, _ = run(job_for(endpoint), ["a"], ledger)
            assert got["a"].outcome == "verdict"


def test_a_full_disk_ends_the_run_and_leaves_a_right_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = FakeEndpoint(Plan(latency_ms=2))
    names = [f"text {k}" for k in range(3000)]
    with running(app, tmp_path, concurrency=16) as (endpoint, ledger):
        pages = ledger.database.rows("PRAGMA page_count")[0][0]
        ledger.database.write(f"PRAGMA max_page_count={pages + 60}")
        with pytest.raises(UserError, match="the disk is full: free some space and run again"):
            score(job_for(endpoint, price=PRICE), reader(names), ledger, 3000)
        ledger.close()
    with sqlite_ledger(tmp_path) as ledger, serving_fake(app) as url:
        settled, billed = ledger.count("responses"), app.stats()["billed"]
        assert 0 < settled < 3000
        counts = ledger.attempt_counts()
        assert billed <= counts["yes"] + ledger.count("claims") + 16
        endpoint = Endpoint(base_url=url, concurrency=16, transport="direct")
        template = job_for(endpoint, price=PRICE).template
        assert template is not None
        # The same identity as before: the address moved with the port, so only the count of claims is looked at.
        ledger.end(ledger.begin("j", DAY))
        assert ledger.count("claims") == 0
        assert ledger.spend(str(DAY), "j").reserved == 0


def test_an_interrupt_leaves_no_claim_and_no_doubt(tmp_path: Path) -> None:
    # A process started in the background may have been told to ignore interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    app = FakeEndpoint(Plan(latency_ms=200))
    with running(app, tmp_path, concurrency=8, timeout_seconds=5) as (endpoint, ledger):
        threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            score(job_for(endpoint, price=PRICE), reader([f"t{k}" for k in range(500)]), ledger, 500)
        counts = ledger.attempt_counts()
        assert ledger.count("claims") == 0
        # What was claimed and not sent is given back; only calls that were out may have been billed.
        assert counts["maybe"] <= 8
        assert ledger.spend(str(DAY), "j").reserved == 0
        assert app.stats()["billed"] <= counts.get("yes", 0) + counts["maybe"]
        assert ledger.count("responses") == counts.get("yes", 0)


def test_a_clock_that_jumps_changes_no_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 86_400 * (int(real() * 10) % 2))
    app = Scripted(lambda _, n: (429, {"error": {}}, {"Retry-After-Ms": "300"}) if n == 1 else good())
    with running(app, tmp_path) as (endpoint, ledger):
        began = time.monotonic()
        got, _ = run(job_for(endpoint), ["a"], ledger)
        assert 0.3 <= time.monotonic() - began < 5
    assert got["a"].outcome == "verdict"


# The table of decisions


@pytest.mark.parametrize(
    ("reply", "tries", "expected"),
    [
        (Reply(200, {}, json.dumps(completion('{"label": "bad"}')).encode()), Tries(1), "keep"),
        (Reply(200, {}, json.dumps(completion("hm")).encode()), Tries(1), "repair"),
        (Reply(200, {}, json.dumps(completion("hm")).encode()), Tries(2, paid_again=True), "keep"),
        (Reply(200, {}, json.dumps(completion("", finish_reason="length")).encode()), Tries(1), "again"),
        (Reply(200, {}, b"<html>"), Tries(1), "again"),
        (Reply(200, {}, b"<html>"), Tries(2, paid_again=True), "fail"),
        (Reply(500, {}, b""), Tries(1, broken=1), "again"),
        (Reply(500, {}, b""), Tries(4, broken=4), "fail"),
        (Reply(400, {}, b"{}"), Tries(1), "fail"),
        (Reply(413, {}, b"{}"), Tries(1), "fail"),
    ],
)
def test_what_follows_a_call(reply: Reply, tries: Tries, expected: str) -> None:
    endpoint = Endpoint(base_url="http://127.0.0.1:9/v1", max_attempts=4)
    call = answered(reply, LABELS, "chat", endpoint)
    assert next_step(call, tries, endpoint, repair=True, works=True) == expected


def test_failures_of_an_outage_do_not_use_up_tries() -> None:
    endpoint = Endpoint(base_url="http://127.0.0.1:9/v1", max_attempts=2)
    call = answered(Reply(503, {}, b""), LABELS, "chat", endpoint)
    assert next_step(call, Tries(9, broken=2), endpoint, True, works=False) == "again"


def test_backoff_doubles_to_twenty_seconds_and_honours_the_endpoint() -> None:
    assert [backoff_seconds(k, 0.5) for k in (1, 2, 3, 12)] == [0.5, 1.0, 2.0, 20.0]
    assert backoff_seconds(1, 0.5, wait=7.0) == 7.0


def test_the_line_of_progress_says_rate_money_and_what_is_left() -> None:
    progress = Progress(total=400, done=200, known=0, spent=PICO, started=time.monotonic() - 10)
    progress.outcomes.update({"verdict": 195, "refusal": 5})
    assert progress.line() == "200 of 400, 20/s, $1.0000, 5 refusal, 10 s left"


def test_the_ledger_file_is_read_while_it_is_written(tmp_path: Path) -> None:
    seen: list[int] = []
    app = FakeEndpoint(Plan(latency_ms=10))
    with running(app, tmp_path, concurrency=16) as (endpoint, ledger):
        other = SqliteDatabase(tmp_path / "ledger.sqlite")
        names = [f"t{k}" for k in range(600)]

        def tell(_: Progress) -> None:
            seen.append(other.rows("SELECT COUNT(*) FROM responses")[0][0])

        score(job_for(endpoint), reader(names), ledger, 600, tell)
        other.close()
    assert seen[-1] == 600
    assert asyncio.iscoroutinefunction(FakeEndpoint.handle)


# What a reader of the code broke


def test_a_repair_does_not_cross_the_budget(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 400, "completion_tokens": 10}
    app = Scripted(lambda _, n: (200, completion("坏" * 2000, usage=usage), {}) if n == 1 else good())
    with running(app, tmp_path, concurrency=1) as (endpoint, ledger):
        hold = job_for(endpoint, price=PRICE).template.constant_bytes + 200
        got, _ = run(job_for(endpoint, price=PRICE, budget=hold * 3), ["a"], ledger)
        assert (got["a"].outcome, app.asked["a"]) == ("over_budget", 1)
        got, _ = run(job_for(endpoint, price=PRICE, budget=hold * 40), ["b"], ledger)
        assert (got["b"].outcome, app.asked["b"]) == ("verdict", 2)
        assert ledger.spend(str(DAY), "j").reserved == 0
        # The same for a budget of the run.
        got, _ = run(job_for(endpoint, price=PRICE, run_budget=hold * 3), ["c"], ledger)
        assert (got["c"].outcome, app.asked["c"]) == ("over_budget", 1)


def test_what_a_batch_holds_is_not_waited_for(tmp_path: Path) -> None:
    app = Scripted(good)
    with running(app, tmp_path) as (endpoint, ledger):
        job = job_for(endpoint)
        held = job.template.key(job.template.item("a", None))
        ledger.claim(Run("batch:x", "j", str(DAY)), [Claim(held, 0)])
        got, _ = run(job, ["a", "b"], ledger)
        assert [got[n].outcome for n in "ab"] == ["api_error", "verdict"]
        assert app.asked == {"b": 1}
        assert ledger.claimed([held]) == {held: "batch:x"}


@pytest.mark.slow
def test_retry_after_zero_is_no_hot_loop(tmp_path: Path) -> None:
    app = Scripted(lambda _, n: (429, {"error": {}}, {"Retry-After": "0"}) if n <= 3 else good())
    with running(app, tmp_path) as (endpoint, ledger):
        began = time.monotonic()
        got, _ = run(job_for(endpoint), ["a"], ledger)
        assert time.monotonic() - began > 0.5
    assert (got["a"].outcome, app.asked["a"]) == ("verdict", 4)


def test_a_request_that_is_always_too_much_starves_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "backoff_seconds", lambda *_: 0.02)
    app = Scripted(lambda name, _: (429, {"error": {"code": "rate_limit_exceeded"}}, {"Retry-After-Ms": "1"})
                   if name.startswith("big") else good())  # fmt: skip
    names = [*(f"big {k}" for k in range(4)), *(f"small {k}" for k in range(40))]
    with running(app, tmp_path, concurrency=4) as (endpoint, ledger):
        got, report = run(job_for(endpoint), names, ledger)
        assert ledger.count("claims") == 0
    assert report.stopped is None
    assert report.progress.done == 44
    assert {n: e.outcome for n, e in got.items()} == {
        n: "api_error" if n.startswith("big") else "verdict" for n in names
    }
    assert "asked too fast" in (got["big 0"].error or "")


def test_items_that_are_too_long_for_the_model_do_not_stop_a_run(tmp_path: Path) -> None:
    app = Scripted(lambda name, _: (400, {"error": {"code": "context_length_exceeded"}}, {})
                   if name.startswith("long") else good())  # fmt: skip
    names = [*(f"long {k}" for k in range(40)), *(f"short {k}" for k in range(10))]
    with running(app, tmp_path) as (endpoint, ledger):
        got, report = run(job_for(endpoint), names, ledger)
    assert report.stopped is None
    assert Counter(e.outcome for e in got.values()) == {"api_error": 40, "verdict": 10}
    assert got["long 1"].kind == "context_length"


def down_for(app: FakeEndpoint, calls: int, seconds: float) -> None:
    """Take an endpoint down for a while once it has served some calls."""
    while app.calls < calls:
        time.sleep(0.01)
    app.down = True
    time.sleep(seconds)
    app.down = False


@pytest.mark.slow
def test_a_short_outage_loses_nothing_whatever_the_concurrency(tmp_path: Path) -> None:
    for concurrency in (2, 8):
        app = FakeEndpoint(Plan(latency_ms=5))
        with running(app, tmp_path / str(concurrency), concurrency=concurrency, max_attempts=2) as (endpoint, ledger):
            watcher = threading.Thread(target=down_for, args=(app, 20, 2.0))
            watcher.start()
            got, _ = run(job_for(endpoint), [f"t{k}" for k in range(300)], ledger)
            watcher.join()
        assert Counter(e.outcome for e in got.values()) == {"verdict": 300}


def test_a_hanging_endpoint_opens_the_breaker() -> None:
    gate_of = Endpoint(base_url="http://127.0.0.1:9/v1", concurrency=8, timeout_seconds=60)
    from moderation_pipelines.judging.calls.gate import Gate

    async def opened() -> str:
        breaker = Gate(gate_of).breaker
        for minute in range(2):
            for _ in range(8):
                breaker.failed(minute * 60.0, False)
        return breaker.state

    assert asyncio.run(opened()) == "open"


def test_two_retries_at_once_pay_once(tmp_path: Path) -> None:
    broken = {"on": True}
    app = Scripted(lambda *_: (200, completion("hm"), {}) if broken["on"] else good())
    names = [f"t{k}" for k in range(100)]
    with running(app, tmp_path, concurrency=8) as (endpoint, ledger), sqlite_ledger(tmp_path) as other:
        run(job_for(endpoint, repair=False), names, ledger)
        broken["on"] = False
        app.asked.clear()
        job = job_for(endpoint, retry_errors=True)
        threads = [threading.Thread(target=score, args=(job, reader(names), x, 100)) for x in (ledger, other)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert set(app.asked.values()) == {1}
    assert len(app.asked) == 100


def test_text_no_database_takes_is_cleaned(tmp_path: Path) -> None:
    said = json.dumps({"label": "bad", "evidence": "a\x00b", "rationale": "c\x00"})
    app = Scripted(lambda *_: (200, completion(said, model="m\x00n", service_tier="t\x00"), {}))
    with running(app, tmp_path) as (endpoint, ledger):
        got, _ = run(job_for(endpoint), ["a"], ledger)
    answer = got["a"]
    assert isinstance(answer, Answer)
    assert (answer.evidence, answer.rationale, answer.model_returned, answer.tier) == ("ab", "c", "mn", None)
