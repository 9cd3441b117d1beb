"""Which votes count in a window of days: asked by consensus, agreement and rater cards."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl

from moderation_pipelines.policies.policy import Policies, Policy
from moderation_pipelines.tables.left_out import Tally
from moderation_pipelines.votes.repeats import DELIVERY, REPEAT_KEY, mark_current, takes_last

NewTally = Callable[[str, str, int], Tally]


def with_renamed_labels(frame: pl.LazyFrame, policies: Policies, columns: Sequence[str] = ("label",)) -> pl.LazyFrame:
    """The rows with every label by its name of today, as ``renamed_from`` in the policies says."""
    renamed = [
        (policy.id, old, label.id) for policy in policies for label in policy.labels for old in label.renamed_from
    ]
    for policy, old, new in renamed:
        hit = pl.col("policy") == policy
        frame = frame.with_columns(
            pl.when(hit & (pl.col(c) == old)).then(pl.lit(new)).otherwise(pl.col(c)).alias(c) for c in columns
        )
    return frame


def window_votes(votes: pl.LazyFrame, policies: Policies) -> pl.LazyFrame:
    """The window's votes on known policies with ``is_current`` decided again over all its days.

    A vote_id delivered for an item and policy on several days counts once, as last delivered. Rows come in delivery
    order. Votes whose policy or label has left the policies since they were delivered are left out:
    :func:`tally_votes` counts them.
    """
    allowed = pl.DataFrame(
        [(p.id, label) for p in policies for label in (*p.label_ids, *p.abstain)],
        schema={"policy": pl.String, "label": pl.String},
        orient="row",
    )
    return mark_current(
        with_renamed_labels(votes, policies)
        .join(allowed.lazy(), on=["policy", "label"], how="semi")
        .sort(DELIVERY)
        .unique(["vote_id", "item_id", "policy"], keep="last", maintain_order=True)
        .with_columns(named=pl.col("rater_id").is_not_null(), takes_last=takes_last(policies)),
        REPEAT_KEY,
    ).drop("named", "takes_last")


def counted_votes(votes: pl.LazyFrame) -> pl.LazyFrame:
    """Votes that count for consensus and agreement: kind vote, current, not abstaining. Needs ``window_votes``."""
    return votes.filter((pl.col("kind") == "vote") & pl.col("is_current") & ~pl.col("is_abstain"))


def tally_votes(stage: str, votes: pl.LazyFrame, window: pl.DataFrame, policies: Policies, new_tally: NewTally) -> None:
    """Count, per policy, what the window's votes were left out for, down to those that count.

    ``votes``: the window's rows of the table; ``window``: what :func:`window_votes` kept of them.
    """
    by_policy = with_renamed_labels(votes, policies).group_by("policy", "label").len().collect(engine="streaming")
    kept = window.group_by("policy", "kind", "is_abstain", "is_current").len()
    for policy in sorted(set(by_policy["policy"]) | set(policies.ids)):
        mine = by_policy.filter(pl.col("policy") == policy)
        tally = new_tally(stage, policy, int(mine["len"].sum()))
        if policy not in policies:
            tally.leave_out("policy is not in prompts/, or has mistakes", tally.n_in)
            continue
        known = mine.filter(pl.col("label").is_in([*policies[policy].label_ids, *policies[policy].abstain]))
        rows = kept.filter(pl.col("policy") == policy)
        _leave_out(tally, "label is not in the policy", tally.n_in - int(known["len"].sum()))
        _leave_out(tally, "delivered again later under the same vote_id", tally.n_out - int(rows["len"].sum()))
        for kind in ("gold", "adjudication", "audit"):
            _leave_out(tally, f"kind {kind}: no vote", _sum(rows, pl.col("kind") == kind))
        is_vote = pl.col("kind") == "vote"
        _leave_out(tally, "repeat by the same rater", _sum(rows, is_vote & ~pl.col("is_current")))
        _leave_out(tally, "abstention", _sum(rows, is_vote & pl.col("is_current") & pl.col("is_abstain")))


def _leave_out(tally: Tally, rule: str, n: int) -> None:
    if n:
        tally.leave_out(rule, n)


def _sum(rows: pl.DataFrame, condition: pl.Expr) -> int:
    return int(rows.filter(condition)["len"].sum())


def unknown_labels(votes: pl.LazyFrame, policy: Policy, policies: Policies) -> dict[str, int]:
    """Labels that stand in stored votes of a policy and not in the policy, with how many votes have them."""
    known = [*policy.label_ids, *policy.abstain]
    mine = with_renamed_labels(votes.filter(pl.col("policy") == policy.id), policies)
    found = mine.filter(~pl.col("label").is_in(known)).group_by("label").len().sort("label")
    return dict(found.collect(engine="streaming").iter_rows())
