"""Jobs and the schedule, derived from the list of stages. Belongs here: what runs together. What it does is in
stages."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.wiring.stage import Stage
from moderation_pipelines.wiring.table_assets import REPEATABLE

PARTITION_TAG = "dagster/partition"
DAY_FINGERPRINT = "moderation/day_fingerprint"
ONE_AT_A_TIME = {"moderation/line": "days"}
PROCESS_DAY = "process_day"
COLLECT_BATCHES = "collect_batches"
DAILY_METRICS = "daily_metrics"
REPEAT_DAY = "repeat_day"
_ONCE = dg.AssetSelection.tag(REPEATABLE, "no")


def console_from(level: str) -> dict[str, Any]:
    """Run config: log lines from this level on go to the console. The UI has them all either way."""
    return {"loggers": {"console": {"config": {"log_level": level}}}}


def jobs(stages: Sequence[Stage], assets: Mapping[str, Sequence[dg.AssetsDefinition]]) -> list[Any]:
    """The jobs: a day's tables, the whole line, the line of a day that is over, batches collected."""
    day_keys = [key for s in stages if s.phase == "day" for asset in assets[s.name] for key in asset.keys]
    everything = dg.AssetSelection.all()
    return [
        _job(
            PROCESS_DAY,
            dg.AssetSelection.assets(*day_keys),
            "A day's drops into content, votes, consensus, rater cards and agreement.",
        ),
        _job(
            DAILY_METRICS, everything, "The whole line for a day: drops in, eval sets, scores, metrics and report out."
        ),
        _job(
            REPEAT_DAY,
            everything - _ONCE - dg.AssetSelection.assets("eval_sets", "releases"),
            "The whole line again for a day that is over: nothing is published, and nothing asked again.",
        ),
        _job(
            COLLECT_BATCHES,
            dg.AssetSelection.assets("batches").downstream() - _ONCE,
            "What batches answered into the ledger, then scores, metrics and report of their day.",
        ),
    ]


def _job(name: str, selection: dg.AssetSelection, description: str) -> Any:
    return dg.define_asset_job(
        name, selection, tags=ONE_AT_A_TIME, config=console_from("WARNING"), description=description
    )


def schedule(settings: Settings) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=DAILY_METRICS,
        job_name=DAILY_METRICS,
        cron_schedule=settings.schedule_cron,
        execution_timezone=settings.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Every day ({settings.schedule_cron}, {settings.timezone}): yesterday's metrics and report.",
    )
    def daily_metrics(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        day = context.scheduled_execution_time.date() - timedelta(days=1)
        return dg.RunRequest(run_key=str(day), partition_key=str(day))

    return daily_metrics
