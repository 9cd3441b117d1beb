"""Consensus labels and rater cards."""

import dagster as dg
import polars as pl

from moderation_pipelines.consensus.labels import chosen_methods, consensus_labels, consensus_methods_table
from moderation_pipelines.consensus.tables import CONSENSUS, CONSENSUS_METHODS
from moderation_pipelines.raters.cards import rater_cards
from moderation_pipelines.raters.tables import RATERS
from moderation_pipelines.wiring.partitions import Days
from moderation_pipelines.wiring.pipeline import Pipeline, day_of
from moderation_pipelines.wiring.presentation import frame_metadata, table_asset, told_plainly


def build(days: Days) -> list[dg.AssetsDefinition]:
    window = {"votes": dg.AssetIn(partition_mapping=days.window)}

    @dg.asset(**table_asset(CONSENSUS_METHODS, "consensus"), partitions_def=days.daily, ins=window)
    def consensus_methods(
        context: dg.AssetExecutionContext, votes: pl.LazyFrame, pipeline: dg.ResourceParam[Pipeline]
    ) -> dg.MaterializeResult[pl.DataFrame]:
        day = day_of(context.partition_key)
        with told_plainly():
            frame = consensus_methods_table(votes, pipeline.policies(), day)
        chosen = {f"method of {p}": m for p, m in chosen_methods(frame).items()}
        unsettled = frame.filter(pl.col("is_chosen") & ~pl.col("is_converged")).height
        return dg.MaterializeResult(
            value=frame,
            metadata=frame_metadata(
                CONSENSUS_METHODS,
                frame,
                pipeline.warehouse.file(CONSENSUS_METHODS, day),
                **chosen,
                **{"not converged": unsettled},
            ),
        )

    @dg.asset(**table_asset(CONSENSUS, "consensus"), partitions_def=days.daily, ins=window)
    def consensus(
        context: dg.AssetExecutionContext,
        votes: pl.LazyFrame,
        consensus_methods: pl.LazyFrame,
        pipeline: dg.ResourceParam[Pipeline],
    ) -> dg.MaterializeResult[pl.DataFrame]:
        day = day_of(context.partition_key)
        with told_plainly():
            methods = chosen_methods(consensus_methods.collect())
            frame = consensus_labels(votes, pipeline.policies(), day, methods)
        methods = {f"by {m or 'nothing'}": n for m, n in frame.group_by("method").len().sort("method").iter_rows()}
        more = {"ties": int(frame["is_tie"].sum()), **methods}
        return dg.MaterializeResult(
            value=frame, metadata=frame_metadata(CONSENSUS, frame, pipeline.warehouse.file(CONSENSUS, day), **more)
        )

    @dg.asset(**table_asset(RATERS, "consensus"), partitions_def=days.daily, ins=window)
    def raters(
        context: dg.AssetExecutionContext, votes: pl.LazyFrame, pipeline: dg.ResourceParam[Pipeline]
    ) -> dg.MaterializeResult[pl.DataFrame]:
        day = day_of(context.partition_key)
        with told_plainly():
            frame = rater_cards(votes, pipeline.policies(), day)
        return dg.MaterializeResult(
            value=frame, metadata=frame_metadata(RATERS, frame, pipeline.warehouse.file(RATERS, day))
        )

    return [consensus_methods, consensus, raters]
