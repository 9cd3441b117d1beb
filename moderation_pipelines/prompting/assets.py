"""Prompt versions as a table."""

from typing import Any

import polars as pl

from moderation_pipelines.policies.policy import usable_policies
from moderation_pipelines.prompting.library import prompts_frame
from moderation_pipelines.prompting.tables import PROMPTS
from moderation_pipelines.wiring.day_run import DayRun
from moderation_pipelines.wiring.partitions import Days
from moderation_pipelines.wiring.table_assets import one, tables_asset


def build(days: Days) -> list[Any]:
    def prompts(run: DayRun) -> pl.DataFrame:
        return prompts_frame(run.home, usable_policies(run.home), run.warehouse.scan(PROMPTS))

    def shown(frame: pl.DataFrame) -> dict[str, Any]:
        return {f"prompt {p}": h[:12] for p, h in frame.select("prompt_id", "prompt_sha256").iter_rows()}

    return [tables_asset(days, [PROMPTS], one(PROMPTS, prompts, shown), kinds=("jinja", "polars"))]
