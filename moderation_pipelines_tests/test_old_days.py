"""An old day is a function of its key: run again it gives its rows, whatever came since; what replaced what is known."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, date, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from moderation_pipelines.consensus.tables import CONSENSUS
from moderation_pipelines.eval_sets.asked import asked_releases
from moderation_pipelines.eval_sets.release import releases
from moderation_pipelines.fake_endpoint.endpoint import FakeEndpoint
from moderation_pipelines.fake_endpoint.plan import Plan
from moderation_pipelines.fake_endpoint.server import serving_fake
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.judging.tables import JUDGE_RUNS, SCORES
from moderation_pipelines.metrics.asked import comparison
from moderation_pipelines.metrics.tables import METRICS
from moderation_pipelines.orchestration.definitions import build_defs
from moderation_pipelines.orchestration.jobs import console_from
from moderation_pipelines.orchestration.runner import instance_of, run_line
from moderation_pipelines.orchestration.stages import all_stages, all_tables
from moderation_pipelines.probes.tables import CANARIES
from moderation_pipelines.tables.freshness import stale_days
from moderation_pipelines.tables.in_force import IN_FORCE, RELEASE, UNUSABLE, home_in_force, recorded
from moderation_pipelines.tables.warehouse import Warehouse, _footer
from moderation_pipelines.votes.tables import VOTES
from moderation_pipelines.wiring.pipeline import Pipeline
from moderation_pipelines_tests.conftest import DAY, HARASSMENT, LEVELS, SmallHome

NEXT = DAY + timedelta(days=1)
INGESTED = ("drops", "quarantine", "conversions", "sides", "near_duplicate_clusters", "content", "votes")
JUDGES = """\
endpoints:
  local: {base_url: "%s", concurrency: 8}
judges:
  llm: {endpoint: local, model: m, canary: 5, injections: 1, price: {input_usd_per_million: 1, output_usd_per_million: 1}}
"""


def delivered(small: SmallHome, day: date, first: int, n: int = 80) -> None:
    """Items with two votes each, a quarter of them violating, delivered on a day."""
    ids = range(first, first + n)
    small.deliver(
        "content", "c.jsonl", [{"item_id": f"i{k}", "text": f"words of item {k}", "locale": "en"} for k in ids], day
    )
    votes = [
        {"item_id": f"i{k}", "policy": "harassment", "label": "bad" if k % 4 == 0 else "fine", "rater_id": r}
        for k in ids
        for r in ("r1", "r2")
    ]
    small.deliver("labels", "v.jsonl", votes, day)


def materialised(home: Home, settings: Settings, day: date, *assets: str, **pipeline: Any) -> Any:
    """One run of some assets for a day, as from the UI."""
    defs = build_defs(home, settings, pipeline=Pipeline(home, settings, all_stages(), **pipeline))
    with instance_of(home) as instance:
        job = defs.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=instance,
            partition_key=str(day),
            asset_selection=[dg.AssetKey(a) for a in assets],
            raise_on_error=False,
            run_config=console_from("CRITICAL"),
        )


def said(result: Any) -> str:
    failures = [e.step_failure_data for e in result.all_events if e.is_step_failure]
    return "; ".join(str(f.user_failure_data.description if f.user_failure_data else f.error.message) for f in failures)


def rows(warehouse: Warehouse, day: date) -> dict[str, pl.DataFrame]:
    """Every daily table's rows of a day outside volatile columns."""
    return {
        t.name: warehouse.scan(t, [day]).select(t.stable).collect()
        for t in all_tables().values()
        if t.daily and day in warehouse.days(t)
    }


@pytest.fixture(scope="module")
def two_days(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallHome]:
    """A home with two days, each run when it was the newest, with a judge at a local endpoint."""
    small = SmallHome(Home(tmp_path_factory.mktemp("days") / "home"))
    small.write("prompts/harassment/policy.yaml", HARASSMENT)
    with serving_fake(FakeEndpoint(Plan())) as url:
        small.write("prompts/judges.yaml", JUDGES % url)
        delivered(small, DAY, 0)
        assert run_line(small.home, small.settings).failed == []
        delivered(small, NEXT, 1000)
        assert run_line(small.home, small.settings).failed == []
        yield small


@pytest.fixture
def old(two_days: SmallHome, tmp_path: Any) -> SmallHome:
    """A copy of it."""
    shutil.copytree(two_days.home.root, tmp_path / "home")
    return SmallHome(Home(tmp_path / "home"))


def test_metrics_of_an_old_day_are_those_of_its_own_release(old: SmallHome) -> None:
    warehouse = old.warehouse
    assert [r.version for r in releases(old.home, "harassment")] == ["v0001", "v0002"]
    before = warehouse.scan(METRICS, [DAY]).collect()
    assert before.height > 20
    assert set(before["version"]) == {"v0001"}
    result = materialised(old.home, old.settings, DAY, "metrics")
    assert result.success
    assert warehouse.scan(METRICS, [DAY]).collect().equals(before)


@pytest.mark.slow
def test_every_daily_asset_of_an_old_day_gives_its_rows_again(old: SmallHome) -> None:
    before = rows(old.warehouse, DAY)
    steady = [t for t in all_tables().values() if t.daily and len(t.stable) == len(t.columns)]
    files = [old.warehouse.file(t, DAY) for t in steady if DAY in old.warehouse.days(t)]
    bytes_before = {p: p.read_bytes() for p in files}
    # The files of today are others, and so is the home's newest release.
    old.write("prompts/harassment/policy.yaml", HARASSMENT.replace("Attacks a person.", "Attacks somebody."))
    old.write("prompts/judges.yaml", "baseline: false\n")
    old.write("prompts/harassment/eval_sets.yaml", "eval_sets: [{name: other}]\n")
    daily = [t.name for t in all_tables().values() if t.daily and t is not CANARIES]
    made_by_one_step = {
        "consensus_methods": ("consensus_methods", "reliability"),
        "drops": INGESTED,
        "scores": ("scores", "judge_runs"),
        "near_twins": ("near_twins", "leakage", "seen_items"),
    }
    for name in daily:
        if any(name in group[1:] for group in made_by_one_step.values()):
            continue
        result = materialised(old.home, old.settings, DAY, *made_by_one_step.get(name, (name,)))
        assert result.success, (name, said(result))
    after = rows(old.warehouse, DAY)
    assert list(after) == list(before)
    assert [n for n in after if not after[n].equals(before[n])] == []
    assert [str(p) for p, data in bytes_before.items() if p.read_bytes() != data] == []


@pytest.mark.slow
def test_what_buys_something_new_refuses_an_old_day_and_says_so(old: SmallHome) -> None:
    before = old.warehouse.scan(CANARIES, [DAY]).collect()
    assert before["n_asked"].to_list() == [5]
    result = materialised(old.home, old.settings, DAY, "canaries")
    assert not result.success
    assert f"canaries of {DAY} cannot be made again: it asks judges again, and later days were run since" in said(
        result
    )
    assert old.warehouse.scan(CANARIES, [DAY]).collect().equals(before)
    # The whole line for a day that is over goes without it.
    assert run_line(old.home, old.settings, only=DAY).failed == []
    assert old.warehouse.scan(CANARIES, [DAY]).collect().equals(before)


@pytest.mark.slow
def test_a_stated_rerun_takes_the_files_of_today(old: SmallHome) -> None:
    strict = HARASSMENT.replace("aggregation", "x") + "aggregation: majority\n"
    old.write("prompts/harassment/policy.yaml", strict)
    kept = run_line(old.home, old.settings)
    assert any(f"prompts/harassment/policy.yaml changed since: {DAY} kept the file" in n for n in kept.notices)
    methods = old.warehouse.scan(CONSENSUS).group_by("drop_date").agg(pl.col("method").unique()).collect()
    assert dict(methods.iter_rows()) == {DAY: ["dawid_skene"], NEXT: ["majority"]}
    assert run_line(old.home, old.settings, restate=True).notices == []
    assert old.warehouse.scan(CONSENSUS).select(pl.col("method").unique()).collect()["method"].to_list() == ["majority"]


def test_a_day_whose_files_are_gone_is_refused_by_name(old: SmallHome) -> None:
    old.write("prompts/harassment/policy.yaml", HARASSMENT + "# changed\n")
    for thing in recorded(old.warehouse, DAY):
        if thing.kind == "policy":
            (old.home.warehouse / "_objects" / thing.sha256).unlink()
    result = materialised(old.home, old.settings, DAY, "consensus")
    assert not result.success
    assert "prompts/harassment/policy.yaml: as it was in force: data/warehouse/_objects/" in said(result)
    assert "is gone; restore it from a copy" in said(result)


def test_a_release_that_is_gone_is_told(old: SmallHome) -> None:
    shutil.rmtree(old.home.eval_sets / "harassment/v0001")
    result = materialised(old.home, old.settings, DAY, "metrics")
    assert "data/warehouse/eval_sets/harassment/v0001: is gone; the day was asked about it" in said(result)


@pytest.mark.slow
def test_releases_of_one_day_are_kept_and_compared(old: SmallHome) -> None:
    # The newest day is run again with more votes: a third release, asked about on the same day as the second.
    delivered(old, NEXT, 1000, 120)
    assert run_line(old.home, old.settings).failed == []
    scores = old.warehouse.scan(SCORES, [NEXT]).collect()
    assert set(scores["version"]) == {"v0002", "v0003"}
    assert set(old.warehouse.scan(METRICS, [NEXT]).collect()["version"]) == {"v0002", "v0003"}
    runs = old.warehouse.scan(JUDGE_RUNS, [NEXT]).collect()
    assert runs.group_by("judge_id").len()["len"].to_list() == [2, 2]
    found = comparison(old.home, "harassment", ["v2", "v3"], ["llm"], 100)
    assert found.filter(slice="all", metric="accuracy")["n"].item() > 20
    # The report speaks of the release in force.
    report = (old.home.reports / str(NEXT) / "report.md").read_text()
    assert "v0003" in report


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("prompts/harassment/policy.yaml", ("scale: nominal", "scale: no")),
        pytest.param("prompts/judges.yaml", ("model: m", "modell: m"), marks=pytest.mark.slow),
        pytest.param("prompts/harassment/v1.md", (None, "{{ nothing_known }}"), marks=pytest.mark.slow),
    ],
)
def test_what_cannot_be_asked_now_keeps_the_rows_it_has(
    old: SmallHome, file: str, change: tuple[str | None, str]
) -> None:
    def verdicts() -> pl.DataFrame:
        key = ["judge_id", "eval_set", "version", "item_id", "outcome", "label"]
        return old.warehouse.scan(SCORES, [NEXT]).select(key).sort(key).collect()

    before, metrics = verdicts(), old.warehouse.scan(METRICS, [NEXT]).collect()
    assert before["judge_id"].n_unique() == 2
    old.write("prompts/levels/policy.yaml", LEVELS)
    path = old.home.root / file
    old.write(file, change[1] if change[0] is None else path.read_text().replace(change[0], change[1]))
    assert change[1] in path.read_text()
    assert run_line(old.home, old.settings, only=NEXT).failed != []
    assert verdicts().equals(before)
    assert old.warehouse.scan(METRICS, [NEXT]).collect().equals(metrics)


# Late files, and what rests on what


@pytest.mark.slow
def test_a_late_file_changes_its_day_and_those_whose_window_holds_it(old: SmallHome) -> None:
    in_force = {d: recorded(old.warehouse, d) for d in (DAY, NEXT)}
    known = datetime.now(UTC)
    first = old.warehouse.scan(VOTES, [DAY]).collect()
    old.deliver("labels", "late.jsonl", [{"item_id": "i1", "policy": "harassment", "label": "bad", "rater_id": "r3"}])
    assert run_line(old.home, old.settings).failed == []
    assert old.warehouse.scan(VOTES, [DAY]).collect().height == first.height + 1
    assert old.warehouse.scan(VOTES, [DAY], as_of=known).collect().equals(first)
    assert {d: [t for t in recorded(old.warehouse, d) if t.kind != "release"] for d in in_force} == {
        d: [t for t in things if t.kind != "release"] for d, things in in_force.items()
    }
    assert [t.version for t in recorded(old.warehouse, DAY) if t.kind == "release"] == ["v0001"]


def test_a_day_that_rests_on_replaced_rows_is_stale_until_it_is_run_again(old: SmallHome) -> None:
    tables = all_tables()
    assert stale_days(old.warehouse, tables, [CONSENSUS]) == {}
    # The worker of the first day was killed; its retry ran after the second day.
    old.deliver("labels", "late.jsonl", [{"item_id": "i1", "policy": "harassment", "label": "bad", "rater_id": "r3"}])
    assert materialised(old.home, old.settings, DAY, *INGESTED).success
    stale = stale_days(old.warehouse, tables, [CONSENSUS])
    assert list(stale) == [DAY, NEXT]
    assert materialised(old.home, old.settings, DAY, "consensus").success
    assert list(stale_days(old.warehouse, tables, [CONSENSUS])) == [NEXT]
    assert materialised(old.home, old.settings, NEXT, "consensus").success
    assert stale_days(old.warehouse, tables, [CONSENSUS]) == {}


# Failures apart


@pytest.mark.slow
def test_a_broken_policy_fails_alone_and_is_taken_up_when_it_is_mended(small: SmallHome) -> None:
    delivered(small, DAY, 0)
    small.deliver("labels", "l.jsonl", [{"item_id": "i1", "policy": "levels", "label": "mild", "rater_id": "r"}])
    sound = (small.home.prompts / "levels/policy.yaml").read_text()
    small.write("prompts/levels/policy.yaml", sound.replace("scale: ordinal", "scale: ordinl"))
    done = run_line(small.home, small.settings)
    # The file whose every vote waits for the policy is told beside it.
    assert sorted((f.step, "ordinl" in f.message) for f in done.failed) == [("home_files", True), ("ingest", False)]
    assert "unusable_policy" in next(f.message for f in done.failed if f.step == "ingest")
    assert set(small.warehouse.scan(CONSENSUS).collect()["policy"]) == {"harassment"}
    assert small.warehouse.scan(METRICS).collect().height > 20
    broken = [t.name for t in recorded(small.warehouse, DAY) if t.version == UNUSABLE]
    assert broken == ["levels/policy.yaml"]
    delivered(small, NEXT, 1000)
    run_line(small.home, small.settings)
    small.write("prompts/levels/policy.yaml", sound)
    # Mended, it is in force on the old day too: it never was in another form.
    assert run_line(small.home, small.settings).failed == []
    assert set(small.warehouse.scan(CONSENSUS, [DAY]).collect()["policy"]) == {"harassment", "levels"}


@pytest.mark.slow
def test_a_broken_judge_set_and_prompt_fail_alone(small: SmallHome) -> None:
    delivered(small, DAY, 0)
    small.write("prompts/levels/eval_sets.yaml", "eval_sets: [{name: x, sizes: 3}]\n")
    small.write(
        "prompts/judges.yaml",
        "endpoints: {local: {base_url: 'http://127.0.0.1:9/v1'}}\njudges:\n  a: {endpoint: local}\n  b: {endpoint: gone, model: m}\n",
    )
    done = run_line(small.home, small.settings)
    steps = sorted({f.step for f in done.failed})
    assert steps == ["home_files", "scores"]
    told = " ".join(f.message for f in done.failed)
    for part in ('key "sizes" is not known', '"judges.a.model" is missing', 'endpoint "gone" is not defined'):
        assert part in told
    assert set(small.warehouse.scan(SCORES).collect()["judge_id"]) == {"baseline-ngram"}


@pytest.mark.slow
def test_a_stray_folder_blocks_no_day(small: SmallHome) -> None:
    delivered(small, DAY, 0)
    for stray in ("2099-01-01", "2026-02-30", "1970-01-01"):
        small.write(f"data/drops/labels/{stray}/f.jsonl", "{}\n")
    done = run_line(small.home, small.settings)
    assert (done.failed, done.days) == ([], [DAY])
    assert done.notices == [
        "1970-01-01, 2099-01-01: outside the days the pipeline knows (2020-01-01 to "
        f"{datetime.now(UTC).date()}), left alone; move the folder, or set MODERATION_START_DATE"
    ]


# What is left out


@pytest.mark.slow
def test_a_renamed_label_is_told_with_counts_and_settled(old: SmallHome) -> None:
    renamed = HARASSMENT.replace("{id: bad,", "{id: abusive,")
    old.write("prompts/harassment/policy.yaml", renamed)
    done = run_line(old.home, old.settings, only=NEXT)
    told = " ".join(f.message for f in done.failed)
    assert '80 stored votes have label "bad", which is not in the policy' in told
    # The newest day was read by the policy of today, the day before keeps its votes.
    assert 'nothing was published for harassment: 40 stored votes have label "bad"' in told
    assert "release v0002 stays in force" in told
    left = old.warehouse.scan(all_tables()["left_out"], [NEXT]).filter(stage="consensus", subject="harassment")
    by_rule = dict(left.select("rule", "n_left_out").collect().iter_rows())
    assert by_rule == {"label is not in the policy": 40}
    old.write("prompts/harassment/policy.yaml", renamed.replace("{id: abusive,", "{id: abusive, renamed_from: [bad],"))
    for votes in old.home.drops.glob(f"labels/{NEXT}/v.jsonl"):
        votes.write_text(votes.read_text().replace('"bad"', '"abusive"'))
    assert run_line(old.home, old.settings, only=NEXT).failed == []
    assert set(old.warehouse.scan(CONSENSUS, [NEXT]).collect()["label"]) == {"fine", "abusive"}
    newest = releases(old.home, "harassment")[-1]
    assert (newest.version, newest.manifest["labels"].keys()) == ("v0003", {"fine", "abusive"})


def test_sums_close_from_votes_to_the_release(old: SmallHome) -> None:
    left = old.warehouse.scan(all_tables()["left_out"], [NEXT]).collect()
    assert {"consensus", "consensus items", "agreement", "eval_sets"} <= set(left["stage"])
    for (stage, subject), part in left.sort("step").group_by(["stage", "subject"], maintain_order=True):
        ins, gone, outs = (part[c].to_list() for c in ("n_in", "n_left_out", "n_out"))
        assert ins[0] == sum(gone) + outs[-1], (stage, subject)
    votes = left.filter(stage="consensus", subject="harassment")
    assert votes["n_in"][0] == old.warehouse.scan(VOTES).select(pl.len()).collect().item()
    of_release = left.filter(stage="eval_sets", subject="harassment v0002")
    assert "development side" in of_release["rule"].to_list()
    assert of_release["n_in"][0] == 160
    assert of_release["n_out"].to_list()[-1] == releases(old.home, "harassment")[-1].manifest["rows"]


@pytest.mark.slow
def test_a_filter_that_leaves_nothing_fails_and_is_named(small: SmallHome) -> None:
    delivered(small, DAY, 0)
    assert run_line(small.home, small.settings).failed == []
    small.write("prompts/harassment/eval_sets.yaml", "eval_sets: [{name: harassment, locales: [de], min_votes: 2}]\n")
    done = run_line(small.home, small.settings)
    told = " ".join(f.message for f in done.failed)
    assert "nothing was published for harassment: its filters leave 0 of" in told
    assert "locales: locale not asked for (" in told
    assert "release v0001 stays in force" in told


def test_rows_that_vanish_are_told(old: SmallHome) -> None:
    shutil.rmtree(old.home.drops / "labels" / str(NEXT))
    result = materialised(old.home, old.settings, NEXT, *INGESTED)
    checks = {(c.asset_key.to_user_string(), c.check_name): c for c in result.get_asset_check_evaluations()}
    vanished = checks["votes", "rows_are_what_the_table_says"]
    assert (vanished.passed, vanished.severity.value) == (False, "WARN")
    assert vanished.description == "It had 160 rows and has none now."
    assert checks["content", "rows_are_what_the_table_says"].passed


def test_a_check_that_looked_at_nothing_does_not_pass(small: SmallHome) -> None:
    result = materialised(small.home, small.settings, DAY, *INGESTED, "canaries", "metrics")
    nothing = [c for c in result.get_asset_check_evaluations() if c.check_name != "rows_are_what_the_table_says"]
    assert len(nothing) > 8
    assert [(c.check_name, c.passed) for c in nothing if c.passed or not c.description] == []


def test_in_force_is_a_table_like_any_other(old: SmallHome) -> None:
    found = old.warehouse.scan(IN_FORCE, [DAY]).collect()
    assert set(found["kind"]) == {"policy", "judges", "setting", "release"}
    assert found.filter(kind="release").select("name", "version").rows() == [("harassment", "v0001")]
    assert dict(found.filter(kind="setting").select("name", "version").iter_rows())["window_days"] == "28"


def test_an_old_day_that_never_was_scored_takes_the_releases_of_the_next_that_was(old: SmallHome) -> None:
    before = DAY - timedelta(days=1)
    assert not [t for t in recorded(old.warehouse, before) if t.kind == RELEASE]
    found = asked_releases(old.home, old.policies, old.warehouse, before)
    assert [r.version for r in found] == [r.version for r in asked_releases(old.home, old.policies, old.warehouse, DAY)]
    assert [r.version for r in found] == ["v0001"]


def test_the_job_for_old_days_publishes_nothing() -> None:
    job = build_defs(stages=all_stages()).resolve_job_def("repeat_day")
    names = {key.to_user_string() for key in job.asset_layer.executable_asset_keys}
    assert {"votes", "consensus", "scores", "metrics"} <= names
    assert not {"eval_sets", "releases", "canaries"} & names


def _read_in_force(root: str) -> bool:
    home = Home(Path(root))
    things = recorded(Warehouse(home), DAY)
    for _ in range(40):
        found = home_in_force(home, things)
        if not (found.prompts / "harassment/policy.yaml").read_bytes():
            return False
    return True


@pytest.mark.slow
def test_several_processes_use_one_tree_of_files_in_force(old: SmallHome) -> None:
    shutil.rmtree(old.home.warehouse / "_in_force")
    with ProcessPoolExecutor(4, get_context("spawn")) as processes:
        assert all(processes.map(_read_in_force, [str(old.home.root)] * 8))
    assert len(list((old.home.warehouse / "_in_force").iterdir())) == 1


def test_limits_with_mistakes_are_in_force_on_no_day(small: SmallHome) -> None:
    small.write("prompts/settings.yaml", "thresholds:\n  probes: {max_flips: nope}\n")
    pipeline = Pipeline(small.home, small.settings, all_stages())
    assert [t.version for t in pipeline.state_day(DAY) if t.name == "settings.yaml"] == [UNUSABLE]
    small.write("prompts/settings.yaml", "thresholds:\n  probes: {max_flips: 0.3}\n")
    pipeline.state_day(NEXT)
    (mended,) = [t for t in pipeline.state_day(DAY) if t.name == "settings.yaml"]
    assert mended.version != UNUSABLE


def test_rows_brought_over_make_nothing_stale(old: SmallHome) -> None:
    name = "drop_line"
    for day in (DAY, NEXT):
        file = old.warehouse.file(VOTES, day)
        known = old.warehouse.partition(VOTES, day)
        assert known is not None
        pl.read_parquet(file).with_columns(pl.col(name).cast(pl.Int32)).write_parquet(file)
        facts = file.with_name("part-0.json")
        narrow = old.warehouse.partition(VOTES, day)
        assert narrow is not None
        stored = {"version": narrow.version, "known_at": known.known_at.isoformat(), "rows": known.rows,
                  "footer": _footer(file), "made_from": dict(known.made_from)}  # fmt: skip
        facts.write_text(json.dumps({"current": stored}))
        for reader in (p for p in old.home.warehouse.rglob("part-0.json") if known.version in p.read_text()):
            reader.write_text(reader.read_text().replace(known.version, narrow.version))
    tables = all_tables()
    assert stale_days(old.warehouse, tables, [CONSENSUS]) == {}
    done = dict(old.warehouse.migrate(tables.values()))
    assert done[VOTES] == "0 partitions described, 2 with other columns rewritten"
    assert stale_days(old.warehouse, tables, [CONSENSUS]) == {}
