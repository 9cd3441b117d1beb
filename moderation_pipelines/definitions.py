"""The whole graph. Tests and the command line build their own with ``build_defs(home=..., settings=...)``."""

from typing import Any

import dagster as dg

from moderation_pipelines.agreement import assets as agreement
from moderation_pipelines.consensus import assets as consensus
from moderation_pipelines.eval_sets import assets as eval_sets
from moderation_pipelines.foundation.home import Home, find_home
from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.ingest import assets as ingest
from moderation_pipelines.judging import assets as scoring
from moderation_pipelines.judging.judges_file import pool_name
from moderation_pipelines.metrics import assets as metrics
from moderation_pipelines.orchestration import automation
from moderation_pipelines.policies import assets as policies
from moderation_pipelines.prompting import assets as prompting
from moderation_pipelines.reports import assets as reports
from moderation_pipelines.tables.warehouse import Warehouse
from moderation_pipelines.validations import assets as validation
from moderation_pipelines.wiring.io_manager import WarehouseIOManager
from moderation_pipelines.wiring.partitions import Days
from moderation_pipelines.wiring.pipeline import Pipeline

STAGES = (policies, ingest, consensus, agreement, eval_sets, prompting, scoring, metrics, validation, reports)


def build_defs(home: Home | None = None, settings: Settings | None = None, **resources: Any) -> dg.Definitions:
    """Definitions for a home (default: MODERATION_HOME) with any resource replaced by name."""
    home = home or find_home()
    settings = settings or Settings.from_env()
    days = Days(settings, pool_name(home))
    return dg.Definitions(
        assets=[asset for stage in STAGES for asset in stage.build(days)],
        jobs=automation.jobs(),
        schedules=[automation.schedule(settings)],
        sensors=[automation.sensor(settings), automation.batch_sensor()],
        resources={
            "io_manager": WarehouseIOManager(Warehouse(home)),
            "pipeline": Pipeline(home, settings),
            **resources,
        },
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """What Dagster loads. Evaluated when it is loaded, not when this module is imported."""
    return build_defs()
