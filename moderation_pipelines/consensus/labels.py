"""Votes to labels: one consensus row per item and policy, by the policy's aggregation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from moderation_pipelines.consensus.aggregate import FALLBACK, aggregate
from moderation_pipelines.consensus.basis import (
    AUTHORITY,
    CALIBRATED,
    SHARES,
    VOTE_SHARE,
    basis_of_method,
    decided_by_authority,
    with_basis,
)
from moderation_pipelines.consensus.calibration import Calibration, evidence_of
from moderation_pipelines.consensus.choice import IN_POLICY, Held, Measured, measure_methods
from moderation_pipelines.consensus.method import METHODS
from moderation_pipelines.consensus.tables import CONSENSUS, CONSENSUS_METHODS, RELIABILITY
from moderation_pipelines.policies.policy import Policies, Policy
from moderation_pipelines.stats.intervals import clopper_pearson_interval
from moderation_pipelines.votes.authority import authority_labels
from moderation_pipelines.votes.matrix import VoteMatrix, matrix_of_ids
from moderation_pipelines.votes.window import NewTally, counted_votes, tally_votes, window_votes, with_renamed_labels


def consensus_labels(
    votes: pl.LazyFrame,
    policies: Policies,
    day: date,
    methods: Mapping[str, str] | None = None,
    new_tally: NewTally | None = None,
    calibrations: Mapping[str, Calibration] | None = None,
) -> pl.DataFrame:
    """The ``consensus`` rows of ``day``: every item x policy voted on that day, from all its votes in the window.

    ``votes`` are the window's rows of the ``votes`` table, ``day`` its last day. ``methods``: the method per policy, as
    chosen by :func:`measured_methods`; default: the policy's own, ``dawid_skene`` where it is to be measured.
    ``calibrations``: that of the method, per policy that has one; the label stays what the method gives.
    Gold and adjudication override the votes and the method says so; gold goes before adjudication. Tied items have a
    null label. Sorted by policy and item. ``new_tally`` counts the votes and items that are left out.
    """
    counting = window_votes(votes, policies).collect()
    if new_tally is not None:
        tally_votes("consensus", votes, counting, policies, new_tally)
    frames = []
    for policy in policies:
        mine = counting.filter(pl.col("policy") == policy.id)
        if mine.filter(pl.col("drop_date") == day).height:
            method = (methods or {}).get(policy.id) or wanted_method(policy) or FALLBACK
            frames.append(
                _policy_consensus(_voted(mine, policy), policy, method, day, (calibrations or {}).get(policy.id))
            )
            if new_tally is not None:
                n_items = mine["item_id"].n_unique()
                tally = new_tally("consensus items", policy.id, n_items)
                tally.leave_out("not voted on this day", n_items - frames[-1].height)
    if not frames:
        return CONSENSUS.empty()
    return CONSENSUS.picked(pl.concat(frames).lazy()).sort("policy", "item_id").collect()


def wanted_method(policy: Policy) -> str | None:
    """The aggregation method the policy names; None if it is to be measured."""
    return None if policy.aggregation == "measured" else policy.aggregation


def measured_methods(
    votes: pl.LazyFrame, policies: Policies, day: date, before: pl.DataFrame | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The ``consensus_methods`` rows: every method's accuracy on the window's gold, and which is chosen. And the
    ``reliability`` rows of the chosen ones' probabilities.

    ``before``: rows of earlier days; the newest choice per policy is held as :func:`measure_methods` says.
    """
    counting = window_votes(votes, policies).collect()
    held = {} if before is None else held_methods(before)
    rows: list[dict[str, object]] = []
    bins: list[dict[str, object]] = []
    for policy in policies:
        voted = _voted(counting.filter(pl.col("policy") == policy.id), policy)
        flags = [label.violating for label in policy.labels]
        found = measure_methods(
            voted.matrix, voted.only_gold, flags, policy.scale != "nominal", wanted_method(policy), voted.gold,
            held=held.get(policy.id),
        )  # fmt: skip
        met = np.unique(voted.only_gold[(voted.only_gold >= 0) & (voted.matrix.votes > 0)])
        unseen = [label for k, label in enumerate(policy.label_ids) if k not in met]
        rows += [_method_row(policy, voted.matrix.n_votes, m, unseen) | {"drop_date": day} for m in found]
        bins += [row | {"policy": policy.id, "drop_date": day} for m in found for row in _reliability_rows(m)]
    return (
        CONSENSUS_METHODS.picked(pl.LazyFrame(rows, schema=CONSENSUS_METHODS.schema)).collect(),
        RELIABILITY.picked(pl.LazyFrame(bins, schema=RELIABILITY.schema)).collect(),
    )


def chosen_methods(table: pl.DataFrame) -> dict[str, str]:
    """The chosen method per policy, from ``consensus_methods`` rows of one day."""
    return dict(table.filter("is_chosen").select("policy", "method").iter_rows())


def chosen_calibrations(table: pl.DataFrame, policies: Policies) -> dict[str, Calibration]:
    """The calibration of the chosen method per policy that has one, from ``consensus_methods`` rows of one day.

    None for a policy whose labels are others by now.
    """
    rows = table.filter(pl.col("is_chosen") & pl.col("slope").is_not_null())
    out = {}
    for policy_id, slope, shifts, n in rows.select("policy", "slope", "shifts", "n_calibrated").iter_rows():
        shift = {s["label"]: s["shift"] for s in shifts}
        if policy_id in policies and set(shift) == set(policies[policy_id].label_ids):
            out[policy_id] = Calibration(slope, tuple(shift[label] for label in policies[policy_id].label_ids), n)
    return out


def held_methods(before: pl.DataFrame) -> dict[str, Held]:
    """The newest choice by gold per policy, from ``consensus_methods`` rows of earlier days."""
    by_gold = pl.col("accuracy").is_not_null() & ~pl.col("note").str.starts_with(IN_POLICY).fill_null(False)
    made = before.filter(pl.col("is_chosen") & by_gold).sort("drop_date")
    rows = made.select("policy", "method", pl.coalesce("considered_gold", "n_gold")).iter_rows()
    return {policy: Held(method, n_gold) for policy, method, n_gold in rows}


def _reliability_rows(m: Measured) -> list[dict[str, object]]:
    return [
        {
            "method": m.method,
            "source": b.source,
            "bin": b.bin,
            "mean_p": b.mean_p,
            "observed": b.observed,
            "ci_low": b.interval.low,
            "ci_high": b.interval.high,
            "n": b.n,
        }
        for b in m.reliability
    ]


def _method_row(policy: Policy, n_votes: int, m: Measured, unseen: list[str]) -> dict[str, object]:
    purity = clopper_pearson_interval(m.n_called_right, m.n_called)
    fitted = m.calibration
    return {
        "policy": policy.id,
        "method": m.method,
        "is_chosen": m.is_chosen,
        "accuracy": m.accuracy,
        "ci_low": m.interval.low,
        "ci_high": m.interval.high,
        "n_gold": m.n_gold,
        "n_right": m.n_right,
        "mean_rank_error": m.mean_rank_error,
        "purity": m.n_called_right / m.n_called if m.n_called else None,
        "purity_low": purity.low,
        "purity_high": purity.high,
        "n_called_violating": m.n_called,
        "p_value": m.p_value,
        "n_votes": n_votes,
        "iterations": m.iterations,
        "is_converged": m.converged,
        "considered_gold": m.considered_gold,
        "slope": fitted and fitted.slope,
        "shifts": fitted and [{"label": x, "shift": b} for x, b in zip(policy.label_ids, fitted.shifts, strict=True)],
        "n_calibrated": fitted and fitted.n_gold,
        "note": f"{m.note}; calibrated without gold of {', '.join(unseen)}" if fitted and unseen else m.note,
    }


@dataclass(frozen=True)
class _Voted:
    """A policy's votes of the window. ``items``: one row per item, sorted; ``gold``: index of the authority's label,
    gold before adjudication, or -1; ``only_gold``: the same of gold alone."""

    items: pl.DataFrame
    votes: pl.DataFrame
    matrix: VoteMatrix
    gold: np.ndarray
    only_gold: np.ndarray


def _voted(votes: pl.DataFrame, policy: Policy) -> _Voted:
    counted = counted_votes(votes.lazy()).collect()
    current = votes.lazy().filter((pl.col("kind") == "vote") & pl.col("is_current"))
    abstentions = current.group_by("item_id").agg(n_abstain=pl.col("is_abstain").sum().cast(pl.Int64))
    raters = (
        counted.lazy()
        .group_by("item_id")
        .agg(n_raters=(pl.col("rater_id").drop_nulls().n_unique() + pl.col("rater_id").null_count()).cast(pl.Int64))
    )
    items = (
        votes.lazy()
        .select("item_id")
        .unique()
        .join(raters, on="item_id", how="left")
        .join(abstentions, on="item_id", how="left")
        .join(authority_labels(votes.lazy()).drop("policy"), on="item_id", how="left")
        .with_columns(pl.col("n_raters", "n_abstain").fill_null(0))
        .sort("item_id")
        .collect()
    )
    index = {label: k for k, label in enumerate(policy.label_ids)}
    decided = items.select(pl.coalesce("gold_label", "adjudicated_label"))["gold_label"]
    gold, only_gold = (
        np.array([index.get(x, -1) if x is not None else -1 for x in column], dtype=np.int64)
        for column in (decided, items["gold_label"])
    )
    return _Voted(items, votes, _matrix(items["item_id"], counted, policy), gold, only_gold)


def _policy_consensus(
    voted: _Voted, policy: Policy, wanted: str, day: date, calibration: Calibration | None
) -> pl.DataFrame:
    items, labels, has_word = voted.items, policy.label_ids, voted.gold >= 0
    today = voted.votes.lazy().filter((pl.col("drop_date") == day) & (pl.col("kind") != "audit"))
    counts, n_votes = voted.matrix.counts, voted.matrix.votes
    is_tie = ((counts == counts.max(axis=1, initial=0, keepdims=True)).sum(axis=1) > 1) & (n_votes > 0)
    majority = np.where(is_tie | (n_votes == 0), -1, counts.argmax(axis=1))
    made = aggregate(voted.matrix, wanted, voted.gold, policy.scale != "nominal")
    posterior, chosen = made.posterior, made.label
    basis = basis_of_method(METHODS[wanted])
    if calibration is not None:
        fitted = calibration.applied(evidence_of(posterior, n_votes if basis == VOTE_SHARE else None))
        posterior = np.where((has_word | (n_votes == 0))[:, None], posterior, fitted)
        basis = CALIBRATED
    by_authority = np.where(items["gold_label"].is_not_null().to_numpy(), "gold", "adjudication")
    method = np.where(has_word, by_authority, np.where(n_votes > 0, wanted, "none"))
    rests_on = np.where(has_word, AUTHORITY, np.where(n_votes > 0, basis, "none"))
    is_share = np.isin(rests_on, SHARES)

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
        probability=_nullable(np.where(known & ~is_share, posterior[row, chosen], np.nan)),
        posterior=_probabilities(posterior, labels, undecided | is_share),
        entropy=_nullable(np.where(undecided, np.nan, entropy)),
        basis=pl.Series(rests_on.tolist(), dtype=pl.String).replace("none", None),
        n_votes=pl.Series(n_votes),
        vote_share=_nullable(share),
        is_tie=pl.Series(is_tie),
        majority_label=pl.Series(label_array[majority].tolist(), dtype=pl.String),
        drop_date=pl.lit(day),
    )
    return CONSENSUS.picked(frame.lazy().join(today.select("item_id").unique(), on="item_id", how="semi")).collect()


def _nullable(values: np.ndarray) -> pl.Series:
    return pl.Series(values).fill_nan(None)


def _probabilities(posterior: np.ndarray, labels: tuple[str, ...], without: np.ndarray) -> pl.Series:
    wide = pl.DataFrame({f"p{k}": posterior[:, k] for k in range(len(labels))}).with_columns(without=pl.Series(without))
    pairs = [pl.struct(label=pl.lit(label), probability=pl.col(f"p{k}")) for k, label in enumerate(labels)]
    return wide.select(posterior=pl.when(~pl.col("without")).then(pl.concat_list(pairs)))["posterior"]


def _matrix(item_ids: pl.Series, counted: pl.DataFrame, policy: Policy) -> VoteMatrix:
    """The votes by place of their item. The anonymous votes of a pool are one rater to the methods: that pool."""
    rater = pl.coalesce("rater_id", pl.format("\x00{}", pl.col("pool").fill_null("")))
    return matrix_of_ids(counted.lazy().with_columns(rater=rater), item_ids, policy.label_ids)


def latest_consensus(consensus: pl.LazyFrame, policies: Policies | None = None) -> pl.LazyFrame:
    """One row per item x policy of a history of consensus rows: that of the latest day.

    Rows decided by an authority go before later ones that are not: gold is not forgotten when it leaves the window.
    With ``policies``, labels go by their names of today. ``basis`` is filled in rows of earlier versions.
    """
    columns = ("label", "majority_label", "gold_label")
    renamed = consensus if policies is None else with_renamed_labels(consensus, policies, columns)
    return (
        with_basis(renamed)
        .sort(decided_by_authority(), "drop_date")
        .unique(["item_id", "policy"], keep="last", maintain_order=True)
    )
