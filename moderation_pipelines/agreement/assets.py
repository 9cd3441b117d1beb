"""Agreement between raters over the trailing window."""

from datetime import timedelta

import dagster as dg
import polars as pl

from moderation_pipelines.agreement.tables import agreement_table
from moderation_pipelines.orchestration.assets_common import frame_metadata, table_asset, told_plainly
from moderation_pipelines.orchestration.partitions import Days
from moderation_pipelines.orchestration.pipeline import Pipeline, day_of
from moderation_pipelines.tables.schema import AGREEMENT


def build(days: Days) -> list[dg.AssetsDefinition]:
    @dg.asset(
        **table_asset(AGREEMENT, "agreement"),
        partitions_def=days.daily,
        ins={n: dg.AssetIn(partition_mapping=days.window) for n in ("votes", "content")},
    )
    def agreement(
        context: dg.AssetExecutionContext,
        votes: pl.LazyFrame,
        content: pl.LazyFrame,
        pipeline: dg.ResourceParam[Pipeline],
    ) -> dg.MaterializeResult[pl.DataFrame]:
        day, settings = day_of(context.partition_key), pipeline.settings
        start = day - timedelta(days=settings.window_days - 1)
        with told_plainly():
            frame = agreement_table(votes, content, pipeline.policies(), start, day, settings.bootstrap_replicates)
        overall = frame.filter(pl.col("slice") == "all", pl.col("coefficient") == "krippendorff_alpha")
        alphas = {
            f"alpha {p}": "undefined" if v is None else f"{v:.3f}, n {n:,}"
            for p, v, n in overall.select("policy", "value", "n_items").iter_rows()
        }
        return dg.MaterializeResult(
            value=frame, metadata=frame_metadata(frame, pipeline.warehouse.file(AGREEMENT, day), **alphas)
        )

    return [agreement]
