"""What an authority said of an item: gold and adjudication."""

from __future__ import annotations

import polars as pl

from moderation_pipelines.votes.repeats import DELIVERY


def authority_labels(votes: pl.LazyFrame) -> pl.LazyFrame:
    """One row per item x policy with an authority's word. Columns: item_id, policy, gold_label, adjudicated_label.

    Of several golds (or adjudications) of an item the last one made counts.
    """
    midnight = pl.col("drop_date").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    by_time = votes.filter(pl.col("kind").is_in(["gold", "adjudication"]) & ~pl.col("is_abstain")).sort(
        pl.col("labeled_at").fill_null(midnight), *DELIVERY
    )
    return by_time.group_by("item_id", "policy").agg(
        gold_label=pl.col("label").filter(pl.col("kind") == "gold").last(),
        adjudicated_label=pl.col("label").filter(pl.col("kind") == "adjudication").last(),
    )
