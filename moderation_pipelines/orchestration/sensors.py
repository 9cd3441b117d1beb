"""The sensors: which days run because of what was delivered or came back. What a run does is in the stages."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from moderation_pipelines.consensus.tables import CONSENSUS
from moderation_pipelines.foundation.errors import UserError
from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.ingest.landing import day_fingerprint, landing_days
from moderation_pipelines.judging.batch import ended_batches, open_batches
from moderation_pipelines.judging.judges_file import load_judges_leniently
from moderation_pipelines.judging.ledger.ledger import open_ledger
from moderation_pipelines.orchestration.drop_sensor import (
    DayRequest,
    RunState,
    SeenState,
    plan,
    window_fingerprints,
)
from moderation_pipelines.orchestration.jobs import (
    COLLECT_BATCHES,
    DAILY_METRICS,
    DAY_FINGERPRINT,
    PARTITION_TAG,
    PROCESS_DAY,
)
from moderation_pipelines.policies.policy import usable_policies
from moderation_pipelines.tables.freshness import stale_days
from moderation_pipelines.wiring.pipeline import Pipeline

_FAILED = {dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
_GOING = {
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
}


def drop_sensor(settings: Settings) -> dg.SensorDefinition:
    @dg.sensor(
        name="label_drop_sensor",
        job_name=PROCESS_DAY,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Processes a day when its files in the landing zone are new, corrected or late, or its run failed.",
    )
    def label_drop_sensor(context: dg.SensorEvaluationContext, pipeline: dg.ResourceParam[Pipeline]) -> dg.SensorResult:
        try:
            there = landing_days(pipeline.home)
        except UserError as error:
            raise RuntimeError(str(error)) from None
        today = datetime.now(UTC).date() + timedelta(days=1)
        outside = [d for d in there if not settings.start_date <= d < today]
        own = {d: day_fingerprint(files) for d, files in there.items() if d not in outside}
        here = window_fingerprints(own, settings.window_days)
        seen = SeenState.from_cursor(context.cursor)
        finished = _finished(context.instance, {d: f for d, f in here.items() if seen.settling.get(d) == f})
        tables = {t.name: t for s in pipeline.stages for t in s.tables}
        stale = {str(d): digest for d, digest in stale_days(pipeline.warehouse, tables, [CONSENSUS]).items()}
        requests, memory, notes = plan(seen, here, _outcomes(context.instance, seen), finished, stale)
        notes += [f"{d} lies outside the partitions ({settings.start_date} to today)" for d in outside]
        for note in notes:
            context.log.warning(note)
        runs = [dg.RunRequest(run_key=r.run_key, partition_key=r.day) for r in requests]
        skip = None if runs else f"nothing to do: {len(here)} days with files, {len(memory.settling)} settling"
        return dg.SensorResult(run_requests=runs, cursor=memory.to_cursor(), skip_reason=skip)

    return label_drop_sensor


def batch_sensor() -> dg.SensorDefinition:
    @dg.sensor(
        name="batch_sensor",
        job_name=COLLECT_BATCHES,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Collects a day's batches when one of them has ended, and scores the day again.",
    )
    def sense(context: dg.SensorEvaluationContext, pipeline: dg.ResourceParam[Pipeline]) -> dg.SensorResult:
        if not pipeline.home.ledger.exists() and "MODERATION_LEDGER" not in os.environ:
            return dg.SensorResult(skip_reason="no batch was ever sent")
        with open_ledger(pipeline.home.ledger) as ledger:
            out = len(open_batches(ledger))
            if not out:
                return dg.SensorResult(skip_reason="no batch is out")
            judges, _ = load_judges_leniently(pipeline.home, usable_policies(pipeline.home))
            ended = ended_batches(ledger, list(judges.endpoints.values()))
        days = sorted({b.day for b in ended})
        runs = [
            dg.RunRequest(run_key="+".join(["batches", *(b.name for b in ended if b.day == day)]), partition_key=day)
            for day in days
        ]
        return dg.SensorResult(
            run_requests=runs, skip_reason=None if runs else f"{out} batches are out, none has ended"
        )

    return sense


def _finished(instance: dg.DagsterInstance, here: dict[str, str]) -> list[str]:
    """Days that `modpipe run` has processed with just these files."""
    done = []
    for day, fingerprint in here.items():
        tags = {DAY_FINGERPRINT: fingerprint, PARTITION_TAG: day}
        filters = dg.RunsFilter(tags=tags, statuses=[dg.DagsterRunStatus.SUCCESS])
        if instance.get_run_records(filters, limit=1):
            done.append(day)
    return done


def _outcomes(instance: dg.DagsterInstance, seen: SeenState) -> dict[str, RunState]:
    """How the run the sensor last asked for each day stands. A later good run of the day by anybody settles it."""
    out: dict[str, RunState] = {}
    for day, remembered in seen.days.items():
        key = DayRequest(day, remembered.fingerprint, remembered.attempt, remembered.stale).run_key
        records = instance.get_run_records(dg.RunsFilter(tags={"dagster/run_key": key}), limit=1)
        if not records:
            out[day] = "unknown"
            continue
        status = records[0].dagster_run.status
        out[day] = "running" if status in _GOING else "failed" if status in _FAILED else "succeeded"
        if out[day] == "failed" and _mended_since(instance, day, records[0].create_timestamp):
            out[day] = "succeeded"
    return out


def _mended_since(instance: dg.DagsterInstance, day: str, moment: object) -> bool:
    filters = dg.RunsFilter(
        tags={PARTITION_TAG: day},
        statuses=[dg.DagsterRunStatus.SUCCESS],
        created_after=moment,  # type: ignore[arg-type]
    )
    names: Sequence[str] = [r.dagster_run.job_name for r in instance.get_run_records(filters, limit=20)]
    return any(name in (PROCESS_DAY, DAILY_METRICS) for name in names)
