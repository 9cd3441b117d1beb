"""Runs of the whole line from the command line, as Dagster runs that the UI shows."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from moderation_pipelines.consensus.tables import CONSENSUS
from moderation_pipelines.foundation.errors import UserError
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.ingest.landing import day_fingerprint, landing_days
from moderation_pipelines.ingest.tables import DROPS
from moderation_pipelines.orchestration.definitions import build_defs
from moderation_pipelines.orchestration.drop_sensor import window_fingerprints
from moderation_pipelines.orchestration.jobs import (
    DAILY_METRICS,
    DAY_FINGERPRINT,
    PROCESS_DAY,
    REPEAT_DAY,
    console_from,
)
from moderation_pipelines.orchestration.stages import all_stages, all_tables
from moderation_pipelines.policies.policy import load_policies_leniently
from moderation_pipelines.tables.freshness import stale_days
from moderation_pipelines.tables.in_force import current_files, is_open, recorded
from moderation_pipelines.tables.store import write_text
from moderation_pipelines.tables.warehouse import Warehouse
from moderation_pipelines.wiring.pipeline import Pipeline

REPORT = dg.AssetKey("report")
PROCESS_TAG = "moderation/process"


@dataclass(frozen=True)
class Failed:
    """One thing that did not work: where, and what was said."""

    day: date
    step: str
    message: str
    run_id: str | None = None


@dataclass
class RunSummary:
    """What a run of the line did."""

    days: list[date]
    last_day: date
    failed: list[Failed] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    new_answers: int = 0


def dagster_home(home: Home, environ: dict[str, str] | None = None) -> Path:
    """The DAGSTER_HOME to use: the variable's value, else the home's own, made with its ``dagster.yaml`` if missing."""
    environ = dict(os.environ) if environ is None else environ
    given = environ.get("DAGSTER_HOME")
    folder = Path(given).expanduser().resolve() if given else home.dagster_home
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "dagster.yaml"
    if not config.exists():
        write_text(config, files("moderation_pipelines").joinpath("orchestration/dagster.yaml").read_text())
    return folder


@contextmanager
def instance_of(home: Home) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance of a home."""
    folder = dagster_home(home)
    before = os.environ.get("DAGSTER_HOME")
    os.environ["DAGSTER_HOME"] = str(folder)
    try:
        with dg.DagsterInstance.get() as instance:
            yield instance
    finally:
        if before is None:
            os.environ.pop("DAGSTER_HOME", None)
        else:
            os.environ["DAGSTER_HOME"] = before


def days_to_run(
    home: Home, settings: Settings, since: date | None, until: date | None, only: date | None
) -> tuple[list[date], list[date]]:
    """Days that have drops, or had some that were taken away, within the bounds; and those left out because they lie
    outside the days the pipeline knows: a stray folder stops no other day.

    Raises :class:`UserError` when there is nothing to do.
    """
    if since and until and since > until:
        raise UserError(f"--since {since} is after --until {until}")
    there = [*landing_days(home), *withdrawn_days(home)]
    there = sorted(set(there))
    if only is not None:
        if only not in there:
            raise UserError(f"no drops for {only} under {home.drops}; {_known(there)}")
        chosen = [only]
    else:
        chosen = [d for d in there if (since is None or d >= since) and (until is None or d <= until)]
        if not chosen:
            if there:
                raise UserError(
                    f"no drops between {since or 'the first day'} and {until or 'the last'}; {_known(there)}"
                )
            raise UserError(f"no drops under {home.drops}; place one with `modpipe drop`, or try `modpipe demo`")
    today = datetime.now(UTC).date()
    outside = [d for d in chosen if not settings.start_date <= d <= today]
    chosen = [d for d in chosen if d not in outside]
    if not chosen:
        raise UserError(_outside(outside, settings))
    return chosen, outside


def _outside(days: Sequence[date], settings: Settings) -> str:
    named = ", ".join(str(d) for d in days)
    return (
        f"{named}: outside the days the pipeline knows ({settings.start_date} to {datetime.now(UTC).date()}), left "
        "alone; move the folder, or set MODERATION_START_DATE"
    )


def withdrawn_days(home: Home) -> list[date]:
    """Days that were processed with files which are all gone now: they are processed again, so that their rows go."""
    there = landing_days(home)
    frame = Warehouse(home).scan(DROPS).select("drop_date").unique().collect()
    return sorted(d for d in frame["drop_date"].to_list() if d not in there)


def _known(days: Sequence[date]) -> str:
    return f"there are drops for {len(days)} days, {days[0]} to {days[-1]}" if days else "there are none at all"


def run_line(
    home: Home,
    settings: Settings,
    since: date | None = None,
    until: date | None = None,
    only: date | None = None,
    tell: Callable[[int, int, str], None] | None = None,
    retry_errors: bool = False,
    restate: bool = False,
) -> RunSummary:
    """Every day with drops through ingest, consensus and agreement; the last of them through the whole line.

    A day, policy, judge or set that fails does not stop the others. ``tell(done, days, what)`` hears progress.
    ``restate``: every day takes the files as they stand, also those that were run before. Raises :class:`UserError`
    when there is nothing to run, or no policy is without mistakes.
    """
    chosen, outside = days_to_run(home, settings, since, until, only)
    policies, problems = load_policies_leniently(home)
    if not len(policies):
        raise UserError(problems)
    summary = RunSummary(chosen, chosen[-1])
    if outside:
        summary.notices.append(_outside(outside, settings))
    # Read before the runs: a file that comes in the meantime is the sensor's to notice.
    own = {d: day_fingerprint(files) for d, files in landing_days(home).items()}
    fingerprints = window_fingerprints(own, settings.window_days)
    done = 0

    def step(what: str) -> None:
        if tell is not None:
            tell(done, len(chosen), what)

    _quiet_libraries()
    pipeline = Pipeline(home, settings, all_stages(), step, retry_errors, restate)
    definitions = build_defs(home, settings, pipeline=pipeline)
    with instance_of(home) as instance:
        end_dead_runs(instance)
        for day in chosen:
            whole = DAILY_METRICS if is_open(pipeline.warehouse, day) else REPEAT_DAY
            job = whole if day == chosen[-1] else PROCESS_DAY
            step(f"{day}: {'ingest, consensus, agreement' if job == PROCESS_DAY else 'everything'}")
            result = _execute(definitions, job, day, instance, {DAY_FINGERPRINT: fingerprints.get(str(day), "")})
            mine = _failures(result, day)
            summary.failed += mine
            summary.new_answers += _new_answers(result)
            if job != PROCESS_DAY and mine and not _made_report(result):
                step(f"{day}: report on what there is")
                again = _execute(definitions, job, day, instance, only=REPORT)
                summary.failed += _failures(again, day)
            done += 1
    for row in (
        pipeline.warehouse.scan(DROPS, chosen)
        .collect()
        .filter(pl.col("status") != "accepted")
        .sort("drop_date")
        .to_dicts()
    ):
        place = f"{row['feed']}/{row['drop_date']}/{row['drop_file']}"
        summary.failed.append(Failed(row["drop_date"], "ingest", f"{place}: {row['status']}: {row['reason']}"))
    summary.notices += _kept_files(pipeline, chosen)
    stale = stale_days(pipeline.warehouse, all_tables(), [CONSENSUS])
    if stale:
        named = ", ".join(str(d) for d in stale)
        summary.notices.append(f"{named}: rows that consensus rests on were replaced since; run these days again")
    step("done")
    return summary


def _kept_files(pipeline: Pipeline, days: Sequence[date]) -> list[str]:
    """A notice where days were computed by other files than today's: which, and how to take today's."""
    now = {t.name: t.sha256 for t in current_files(pipeline.home, pipeline.files_in_force, ())}
    other: dict[str, list[date]] = {}
    for day in days:
        for thing in recorded(pipeline.warehouse, day):
            if thing.kind not in ("release", "setting") and now.get(thing.name) != thing.sha256:
                other.setdefault(thing.name, []).append(day)
    return [
        f"prompts/{name} changed since: {_span(days)} kept the file that was in force; --restate takes today's"
        for name, days in sorted(other.items())
    ]


def _span(days: Sequence[date]) -> str:
    return str(days[0]) if len(days) == 1 else f"{days[0]} to {days[-1]}"


def end_dead_runs(instance: dg.DagsterInstance) -> None:
    """Mark runs of ``modpipe run`` whose process was killed as failed: else they hold up every later run."""
    going = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING])
    for run in instance.get_runs(going):
        host, _, pid = run.tags.get(PROCESS_TAG, "").partition(":")
        if host == os.uname().nodename and pid.isdigit() and not _is_running(int(pid)):
            instance.report_run_failed(run, "its process has ended")


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _execute(
    definitions: dg.Definitions,
    job: str,
    day: date,
    instance: dg.DagsterInstance,
    tags: dict[str, str] | None = None,
    only: dg.AssetKey | None = None,
) -> Any:
    return definitions.resolve_job_def(job).execute_in_process(
        instance=instance,
        partition_key=str(day),
        raise_on_error=False,
        run_config=console_from("CRITICAL"),
        tags={PROCESS_TAG: f"{os.uname().nodename}:{os.getpid()}", **(tags or {})},
        asset_selection=None if only is None else [only],
    )


def _quiet_libraries() -> None:
    for name in ("dagster", "great_expectations", "httpx", "httpx2", "openai", "uvicorn", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _failures(result: Any, day: date) -> list[Failed]:
    """Steps that failed and checks of error severity that did not hold. Rejected drops are listed by file instead."""
    found = []
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            said = data.user_failure_data.description if data.user_failure_data else None
            message = said or _last_words(data.error)
            found.append(Failed(day, str(event.step_key), message, result.run_id))
    for check in result.get_asset_check_evaluations():
        is_error = check.severity == dg.AssetCheckSeverity.ERROR
        if not check.passed and is_error and check.check_name != "every_file_could_be_read":
            where = check.metadata.get("broken on")
            detail = f" on {where.value}" if where is not None else ""
            detail += f": {check.description}" if check.description else ""
            found.append(
                Failed(
                    day,
                    check.asset_key.to_user_string(),
                    f"check {check.check_name} does not hold{detail}",
                    result.run_id,
                )
            )
    return found


def _last_words(error: Any) -> str:
    """The innermost cause of a failure, one line, without a stack of code."""
    while error is not None and error.cause is not None:
        error = error.cause
    text = "" if error is None else error.message.strip().splitlines()[0]
    return text[:500] or "unknown failure"


def _made_report(result: Any) -> bool:
    return any(e.asset_key == REPORT for e in result.get_asset_materialization_events())


def _new_answers(result: Any) -> int:
    for event in result.get_asset_materialization_events():
        if event.asset_key == dg.AssetKey("scores"):
            value = event.materialization.metadata.get("new answers")
            return int(value.value) if value is not None else 0
    return 0
