"""Which of a rater's repeated votes counts. One rule, used for a day and again for a window of days."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from moderation_pipelines.policies.policy import Policies

REPEAT_KEY = ("item_id", "policy", "rater_id", "kind")


def judged_at() -> pl.Expr:
    """When a vote was made, for ordering repeats: labeled_at, or the start of its drop day when that is unknown."""
    midnight = pl.col("drop_date").cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return pl.coalesce("labeled_at", midnight)


def takes_last(policies: Policies) -> pl.Expr:
    """Whether the policy counts the last of a rater's repeats (else the first)."""
    return pl.col("policy").is_in([p.id for p in policies if p.on_repeat == "last"])


def mark_current(votes: pl.LazyFrame, key: Sequence[str], order: Sequence[str]) -> pl.LazyFrame:
    """The votes, rows in the same order, with ``is_current``.

    Needs columns ``named`` (has a rater) and ``takes_last``. An anonymous vote is always current: nobody can say
    whether it is a repeat. Ties of ``order`` are broken by delivery order.
    """
    repeat = pl.struct(*key)
    return (
        votes.with_row_index("delivery")
        .sort([*order, "delivery"])
        .with_columns(
            is_current=~pl.col("named")
            | pl.when("takes_last").then(repeat.is_last_distinct()).otherwise(repeat.is_first_distinct())
        )
        .sort("delivery")
        .drop("delivery")
    )
