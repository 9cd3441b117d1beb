"""Prompt versions as a table."""

import dagster as dg
import polars as pl

from moderation_pipelines.prompting.library import prompts_frame
from moderation_pipelines.prompting.tables import PROMPTS
from moderation_pipelines.wiring.partitions import Days
from moderation_pipelines.wiring.pipeline import Pipeline
from moderation_pipelines.wiring.presentation import frame_metadata, table_asset, told_plainly


def build(days: Days) -> list[dg.AssetsDefinition]:
    @dg.asset(**table_asset(PROMPTS, "prompting", kinds={"jinja", "polars"}), deps=["policies"])
    def prompts(pipeline: dg.ResourceParam[Pipeline]) -> dg.MaterializeResult[pl.DataFrame]:
        published: pl.LazyFrame = pipeline.warehouse.scan(PROMPTS)
        with told_plainly():
            frame = prompts_frame(pipeline.home, pipeline.policies(), published)
        hashes = {f"prompt {p}": h[:12] for p, h in frame.select("prompt_id", "prompt_sha256").iter_rows()}
        path = pipeline.warehouse.file(PROMPTS)
        return dg.MaterializeResult(value=frame, metadata=frame_metadata(PROMPTS, frame, path, **hashes))

    return [prompts]
