"""Coefficients that look at who voted: Conger's kappa over all raters, Cohen's for every pair of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moderation_pipelines.agreement.formulas import (
    chance_agreement,
    observed_influence,
    percent_agreement,
    ratio_or_nan,
)
from moderation_pipelines.agreement.patterns import PSEUDO_ITEMS, Patterns
from moderation_pipelines.agreement.slices import Slice
from moderation_pipelines.stats.arrays import FloatArray, IntArray
from moderation_pipelines.votes.by_item import Block, ItemVotes

MIN_SHARED = 10
_FEW_PAIRS = 2_000_000
_MANY_PAIRS = 20_000_000
_MANY_CELLS, _DRAWN_VOTES, _DRAWN_CELLS = 20_000, 500_000, 2_000_000
_MANY_LABELS = 60


@dataclass(frozen=True)
class Estimate:
    """A value; its standard error as published (``se``) and as its interval takes it (``interval_se``). NaN where
    undefined."""

    value: float
    se: float
    interval_se: float


UNDEFINED = Estimate(float("nan"), float("nan"), float("nan"))


def conger_kappa(sliced: Slice) -> Estimate:
    """Conger's kappa: chance agreement is that of two different raters, each with their own label shares.

    1 perfect, 0 as if by chance. Two raters who voted on every item: Cohen's kappa. A rater's shares are over all
    items rated, those with one vote too. The standard error is analytic, items a sample and raters given; the
    interval takes the observed agreement as a ratio (:func:`observed_influence`). NaN for
    anonymous votes, fewer than two raters, no item with two votes, or all votes one label.
    Source: Conger (1980), Psychological Bulletin 88, 322-328; missing votes and variance: Gwet (2014), Handbook of
    Inter-Rater Reliability, 4th ed., chapters 2 and 5.
    """
    given, patterns = sliced.given, sliced.patterns
    if given is None or sliced.local is None or sliced.local_squared is None or not patterns.n_items:
        return UNDEFINED
    weights = np.eye(given.shape[1])
    votes = given.sum(axis=1)
    shares = given[votes > 0] / votes[votes > 0][:, None]
    n_raters = len(shares)
    if n_raters < 2:
        return UNDEFINED
    total = shares.sum(axis=0)
    chance = float((total @ total - (shares**2).sum()) / (n_raters * (n_raters - 1)))
    observed = float(percent_agreement(patterns.as_seen())[0])
    value = float(ratio_or_nan(np.array(observed - chance), np.array(1 - chance)))
    if np.isnan(value):
        return UNDEFINED
    n = float(patterns.n_rated)
    factor = -2 * (1 - value) / (1 - chance) * n

    local, local_squared = sliced.local, sliced.local_squared

    def error(as_ratio: bool) -> float:
        from_pattern = observed_influence(patterns, weights, value, chance, as_ratio)
        squares = (
            (patterns.items * from_pattern**2).sum()
            + 2 * factor * (from_pattern * local).sum()
            + factor**2 * local_squared.sum()
        )
        return float(np.sqrt(max(squares, 0.0) / (n * (n - 1)))) if n > 1 else float("nan")

    return Estimate(value, error(as_ratio=False), error(as_ratio=True))


def few_labels(patterns: Patterns) -> bool:
    """Whether :func:`conger_draws` takes a second or so: of more labels the large-sample error will do."""
    return patterns.counts.shape[1] <= _MANY_LABELS


def conger_draws(patterns: Patterns, value: float, draws: int, seed: int) -> FloatArray:
    """Draws of Conger's kappa over a Bayesian bootstrap of the items (:meth:`Patterns.believed`).

    How far raters' own label shares part is taken as it is: it changes chance agreement by a constant against pooled
    shares, whose chance agreement is drawn.
    """
    weights = np.eye(patterns.counts.shape[1])
    seen = patterns.as_seen()
    observed, pooled = (
        float(f[0]) for f in (percent_agreement(seen), chance_agreement("fleiss", seen.shares, weights))
    )
    apart = (observed - value) / (1 - value) - pooled if value < 1 else 0.0
    found = []
    for some in patterns.believed(draws, seed):
        chance = np.minimum(chance_agreement("fleiss", some.shares, weights) + apart, 1.0)
        found.append(ratio_or_nan(percent_agreement(some) - chance, 1 - chance))
    return np.concatenate(found)


@dataclass(frozen=True)
class RaterPairs:
    """Votes of two raters on the same item, for every pair of raters of one slice that share ten items or more.

    Of fewer a kappa is mostly noise or undefined; ``n_small`` such pairs are left out. A lone pair always stays.
    ``table``: pairs x labels x labels, items by label of ``first`` and of ``second``; ``item``, ``pair``, ``cell``:
    one entry per pair of votes (cell = label of first x labels + label of second).
    """

    first: IntArray
    second: IntArray
    table: FloatArray
    item: IntArray
    pair: IntArray
    cell: IntArray
    n_small: int

    @property
    def n_items(self) -> FloatArray:
        """Items both raters voted on, per pair."""
        return np.asarray(self.table.sum(axis=(1, 2)))


def too_many_pairs(votes: ItemVotes) -> str | None:
    """Why pairwise kappas are not computed; None if they are."""
    if not votes.blocks:
        return "undefined: there is no counted vote"
    if votes.raters is None:
        return "undefined: some votes are anonymous, so raters cannot be paired; leave them out to have it"
    pairs = sum(int((block.votes * (block.votes - 1) // 2).sum()) for block in votes.blocks)
    n_raters = len(votes.raters)
    possible = n_raters * (n_raters - 1) / 2
    if pairs > _MANY_PAIRS or (pairs > _FEW_PAIRS and pairs < MIN_SHARED * possible):
        return (
            f"not computed: {n_raters:,} raters share {pairs / max(possible, 1):,.1f} items a pair on average; "
            "conger_kappa is the form for many raters"
        )
    return None


def rater_pairs(votes: ItemVotes) -> list[RaterPairs]:
    """Pairs of votes on one item by different raters, per slice. Needs named raters. Of a rater's several votes on an
    item each pairs with the others' votes, none with each other."""
    n_labels, n_slices = votes.n_labels, len(votes.names)
    found = votes.each(lambda block: _pairs_of_block(block, max(n_labels, 1)))
    offsets = np.cumsum([0, *(block.n_items for block in votes.blocks)])
    columns = [np.concatenate(c) for c in zip(*found, strict=True)] if found else [np.zeros(0, np.int64)] * 4
    sizes = [len(f[0]) for f in found]
    item = columns[0] + np.repeat(offsets[:-1], sizes) if found else columns[0]
    slice_of, first, second = columns[1:4] if found else columns[1:]
    out = []
    for s in range(n_slices):
        mine = slice_of == s if n_slices > 1 else slice(None)
        out.append(_paired(item[mine], first[mine], second[mine], n_labels, max(votes.n_cells, 1)))
    return out


def _pairs_of_block(block: Block, n_labels: int) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """item, slice, cell of the first and of the second vote; the rater with the lower code is first."""
    item_of, cells = block.item_of_vote, block.cells.astype(np.int64)
    items, firsts, seconds = [], [], []
    for step in range(1, int(block.votes.max(initial=1))):
        same = np.flatnonzero(item_of[step:] == item_of[:-step])
        a, b = cells[same], cells[same + step]
        different = a // n_labels != b // n_labels
        a, b = a[different], b[different]
        items.append(item_of[same][different])
        firsts.append(np.minimum(a, b))
        seconds.append(np.maximum(a, b))
    if not items:
        none = np.zeros(0, np.int64)
        return none, none, none, none
    item = np.concatenate(items)
    return item, block.slices[item].astype(np.int64), np.concatenate(firsts), np.concatenate(seconds)


def _paired(item: IntArray, first: IntArray, second: IntArray, n_labels: int, n_cells: int) -> RaterPairs:
    n_raters = max(n_cells // n_labels, 1)
    code = (first // n_labels) * n_raters + second // n_labels
    codes, shared = np.unique(code, return_counts=True)
    enough = shared >= MIN_SHARED if len(codes) > 1 else shared >= 1
    n_small, codes = int((~enough).sum()), codes[enough]
    place = np.searchsorted(codes, code)
    kept = np.flatnonzero(codes[np.minimum(place, len(codes) - 1)] == code) if len(codes) else np.zeros(0, np.int64)
    item, pair = item[kept], place[kept]
    cell = (first[kept] % n_labels) * n_labels + second[kept] % n_labels
    size = n_labels * n_labels
    table = np.bincount(pair * size + cell, minlength=len(codes) * size).astype(np.float64)
    table = table.reshape(len(codes), n_labels, n_labels)
    return RaterPairs(codes // n_raters, codes % n_raters, table, item, pair, cell, n_small)


@dataclass(frozen=True)
class PairwiseKappa:
    """Cohen's kappa of every pair: ``value`` and ``se`` (NaN where undefined), ``influence`` per cell of its table."""

    value: FloatArray
    se: FloatArray
    influence: FloatArray


def cohen_kappas(table: FloatArray, weights: FloatArray) -> PairwiseKappa:
    """Cohen's kappa, weighted or not, of contingency tables of shape pairs x labels x labels.

    1 perfect, 0 as if by chance of two raters with these label shares, at least -1. ``weights``: agreement weights
    (identity: the plain kappa). The standard error is the large-sample one. NaN for an empty table and where both
    raters used one and the same label only.
    Source: Cohen (1960), Educational and Psychological Measurement 20, 37-46; Cohen (1968), Psychological Bulletin
    70, 213-220; standard error: Fleiss, Cohen & Everitt (1969), Psychological Bulletin 72, 323-327.
    """
    n = table.sum(axis=(1, 2))
    p = table / np.maximum(n, 1)[:, None, None]
    rows, columns = p.sum(axis=2), p.sum(axis=1)
    observed = (p * weights).sum(axis=(1, 2))
    expected_row, expected_column = columns @ weights.T, rows @ weights
    chance = (rows * expected_row).sum(axis=1)
    room = np.where((n > 0) & (1 - chance > 1e-12), 1 - chance, np.nan)
    value = (observed - chance) / room
    local = expected_row[:, :, None] + expected_column[:, None, :]
    influence = (
        (weights[None] - observed[:, None, None]) * room[:, None, None]
        - (1 - observed)[:, None, None] * (local - 2 * chance[:, None, None])
    ) / (room**2)[:, None, None]
    se = np.sqrt((p * influence**2).sum(axis=(1, 2)) / np.maximum(n, 1))
    return PairwiseKappa(np.asarray(value), np.asarray(se), np.asarray(influence))


@dataclass(frozen=True)
class MeanKappa:
    """Mean of the pairwise kappas; ``n_pairs`` in it, on ``n_items``; ``n_small`` left out for few shared items,
    ``n_undefined`` for using one label only."""

    estimate: Estimate
    n_items: int
    n_pairs: int
    n_small: int
    n_undefined: int


def mean_cohen_kappa(pairs: RaterPairs, weights: FloatArray) -> MeanKappa:
    """Mean of Cohen's kappa over pairs of raters, weighted by the items both rated. One pair: its kappa.

    The standard error is by items: an item counts in every pair that rated it.
    Source: Light (1971), Psychological Bulletin 76, 365-377 (the mean over pairs); delta method.
    """
    n = pairs.n_items
    kappas = cohen_kappas(pairs.table, weights)
    used = ~np.isnan(kappas.value)
    n_undefined = int((~used).sum())
    if not used.any():
        return MeanKappa(UNDEFINED, 0, 0, pairs.n_small, n_undefined)
    total = n[used].sum()
    mean = float((n[used] * kappas.value[used]).sum() / total)
    per_cell = np.where(used[:, None, None], kappas.influence + (kappas.value - mean)[:, None, None], 0.0) / total
    _, item = np.unique(pairs.item, return_inverse=True)
    per_item = np.bincount(item, weights=per_cell.reshape(len(n), -1)[pairs.pair, pairs.cell])
    se = float(np.sqrt((per_item**2).sum()))
    n_items = len(np.unique(pairs.item[used[pairs.pair]]))
    return MeanKappa(Estimate(mean, se, se), n_items, int(used.sum()), pairs.n_small, n_undefined)


def can_draw(pairs: RaterPairs) -> bool:
    """Whether :func:`cohen_draws` takes a second or so: of more votes and pairs the large-sample error will do."""
    return pairs.table.size <= _MANY_CELLS and len(pairs.item) <= _DRAWN_VOTES


def cohen_draws(pairs: RaterPairs, weights: FloatArray, draws: int, seed: int) -> FloatArray:
    """Draws of the mean of Cohen's kappa over pairs: a Bayesian bootstrap of the items with two items more.

    An item counts in every pair that rated it. The two have any labels and are shared out to the pairs by their items.
    Sources: as :meth:`moderation_pipelines.agreement.patterns.Patterns.believed`.
    """
    from scipy.sparse import csr_matrix

    generator = np.random.default_rng(seed)
    n_pairs, k, _ = pairs.table.shape
    item_ids, item = np.unique(pairs.item, return_inverse=True)
    place = (item.reshape(-1), pairs.pair * k * k + pairs.cell)
    shape = (len(item_ids), n_pairs * k * k)
    in_tables = csr_matrix((np.ones(len(pairs.item)), place), shape=shape).T.tocsr()
    share = (pairs.n_items / len(item_ids))[None, :, None]
    out = []
    size = max(1, _DRAWN_CELLS // max(n_pairs * k * k, len(item_ids), 1))
    for start in range(0, draws, size):
        n = min(size, draws - start)
        tables = (in_tables @ generator.exponential(size=(len(item_ids), n))).T.reshape(n, n_pairs, k * k)
        tables = tables + generator.standard_gamma(PSEUDO_ITEMS / k**2, size=(n, 1, k * k)) * share
        kappas = cohen_kappas(tables.reshape(n * n_pairs, k, k), weights).value.reshape(n, n_pairs)
        mass = np.where(np.isnan(kappas), 0.0, tables.sum(axis=2))
        out.append(ratio_or_nan((mass * np.nan_to_num(kappas)).sum(axis=1), mass.sum(axis=1)))
    return np.concatenate(out)
