"""The ledger on SQLite and on PostgreSQL: the same rules, whatever ends a process."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from moderation_pipelines.fake_endpoint.endpoint import FakeEndpoint
from moderation_pipelines.fake_endpoint.plan import Plan
from moderation_pipelines.fake_endpoint.server import serving_fake
from moderation_pipelines.foundation.errors import UserError
from moderation_pipelines.judging.ledger.databases import PostgresDatabase, SqliteDatabase
from moderation_pipelines.judging.ledger.ledger import Ledger, Settlement, Spend, open_ledger
from moderation_pipelines.judging.ledger.records import Answer, Attempt, Claim, Failure
from moderation_pipelines_tests.engine_help import DAY, postgres_server

ANSWER = Answer("verdict", label="bad", p_violating=0.8, attempts=1, first_day=str(DAY), created_at="t", cost=7)


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with postgres_server() as address:
        yield address


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Ledger]:
    """A function that opens the same ledger again and again, as other processes would."""
    if request.param == "sqlite":
        return lambda: Ledger(SqliteDatabase(tmp_path / "ledger.sqlite"))
    address = request.getfixturevalue("postgres")
    database = PostgresDatabase(address)
    database.write("DROP SCHEMA public CASCADE")
    database.write("CREATE SCHEMA public")
    database.close()
    return lambda: Ledger(PostgresDatabase(address))


def key(k: int) -> bytes:
    return k.to_bytes(16, "big")


def claims(*numbers: int, hold: int = 10) -> list[Claim]:
    return [Claim(key(n), hold) for n in numbers]


def done(n: int, cost: int = 7, hold: int = 10, answer: Answer | None = ANSWER, billed: str = "yes") -> Settlement:
    attempt = Attempt(key(n), 1, "verdict" if answer else "timeout", None, billed, cost, at="t")  # type: ignore[arg-type]
    failure = None if answer else Failure(key(n), "timeout", "timeout", "no answer", 1, "t")
    return Settlement(Claim(key(n), hold), attempt, answer, failure)


def test_answers_are_kept_and_the_first_one_stays(opened: Callable[[], Ledger]) -> None:
    with opened() as ledger:
        run = ledger.begin("j", DAY)
        assert [g.result for g in ledger.claim(run, claims(1, 2))] == ["go", "go"]
        ledger.settle(run, [done(1), done(2, answer=None, billed="maybe")])
        assert [g.result for g in ledger.claim(run, claims(1))] == ["known"]
        ledger.settle(run, [replace(done(1), answer=ANSWER._replace(label="fine"))])
        ledger.end(run, {"done": 2})
    with opened() as ledger:
        assert ledger.known([key(1), key(2), key(3)]) == {key(1): ANSWER}
        assert ledger.known_keys([key(1), key(2)]) == {key(1)}
        failure = ledger.failures([key(1), key(2)])
        assert {k: (f.outcome, f.run) for k, f in failure.items()} == {key(2): ("timeout", run.id)}
        assert ledger.attempt_counts() == {"yes": 2, "maybe": 1}
        assert ledger.attempts_of(key(2)) == [(1, "timeout", None, "maybe", 7)]


def test_an_answer_takes_its_failure_away(opened: Callable[[], Ledger]) -> None:
    with opened() as ledger:
        run = ledger.begin("j", DAY)
        ledger.fail(run, [Failure(key(1), "api_error", "http_500", "HTTP 500", 4)])
        ledger.claim(run, claims(1))
        ledger.settle(run, [done(1)])
        assert ledger.failures([key(1)]) == {}


def test_an_error_is_never_an_answer(opened: Callable[[], Ledger]) -> None:
    with opened() as ledger:
        run = ledger.begin("j", DAY)
        with pytest.raises(ValueError, match="api_error is no answer"):
            ledger.settle(run, [done(1, answer=Answer("api_error"))])
        assert ledger.count("responses") == ledger.count("attempts") == 0


def test_a_request_has_one_owner(opened: Callable[[], Ledger]) -> None:
    with opened() as first, opened() as second:
        a, b = first.begin("j", DAY), second.begin("j", DAY)
        assert [g.result for g in first.claim(a, claims(1, 1, 2))] == ["go", "taken", "go"]
        assert [g.result for g in second.claim(b, claims(2, 3))] == ["taken", "go"]
        assert first.claimed([key(1), key(2), key(3)]) == {key(1): a.id, key(2): a.id, key(3): b.id}
        assert (first.is_alive(b.id), second.is_alive(a.id), first.is_alive("batch:x"), first.is_alive("gone")) == (
            True, True, True, False,
        )  # fmt: skip
        first.settle(a, [done(2)])
        assert [g.result for g in second.claim(b, claims(2))] == ["known"]
        # Asked again on purpose only while the answer is still the one that was read.
        assert [g.result for g in second.claim(b, [Claim(key(2), 10, seen="t")])] == ["go"]
        assert [g.result for g in first.claim(a, [Claim(key(2), 10, seen="earlier")])] == ["known"]
        # Nobody buries the living.
        third = second.begin("j", DAY)
        assert second.count("claims") == 3
        second.end(third)


def test_what_the_dead_left_may_have_been_billed(opened: Callable[[], Ledger]) -> None:
    dead = opened()
    run = dead.begin("j", DAY)
    dead.claim(run, claims(1, 2, 3))
    dead.settle(run, [done(1)])
    dead.database.close()
    with opened() as ledger:
        assert ledger.spend(str(DAY), "j") == Spend(7, 0, 20)
        ledger.begin("j", DAY)
        assert ledger.spend(str(DAY), "j") == Spend(7, 20, 0)
        assert ledger.count("claims") == 0
        assert ledger.attempt_counts() == {"yes": 1, "maybe": 2}
        assert ledger.attempts_of(key(2)) == [(0, "lost", "crash", "maybe", 10)]


def test_a_budget_holds_over_runs_and_processes(opened: Callable[[], Ledger]) -> None:
    with opened() as first, opened() as second:
        a, b = first.begin("j", DAY, budget=35), second.begin("j", DAY, budget=35)
        assert [g.result for g in first.claim(a, claims(1, 2))] == ["go", "go"]
        assert [g.result for g in second.claim(b, claims(3, 4))] == ["go", "over_budget"]
        # An answer frees what it did not cost; an attempt that may go on keeps its hold and adds what it may have cost.
        first.settle(a, [done(1, cost=5)])
        assert first.spend(str(DAY), "j") == Spend(5, 0, 20)
        attempt = Attempt(key(2), 1, "timeout", "timeout", "maybe", 10)
        assert first.settle(a, [Settlement(Claim(key(2), 10), attempt, again=True)]) == [True]
        assert first.spend(str(DAY), "j") == Spend(5, 10, 20)
        assert first.settle(a, [Settlement(Claim(key(2), 10), replace(attempt, number=2), again=True)]) == [False]
        assert first.spend(str(DAY), "j") == Spend(5, 20, 10)
        # Another judge, another day: another budget.
        assert [g.result for g in first.claim(first.begin("k", DAY, budget=10), claims(9))] == ["go"]


def test_a_second_try_may_hold_more(opened: Callable[[], Ledger]) -> None:
    with opened() as ledger:
        run = ledger.begin("j", DAY, budget=35)
        ledger.claim(run, claims(1))
        attempt = Attempt(key(1), 1, "parse_error", "prose", "yes", 4)
        assert ledger.settle(run, [Settlement(Claim(key(1), 10), attempt, again=True, hold_more=21)]) == [True]
        assert ledger.spend(str(DAY), "j") == Spend(4, 0, 31)
        assert ledger.settle(run, [Settlement(Claim(key(1), 31), attempt, again=True, hold_more=1)]) == [False]
        assert ledger.spend(str(DAY), "j") == Spend(8, 0, 0)


def test_the_end_of_a_run_gives_back_what_was_never_sent(opened: Callable[[], Ledger]) -> None:
    with opened() as ledger:
        for written, left in ((True, 0), (False, 2)):
            run = ledger.begin("j", DAY)
            ledger.claim(run, claims(1, 2))
            ledger.end(run, None, written)
            assert ledger.count("claims") == left
        ledger.begin("j", DAY)
        assert ledger.spend(str(DAY), "j") == Spend(0, 20, 0)


@pytest.mark.slow
def test_postgres_runs_beside_each_other_pay_once(postgres: str, tmp_path: Path) -> None:
    database = PostgresDatabase(postgres)
    database.write("DROP SCHEMA public CASCADE")
    database.write("CREATE SCHEMA public")
    database.close()
    endpoint, n = FakeEndpoint(Plan(latency_ms=5)), 1500
    with serving_fake(endpoint) as url:
        environ = {"MODERATION_LEDGER": postgres}
        processes = [start(url, tmp_path / "l.sqlite", n, environ) for _ in range(3)]
        for process in processes:
            assert process.communicate(timeout=120)[0].splitlines()[-1] == f"{n} None"
    assert (endpoint.stats()["billed"], endpoint.stats()["billed_twice"]) == (n, 0)


def test_threads_that_claim_the_same_never_both_get_it(opened: Callable[[], Ledger]) -> None:
    got: list[bytes] = []

    def take(ledger: Ledger) -> None:
        run = ledger.begin("j", DAY, budget=10 * 150)
        for start in range(0, 300, 10):
            grants = ledger.claim(run, claims(*range(start, start + 10)))
            got.extend(g.key for g in grants if g.result == "go")

    ledgers = [opened(), opened(), opened()]
    threads = [threading.Thread(target=take, args=(x,)) for x in ledgers]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(got) == len(set(got)) == 150
    assert ledgers[0].spend(str(DAY), "j") == Spend(0, 0, 1500)
    for x in ledgers:
        x.close()


def test_one_at_a_time(opened: Callable[[], Ledger]) -> None:
    order: list[str] = []
    with opened() as first, opened() as second:

        def wait() -> None:
            with second.exclusive("x"):
                order.append("second")

        with first.exclusive("x"):
            thread = threading.Thread(target=wait)
            thread.start()
            time.sleep(0.2)
            order.append("first")
        thread.join(10)
    assert order == ["first", "second"]


# SQLite alone


def test_an_older_layout_is_set_aside(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "ledger.sqlite")
    db.execute("CREATE TABLE responses (id INTEGER PRIMARY KEY, request_key BLOB UNIQUE, outcome TEXT)")
    db.execute("INSERT INTO responses (request_key, outcome) VALUES (x'00', 'verdict')")
    db.commit()
    db.close()
    with open_ledger(tmp_path / "ledger.sqlite", {}) as ledger:
        assert ledger.count("responses") == 0
        assert ledger.database.rows("SELECT COUNT(*) FROM responses_1") == [(1,)]


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"MODERATION_LEDGER": "mysql://x"}, "must be an address like postgresql://"),
        ({"MODERATION_LEDGER_SYNCHRONOUS": "OFF"}, '"OFF" is neither NORMAL nor FULL'),
        ({"MODERATION_LEDGER": "postgresql:///x?host=/nowhere"}, "ledger in PostgreSQL"),
    ],
)
def test_a_wrong_setting_is_told(tmp_path: Path, environ: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        open_ledger(tmp_path / "l.sqlite", environ)


def test_a_file_that_is_no_ledger_is_told(tmp_path: Path) -> None:
    (tmp_path / "l.sqlite").write_text("this is not a database, it is a note to somebody" * 50)
    with pytest.raises(UserError, match="not a ledger"):
        open_ledger(tmp_path / "l.sqlite", {})


def test_full_synchronous_is_set(tmp_path: Path) -> None:
    with open_ledger(tmp_path / "l.sqlite", {"MODERATION_LEDGER_SYNCHRONOUS": "full"}) as ledger:
        assert ledger.database.rows("PRAGMA synchronous") == [(2,)]


# kill -9

SCORER = """
import sys
from pathlib import Path
from moderation_pipelines.judging.judges_file import Endpoint
from moderation_pipelines.judging.ledger.ledger import open_ledger
from moderation_pipelines.judging.calls.engine import score
from moderation_pipelines.judging.money import Price
from moderation_pipelines_tests.engine_help import job_for, reader
url, path, n = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
endpoint = Endpoint(base_url=url, concurrency=32, transport="direct", timeout_seconds=20)
with open_ledger(path) as ledger:
    print("begun", flush=True)
    # Far more than what fifty kills leave as `maybe`: the budget is watched, and not what ends the run.
    job = job_for(endpoint, price=Price(input_usd_per_million=1.0, output_usd_per_million=1.0), budget=1000)
    report = score(job, reader([f"text {k}" for k in range(n)], 100), ledger, n)
    print(dict(report.progress.outcomes).keys() - {"verdict"}, flush=True)
    print(report.progress.done, report.stopped, flush=True)
"""


def start(url: str, path: Path, n: int, environ: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCORER, url, str(path), str(n)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environ})


@pytest.mark.slow
@pytest.mark.parametrize("where", ["sqlite", "postgres"])
def test_fifty_kills_pay_nothing_twice(
    where: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    import random

    kills, n = (50, 6000) if where == "sqlite" else (10, 1500)
    environ: dict[str, str] = {}
    if where == "postgres":
        address = request.getfixturevalue("postgres")
        database = PostgresDatabase(address)
        database.write("DROP SCHEMA public CASCADE")
        database.write("CREATE SCHEMA public")
        database.close()
        environ = {"MODERATION_LEDGER": address}
    path, concurrency, rng = tmp_path / "ledger.sqlite", 32, random.Random(5)
    endpoint = FakeEndpoint(Plan(latency_ms=60, latency_spread=0.4))
    with serving_fake(endpoint) as url:
        lost_before = 0
        for _ in range(kills):
            process = start(url, path, n, environ)
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(rng.uniform(0.05, 0.7))
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
            time.sleep(0.3)  # what was on the wire arrives and is billed
            with open_ledger(path, environ) as ledger:
                counts = ledger.attempt_counts()
                billed = endpoint.stats()["billed"]
                # Lost: billed by the endpoint, not settled here.
                lost = billed - ledger.count("responses") - lost_before
                assert 0 <= lost <= 1.5 * concurrency
                lost_before += lost
                told = counts.get("yes", 0) + counts.get("maybe", 0) + ledger.count("claims")
                assert billed - told <= 0
        process = start(url, path, n, environ)
        assert process.stdout is not None
        assert process.stdout.read().splitlines()[-2:] == ["set()", f"{n} None"]
        process.wait()
        process.stdout.close()
    with open_ledger(path, environ) as ledger:
        assert ledger.count("responses") == n
        assert ledger.count("claims") == 0
        counts, billed = ledger.attempt_counts(), endpoint.stats()["billed"]
        assert counts["yes"] == n
        assert n <= billed <= counts["yes"] + counts.get("maybe", 0)
        # What was settled was never billed again: everything billed twice was lost in a kill.
        assert endpoint.stats()["billed_twice"] == billed - n
        assert billed - n <= kills * 1.5 * concurrency
        spend = ledger.spend(str(DAY), "j")
        assert spend.reserved == 0


@pytest.mark.slow
def test_a_run_does_not_wait_for_a_dead_one(tmp_path: Path) -> None:
    endpoint = FakeEndpoint(Plan(latency_ms=50))
    with serving_fake(endpoint) as url:
        first, second = (start(url, tmp_path / "ledger.sqlite", 1500, {}) for _ in range(2))
        time.sleep(1.2)
        first.kill()
        first.communicate()
        assert second.communicate(timeout=60)[0].splitlines()[-1] == "1500 None"
    with open_ledger(tmp_path / "ledger.sqlite", {}) as ledger:
        assert (ledger.count("responses"), ledger.count("claims"), ledger.spend(str(DAY), "j").reserved) == (1500, 0, 0)


@pytest.mark.slow
def test_two_processes_share_the_work(tmp_path: Path) -> None:
    endpoint = FakeEndpoint(Plan(latency_ms=50))
    n = 3000
    with serving_fake(endpoint) as url:
        processes = [start(url, tmp_path / "ledger.sqlite", n, {}) for _ in range(2)]
        for process in processes:
            out, _ = process.communicate(timeout=120)
            assert out.splitlines()[-1] == f"{n} None"
    stats = endpoint.stats()
    assert (stats["billed"], stats["billed_twice"]) == (n, 0)
    assert stats["most_in_flight"] > 40  # both asked
    with open_ledger(tmp_path / "ledger.sqlite", {}) as ledger:
        assert (ledger.count("responses"), ledger.count("claims")) == (n, 0)
        assert ledger.spend(str(DAY), "j").reserved == 0
