"""The graph as Dagster loads it, the sensor's decisions, and the sensor against real folders and runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from moderation_pipelines.definitions import build_defs
from moderation_pipelines.foundation.errors import ReadFailure
from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.ingest.landing import landing_days
from moderation_pipelines.orchestration.drop_sensor import MAX_ATTEMPTS, RunState, SeenState, plan, window_fingerprints
from moderation_pipelines.orchestration.jobs import console_from
from moderation_pipelines.orchestration.runner import instance_of, run_line
from moderation_pipelines.orchestration.stages import all_stages
from moderation_pipelines.votes.tables import VOTES
from moderation_pipelines.wiring.pipeline import Pipeline
from moderation_pipelines_tests.conftest import DAY, ROOT, SmallHome

GROUPS = {
    "in_force": {"in_force", "home_files"},
    "policies": {"policies"},
    "ingest": {"drops", "quarantine", "conversions", "sides", "near_duplicate_clusters", "content", "votes"},
    "consensus": {"consensus_methods", "reliability", "consensus"},
    "raters": {"raters"},
    "agreement": {"agreement", "disagreements", "rater_pairs", "guideline_comparisons"},
    "eval_sets": {"eval_sets", "releases"},
    "prompting": {"prompts"},
    "judging": {"batches", "judge_runs", "scores"},
    "probes": {"canaries", "injections"},
    "leakage": {"near_twins", "leakage", "seen_items"},
    "metrics": {"metrics", "comparisons", "operating_points", "judge_validity"},
    "accounting": {"validations", "left_out"},
    "reports": {"report"},
}


def test_a_killed_run_holds_up_no_later_one(small: SmallHome) -> None:
    import os

    from moderation_pipelines.orchestration.runner import PROCESS_TAG, end_dead_runs

    host, gone = os.uname().nodename, 2**22 + 5  # beyond the largest process number
    with dg.instance_for_test() as instance:
        job = build_defs(small.home, Settings()).resolve_job_def("process_day")
        runs = {
            pid: instance.create_run_for_job(
                job, tags={PROCESS_TAG: f"{host}:{pid}"}, status=dg.DagsterRunStatus.STARTED
            ).run_id
            for pid in (gone, os.getpid())
        }
        end_dead_runs(instance)
        statuses = {pid: instance.get_run_by_id(run).status for pid, run in runs.items()}  # type: ignore[union-attr]
    assert statuses == {gone: dg.DagsterRunStatus.FAILURE, os.getpid(): dg.DagsterRunStatus.STARTED}


def test_assets_groups_owners_and_descriptions(small: SmallHome) -> None:
    specs = list(build_defs(small.home, Settings()).resolve_all_asset_specs())
    found: dict[str, set[str]] = {}
    for spec in specs:
        found.setdefault(str(spec.group_name), set()).add(spec.key.to_user_string())
        assert spec.description
        assert spec.owners
        assert spec.kinds
        assert spec.code_version
    assert found == GROUPS
    assert {s.name for s in all_stages() if s.assets} == set(GROUPS)


def test_schedule_and_sensor_are_on_and_checks_are_named(small: SmallHome) -> None:
    defs = build_defs(small.home, Settings())
    schedule = defs.resolve_schedule_def("daily_metrics")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 6 * * *", "UTC")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    assert defs.resolve_sensor_def("label_drop_sensor").default_status == dg.DefaultSensorStatus.RUNNING
    checks = {k.name for k in defs.resolve_asset_graph().asset_check_keys}
    assert {"rows_in_equal_rows_out", "item_id_unique", "label_only_with_verdict", "undefined_explained"} <= checks
    assert (
        len([k for k in defs.resolve_asset_graph().asset_check_keys if k.asset_key == dg.AssetKey("eval_sets")]) >= 25
    )


def test_the_schedule_asks_for_yesterday(small: SmallHome) -> None:
    defs = build_defs(small.home, Settings())
    schedule = defs.resolve_schedule_def("daily_metrics")
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_schedule_context(
            instance,
            scheduled_execution_time=datetime(2026, 3, 3, 6, tzinfo=UTC),
            repository_def=defs.get_repository_def(),
        )
        data = schedule.evaluate_tick(context)
    assert [(r.partition_key, r.run_key) for r in data.run_requests or []] == [("2026-03-02", "2026-03-02")]


def test_loading_definitions_imports_nothing_heavy() -> None:
    code = (
        "import sys, moderation_pipelines.definitions as d; d.build_defs();"
        "print([m for m in ('great_expectations', 'openai', 'pandas', 'sklearn', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_dagster_loads_the_workspace() -> None:
    program = Path(sys.executable).parent / "dagster"
    done = subprocess.run(
        [program, "definitions", "validate", "-w", "workspace.yaml"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_committed_instance_file_is_the_one_homes_get() -> None:
    committed = (ROOT / "data" / "dagster_home" / "dagster.yaml").read_text()
    assert committed == (ROOT / "moderation_pipelines" / "orchestration" / "dagster.yaml").read_text()


# The sensor's decisions, without Dagster.

D1, D2 = "2026-03-01", "2026-03-02"


def looks(*steps: tuple[dict[str, str], dict[str, RunState]]) -> Iterator[list[str]]:
    """Run keys asked for at each look, given what is there and how the last runs ended."""
    seen = SeenState()
    for here, outcomes in steps:
        requests, seen, _ = plan(seen, here, outcomes)
        seen = SeenState.from_cursor(seen.to_cursor())
        yield [r.run_key for r in requests]


def test_a_new_day_is_asked_for_once_it_holds_still() -> None:
    assert list(looks(({D1: "a"}, {}), ({D1: "a"}, {}), ({D1: "a"}, {D1: "running"}), ({D1: "a"}, {D1: "succeeded"}))) == [
        [], [f"{D1}:a:1"], [], [],
    ]  # fmt: skip


def test_a_file_still_being_written_waits() -> None:
    assert list(looks(({D1: "a"}, {}), ({D1: "b"}, {}), ({D1: "c"}, {}), ({D1: "c"}, {}))) == [
        [],
        [],
        [],
        [f"{D1}:c:1"],
    ]


def test_a_corrected_and_a_late_file_fire_again_for_their_day_only() -> None:
    ok: dict[str, RunState] = {D1: "succeeded", D2: "succeeded"}
    steps = list(
        looks(
            ({D1: "a", D2: "x"}, {}), ({D1: "a", D2: "x"}, {}),
            ({D1: "b", D2: "x"}, ok), ({D1: "b", D2: "x"}, ok), ({D1: "b", D2: "x"}, ok),
        )
    )  # fmt: skip
    assert steps == [[], [f"{D1}:a:1", f"{D2}:x:1"], [], [f"{D1}:b:1"], []]


def test_a_change_during_a_run_is_not_missed() -> None:
    steps = list(
        looks(
            ({D1: "a"}, {}), ({D1: "a"}, {}), ({D1: "b"}, {D1: "running"}), ({D1: "b"}, {D1: "succeeded"}),
            ({D1: "b"}, {D1: "succeeded"}),
        )
    )  # fmt: skip
    assert steps == [[], [f"{D1}:a:1"], [], [], [f"{D1}:b:1"]]


def test_a_failed_run_is_tried_again_up_to_the_limit_and_anew_when_files_change() -> None:
    failed: tuple[dict[str, str], dict[str, RunState]] = ({D1: "a"}, {D1: "failed"})
    steps = list(
        looks(({D1: "a"}, {}), ({D1: "a"}, {}), *[failed] * 4, ({D1: "b"}, {D1: "failed"}), ({D1: "b"}, {D1: "failed"}))
    )
    assert steps[1:4] == [[f"{D1}:a:1"], [f"{D1}:a:2"], [f"{D1}:a:3"]]
    assert MAX_ATTEMPTS == 3
    assert steps[4:] == [[], [], [], [f"{D1}:b:1"]]


def test_a_day_whose_files_are_gone_is_asked_for_once() -> None:
    ok: dict[str, RunState] = {D1: "succeeded"}
    steps = list(looks(({D1: "a"}, {}), ({D1: "a"}, {}), ({}, ok), ({}, ok), ({}, ok), ({}, ok)))
    assert steps == [[], [f"{D1}:a:1"], [], [f"{D1}:gone:1"], [], []]


def test_a_day_somebody_else_has_run_is_not_run_again() -> None:
    seen = plan(SeenState(), {D1: "a"}, {})[1]
    requests, seen, _ = plan(seen, {D1: "a"}, {}, finished=[D1])
    assert requests == []
    assert [r.run_key for r in plan(seen, {D1: "b"}, {D1: "unknown"})[0]] == []
    seen = plan(seen, {D1: "b"}, {D1: "unknown"})[1]
    assert [r.run_key for r in plan(seen, {D1: "b"}, {D1: "unknown"})[0]] == [f"{D1}:b:1"]


def test_a_day_depends_on_its_window_and_on_nothing_else() -> None:
    d1, d2, d9 = date(2026, 3, 1), date(2026, 3, 2), date(2026, 3, 9)
    before = window_fingerprints({d1: "a", d2: "b", d9: "c"}, window_days=3)
    after = window_fingerprints({d1: "A", d2: "b", d9: "c"}, window_days=3)
    assert {d for d in before if before[d] != after[d]} == {str(d1), str(d2)}
    assert before[str(d9)] == window_fingerprints({d9: "c"}, window_days=3)[str(d9)]


def test_what_is_in_the_landing_zone(small: SmallHome) -> None:
    small.deliver("labels", "f.jsonl", "x")
    for name in (".hidden", "_note", "f.tmp", "f.part"):
        small.deliver("labels", name, "x")
    small.write("data/drops/labels/not-a-day/f.jsonl", "x")
    small.write("data/drops/labels/2026-02-30/f.jsonl", "x")
    assert {d: [f.name for f in files] for d, files in landing_days(small.home).items()} == {DAY: ["f.jsonl"]}


def test_a_folder_that_cannot_be_read_is_an_error_not_an_empty_folder(small: SmallHome) -> None:
    small.write("data/drops/labels", "a file where a folder should be")
    with pytest.raises(ReadFailure, match="cannot be read"):
        landing_days(small.home)


# The sensor in Dagster, on real folders, with real runs.


class Sensed:
    """A sensor looked through, with its cursor and its runs carried out."""

    def __init__(self, small: SmallHome, instance: dg.DagsterInstance) -> None:
        self.pipeline = Pipeline(small.home, small.settings)
        self.defs = build_defs(small.home, small.settings)
        self.instance, self.cursor = instance, None

    def look(self) -> list[str]:
        context = dg.build_sensor_context(
            self.instance,
            cursor=self.cursor,
            repository_def=self.defs.get_repository_def(),
            resources={"pipeline": self.pipeline},
        )
        data = self.defs.resolve_sensor_def("label_drop_sensor").evaluate_tick(context)
        self.cursor = data.cursor
        self.requests = data.run_requests or []
        return [str(r.partition_key) for r in self.requests]

    def run(self) -> list[bool]:
        """Carry out what was asked for, as the daemon would."""
        job = self.defs.resolve_job_def("process_day")
        return [
            job.execute_in_process(
                instance=self.instance,
                partition_key=r.partition_key,
                tags={"dagster/run_key": str(r.run_key)},
                raise_on_error=False,
                run_config=console_from("CRITICAL"),
            ).success
            for r in self.requests
        ]


@pytest.fixture
def sensed(small: SmallHome) -> Iterator[Sensed]:
    with instance_of(small.home) as instance:
        yield Sensed(small, instance)


VOTE = {"item_id": "i", "policy": "harassment", "label": "fine", "rater_id": "r"}


def test_sensor_through_the_life_of_a_day(small: SmallHome, sensed: Sensed) -> None:
    assert sensed.look() == []
    small.deliver("labels", "f.jsonl.tmp", [VOTE])
    assert [sensed.look(), sensed.look()] == [[], []]
    small.deliver("labels", "f.jsonl", [VOTE])
    assert [sensed.look(), sensed.look()] == [[], [str(DAY)]]
    assert sensed.run() == [True]
    assert [sensed.look(), sensed.look()] == [[], []]
    # Corrected: the same name with other content.
    small.deliver("labels", "f.jsonl", [VOTE, {**VOTE, "item_id": "j"}])
    assert [sensed.look(), sensed.look()] == [[], [str(DAY)]]
    assert sensed.run() == [True]
    assert small.warehouse.scan(VOTES).collect().height == 2
    # Late: a file for an older day. The day within its window reads it too, so both are processed, older first.
    old = DAY - timedelta(days=20)
    small.deliver("labels", "late.jsonl", [VOTE], old)
    assert [sensed.look(), sensed.look()] == [[], [str(old), str(DAY)]]
    assert sensed.run() == [True, True]
    # So old that no later day reads it: it alone.
    older = DAY - timedelta(days=60)
    small.deliver("labels", "late.jsonl", [VOTE], older)
    assert [sensed.look(), sensed.look()] == [[], [str(older)]]
    assert sensed.run() == [True]
    assert [sensed.look(), sensed.look()] == [[], []]


@pytest.mark.slow
def test_sensor_leaves_what_modpipe_run_has_done(small: SmallHome, sensed: Sensed) -> None:
    small.deliver("labels", "f.jsonl", [VOTE])
    assert run_line(small.home, small.settings).failed == []
    assert [sensed.look(), sensed.look(), sensed.look()] == [[], [], []]
    small.deliver("labels", "g.jsonl", [VOTE])
    assert [sensed.look(), sensed.look()] == [[], [str(DAY)]]


def test_sensor_tries_a_failed_day_again(small: SmallHome, sensed: Sensed) -> None:
    sound = (small.home.prompts / "harassment/policy.yaml").read_text()
    small.deliver("labels", "f.jsonl", [VOTE])
    small.write("prompts/harassment/policy.yaml", "id: [")
    assert [sensed.look(), sensed.look()] == [[], [str(DAY)]]
    assert sensed.run() == [False]
    small.write("prompts/harassment/policy.yaml", sound)
    assert sensed.look() == [str(DAY)]
    assert sensed.run() == [True]
    assert [sensed.look(), sensed.look()] == [[], []]


def test_sensor_says_that_a_folder_cannot_be_read(small: SmallHome, sensed: Sensed) -> None:
    small.write("data/drops/labels", "a file where a folder should be")
    with pytest.raises(Exception, match="cannot be read"):
        sensed.look()


def test_days_outside_the_partitions_are_left_alone_and_said(small: SmallHome, sensed: Sensed) -> None:
    small.deliver("labels", "f.jsonl", [VOTE], date(2019, 5, 5))
    assert [sensed.look(), sensed.look()] == [[], []]
