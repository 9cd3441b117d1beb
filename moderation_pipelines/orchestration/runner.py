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

from moderation_pipelines.definitions import build_defs
from moderation_pipelines.foundation.errors import UserError
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.ingest.landing import day_fingerprint, landing_days
from moderation_pipelines.ingest.tables import DROPS
from moderation_pipelines.orchestration.automation import DAILY_METRICS, DAY_FINGERPRINT, PROCESS_DAY, console_from
from moderation_pipelines.orchestration.drop_sensor import window_fingerprints
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
    new_answers: int = 0


def dagster_home(home: Home, environ: dict[str, str] | None = None) -> Path:
    """The DAGSTER_HOME to use: the one that is set, else the home's own, made with its ``dagster.yaml`` if missing."""
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
) -> list[date]:
    """Days that have drops, or had some that were taken away, within the bounds.

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
    outside = [str(d) for d in chosen if not settings.start_date <= d <= today]
    if outside:
        raise UserError(
            f"{', '.join(outside)}: outside the days the pipeline knows ({settings.start_date} to {today}); "
            "move the folder, or set MODERATION_START_DATE"
        )
    return chosen


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
) -> RunSummary:
    """Every day with drops through ingest, consensus and agreement; the last of them through the whole line.

    One day that fails does not stop the others. ``tell(done, days, what)`` hears progress. Raises :class:`UserError`
    when there is nothing to run or the home's files have mistakes.
    """
    chosen = days_to_run(home, settings, since, until, only)
    summary = RunSummary(chosen, chosen[-1])
    # Read before the runs: a file that comes in the meantime is the sensor's to notice.
    own = {d: day_fingerprint(files) for d, files in landing_days(home).items()}
    fingerprints = window_fingerprints(own, settings.window_days)
    done = 0

    def step(what: str) -> None:
        if tell is not None:
            tell(done, len(chosen), what)

    _quiet_libraries()
    definitions = build_defs(home, settings, pipeline=Pipeline(home, settings, step, retry_errors))
    with instance_of(home) as instance:
        end_dead_runs(instance)
        for day in chosen:
            job = DAILY_METRICS if day == chosen[-1] else PROCESS_DAY
            step(f"{day}: {'everything' if job == DAILY_METRICS else 'ingest, consensus, agreement'}")
            result = _execute(definitions, job, day, instance, {DAY_FINGERPRINT: fingerprints.get(str(day), "")})
            mine = _failures(result, day)
            summary.failed += mine
            summary.new_answers += _new_answers(result)
            if job == DAILY_METRICS and mine and not _made_report(result):
                step(f"{day}: report on what there is")
                again = _execute(definitions, job, day, instance, only=REPORT)
                summary.failed += _failures(again, day)
            done += 1
    for row in Warehouse(home).scan(DROPS, chosen).collect().filter(status="rejected").sort("drop_date").to_dicts():
        place = f"{row['feed']}/{row['drop_date']}/{row['drop_file']}"
        summary.failed.append(Failed(row["drop_date"], "ingest", f"{place}: rejected: {row['reason']}"))
    step("done")
    return summary


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
