"""The whole graph, derived from the list of stages. Tests and the command line build their own with ``build_defs``."""

from dataclasses import replace
from typing import Any

import dagster as dg

from moderation_pipelines.foundation.home import Home, find_home
from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.judging.judges_file import pool_name
from moderation_pipelines.orchestration import jobs, sensors
from moderation_pipelines.orchestration.stages import all_stages, all_tables
from moderation_pipelines.wiring.io_manager import WarehouseIOManager
from moderation_pipelines.wiring.partitions import Days
from moderation_pipelines.wiring.pipeline import Pipeline
from moderation_pipelines.wiring.stage import Stage
from moderation_pipelines.wiring.table_assets import ALONE


def build_defs(
    home: Home | None = None,
    settings: Settings | None = None,
    stages: tuple[Stage, ...] | None = None,
    **resources: Any,
) -> dg.Definitions:
    """Definitions for a home (default: MODERATION_HOME) with any resource replaced by name."""
    home = home or find_home()
    settings = settings or Settings.from_env()
    stages = stages or all_stages()
    pipeline = Pipeline(home, settings, stages)
    by_stage = stage_assets(stages, Days(settings, pool_name(home)))
    return dg.Definitions(
        assets=[asset for assets in by_stage.values() for asset in assets],
        jobs=jobs.jobs(stages, by_stage),
        schedules=[jobs.schedule(settings)],
        sensors=[sensors.drop_sensor(settings), sensors.batch_sensor()],
        resources={
            "io_manager": WarehouseIOManager(pipeline.warehouse, all_tables()),
            "pipeline": pipeline,
            **resources,
        },
        executor=dg.in_process_executor,
    )


def stage_assets(stages: tuple[Stage, ...], days: Days) -> dict[str, list[dg.AssetsDefinition]]:
    """The assets of every stage, by its name. Each stage knows the names of those before it."""
    out: dict[str, list[dg.AssetsDefinition]] = {}
    earlier: list[str] = []
    for stage in stages:
        assets = stage.build_assets(replace(days, stage=stage, earlier=tuple(earlier)))
        out[stage.name] = assets
        earlier += [spec.key.to_user_string() for asset in assets for spec in asset.specs if ALONE not in spec.tags]
    return out


@dg.definitions
def defs() -> dg.Definitions:
    """What Dagster loads. Evaluated when it is loaded, not when this module is imported."""
    return build_defs()
