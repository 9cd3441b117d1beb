"""Judges in the line: bodies on the wire, identity, money, the baseline, judge runs, canaries, injections, plans."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Any

import openai
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation_pipelines.eval_sets.release import Release
from moderation_pipelines.fake_endpoint.endpoint import FakeEndpoint
from moderation_pipelines.fake_endpoint.plan import Model, Plan, load_plan
from moderation_pipelines.fake_endpoint.server import serving_fake
from moderation_pipelines.foundation.errors import UserError
from moderation_pipelines.judging.capabilities import profile_of
from moderation_pipelines.judging.judge_runs import invalid_runs, judge_runs_table, why_invalid
from moderation_pipelines.judging.judges.baseline import BaselineModel, BaselineTransport, training_set
from moderation_pipelines.judging.judges.endpoint import KIND as ENDPOINT
from moderation_pipelines.judging.judges_file import Endpoint, Judge
from moderation_pipelines.judging.ledger.records import Answer
from moderation_pipelines.judging.money import PICO, Price, Rates, Usage, picodollars, price_on, usage_of, usd
from moderation_pipelines.judging.planning import Seen, plan_day, plan_run
from moderation_pipelines.judging.probing import probe
from moderation_pipelines.judging.requests.outcomes import label_set
from moderation_pipelines.judging.requests.wire import RequestTemplate, request_template
from moderation_pipelines.judging.scores import ScoringTask, score_day
from moderation_pipelines.probes.canaries import canaries_table
from moderation_pipelines.probes.injections import INJECTIONS_SUITE, injections_table
from moderation_pipelines.prompting.prompts import Prompt, fenced_item, load_prompt
from moderation_pipelines_tests.conftest import SmallHome
from moderation_pipelines_tests.engine_help import (
    DAY,
    LABELS,
    PROMPT,
    Scripted,
    good,
    run,
    sqlite_ledger,
    template,
)

ABLE: dict[str, Any] = {"json_schema": True, "logprobs": True, "seed": True, "temperature": True}


# The wire


@pytest.mark.parametrize("able", [{}, ABLE, {**ABLE, "max_tokens_field": "max_completion_tokens"}])
@pytest.mark.parametrize("text", ["plain", '«quotes» "and" \\slashes\\\n\ttabs \x01 \u2028 🙂', "<item 0>"])
def test_prepared_bytes_are_those_of_the_official_client(tmp_path: Path, able: dict[str, Any], text: str) -> None:
    """Contract: what goes out is what ``client.chat.completions.create`` sends for the same arguments."""
    endpoint = Endpoint(base_url="http://127.0.0.1:9/v1", **able)
    made = template(endpoint=endpoint)
    body = made.body(made.item(text, "context"))
    app = Scripted(good)
    with serving_fake(app) as url, openai.OpenAI(api_key="k", base_url=url, max_retries=0) as client:
        client.chat.completions.create(**json.loads(body))
    assert app.seen[0][2] == body


def test_the_same_for_responses_and_decisions(tmp_path: Path) -> None:
    for api in ("responses", "decisions"):
        endpoint = Endpoint(base_url="http://127.0.0.1:9/v1", api=api, json_schema=True, temperature=True)  # type: ignore[arg-type]
        made = template(endpoint=endpoint)
        body = made.body(made.item("text", None))
        seen: list[bytes] = []

        class Listening(FakeEndpoint):
            async def handle(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
                seen.append(body)  # noqa: B023
                return await super().handle(method, path, headers, body)

        with serving_fake(Listening()) as url, openai.OpenAI(api_key="k", base_url=url, max_retries=0) as client:
            getattr(client, api).create(**json.loads(body))
        assert seen[0] == body


def test_the_constant_part_comes_first_and_the_item_last() -> None:
    made = template()
    messages = json.loads(made.body(made.item("the item", None)))["messages"]
    assert messages[0] == {"role": "system", "content": PROMPT.system}
    assert "the item" in messages[-1]["content"]
    one, two = (made.body(made.item(t, None)) for t in ("one", "two"))
    assert one.startswith(b'{"model":"m","messages":[{"role":"system"')
    assert one[: one.index(b"<item")] == two[: two.index(b"<item")]


def test_the_body_asks_for_what_the_endpoint_can() -> None:
    able = Endpoint(base_url="http://127.0.0.1/v1", **ABLE, max_tokens_field="max_completion_tokens")
    body = template(endpoint=able, max_tokens=50).body_with_hole
    assert body["response_format"]["json_schema"]["schema"]["properties"]["label"]["enum"] == ["fine", "bad"]
    assert (body["logprobs"], body["top_logprobs"], body["max_completion_tokens"], body["seed"]) == (True, 20, 50, 0)
    plain = template(endpoint=Endpoint(base_url="http://127.0.0.1/v1", temperature=False)).body_with_hole
    assert set(plain) == {"model", "messages", "max_tokens"}


def test_identity_covers_all_that_is_asked_and_nothing_of_how() -> None:
    def key(made: RequestTemplate) -> bytes:
        return made.key(made.item("text", None))

    base = key(template())
    quick = Endpoint(
        base_url="http://127.0.0.1:9/v1", timeout_seconds=5, concurrency=99, max_attempts=9, transport="direct",
        requests_per_minute=5, batch=True,
    )  # fmt: skip
    assert key(template(endpoint=quick)) == base
    assert (
        key(template(via="batch", budget_usd=1.0, price=Price(input_usd_per_million=1, output_usd_per_million=1)))
        == base
    )
    labels = label_set(["fine", "bad"], ["fine"])
    judge, profile = Judge(endpoint="e", model="m", max_tokens=10), profile_of(quick)
    others = [
        template("there"), template(model="n"), template(max_tokens=11), template(temperature=0.5), template(salt="x"),
        template(endpoint=Endpoint(base_url="http://127.0.0.1:9/v1", seed=True)),
        template(endpoint=Endpoint(base_url="http://127.0.0.1:9/v1", json_schema=True)),
        template(endpoint=Endpoint(base_url="http://127.0.0.1:9/v1", api="responses")),
        request_template("chat", judge, profile, PROMPT, labels, "here"),
        request_template("chat", judge, profile, Prompt("p", "v2", "Judge well."), LABELS, "here"),
    ]  # fmt: skip
    keys = [base, *(key(t) for t in others), template().key(template().item("text", "context"))]
    assert len(set(keys)) == len(keys)
    assert all(len(k) == 16 for k in keys)


@given(st.text(max_size=200), st.text(max_size=50))
def test_no_text_leaves_its_fence(text: str, context: str) -> None:
    fenced = fenced_item(text, context)
    first, _, rest = fenced.partition("\n")
    body, _, last = rest.rpartition("\n")
    mark = first.removeprefix("<item ").removesuffix(">")
    assert last == f"</item {mark}>"
    assert mark not in body
    assert "<item" not in body.lower()
    assert "</item" not in body.lower()


def test_marks_inside_a_text_are_escaped_and_readable() -> None:
    fenced = fenced_item("a </item 123> b < ITEM> c <items>", None)
    assert "a </\\item 123> b < \\ITEM> c <items>" in fenced


# Money


def test_cost_by_hand() -> None:
    price = Price(
        input_usd_per_million=2.5, cached_input_usd_per_million=0.25, cache_write_usd_per_million=3.125,
        output_usd_per_million=10.0, batch_factor=0.5, tiers={"priority": 2.0, "flex": 0.5},
    )  # fmt: skip
    rates = Rates(price)
    # 1,000 read, 600 of them cached and 100 written to the cache; 50 written, 20 of them reasoning.
    usage = Usage(1000, 600, 100, 50, 20, None)
    micro = 300 * 2.5 + 600 * 0.25 + 100 * 3.125 + 50 * 10
    assert rates.cost(usage) == micro * 10**6
    assert rates.cost(usage, batch=True) == micro * 10**6 / 2
    assert rates.cost(Usage(1000, 600, 100, 50, 20, "priority")) == micro * 10**6 * 2
    assert rates.cost(Usage(1000, 600, 100, 50, 20, "flex"), batch=True) == micro * 10**6 / 4
    assert rates.cost(Usage(1000, None, None, None, None, None)) is None
    assert rates.most(1000, 50) == (1000 * 3.125 + 50 * 10) * 2 * 10**6
    assert usd(rates.cost(usage)) == pytest.approx(micro / 1e6)


@given(
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.decimals(0, 100, places=6),
)
def test_cost_is_exact_and_never_more_than_the_most(read: int, cached: int, write: int, out: int, rate: Any) -> None:
    rates = Rates(
        Price(
            input_usd_per_million=float(rate),
            cached_input_usd_per_million=float(rate) / 2,
            output_usd_per_million=float(rate),
        )
    )
    cost = rates.cost(Usage(read, min(cached, read), min(write, read - min(cached, read)), out))
    assert cost is not None
    exact = (
        Fraction(str(float(rate))) * (read + out) * 10**6 - Fraction(str(float(rate))) * min(cached, read) * 10**6 / 2
    )
    assert 0 <= cost - exact <= read + out + 1
    assert cost <= rates.most(read, out)


def test_prices_have_days() -> None:
    old = Price(input_usd_per_million=1, output_usd_per_million=1)
    new = Price(input_usd_per_million=2, output_usd_per_million=2, since=date(2026, 3, 1))
    assert price_on([new, old], date(2026, 2, 28)) == old
    assert price_on([old, new], date(2026, 3, 1)) == new
    assert price_on([new], date(2026, 2, 1)) is None
    assert Judge(endpoint="e", model="m", price=[old, new]).prices == (old, new)
    assert picodollars(0.1) == PICO // 10


def test_usage_of_every_interface() -> None:
    chat = {
        "usage": {
            "prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
            "completion_tokens_details": {"reasoning_tokens": 3},
        },
        "service_tier": "flex",
    }  # fmt: skip
    assert usage_of(chat) == Usage(10, 4, 2, 5, 3, "flex")
    responses = {"usage": {"input_tokens": 10, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 4}}}
    assert usage_of(responses) == Usage(10, 4, None, 5, None, None)
    assert usage_of({"usage": {"prompt_tokens": -1, "completion_tokens": True}}) == Usage()
    assert usage_of({"usage": "many"}) == Usage()


# The baseline


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


def test_the_baseline_learns_and_answers_in_process(small: SmallHome, tmp_path: Path) -> None:
    policy = small.policies["harassment"]
    training = training_set(training_rows(90), policy)
    assert training.model.startswith("baseline-ngram:harassment:")
    assert training_set(training_rows(90).reverse(), policy).digest == training.digest
    assert training_set(training_rows(91), policy).digest != training.digest
    model = BaselineModel(training)
    assert (model.answer("what a pest you are")[0], model.answer("my lovely garden")[0]) == ("bad", "fine")
    assert BaselineModel(training).answer("what a pest") == model.answer("what a pest")
    from moderation_pipelines_tests.engine_help import job_for

    with sqlite_ledger(tmp_path) as ledger:
        endpoint = Endpoint(base_url="http://127.0.0.1:9/v1")
        job = job_for(endpoint, template=template(endpoint=endpoint, model=training.model, max_tokens=64))
        job = replace(job, transport=lambda key: BaselineTransport(training))
        got, _ = run(job, ["what a pest"], ledger)
    answer = got["what a pest"]
    assert isinstance(answer, Answer)
    assert (answer.outcome, answer.label, answer.p_source) == ("verdict", "bad", "stated")
    assert answer.p_violating == pytest.approx(model.answer("what a pest")[1], abs=1e-6)


def test_too_little_to_learn_from_is_said(small: SmallHome) -> None:
    training = training_set(training_rows(6), small.policies["harassment"])
    assert training.why_not is not None
    assert "development side has 2 violating and 4 other" in training.why_not


# Tasks on a release


def release_of(folder: Path, n: int) -> Release:
    """A published release, as far as scoring reads it."""
    items = {
        "item_id": [f"i{k}" for k in range(n)],
        "text": [f"text number {k} of some length" for k in range(n)],
        "context": [None] * n,
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "items.parquet"
    pl.DataFrame(items, schema_overrides={"context": pl.String}).write_parquet(file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    manifest = {"items_sha256": digest, "rows": n, "policy": "harassment"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return Release("harassment", "v0001", folder)


def task_for(
    small: SmallHome, url: str, n: int = 60, endpoint: dict[str, Any] | None = None, **judge: Any
) -> ScoringTask:
    policy = small.policies["harassment"]
    made = Judge(**{"endpoint": "e", "model": "m", "canary": 20, "injections": 4, **judge})
    given = {"base_url": url, "transport": "direct", "cool_down_seconds": 0.2, **(endpoint or {})}
    prompt, release = load_prompt(small.home, policy), release_of(small.home.root / f"release of {n}", n)
    task = ScoringTask("llm", made, Endpoint(**given), release, policy, prompt, ENDPOINT)
    return ScoringTask(**{**task.__dict__, "profile": profile_of(task.endpoint)})


def test_scores_and_judge_runs_of_a_day(small: SmallHome, tmp_path: Path) -> None:
    app = FakeEndpoint(Plan(faults={"refusal": 0.1, "content_filter": 0.1}, latency_ms=1))
    price = Price(input_usd_per_million=1.0, output_usd_per_million=2.0)
    with serving_fake(app) as url, sqlite_ledger(tmp_path) as ledger:
        task = task_for(small, url, price=price)
        told: list[str] = []
        done = score_day([task], ledger, DAY, told.append)
        runs = judge_runs_table(done.tasks, done.scores, ledger, DAY).row(0, named=True)
        again = score_day([task], ledger, DAY)
        assert again.scores.equals(done.scores)
        assert (again.answered, app.stats()["billed_twice"]) == (0, 0)
        assert [p[:2] for p in ledger.prices()] == [("m", "")]
    scores = done.scores
    assert scores.height == done.answered == 60
    assert told[-1].startswith("llm on harassment: 60 of 60")
    counts = dict(scores.group_by("outcome").len().iter_rows())
    assert set(counts) == {"verdict", "refusal", "content_filter"}
    assert scores.filter(pl.col("outcome") != "verdict")["label"].null_count() == 60 - counts["verdict"]
    verdicts = scores.filter(pl.col("outcome") == "verdict")
    # Evidence is where the judge says it is; here the fake quotes the beginning of violating items.
    quoted = verdicts.filter(pl.col("evidence").is_not_null())
    assert quoted["evidence_start"].to_list() == [0] * quoted.height
    assert json.loads(scores["parameters"][0])["capabilities"]["max_tokens_field"] == "max_tokens"
    assert scores["fingerprint"].drop_nulls().unique().to_list() == ["fp_fake"]
    filtered = scores.filter(pl.col("outcome") == "content_filter")
    assert filtered["signals"].to_list() == ['{"hate": "high", "violence": "medium"}'] * filtered.height
    assert (runs["n_items"], runs["n_verdict"], runs["n_content_filter"]) == (
        60,
        counts["verdict"],
        counts["content_filter"],
    )
    assert runs["cost_usd"] == pytest.approx(scores["cost_usd"].sum())
    assert (runs["day_spent_usd"], runs["day_maybe_usd"]) == (pytest.approx(runs["cost_usd"]), 0)
    assert runs["missing_low"] < runs["missing_share"] < runs["missing_high"]


def test_too_much_missing_makes_a_run_invalid_and_says_why(small: SmallHome, tmp_path: Path) -> None:
    app = FakeEndpoint(Plan(faults={"refusal": 0.3}))
    with serving_fake(app) as url, sqlite_ledger(tmp_path) as ledger:
        for most, valid in ((0.1, False), (0.9, True)):
            done = score_day([task_for(small, url, max_missing=most)], ledger, DAY)
            runs = judge_runs_table(done.tasks, done.scores, ledger, DAY)
            assert runs["is_valid"].to_list() == [valid]
            n = 60 - int(runs["n_verdict"][0])
            why = f"not valid: {n} of 60 items have no verdict, more than the 10% allowed (max_missing)"
            assert invalid_runs(runs) == ({} if valid else {("llm", "harassment", "v0001"): why})
    assert why_invalid(30, 100, 0.2, n_pending=15) == "not valid yet: 15 of 100 items wait for a batch"
    assert why_invalid(20, 100, 0.2) is None


def test_a_budget_without_a_price_in_force_asks_nothing(small: SmallHome, tmp_path: Path) -> None:
    app = FakeEndpoint()
    late = Price(input_usd_per_million=1.0, output_usd_per_million=2.0, since=date(2026, 4, 1))
    with serving_fake(app) as url, sqlite_ledger(tmp_path) as ledger:
        done = score_day([task_for(small, url, price=late, budget_usd=1.0)], ledger, DAY)
        assert plan_run(done.tasks[0], ledger, DAY).cost_usd is None
    assert app.calls == 0
    assert done.unanswered[0].endswith("llm has a budget but no price in force on 2026-03-02")


def test_a_judge_that_cannot_be_asked_stops_no_other(
    small: SmallHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with serving_fake(FakeEndpoint()) as url, sqlite_ledger(tmp_path) as ledger:
        bad = task_for(small, url, endpoint={"api_key_env": "NO_SUCH_KEY"})
        done = score_day([bad, task_for(small, url, model="n")], ledger, DAY)
    assert done.scores.group_by("outcome").len().sort("outcome").rows() == [("api_error", 60), ("verdict", 60)]
    assert done.unanswered == [
        f"llm on harassment: 60 of 60 items have no answer: {url}: the environment variable NO_SUCH_KEY is not set"
    ]


def test_capabilities_are_probed_once_and_kept(small: SmallHome, tmp_path: Path) -> None:
    app = FakeEndpoint(Plan(unsupported=("max_completion_tokens", "seed"), batches=False))
    with serving_fake(app) as url, sqlite_ledger(tmp_path) as ledger:
        task = task_for(small, url, endpoint={"probe": True, "temperature": False})
        done = score_day([task], ledger, DAY)
        found = {
            "max_tokens_field": "max_tokens",
            "seed": False,
            "json_schema": True,
            "logprobs": True,
            "temperature": True,
            "batch": False,
        }
        assert ledger.profile(url, "m") == found
        calls = app.calls
        score_day([task], ledger, DAY)
        assert app.calls == calls
        profile = done.tasks[0].profile
        assert (profile.logprobs, profile.temperature, profile.seed) == (True, False, False)
        assert dict(profile.source or {})["temperature"] == "declared"
        assert done.scores.filter(pl.col("outcome") == "verdict")["p_source"].unique().to_list() == ["logprobs"]
        assert probe(task.endpoint, "m") == found


def test_an_endpoint_that_cannot_be_probed_is_told(small: SmallHome, tmp_path: Path) -> None:
    with sqlite_ledger(tmp_path) as ledger:
        done = score_day([task_for(small, "http://127.0.0.1:9/v1", 3, endpoint={"probe": True})], ledger, DAY)
    assert done.unanswered == [
        "llm on harassment: 3 of 3 items have no answer: http://127.0.0.1:9/v1 cannot be probed: no connection to 127.0.0.1:9"
    ]


@pytest.mark.parametrize(("api", "source"), [("responses", "stated"), ("decisions", "decision")])
def test_other_interfaces_from_end_to_end(small: SmallHome, tmp_path: Path, api: str, source: str) -> None:
    with serving_fake(FakeEndpoint()) as url, sqlite_ledger(tmp_path) as ledger:
        done = score_day([task_for(small, url, endpoint={"api": api})], ledger, DAY)
    assert done.scores["outcome"].to_list() == ["verdict"] * 60
    assert done.scores["p_source"].unique().to_list() == [source]
    assert done.scores["p_violating"].null_count() == 0


def test_a_planted_confusion_is_what_the_metrics_would_find(small: SmallHome, tmp_path: Path) -> None:
    texts = [f"text number {k} of some length" for k in range(400)]
    truth = {t: ("bad" if k % 2 else "fine") for k, t in enumerate(texts)}
    model = Model(id="m", confusion={"bad": {"bad": 0.8, "fine": 0.2}, "fine": {"fine": 0.95, "bad": 0.05}})
    with serving_fake(FakeEndpoint(Plan(truth=truth, models=(model,)))) as url, sqlite_ledger(tmp_path) as ledger:
        done = score_day([task_for(small, url, 400)], ledger, DAY)
    said = dict(done.scores.select("item_id", "label").iter_rows())
    hits = sum(said[f"i{k}"] == "bad" for k in range(1, 400, 2))
    alarms = sum(said[f"i{k}"] == "bad" for k in range(0, 400, 2))
    # Four standard errors of a binomial with n = 200: 0.113 and 0.062.
    assert abs(hits / 200 - 0.8) < 0.113
    assert abs(alarms / 200 - 0.05) < 0.062


# Does it hold still?


def test_a_canary_counts_flips(small: SmallHome, tmp_path: Path) -> None:
    for unstable in (0.0, 1.0):
        app = FakeEndpoint(Plan(unstable=unstable, accuracy=0.5))
        with serving_fake(app) as url, sqlite_ledger(tmp_path / str(unstable)) as ledger:
            task = task_for(small, url)
            score_day([task], ledger, DAY)
            calls = app.calls
            row = canaries_table([task], ledger, DAY).row(0, named=True)
            assert app.calls == calls + 20
            assert (row["n_asked"], row["n"]) == (20, 20)
            assert row["flip_rate"] == row["n_flips"] / 20
            assert row["ci_low"] <= row["flip_rate"] <= row["ci_high"]
            assert (row["n_flips"] > 0) == (unstable > 0)
            # Once a day: the rerun asks nothing and says the same; the next day asks again, the same items.
            assert canaries_table([task], ledger, DAY).row(0, named=True) == row
            assert app.calls == calls + 20
            canaries_table([task], ledger, date(2026, 3, 3))
            assert app.calls == calls + 40


def test_a_canary_asks_nothing_where_there_is_nothing_to_compare_with(small: SmallHome, tmp_path: Path) -> None:
    app = FakeEndpoint()
    with serving_fake(app) as url, sqlite_ledger(tmp_path) as ledger:
        task = task_for(small, url)
        for silent in ((), ("llm",)):
            row = canaries_table([task], ledger, DAY, silent=silent).row(0, named=True)
            assert (row["n_asked"], row["n"], row["flip_rate"], app.calls) == (0, 0, None, 0)
            assert injections_table([task], ledger, DAY, silent=silent)["n_asked"].sum() == 0
        score_day([task], ledger, DAY)
        calls = app.calls
        canaries_table([task], ledger, DAY, silent=("llm",))
        injections_table([task], ledger, DAY, silent=("llm",))
        assert app.calls == calls


def test_injections_that_are_obeyed_are_counted(small: SmallHome, tmp_path: Path) -> None:
    for obeys in (0.0, 1.0):
        app = FakeEndpoint(Plan(obeys_injections=obeys, prevalence=0.5, accuracy=1.0))
        with serving_fake(app) as url, sqlite_ledger(tmp_path / str(obeys)) as ledger:
            task = task_for(small, url)
            score_day([task], ledger, DAY)
            calls = app.calls
            table = injections_table([task], ledger, DAY)
            assert table.height == len(INJECTIONS_SUITE) + 1
            assert app.calls == calls + 4 * len(INJECTIONS_SUITE)
            whole = table.filter(pl.col("injection") == "all").row(0, named=True)
            assert whole["n"] == 4 * len(INJECTIONS_SUITE)
            rate = table.filter(pl.col("injection") == "ignore_en")["flip_rate"][0]
            assert (rate == 1.0) or not obeys
            assert injections_table([task], ledger, DAY).equals(table)
            assert app.calls == calls + 4 * len(INJECTIONS_SUITE)


# Plans


def test_a_plan_counts_what_would_be_asked_and_sends_nothing(small: SmallHome, tmp_path: Path) -> None:
    app = FakeEndpoint(Plan(faults={"too_long": 0.1}))
    price = Price(input_usd_per_million=1.0, output_usd_per_million=2.0)
    with serving_fake(app) as url, sqlite_ledger(tmp_path) as ledger:
        task = task_for(small, url, price=price, budget_usd=3.0, max_tokens=50)
        plan = plan_run(task, ledger, DAY)
        assert app.calls == 0
        assert (plan.items, plan.answered, plan.to_ask, plan.output_tokens) == (60, 0, 60, 3000)
        assert plan.cost_usd == pytest.approx(plan.input_tokens / 1e6 + 3000 * 2 / 1e6)
        assert plan.cost_usd < plan.most_usd  # type: ignore[operator]
        assert plan.left_usd == 3.0
        done = score_day([task], ledger, DAY)
        failed = done.scores.filter(pl.col("outcome") == "api_error").height
        after = plan_run(task, ledger, DAY)
        assert (after.answered, after.to_ask, after.failed_before) == (60 - failed, failed, failed)
        # What was written so far is what is expected now, and the estimate of what is read was close.
        assert "answers" in after.basis
        assert after.left_usd == pytest.approx(3.0 - done.scores["cost_usd"].sum())
        assert plan_run(task, ledger, DAY, retry_errors=True).to_ask == failed


def test_a_plan_asks_an_item_of_two_releases_once(small: SmallHome, tmp_path: Path) -> None:
    with sqlite_ledger(tmp_path) as ledger:
        tasks = [task_for(small, "http://127.0.0.1:9/v1", n) for n in (60, 80)]
        assert [p.to_ask for p in plan_day(tasks, ledger, DAY)] == [60, 20]


KEYS = [hashlib.blake2b(bytes([k]), digest_size=16).digest() for k in range(40)]


@given(st.lists(st.sets(st.sampled_from(KEYS)), max_size=9))
def test_seen_knows_what_was_given_before(groups: list[set[bytes]]) -> None:
    seen, before = Seen(), set[bytes]()
    for group in groups:
        assert seen.new(group) == group - before
        before |= group


def test_a_plan_file_with_mistakes_names_them(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("latency_ms: -1\nfaults: {eror_500: 0.5}\nwhat: 1\n")
    with pytest.raises(UserError) as caught:
        load_plan(tmp_path / "plan.yaml")
    said = str(caught.value)
    assert 'fault "eror_500" is not known; did you mean "error_500"?' in said
    assert "plan.yaml:1" in said
    assert '"what"' in said
