"""Outcomes, the engine against a real local endpoint, the ledger, the baseline judge."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from moderation_pipelines.scoring.baseline import BaselineModel, training_set
from moderation_pipelines.scoring.baseline_server import BaselineApp, serving
from moderation_pipelines.scoring.engine import EndpointStop, Request, retry_after_seconds, score_requests
from moderation_pipelines.scoring.judges import Endpoint, Judge, Price
from moderation_pipelines.scoring.ledger import Ledger, Settled, request_key
from moderation_pipelines.scoring.outcomes import LabelSet, classify
from moderation_pipelines.scoring.scores import request_body
from moderation_pipelines_tests.conftest import SmallHome

LABELS = LabelSet(("fine", "bad"), frozenset({"bad"}))
DAY = date(2026, 3, 2)


def completion(content: Any, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
    choice.update({k: more.pop(k) for k in ("finish_reason", "logprobs") if k in more})
    choice["message"].update(more.pop("message", {}))
    return {"id": "x", "object": "chat.completion", "created": 0, "model": "m-1", "choices": [choice], **more}


@pytest.mark.parametrize(
    ("response", "outcome", "label", "p"),
    [
        (completion('{"label": "bad", "p_violating": 0.9, "rationale": "r"}'), "verdict", "bad", 0.9),
        (completion('```json\n{"label": "fine", "p_violating": 0.1}\n```'), "verdict", "fine", 0.1),
        (completion('Sure! {"label": "BAD"} Hope it helps.'), "verdict", "bad", None),
        (completion("Label: bad"), "verdict", "bad", None),
        (completion('"fine".'), "verdict", "fine", None),
        (completion('{"label": "bad", "p_violating": 7}'), "verdict", "bad", None),
        (completion('{"label": "bad", "p_violating": true}'), "verdict", "bad", None),
        (completion('{"label": "awful", "p_violating": 0.9}'), "parse_error", None, None),
        (completion("It could be fine or bad."), "parse_error", None, None),
        (completion('{"label": "fine"} or {"label": "bad"}'), "parse_error", None, None),
        (completion('<think>maybe {"label": "fine"}</think>{"label": "bad", "p_violating": 1}'), "verdict", "bad", 1.0),
        (completion('{"label": "bad", "p_violating": 1' + "0" * 400 + "}"), "verdict", "bad", None),
        (completion('{"label": "fine"}', finish_reason="error"), "api_error", None, None),
        ({"error": {"code": 502}}, "api_error", None, None),
        ({"choices": [{"message": "hello"}]}, "parse_error", None, None),
        (completion(""), "parse_error", None, None),
        (completion(None), "parse_error", None, None),
        ({"choices": []}, "parse_error", None, None),
        (completion("I'm sorry, I can't help with that."), "refusal", None, None),
        (completion(None, message={"refusal": "no"}), "refusal", None, None),
        # Truncated output can be valid JSON: the finish reason is looked at first.
        (completion('{"label": "bad"}', finish_reason="length"), "truncated", None, None),
        (completion('{"label": "bad"}', finish_reason="content_filter"), "content_filter", None, None),
    ],
)
def test_each_answer_is_one_outcome(response: dict[str, Any], outcome: str, label: str | None, p: float | None) -> None:
    verdict = classify(response, LABELS)
    assert (verdict.outcome, verdict.label, verdict.p_violating) == (outcome, label, p)
    assert (verdict.error is None) == (outcome == "verdict")


def token(text: str, **alternatives: float) -> dict[str, Any]:
    tops = [{"token": t, "logprob": math.log(p)} for t, p in alternatives.items()]
    return {"token": text, "logprob": -0.1, "top_logprobs": tops}


def test_probability_comes_from_the_token_that_decides_the_label() -> None:
    tokens = [token('{"label'), token('": "'), token("bad", bad=0.6, fine=0.2, ba=0.1, other=0.05), token('"}')]
    response = completion('{"label": "bad"}', logprobs={"content": tokens})
    verdict = classify(response, LABELS)
    # bad and ba can only become «bad»: 0.7 against 0.2 for fine; other fits neither.
    assert verdict.p_violating == pytest.approx(0.7 / 0.9)
    assert verdict.p_source == "logprobs"


def test_a_shared_beginning_is_decided_by_the_next_token() -> None:
    labels = LabelSet(("none", "nonsense"), frozenset({"nonsense"}))
    tokens = [token('{"label": "'), token("non", non=1.0), token("e", e=0.75, sense=0.25), token('"}')]
    verdict = classify(completion('{"label": "none"}', logprobs={"content": tokens}), labels)
    assert verdict.p_violating == pytest.approx(0.25)


class Scripted:
    """An endpoint that answers each request by a function of (item number, attempt); it counts what it is asked."""

    def __init__(self, answer: Callable[[str, int], tuple[int, Any, dict[str, str]]]) -> None:
        self.answer, self.asked, self.bodies, self.times = answer, {}, [], []  # type: ignore[var-annotated]

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        body = b""
        while True:
            event = await receive()
            body += event.get("body", b"")
            if not event.get("more_body"):
                break
        asked = json.loads(body)
        name = asked["messages"][-1]["content"]
        self.asked[name] = self.asked.get(name, 0) + 1
        self.bodies.append((dict(scope["headers"]), asked))
        self.times.append(time.monotonic())
        status, answer, headers = self.answer(name, self.asked[name])
        if answer == "hang":
            import asyncio

            await asyncio.sleep(3)
        payload = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        head = [(b"content-type", b"application/json"), *((k.encode(), v.encode()) for k, v in headers.items())]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": payload})


def requests(*names: str) -> list[Request]:
    bodies = [{"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": n}]} for n in names]
    return [Request(request_key("here", b, LABELS), b, LABELS) for b in bodies]


@contextmanager
def running(app: Scripted, tmp_path: Path, **more: Any) -> Iterator[tuple[Endpoint, Ledger]]:
    with serving(app) as url, Ledger(tmp_path / "ledger.sqlite") as ledger:
        yield Endpoint(base_url=url, **{"timeout_seconds": 1.0, "concurrency": 4, "max_attempts": 2, **more}), ledger


def good(_: str = "", __: int = 1) -> tuple[int, Any, dict[str, str]]:
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 40}}
    return 200, completion('{"label": "bad", "p_violating": 0.8, "rationale": "r"}', usage=usage), {}


def test_every_outcome_from_a_real_endpoint(tmp_path: Path) -> None:
    said: dict[str, tuple[int, Any, dict[str, str]]] = {
        "verdict": good(),
        "refusal": (200, completion("I can't help with that."), {}),
        "content_filter": (400, {"error": {"code": "content_filter", "message": "filtered"}}, {}),
        "parse_error": (200, completion("hm"), {}),
        "truncated": (200, completion('{"la', finish_reason="length"), {}),
        "timeout": (200, "hang", {}),
        "api_error": (500, {"error": {"message": "down"}}, {}),
        "garbage": (200, b"<html>not json", {}),
    }
    app = Scripted(lambda name, _: said[name])
    asked = requests(*said)
    with running(app, tmp_path) as (endpoint, ledger):
        settled = score_requests(asked, endpoint, ledger, DAY)
        got = {n: settled[r.key].outcome for n, r in zip(said, asked, strict=True)}
        assert got == {**{n: n for n in said}, "garbage": "api_error"}
        for n, r in zip(said, asked, strict=True):
            assert (settled[r.key].label is not None) == (n == "verdict")
        first = settled[asked[0].key]
        assert (first.input_tokens, first.cached_tokens, first.output_tokens, first.model_returned) == (
            100,
            40,
            10,
            "m-1",
        )
        # A content filter is an answer: asked once. A failing server is asked as often as allowed.
        assert (app.asked["content_filter"], app.asked["api_error"], app.asked["timeout"]) == (1, 2, 2)
        # Asked again: answers come from the ledger, errors are asked anew.
        before = dict(app.asked)
        score_requests(asked, endpoint, ledger, DAY)
        new = {n for n in said if app.asked[n] > before[n]}
        assert new == {"timeout", "api_error", "garbage"}


def test_a_rate_limit_is_waited_out(tmp_path: Path) -> None:
    app = Scripted(
        lambda _, attempt: (429, {"error": {"message": "slow down"}}, {"retry-after": "1"}) if attempt == 1 else good()
    )
    with running(app, tmp_path, max_attempts=3) as (endpoint, ledger):
        settled = score_requests(requests("a"), endpoint, ledger, DAY)
    assert [(s.outcome, s.attempts) for s in settled.values()] == [("verdict", 2)]
    assert app.times[1] - app.times[0] >= 1.0


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [(401, "invalid_api_key", "401: the key is not accepted; check MY_KEY"), (404, "model_not_found", "no such address or model"),
     (429, "insufficient_quota", "the quota is used up")],
)  # fmt: skip
def test_an_endpoint_that_refuses_everything_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, code: str, said: str
) -> None:
    monkeypatch.setenv("MY_KEY", "secret-key")
    app = Scripted(lambda *_: (status, {"error": {"code": code, "message": "no"}}, {}))
    with (
        running(app, tmp_path, api_key_env="MY_KEY", concurrency=1) as (endpoint, ledger),
        pytest.raises(EndpointStop, match=said) as caught,
    ):
        score_requests(requests(*"abcdefgh"), endpoint, ledger, DAY)
    assert "secret-key" not in str(caught.value)
    assert sum(app.asked.values()) == 1
    assert app.bodies[0][0][b"authorization"] == b"Bearer secret-key"


def test_a_missing_key_is_named_before_anything_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    app = Scripted(good)
    with (
        running(app, tmp_path, api_key_env="MY_KEY") as (endpoint, ledger),
        pytest.raises(EndpointStop, match="MY_KEY is not set"),
    ):
        score_requests(requests("a"), endpoint, ledger, DAY)
    assert app.asked == {}


PRICE = Price(input_usd_per_million=1e6, output_usd_per_million=1e6)


def test_a_budget_is_never_crossed(tmp_path: Path) -> None:
    # Each call may cost at most (1 + 100) read and 10 written tokens at 1 $ per token: 111 $; it does cost 100 + 10.
    app = Scripted(good)
    with running(app, tmp_path, concurrency=3) as (endpoint, ledger):
        settled = score_requests(requests(*"abcdef"), endpoint, ledger, DAY, PRICE, budget_usd=335.0, account="j")
        outcomes = sorted(s.outcome for s in settled.values())
        assert outcomes == ["over_budget"] * 3 + ["verdict"] * 3
        assert sum(s.cost_usd or 0 for s in settled.values()) == pytest.approx(330.0)
        # Another run on the same day goes on from what was spent; another day, or another judge, starts anew.
        again = score_requests(requests(*"abcdef"), endpoint, ledger, DAY, PRICE, budget_usd=335.0, account="j")
        assert sorted(s.outcome for s in again.values()) == outcomes
        assert sum(app.asked.values()) == 3
        other = score_requests(requests("f"), endpoint, ledger, DAY, PRICE, budget_usd=335.0, account="k")
        assert [s.outcome for s in other.values()] == ["verdict"]


def test_retries_that_may_be_billed_count_against_the_budget(tmp_path: Path) -> None:
    app = Scripted(lambda *_: (200, "hang", {}))
    with running(app, tmp_path, timeout_seconds=0.2, max_attempts=4, concurrency=1) as (endpoint, ledger):
        settled = score_requests(requests("a"), endpoint, ledger, DAY, PRICE, budget_usd=230.0, account="j")
        assert ledger.spent(str(DAY), "j") == pytest.approx(222.0)
    # Two holds of 111 $ fit into 230 $, a third does not.
    assert (app.asked["a"], [s.outcome for s in settled.values()]) == (2, ["timeout"])


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ((200, [], {}), "api_error"),
        ((200, b"[" * 200_000, {}), "api_error"),
        ((200, {"error": {"code": 502, "message": "upstream"}}, {}), "api_error"),
        ((429, {"error": {"message": "x"}}, {"retry-after": "Mon, 02 Mar 2020 00:00:00 -0000"}), "api_error"),
        ((400, {"error": {"code": {"deep": 1}, "message": "x"}}, {}), "api_error"),
        ((200, completion('{"label": "bad", "rationale": "\\ud83d"}'), {}), "verdict"),
        ((200, completion('{"label": "bad"}', usage={"prompt_tokens": 10**30, "completion_tokens": 1}), {}), "verdict"),
        ((200, completion('{"label": "bad"}', model="m" * 5000), {}), "verdict"),
    ],
)
def test_an_odd_answer_settles_its_item_and_no_other(
    tmp_path: Path, answer: tuple[int, Any, dict[str, str]], outcome: str
) -> None:
    app = Scripted(lambda name, _: answer if name == "odd" else good())
    asked = requests("odd", "a", "b")
    with running(app, tmp_path, max_attempts=1) as (endpoint, ledger):
        settled = score_requests(asked, endpoint, ledger, DAY)
    assert [settled[r.key].outcome for r in asked] == [outcome, "verdict", "verdict"]
    assert settled[asked[0].key].attempts == 1


def test_a_slow_body_is_a_timeout_and_no_proxy_sees_loopback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    app = Scripted(lambda name, _: (200, "hang", {}) if name == "slow" else good())
    asked = requests("slow", "quick")
    with running(app, tmp_path, timeout_seconds=0.3, max_attempts=1) as (endpoint, ledger):
        settled = score_requests(asked, endpoint, ledger, DAY)
    assert [settled[r.key].outcome for r in asked] == ["timeout", "verdict"]


def test_the_identity_of_a_request_covers_whom_is_asked_and_how_the_answer_is_read() -> None:
    body = {"model": "m", "messages": []}
    base = request_key("a", body, LABELS)
    assert request_key("a", dict(reversed(body.items())), LABELS) == base
    assert len({base, request_key("b", body, LABELS), request_key("a", {**body, "model": "n"}, LABELS)}) == 3
    assert request_key("a", body, LabelSet(("fine", "bad"), frozenset({"fine"}))) != base


def test_concurrency_is_bounded_and_every_request_settles_once(tmp_path: Path) -> None:
    app = Scripted(good)
    names = [f"i{k}" for k in range(60)]
    heard: list[int] = []
    with running(app, tmp_path, concurrency=5) as (endpoint, ledger):
        settled = score_requests(requests(*names, *names), endpoint, ledger, DAY, progress=heard.append)
    assert len(settled) == 60
    assert set(app.asked.values()) == {1}
    assert sum(heard) == 60


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Mon, 02 Mar 2026 00:00:30 GMT"}, 30.0),
        ({"retry-after": "Mon, 02 Mar 2026 00:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(headers, datetime(2026, 3, 2, tzinfo=UTC)) == seconds


def test_the_ledger_keeps_answers_not_errors_and_the_first_one_stays(tmp_path: Path) -> None:
    def settled(outcome: str) -> Settled:
        return Settled(outcome, None, None, None, None, None, None, None, None, None, None, 1.0, 1, "2026-03-02", "t")

    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.keep([("aa" * 16, settled("refusal")), ("bb" * 16, settled("timeout"))])
        ledger.keep([("aa" * 16, settled("parse_error"))])
    with Ledger(tmp_path / "l.sqlite") as ledger:
        known = ledger.known(["aa" * 16, "bb" * 16, "cc" * 16])
    assert {k[:2]: s.outcome for k, s in known.items()} == {"aa": "refusal"}


def test_the_body_asks_for_what_the_endpoint_can(small: SmallHome) -> None:
    from moderation_pipelines.prompting.prompts import load_prompt

    prompt = load_prompt(small.home, small.policies["harassment"])
    judge = Judge(endpoint="e", model="m", max_tokens=50)
    able = Endpoint(
        base_url="http://127.0.0.1/v1",
        json_schema=True,
        logprobs=True,
        seed=True,
        max_tokens_field="max_completion_tokens",
    )
    body = request_body(judge, able, prompt, LABELS, "the item", None)
    assert body["response_format"]["json_schema"]["schema"]["properties"]["label"]["enum"] == ["fine", "bad"]
    assert (body["logprobs"], body["max_completion_tokens"], body["seed"]) == (True, 50, 0)
    plain = request_body(
        judge, Endpoint(base_url="http://127.0.0.1/v1", temperature=False), prompt, LABELS, "the item", None
    )
    assert set(plain) == {"model", "messages", "max_tokens"}
    # The constant part comes first and is the same for every item; the item comes last.
    assert plain["messages"][0]["content"] == prompt.system
    assert "the item" in plain["messages"][-1]["content"]


def training_rows(n: int) -> pl.DataFrame:
    rows = [
        (
            f"{k:064x}",
            f"you are a pest number {k}" if k % 3 == 0 else f"a lovely garden number {k}",
            "bad" if k % 3 == 0 else "fine",
            f"i{k}",
        )
        for k in range(n)
    ]
    return pl.DataFrame(rows, schema=["text_sha256", "text", "label", "item_id"], orient="row")


def test_the_baseline_learns_and_answers_through_the_client(small: SmallHome, tmp_path: Path) -> None:
    from moderation_pipelines.prompting.prompts import Prompt

    policy = small.policies["harassment"]
    training = training_set(training_rows(90), policy)
    assert training.model.startswith("baseline-ngram:harassment:")
    assert training_set(training_rows(90).reverse(), policy).digest == training.digest
    assert training_set(training_rows(91), policy).digest != training.digest
    model = BaselineModel(training)
    assert (model.answer("what a pest you are")[0], model.answer("my lovely garden")[0]) == ("bad", "fine")
    assert BaselineModel(training).answer("what a pest") == model.answer("what a pest")
    judge = Judge(endpoint="b", model=training.model, max_tokens=64)
    with serving(BaselineApp({training.model: model})) as url, Ledger(tmp_path / "l.sqlite") as ledger:
        endpoint = Endpoint(base_url=url)
        body = request_body(
            judge,
            endpoint,
            Prompt("harassment", "baseline-ngram", "Judge.", 0),
            LABELS,
            "what a pest",
            "earlier: garden",
        )
        request = Request(request_key("here", body, LABELS), body, LABELS)
        settled = score_requests([request], endpoint, ledger, DAY)[request.key]
    assert (settled.outcome, settled.label, settled.p_source) == ("verdict", "bad", "stated")
    assert settled.p_violating == pytest.approx(model.answer("what a pest")[1], abs=1e-6)


def test_too_little_to_learn_from_is_said(small: SmallHome) -> None:
    training = training_set(training_rows(6), small.policies["harassment"])
    assert training.why_not is not None
    assert "development side has 2 violating and 4 other" in training.why_not
