"""Votes to labels: one consensus row per item and policy, by the policy's aggregation."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl

from moderation_pipelines.consensus.dawid_skene import dawid_skene
from moderation_pipelines.consensus.votes import authority_labels, counted_votes, vote_counts, window_votes
from moderation_pipelines.policies.policy import Policies, Policy
from moderation_pipelines.tables.schema import CONSENSUS

TIE = 1e-9


def consensus_labels(votes: pl.LazyFrame, policies: Policies, day: date) -> pl.DataFrame:
    """The ``consensus`` rows of ``day``: every item x policy voted on that day, from all its votes in the window.

    ``votes`` are the window's rows of the ``votes`` table, ``day`` its last day. Gold and adjudication override the
    votes and the method says so; gold goes before adjudication. Tied items have a null label under ``majority``;
    under ``dawid_skene`` only when two posteriors are equal. Sorted by policy and item.
    """
    counting = window_votes(votes, policies).collect()
    frames = [
        _policy_consensus(counting.filter(pl.col("policy") == policy.id), policy, day)
        for policy in policies
        if counting.filter((pl.col("policy") == policy.id) & (pl.col("drop_date") == day)).height
    ]
    if not frames:
        return CONSENSUS.empty()
    return CONSENSUS.conform(pl.concat(frames).lazy()).sort("policy", "item_id").collect()


def _policy_consensus(votes: pl.DataFrame, policy: Policy, day: date) -> pl.DataFrame:
    today = votes.lazy().filter((pl.col("drop_date") == day) & (pl.col("kind") != "audit")).select("item_id").unique()
    counted = counted_votes(votes.lazy()).collect()
    labels = policy.label_ids
    current = votes.lazy().filter((pl.col("kind") == "vote") & pl.col("is_current"))
    abstentions = current.group_by("item_id").agg(n_abstain=pl.col("is_abstain").sum().cast(pl.Int64))
    raters = (
        counted.lazy()
        .group_by("item_id")
        .agg(n_raters=(pl.col("rater_id").drop_nulls().n_unique() + pl.col("rater_id").null_count()).cast(pl.Int64))
    )
    authority = authority_labels(votes.lazy()).drop("policy")
    items = (
        votes.lazy()
        .select("item_id")
        .unique()
        .join(vote_counts(counted.lazy(), labels), on="item_id", how="left")
        .join(raters, on="item_id", how="left")
        .join(abstentions, on="item_id", how="left")
        .join(authority, on="item_id", how="left")
        .with_columns(pl.col("n_raters", "n_abstain", *[f"c{k}" for k in range(len(labels))]).fill_null(0))
        .sort("item_id")
        .collect()
    )
    counts = items.select([f"c{k}" for k in range(len(labels))]).to_numpy().astype(np.float64)
    n_votes = counts.sum(axis=1)
    top = counts.max(axis=1, initial=0)
    is_tie = ((counts == top[:, None]).sum(axis=1) > 1) & (n_votes > 0)
    majority = np.where(is_tie | (n_votes == 0), -1, counts.argmax(axis=1))

    index = {label: k for k, label in enumerate(labels)}
    decided = items.select(pl.coalesce("gold_label", "adjudicated_label"))["gold_label"]
    fixed = np.array([index.get(x, -1) if x is not None else -1 for x in decided], dtype=np.int64)
    if policy.aggregation == "dawid_skene":
        posterior = _dawid_skene_posterior(items["item_id"], counted, policy, fixed)
        ordered = np.sort(posterior, axis=1)
        clear = ordered[:, -1] - ordered[:, -2] > TIE
        chosen = np.where(clear & (n_votes > 0), posterior.argmax(axis=1), -1)
        method = np.where(n_votes > 0, "dawid_skene", "none")
    else:
        posterior = np.where(n_votes[:, None] > 0, counts / np.maximum(n_votes, 1)[:, None], 1 / len(labels))
        chosen = majority
        method = np.where(n_votes > 0, "majority", "none")
    has_word = fixed >= 0
    posterior = np.where(has_word[:, None], np.eye(len(labels))[fixed], posterior)
    chosen = np.where(has_word, fixed, chosen)
    method = np.where(has_word, np.where(items["gold_label"].is_not_null().to_numpy(), "gold", "adjudication"), method)

    row = np.arange(len(chosen))
    known = chosen >= 0
    label_array = np.array([*labels, None], dtype=object)
    violating = np.array([*(label.violating for label in policy.labels), None], dtype=object)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.nansum(np.where(posterior > 0, posterior * np.log2(posterior), 0.0), axis=1) + 0.0
    share = np.where(known & (n_votes > 0), counts[row, chosen] / np.maximum(n_votes, 1), np.nan)
    undecided = (n_votes == 0) & ~has_word
    frame = items.select("item_id", "gold_label", "n_raters", "n_abstain").with_columns(
        policy=pl.lit(policy.id),
        label=pl.Series(label_array[chosen].tolist(), dtype=pl.String),
        violating=pl.Series(violating[chosen].tolist(), dtype=pl.Boolean),
        method=pl.Series(method.tolist(), dtype=pl.String).replace("none", None),
        probability=_nullable(np.where(known, posterior[row, chosen], np.nan)),
        posterior=_probabilities(posterior, labels, undecided),
        entropy=_nullable(np.where(undecided, np.nan, entropy)),
        n_votes=pl.Series(n_votes.astype(np.int64)),
        vote_share=_nullable(share),
        is_tie=pl.Series(is_tie),
        majority_label=pl.Series(label_array[majority].tolist(), dtype=pl.String),
        drop_date=pl.lit(day),
    )
    return CONSENSUS.conform(frame.lazy().join(today, on="item_id", how="semi")).collect()


def _nullable(values: np.ndarray) -> pl.Series:
    return pl.Series(values).fill_nan(None)


def _probabilities(posterior: np.ndarray, labels: tuple[str, ...], undecided: np.ndarray) -> pl.Series:
    wide = pl.DataFrame({f"p{k}": posterior[:, k] for k in range(len(labels))}).with_columns(
        undecided=pl.Series(undecided)
    )
    pairs = [pl.struct(label=pl.lit(label), probability=pl.col(f"p{k}")) for k, label in enumerate(labels)]
    return wide.select(posterior=pl.when(~pl.col("undecided")).then(pl.concat_list(pairs)))["posterior"]


def _dawid_skene_posterior(item_ids: pl.Series, counted: pl.DataFrame, policy: Policy, fixed: np.ndarray) -> np.ndarray:
    """Posterior for every item. The anonymous votes of a pool share one confusion matrix: that pool's."""
    items = pl.DataFrame({"item_id": item_ids}).with_row_index("item")
    labels = pl.DataFrame({"label": policy.label_ids}).with_row_index("code")
    rater = pl.coalesce("rater_id", pl.format("\x00{}", pl.col("pool").fill_null("")))
    indexed = (
        counted.lazy()
        .select("item_id", "label", rater=rater)
        .join(items.lazy(), on="item_id")
        .join(labels.lazy(), on="label")
        .sort("item", "rater", "code")
        .with_columns(rater_code=pl.col("rater").rank("dense").cast(pl.Int64) - 1)
        .collect()
    )
    n_raters = int(indexed["rater_code"].max() or 0) + 1  # type: ignore[arg-type]
    fit = dawid_skene(
        indexed["item"].cast(pl.Int64).to_numpy(),
        indexed["rater_code"].to_numpy(),
        indexed["code"].cast(pl.Int64).to_numpy(),
        len(item_ids),
        n_raters,
        len(policy.label_ids),
        gold=fixed,
    )
    return fit.posterior


def decided_by_authority() -> pl.Expr:
    """Whether gold or adjudication decided a row's label; never null."""
    return pl.col("method").is_in(["gold", "adjudication"]).fill_null(False)


def latest_consensus(consensus: pl.LazyFrame) -> pl.LazyFrame:
    """One row per item x policy of a history of consensus rows: that of the latest day.

    Rows decided by an authority go before later ones that are not: gold is not forgotten when it leaves the window.
    """
    return consensus.sort(decided_by_authority(), "drop_date").unique(
        ["item_id", "policy"], keep="last", maintain_order=True
    )
