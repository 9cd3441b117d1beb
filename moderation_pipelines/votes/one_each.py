"""Repeated votes: a rater asked the same again."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl


def repeated_votes(votes: pl.LazyFrame) -> pl.LazyFrame:
    """Votes of named raters as if each rater x item were an item of its own: what intra-rater agreement is made from.

    ``votes``: one row per vote, repeats included: item_id, rater_id, label. The columns stay; rater_id becomes null.
    """
    both = pl.struct("rater_id", "item_id").struct.json_encode()
    return votes.filter(pl.col("rater_id").is_not_null()).with_columns(
        item_id=both, rater_id=pl.lit(None, dtype=pl.String)
    )


def one_vote_each(votes: pl.LazyFrame, over: Sequence[str] = ("item_id", "rater_id")) -> pl.LazyFrame:
    """The last vote of every named rater on every item, and all anonymous ones, in the order of the rows."""
    place = pl.col("place")
    numbered = votes.with_row_index("place")
    return numbered.filter(pl.col("rater_id").is_null() | (place == place.max().over(*over))).drop("place")
