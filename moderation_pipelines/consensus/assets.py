"""Consensus labels and rater cards."""

import dagster as dg
import polars as pl

from moderation_pipelines.consensus.labels import consensus_labels
from moderation_pipelines.consensus.raters import rater_cards
from moderation_pipelines.orchestration.assets_common import frame_metadata, table_asset, told_plainly
from moderation_pipelines.orchestration.partitions import Days
from moderation_pipelines.orchestration.pipeline import Pipeline, day_of
from moderation_pipelines.tables.schema import CONSENSUS, RATERS


def build(days: Days) -> list[dg.AssetsDefinition]:
    window = {"votes": dg.AssetIn(partition_mapping=days.window)}

    @dg.asset(**table_asset(CONSENSUS, "consensus"), partitions_def=days.daily, ins=window)
    def consensus(
        context: dg.AssetExecutionContext, votes: pl.LazyFrame, pipeline: dg.ResourceParam[Pipeline]
    ) -> dg.MaterializeResult[pl.DataFrame]:
        day = day_of(context.partition_key)
        with told_plainly():
            frame = consensus_labels(votes, pipeline.policies(), day)
        methods = {f"by {m or 'nothing'}": n for m, n in frame.group_by("method").len().sort("method").iter_rows()}
        more = {"ties": int(frame["is_tie"].sum()), **methods}
        return dg.MaterializeResult(
            value=frame, metadata=frame_metadata(frame, pipeline.warehouse.file(CONSENSUS, day), **more)
        )

    @dg.asset(**table_asset(RATERS, "consensus"), partitions_def=days.daily, ins=window)
    def raters(
        context: dg.AssetExecutionContext, votes: pl.LazyFrame, pipeline: dg.ResourceParam[Pipeline]
    ) -> dg.MaterializeResult[pl.DataFrame]:
        day = day_of(context.partition_key)
        with told_plainly():
            frame = rater_cards(votes, pipeline.policies(), day)
        return dg.MaterializeResult(value=frame, metadata=frame_metadata(frame, pipeline.warehouse.file(RATERS, day)))

    return [consensus, raters]
