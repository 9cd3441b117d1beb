"""Rater cards: how often a rater agrees with a reference, with interval, confusion, bias and speed."""

from __future__ import annotations

from datetime import date

import polars as pl

from moderation_pipelines.consensus.votes import authority_labels, window_votes
from moderation_pipelines.metrics.intervals import wilson_interval
from moderation_pipelines.policies.policy import Policies
from moderation_pipelines.tables.schema import RATERS

GOLD = "gold"
LEAVE_ONE_OUT = "leave_one_out_consensus"


def rater_cards(votes: pl.LazyFrame, policies: Policies, day: date) -> pl.DataFrame:
    """The ``raters`` rows for a window ending on ``day``: one per named rater and policy, sorted.

    The reference is gold where the rater voted on any gold item; else the majority label of the *other* raters'
    votes on the item (tied or absent: not compared). ``accuracy_basis`` names which. Anonymous votes make no card
    but do count among the others.
    """
    counting = window_votes(votes, policies).collect().lazy()
    current = counting.filter((pl.col("kind") == "vote") & pl.col("is_current"))
    named = current.filter(pl.col("rater_id").is_not_null())
    counted = current.filter(~pl.col("is_abstain"))
    referred = _with_references(counted, authority_labels(counting)).filter(pl.col("rater_id").is_not_null()).collect()
    compared = referred.lazy().filter(pl.col("reference").is_not_null())
    against_others = referred.lazy().filter(pl.col("others").is_not_null())
    violating = pl.DataFrame(
        [(p.id, label.id, label.violating) for p in policies for label in p.labels],
        schema={"policy": pl.String, "label": pl.String, "flags": pl.Boolean},
        orient="row",
    ).lazy()
    compared = (
        compared.join(violating, on=["policy", "label"], how="left")
        .join(
            violating.rename({"label": "reference", "flags": "reference_flags"}),
            on=["policy", "reference"],
            how="left",
        )
        .collect()
        .lazy()
    )
    key = ["rater_id", "policy"]
    cards = (
        named.group_by(key)
        .agg(
            pool=pl.col("pool").drop_nulls().sort().mode().sort().first(),
            n_votes=pl.len().cast(pl.Int64),
            n_abstain=pl.col("is_abstain").sum().cast(pl.Int64),
            median_seconds=pl.col("seconds").median(),
        )
        .join(
            compared.group_by(key).agg(
                n_compared=pl.len().cast(pl.Int64),
                n_right=(pl.col("label") == pl.col("reference")).sum(),
                accuracy_basis=pl.col("basis").first(),
                bias=pl.col("flags").mean() - pl.col("reference_flags").mean(),
            ),
            on=key,
            how="left",
        )
        .join(
            against_others.group_by(key).agg(
                n_others=pl.len().cast(pl.Int64), n_as_others=(pl.col("label") == pl.col("others")).sum()
            ),
            on=key,
            how="left",
        )
        .join(_confusion(compared), on=key, how="left")
        .with_columns(pl.col("n_compared", "n_others").fill_null(0), drop_date=pl.lit(day))
        .sort("policy", "rater_id")
        .collect()
    )
    return RATERS.conform(
        cards.with_columns(
            *_accuracy(cards, "n_right", "n_compared", ("accuracy", "ci_low", "ci_high")),
            *_accuracy(cards, "n_as_others", "n_others", ("others_accuracy", "others_ci_low", "others_ci_high")),
        ).lazy()
    ).collect()


def _accuracy(cards: pl.DataFrame, right: str, n: str, names: tuple[str, str, str]) -> list[pl.Series]:
    """Accuracy and the two ends of its Wilson interval, under the given names; null where n is 0."""
    pairs = cards.select(right, n).rows()
    intervals = [wilson_interval(k or 0, m) for k, m in pairs]
    columns = ([k / m if m else None for k, m in pairs], [i.low for i in intervals], [i.high for i in intervals])
    return [pl.Series(name, values, dtype=pl.Float64) for name, values in zip(names, columns, strict=True)]


def _with_references(counted: pl.LazyFrame, authority: pl.LazyFrame) -> pl.LazyFrame:
    """Votes with columns reference (null: none) and basis, one basis per rater x policy, and others: the majority of
    the other raters (null: tied or none)."""
    item = ["item_id", "policy"]
    tally = counted.group_by(*item, "label").agg(votes=pl.len().cast(pl.Int64))
    mine = (
        counted.with_row_index("vote_row")
        .select("vote_row", "rater_id", *item, "label")
        .join(tally.rename({"label": "other_label"}), on=item, how="inner")
        .with_columns(votes=pl.col("votes") - (pl.col("label") == pl.col("other_label")))
        .filter(pl.col("votes") > 0)
    )
    leave_one_out = (
        mine.with_columns(top=pl.col("votes").max().over("vote_row"))
        .filter(pl.col("votes") == pl.col("top"))
        .group_by("vote_row")
        .agg(tops=pl.len(), others=pl.col("other_label").first())
        .filter(pl.col("tops") == 1)
        .select("vote_row", "others")
    )
    gold = authority.select(*item, "gold_label").filter(pl.col("gold_label").is_not_null())
    joined = (
        counted.with_row_index("vote_row")
        .join(leave_one_out, on="vote_row", how="left")
        .join(gold, on=item, how="left")
        .with_columns(has_gold=pl.col("gold_label").is_not_null().any().over("rater_id", "policy"))
    )
    return joined.with_columns(
        reference=pl.when("has_gold").then("gold_label").otherwise("others"),
        basis=pl.when("has_gold").then(pl.lit(GOLD)).otherwise(pl.lit(LEAVE_ONE_OUT)),
    )


def _confusion(compared: pl.LazyFrame) -> pl.LazyFrame:
    cells = compared.group_by("rater_id", "policy", "reference", "label").agg(n=pl.len().cast(pl.Int64))
    return (
        cells.sort("reference", "label")
        .group_by("rater_id", "policy", maintain_order=True)
        .agg(confusion=pl.struct("reference", "label", "n"))
    )
