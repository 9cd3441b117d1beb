"""Systematic disagreement: which labels are confused with which, and which raters stand apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from moderation_pipelines.agreement.notes import FEW_ITEMS
from moderation_pipelines.agreement.patterns import Patterns
from moderation_pipelines.agreement.raters import RaterPairs, cohen_kappas, rater_pairs, too_many_pairs
from moderation_pipelines.agreement.slices import slices_of
from moderation_pipelines.stats.arrays import FloatArray, IntArray
from moderation_pipelines.stats.intervals import (
    UNDEFINED,
    percentile_interval,
    seed_from,
    t_interval,
    wilson_interval,
)
from moderation_pipelines.votes.by_item import Block, ItemVotes, VotesSource, item_votes
from moderation_pipelines.votes.scale import Scale

CONFUSION_SCHEMA = {
    "slice": pl.String,
    "slice_value": pl.String,
    "label_a": pl.String,
    "label_b": pl.String,
    "n_items": pl.Int64,
    "n_disputed": pl.Int64,
    "share": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "lift": pl.Float64,
    "lift_low": pl.Float64,
    "lift_high": pl.Float64,
}
PAIR_SCHEMA = {
    "rater_a": pl.String,
    "rater_b": pl.String,
    "n_items": pl.Int64,
    "percent_agreement": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "cohen_kappa": pl.Float64,
    "kappa_low": pl.Float64,
    "kappa_high": pl.Float64,
}


@dataclass(frozen=True)
class Clause:
    """A clause of a policy and the label it speaks of."""

    id: str
    label: str


def confused_labels(
    votes: VotesSource,
    scale: Scale,
    by: Sequence[str] = (),
    clauses: Sequence[Clause] = (),
    replicates: int = 1000,
    seed: object = 0,
) -> pl.DataFrame:
    """Which pairs of labels raters confuse: over all votes, by each column of ``by``, and by clause.

    Columns: slice, slice_value, label_a, label_b; n_items: items that got both; n_disputed: items whose votes differ
    (of a clause: with its label among them); share: of all disagreement (pairs of differing votes, an item's
    weighted by 1 / (votes - 1)) how much is between share: of all disagreement (pairs of differing votes, an item's
    weighted by 1 / (votes - 1)) how much is between these two, 0 to 1; lift: that share over what chance would give
    with these label frequencies (1: no more than chance, 2: twice as often).
    Intervals: 95 % percentile bootstrap by item, null below ten disputed items. In slice
    "clause" the shares are of the disagreement that has the clause's label on one side (label_a). Pairs nobody
    confused are left out.
    """
    if replicates < 1:
        raise ValueError(f"replicates must be 1 or more, not {replicates}")
    for clause in clauses:
        if clause.label not in scale.labels:
            raise ValueError(f'clause "{clause.id}" names label "{clause.label}"; known: {list(scale.labels)}')
    rows: list[dict[str, object]] = []
    for column in (None, *by):
        for sliced in slices_of(item_votes(votes, scale, column, with_raters=False)):
            named = {"slice": column or "all", "slice_value": sliced.name}
            seeds = seed_from(seed, "confused", column, sliced.name)
            rows += [named | row for row in _confused(sliced.patterns, scale.labels, None, replicates, seeds)]
            if column is None:
                for clause in clauses:
                    about = {"slice": "clause", "slice_value": clause.id}
                    mine = scale.labels.index(clause.label)
                    rows += [about | row for row in _confused(sliced.patterns, scale.labels, mine, replicates, seeds)]
    return pl.DataFrame(rows, schema=CONFUSION_SCHEMA)


def _confused(
    patterns: Patterns, labels: tuple[str, ...], about: int | None, replicates: int, seed: int
) -> Iterator[dict[str, object]]:
    paired = patterns.paired()
    pairs = [
        (a, b) if about is None or a == about else (b, a)
        for a in range(len(labels))
        for b in range(a + 1, len(labels))
        if about is None or about in (a, b)
    ]
    if not pairs or not paired.n_items:
        return
    rows, columns = (np.array(side) for side in zip(*pairs, strict=True))
    differing = (paired.counts > 0).sum(axis=1) > 1
    if about is not None:
        differing &= paired.counts[:, about] > 0
    disputed = paired.items[differing].sum()
    share, lift = _shares(paired.as_seen().coincidences, rows, columns)
    drawn = [_shares(some.coincidences, rows, columns) for some in paired.resampled(replicates, seed)]
    shares, lifts = (np.concatenate(part) for part in zip(*drawn, strict=True))
    for k in np.argsort(-share[0], kind="stable"):
        if not share[0, k] > 0:
            continue
        both = (paired.counts[:, rows[k]] > 0) & (paired.counts[:, columns[k]] > 0)
        few = disputed < FEW_ITEMS
        sure = UNDEFINED if few else percentile_interval(shares[:, k])
        lifted = UNDEFINED if few else percentile_interval(lifts[:, k])
        yield {
            "label_a": labels[rows[k]],
            "label_b": labels[columns[k]],
            "n_items": int(paired.items[both].sum()),
            "n_disputed": int(disputed),
            "share": float(share[0, k]),
            "ci_low": sure.low,
            "ci_high": sure.high,
            "lift": float(lift[0, k]),
            "lift_low": lifted.low,
            "lift_high": lifted.high,
        }


def _shares(coincidence: FloatArray, rows: IntArray, columns: IntArray) -> tuple[FloatArray, FloatArray]:
    margins = coincidence.sum(axis=2)
    observed = coincidence[:, rows, columns]
    expected = margins[:, rows] * margins[:, columns]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = observed / observed.sum(axis=1, keepdims=True)
        lift = share / (expected / expected.sum(axis=1, keepdims=True))
    return share, lift


def rater_pair_table(votes: VotesSource, scale: Scale) -> pl.DataFrame:
    """Every pair of raters that share ten items or more (a lone pair: one or more), with agreement and kappa.

    Columns: rater_a, rater_b, n_items both voted on, percent_agreement with its 95 % Wilson interval, cohen_kappa with
    its large-sample interval (null where both used one label only). Empty for anonymous votes and where raters are so
    many that pairs share next to nothing.
    """
    grouped = item_votes(votes, scale)
    if too_many_pairs(grouped) is not None:
        return pl.DataFrame(schema=PAIR_SCHEMA)
    (pairs,) = rater_pairs(grouped)
    assert grouped.raters is not None
    return pl.DataFrame(list(_pair_rows(pairs, grouped.raters)), schema=PAIR_SCHEMA)


def _pair_rows(pairs: RaterPairs, raters: tuple[str, ...]) -> Iterator[dict[str, object]]:
    kappas = cohen_kappas(pairs.table, np.eye(pairs.table.shape[1]))
    for k, n in enumerate(pairs.n_items):
        same = float(np.trace(pairs.table[k]))
        agreed = wilson_interval(same, float(n))
        kappa = t_interval(float(kappas.value[k]), float(kappas.se[k]), float("inf"))
        yield {
            "rater_a": raters[pairs.first[k]],
            "rater_b": raters[pairs.second[k]],
            "n_items": int(n),
            "percent_agreement": same / float(n),
            "ci_low": agreed.low,
            "ci_high": agreed.high,
            "cohen_kappa": None if np.isnan(kappas.value[k]) else float(kappas.value[k]),
            "kappa_low": kappa.low,
            "kappa_high": kappa.high,
        }


APART_SCHEMA = {
    "rater_id": pl.String,
    "n_shared": pl.Int64,
    "pair_agreement": pl.Float64,
    "pair_low": pl.Float64,
    "pair_high": pl.Float64,
    "apart": pl.Float64,
    "apart_low": pl.Float64,
    "apart_high": pl.Float64,
    "apart_p": pl.Float64,
}


def raters_apart(votes: VotesSource, scale: Scale) -> pl.DataFrame:
    """How far each rater agrees with the others, and whether less than they do among themselves. Sorted by rater.

    Columns: rater_id; n_shared: items also voted on by others; pair_agreement: mean over those items of the share of
    the others' votes that equal the rater's; apart: pair_agreement minus the agreement of the others among themselves
    on the same items (items with two or more others), below 0 where the rater stands apart; apart_p: p-value of
    a one-sided t-test over items that the rater agrees less. (The other side is no question worth asking: beside one
    bad rater every good one agrees more than the others among themselves.) 95 % t intervals over items; null below ten
    items and where nothing varies. Empty for anonymous votes.
    """
    grouped = item_votes(votes, scale)
    if grouped.raters is None:
        return pl.DataFrame(schema=APART_SCHEMA)
    sums = np.zeros((len(grouped.raters), 6))
    for part in grouped.each(lambda block: _apart_sums(block, grouped)):
        sums += part
    return pl.DataFrame(
        [_apart_row(name, row) for name, row in zip(grouped.raters, sums, strict=True)], schema=APART_SCHEMA
    )


def _apart_sums(block: Block, grouped: ItemVotes) -> FloatArray:
    """Per rater: n, sum and sum of squares of the agreement with others, then of the difference to theirs."""
    assert grouped.raters is not None
    k, n_raters = grouped.n_labels, len(grouped.raters)
    label, rater = block.cells % k, block.cells // k
    counts = np.stack([block.sums((label == c).astype(np.int64)) for c in range(k)], axis=1).astype(np.float64)
    item = block.item_of_vote
    votes = block.votes.astype(np.float64)[item]
    same = counts[item, label] - 1
    agreeing = (counts * (counts - 1)).sum(axis=1)[item] - 2 * same
    has_one, has_two = votes >= 2, votes >= 3
    with_others = np.divide(same, votes - 1, out=np.zeros_like(same), where=has_one)
    among = np.divide(agreeing, (votes - 1) * (votes - 2), out=np.zeros_like(same), where=has_two)
    out = np.zeros((n_raters, 6))
    for at, (mask, x) in enumerate(((has_one, with_others), (has_two, with_others - among))):
        for power in range(3):
            weights = x[mask] ** power
            out[:, 3 * at + power] = np.bincount(rater[mask], weights=weights, minlength=n_raters)
    return out


def _apart_row(name: str, sums: FloatArray) -> dict[str, object]:
    from scipy.special import stdtr

    row: dict[str, object] = dict.fromkeys(APART_SCHEMA)
    row |= {"rater_id": name, "n_shared": int(sums[0])}
    for at, stem in ((0, "pair"), (3, "apart")):
        n, total, squares = (float(x) for x in sums[at : at + 3])
        if n == 0:
            continue
        mean = total / n
        row["pair_agreement" if stem == "pair" else stem] = mean
        spread = squares - n * mean * mean
        # Below rounding error nothing varies, and an interval would be a point.
        se = float(np.sqrt(spread / (n * (n - 1)))) if n > 1 and spread > 1e-12 * squares else 0.0
        if n < FEW_ITEMS or se == 0:
            continue
        sure = t_interval(mean, se, n - 1, low=0.0 if stem == "pair" else -1.0)
        row[f"{stem}_low"], row[f"{stem}_high"] = sure.low, sure.high
        if stem == "apart":
            row["apart_p"] = float(stdtr(n - 1, mean / se))
    return row
