"""The votes that count in a window of days."""

from __future__ import annotations

import polars as pl

from moderation_pipelines.policies.policy import Policies
from moderation_pipelines.votes.repeats import DELIVERY, REPEAT_KEY, mark_current, takes_last


def window_votes(votes: pl.LazyFrame, policies: Policies) -> pl.LazyFrame:
    """The window's votes on known policies with ``is_current`` decided anew over all its days.

    A vote_id delivered for an item and policy on several days counts once, as last delivered. Rows come in delivery
    order. Votes whose policy or label has left the policies since they were delivered are left out.
    """
    allowed = pl.DataFrame(
        [(p.id, label) for p in policies for label in (*p.label_ids, *p.abstain)],
        schema={"policy": pl.String, "label": pl.String},
        orient="row",
    )
    return mark_current(
        votes.join(allowed.lazy(), on=["policy", "label"], how="semi")
        .sort(DELIVERY)
        .unique(["vote_id", "item_id", "policy"], keep="last", maintain_order=True)
        .with_columns(named=pl.col("rater_id").is_not_null(), takes_last=takes_last(policies)),
        REPEAT_KEY,
    ).drop("named", "takes_last")


def counted_votes(votes: pl.LazyFrame) -> pl.LazyFrame:
    """Votes that count for consensus and agreement: kind vote, current, not abstaining. Needs ``window_votes``."""
    return votes.filter((pl.col("kind") == "vote") & pl.col("is_current") & ~pl.col("is_abstain"))
