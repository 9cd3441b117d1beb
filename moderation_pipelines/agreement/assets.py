"""Agreement between raters over the trailing window, and where they disagree."""

from collections.abc import Callable
from datetime import timedelta

import dagster as dg
import polars as pl

from moderation_pipelines.agreement.daily import (
    agreement_table,
    disagreements_table,
    guideline_comparisons_table,
    rater_pairs_table,
    voted_with_items,
)
from moderation_pipelines.agreement.tables import AGREEMENT, DISAGREEMENTS, GUIDELINE_COMPARISONS, RATER_PAIRS
from moderation_pipelines.tables.table import Table
from moderation_pipelines.wiring.partitions import Days
from moderation_pipelines.wiring.pipeline import Pipeline, day_of
from moderation_pipelines.wiring.presentation import frame_metadata, table_asset, told_plainly


def build(days: Days) -> list[dg.AssetsDefinition]:
    ins = {n: dg.AssetIn(partition_mapping=days.window) for n in ("votes", "content")}

    def over_window(table: Table, make: Callable[..., pl.DataFrame], *more: str) -> dg.AssetsDefinition:
        @dg.asset(**table_asset(table, "agreement"), partitions_def=days.daily, ins=ins)
        def made(
            context: dg.AssetExecutionContext,
            votes: pl.LazyFrame,
            content: pl.LazyFrame,
            pipeline: dg.ResourceParam[Pipeline],
        ) -> dg.MaterializeResult[pl.DataFrame]:
            day, settings = day_of(context.partition_key), pipeline.settings
            given = {
                "start": day - timedelta(days=settings.window_days - 1),
                "replicates": settings.bootstrap_replicates,
            }
            with told_plainly():
                policies = pipeline.policies()
                voted = voted_with_items(votes, content, policies)
                frame = make(voted, policies, end=day, **{name: given[name] for name in more})
            said = _alphas(frame) if table is AGREEMENT else {}
            return dg.MaterializeResult(
                value=frame, metadata=frame_metadata(table, frame, pipeline.warehouse.file(table, day), **said)
            )

        return made

    return [
        over_window(AGREEMENT, agreement_table, "start", "replicates"),
        over_window(DISAGREEMENTS, disagreements_table, "replicates"),
        over_window(RATER_PAIRS, rater_pairs_table),
        over_window(GUIDELINE_COMPARISONS, guideline_comparisons_table, "replicates"),
    ]


def _alphas(frame: pl.DataFrame) -> dict[str, str]:
    overall = frame.filter(pl.col("slice") == "all", pl.col("coefficient") == "krippendorff_alpha")
    return {
        f"alpha {p}": "undefined" if v is None else f"{v:.3f}, n {n:,}"
        for p, v, n in overall.select("policy", "value", "n_items").iter_rows()
    }
