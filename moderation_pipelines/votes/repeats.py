"""Which of a rater's repeated votes counts. One rule, used for a day and again for a window of days."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from moderation_pipelines.policies.policy import Policies

DELIVERY = ("drop_date", "drop_file", "drop_line")
REPEAT_KEY = ("item_id", "policy", "rater_id", "kind")


def takes_last(policies: Policies) -> pl.Expr:
    """Whether the policy counts the last of a rater's repeats (else the first)."""
    return pl.col("policy").is_in([p.id for p in policies if p.on_repeat == "last"])


def mark_current(votes: pl.LazyFrame, key: Sequence[str]) -> pl.LazyFrame:
    """The votes, rows in the same order, with ``is_current``.

    Needs columns ``labeled_at``, ``named`` (has a rater) and ``takes_last``; rows come in delivery order. Repeats go
    by the time of the vote where every one of them has it, else by delivery. An anonymous vote is always current:
    nobody can say whether it is a repeat.
    """
    repeat = pl.struct(*key)
    untimed = pl.col("labeled_at").is_null().any().over(list(key))
    return (
        votes.with_row_index("delivery")
        .with_columns(judged_at=pl.when(~untimed).then("labeled_at"))
        .sort("judged_at", "delivery")
        .with_columns(
            is_current=~pl.col("named")
            | pl.when("takes_last").then(repeat.is_last_distinct()).otherwise(repeat.is_first_distinct())
        )
        .sort("delivery")
        .drop("delivery", "judged_at")
    )
