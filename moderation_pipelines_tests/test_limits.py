"""Rates, concurrency, breaker: with times by hand, no waiting."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation_pipelines.judging.calls.breaker import Breaker
from moderation_pipelines.judging.calls.limits import (
    Concurrency,
    LearntRate,
    TokenBucket,
    TokenEstimate,
    retry_after_seconds,
    span_seconds,
)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Mon, 02 Mar 2026 00:00:30 GMT"}, 30.0),
        ({"retry-after": "Mon, 02 Mar 2026 00:00:30 -0000"}, 30.0),
        ({"retry-after": "Mon, 02 Mar 2026 00:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_retry_after_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(headers, datetime(2026, 3, 2, tzinfo=UTC)) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360.0),
        ("20ms", 0.02),
        ("1h2m3.5s", 3723.5),
        ("3", 3.0),
        ("", None),
        ("soon", None),
        ("-1", None),
        (None, None),
    ],
)
def test_spans_as_rate_limit_headers_give_them(text: str | None, seconds: float | None) -> None:
    assert span_seconds(text) == (None if seconds is None else pytest.approx(seconds))


def test_a_bucket_by_hand() -> None:
    bucket = TokenBucket(2.0, 4.0, 0.0)
    bucket.take(4, 0.0)
    assert bucket.wait(1, 0.0) == pytest.approx(0.5)
    assert bucket.wait(1, 0.5) == 0.0
    bucket.take(1, 0.5)
    bucket.refund(-2, 0.5)  # an estimate that was too small is owed
    assert bucket.wait(1, 0.5) == pytest.approx(1.5)
    # More than it ever holds is let through when it is full.
    assert bucket.wait(100, 0.5) == pytest.approx(3.0)
    # A clock that goes back gives nothing and takes nothing.
    level = bucket.wait(1, 0.5)
    assert bucket.wait(1, 0.4) == pytest.approx(level)


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0.1, 5)), max_size=60), st.floats(0.5, 20), st.floats(1, 10))
def test_a_bucket_never_gives_more_than_rate_and_burst(
    steps: list[tuple[float, float]], rate: float, burst: float
) -> None:
    bucket, now, taken = TokenBucket(rate, burst, 0.0), 0.0, 0.0
    for pause, amount in steps:
        now += pause
        amount = min(amount, burst)
        if bucket.wait(amount, now) == 0:
            bucket.take(amount, now)
            taken += amount
        assert taken <= burst + rate * now + 1e-6


def test_concurrency_is_halved_once_per_pause_and_grows_by_one_a_round() -> None:
    c = Concurrency(16)
    c.in_flight = 16
    assert c.refused(2.0, 0.0)
    assert not c.refused(2.0, 1.0)
    assert c.limit == 8
    c.in_flight = 8
    for _ in range(8):
        c.succeeded()
    assert c.limit == pytest.approx(9, abs=0.1)
    assert c.refused(2.0, 2.1)
    c.restore()
    assert c.limit == 16


def test_a_learnt_rate_settles_below_an_unknown_limit() -> None:
    # An endpoint lets 50 calls a second through; the caller asks every 5 ms if it may.
    learnt, endpoint = LearntRate(), TokenBucket(50.0, 50.0, 0.0)
    asked = refused = passed = 0
    for step in range(60 * 200):
        now = step * 0.005
        if learnt.bucket is not None:
            if learnt.bucket.wait(1, now) > 0:
                continue
            learnt.bucket.take(1, now)
        late = now > 30
        asked += late
        if endpoint.wait(1, now) > 0:
            refused += late
            learnt.refused(0.0, now)
        else:
            endpoint.take(1, now)
            passed += late
            learnt.passed(now)
    assert refused / asked <= 0.10
    assert passed >= 0.75 * 50 * 30


def test_single_refusals_teach_no_rate() -> None:
    learnt = LearntRate()
    for k in range(1000):
        if k % 50 == 0:
            learnt.refused(0.0, k * 0.01)
        learnt.passed(k * 0.01)
    assert learnt.bucket is None


def test_an_estimate_learns_from_what_was_billed() -> None:
    estimate = TokenEstimate()
    for _ in range(200):
        estimate.learn(1000, 500)
    assert estimate.of(1000) == pytest.approx(500, rel=0.01)


# The breaker


def test_alternating_failures_open_it() -> None:
    breaker = Breaker(5.0)
    for k in range(20):
        (breaker.failed if k % 2 else breaker.succeeded)(k * 0.1, False)
    assert breaker.state == "open"


def test_few_failures_among_many_answers_do_not() -> None:
    breaker = Breaker(5.0)
    for k in range(300):
        (breaker.failed if k % 3 == 0 else breaker.succeeded)(k * 0.01, False)
    assert breaker.state == "closed"


def opened() -> Breaker:
    breaker = Breaker(5.0)
    for _ in range(10):
        breaker.failed(0.0, False)
    assert breaker.state == "open"
    return breaker


def test_exactly_one_probe_when_half_open() -> None:
    breaker = opened()
    assert not breaker.may_go(4.9)
    assert [breaker.may_go(5.0 + k) for k in range(100)] == [True] + [False] * 99
    # An answer to a call from before the outage is no probe.
    assert not breaker.succeeded(6.0, probe=False)
    assert breaker.state == "half_open"
    assert breaker.failed(7.0, probe=True)
    assert not breaker.may_go(11.9)
    assert breaker.may_go(12.0)
    assert breaker.succeeded(12.1, probe=True)
    assert breaker.state == "closed"
    assert breaker.down_for(13.0) == 0.0
    assert breaker.probes == 2


def test_a_probe_that_was_cancelled_makes_room_for_the_next() -> None:
    breaker = opened()
    assert breaker.may_go(5.0)
    breaker.cancelled(True, 5.5)
    assert breaker.may_go(5.5)


def test_old_failures_are_forgotten() -> None:
    breaker = Breaker(5.0, seconds=30)
    for _ in range(9):
        breaker.failed(0.0, False)
    breaker.failed(31.0, False)
    assert breaker.state == "closed"


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 2)), max_size=200))
def test_never_two_probes_at_once(results: list[tuple[bool, float]]) -> None:
    breaker, now, out = Breaker(1.0), 0.0, False
    for good, pause in results:
        now += pause
        granted = breaker.may_go(now)
        probe = granted and breaker.state == "half_open"
        assert not (probe and out)
        out = out or probe
        if granted:
            (breaker.succeeded if good else breaker.failed)(now, probe)
            out = out and not probe
