"""What is in force on a day, and the files it comes from. The list of files fails, alone, while one has mistakes."""

from collections.abc import Iterator
from typing import Any

import polars as pl

from moderation_pipelines.foundation.errors import UserError
from moderation_pipelines.in_force.tables import HOME_FILES
from moderation_pipelines.tables.in_force import IN_FORCE, current_files
from moderation_pipelines.wiring.day_run import DayRun
from moderation_pipelines.wiring.partitions import Days
from moderation_pipelines.wiring.table_assets import Made, tables_asset


def build(days: Days) -> list[Any]:
    def in_force(run: DayRun) -> Iterator[Made]:
        if swept := run.pipeline.sweep():
            run.pipeline.tell(f"{len(swept)} left by processes that were killed: removed")
        things = run.pipeline.state_day(run.date)
        kinds = pl.DataFrame({"kind": [t.kind for t in things]}, schema={"kind": pl.String})
        yield Made(IN_FORCE, None, dict(kinds.group_by("kind").len().sort("kind").iter_rows()))

    def home_files(run: DayRun) -> Iterator[Made]:
        problems = run.pipeline.problems()
        kinds = [(f.kind, f.pattern) for stage in run.pipeline.stages for f in stage.home_files]
        rows = [
            {
                "kind": t.kind,
                "name": t.name,
                "sha256": t.sha256,
                "n_problems": sum(p.file == f"prompts/{t.name}" for p in problems),
            }
            for t in current_files(run.home, kinds, ())
        ]
        yield Made(HOME_FILES, pl.DataFrame(rows, schema=HOME_FILES.schema))
        if problems:
            raise UserError(problems)

    return [
        tables_asset(days, [IN_FORCE], in_force, kinds=("yaml", "parquet")),
        tables_asset(days, [HOME_FILES], home_files, kinds=("yaml", "parquet"), fails_alone=True),
    ]
