"""From votes by item to what the coefficients need, slice by slice: patterns, and who voted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moderation_pipelines.agreement.patterns import Patterns
from moderation_pipelines.stats.arrays import FloatArray, IntArray
from moderation_pipelines.votes.by_item import Block, ItemVotes

_WORD_BITS = 62


@dataclass(frozen=True)
class Slice:
    """One slice's sufficient statistics.

    ``given``: raters x labels, votes each rater gave on rated items; None where votes are anonymous.
    ``local``, ``local_squared``: per pattern, sum over its items of an item's Conger term and of its square.
    ``n_paired_raters``: different raters on items with two or more votes.
    """

    name: str | None
    patterns: Patterns
    given: FloatArray | None
    local: FloatArray | None
    local_squared: FloatArray | None
    n_paired_raters: int | None


def slices_of(votes: ItemVotes) -> list[Slice]:
    """The sufficient statistics of every slice, in order of its name; none without a vote."""
    if not votes.blocks:
        return []
    n_slices, n_labels = len(votes.names), votes.n_labels
    given = paired = None
    terms: FloatArray | None = None
    if votes.raters is not None:
        tallies = votes.each(lambda block: _tally(block, votes.n_cells, n_slices))
        totals = [sum(part, np.zeros((n_slices, votes.n_cells))) for part in zip(*tallies, strict=True)]
        given = totals[0].reshape(n_slices, -1, n_labels)
        paired = totals[1].reshape(n_slices, -1, n_labels)
        terms = _on_grid(np.stack([conger_terms(given[s]) for s in range(n_slices)]).reshape(n_slices, -1))
    most = max((int(block.votes.max(initial=0)) for block in votes.blocks), default=0)
    words = _words(votes, most)
    rows = votes.each(lambda block: _count_patterns(block, words, terms))
    merged = _merge(rows, len(words) + 1)
    counts = _unpacked(merged.key[:, 1:], n_labels, most)
    out = []
    for s, name in enumerate(votes.names):
        mine = np.flatnonzero(merged.key[:, 0] == s)
        mine = mine[np.lexsort(counts[mine].T[::-1])]
        by_rater = given is not None and paired is not None
        out.append(
            Slice(
                name,
                Patterns(counts[mine], merged.items[mine]),
                given[s] if given is not None else None,
                merged.local[mine] if by_rater else None,
                merged.local_squared[mine] if by_rater else None,
                int((paired[s].sum(axis=1) > 0).sum()) if paired is not None else None,
            )
        )
    return out


def conger_terms(given: FloatArray) -> FloatArray:
    """What a vote adds to its item's chance agreement under Conger's model, raters x labels, before scaling by n.

    For rater g with label shares p_g among r raters: (v_g - p_g v_g) / n_g with v_g = (sum of the others' shares) /
    (r (r - 1)). See :func:`moderation_pipelines.agreement.raters.conger_kappa`.
    """
    votes = given.sum(axis=1)
    there = votes > 0
    n_raters = int(there.sum())
    if n_raters < 2:
        return np.zeros_like(given)
    shares = given / np.maximum(votes, 1)[:, None]
    others = (shares.sum(axis=0) - shares) / (n_raters * (n_raters - 1))
    centred = others - (shares * others).sum(axis=1, keepdims=True)
    return np.asarray(np.where(there[:, None], centred / np.maximum(votes, 1)[:, None], 0.0))


def _on_grid(terms: FloatArray) -> FloatArray:
    """The terms rounded to 40 bits of the largest: their sums are exact, so the order of votes leaves no trace."""
    largest = float(np.abs(terms).max(initial=0.0))
    if largest == 0:
        return terms
    grid = 2.0 ** (np.ceil(np.log2(largest)) - 40)
    return np.asarray(np.round(terms / grid) * grid)


def _tally(block: Block, n_cells: int, n_slices: int) -> tuple[FloatArray, FloatArray]:
    cells = block.cells.astype(np.int64)
    if n_slices > 1:
        cells += np.repeat(block.slices.astype(np.int64) * n_cells, block.votes)
    both = np.repeat(block.votes >= 2, block.votes)
    size = n_cells * n_slices
    return (
        np.bincount(cells, minlength=size).reshape(n_slices, n_cells).astype(np.float64),
        np.bincount(cells[both], minlength=size).reshape(n_slices, n_cells).astype(np.float64),
    )


def _bits(most: int) -> int:
    return max(1, most.bit_length())


def _words(votes: ItemVotes, most: int) -> list[IntArray]:
    """For each word of a packed pattern what a vote in each cell adds: its label's count is a field of some bits."""
    per_word = max(1, _WORD_BITS // _bits(most))
    labels = votes.label_of_cell
    return [
        np.where(
            (labels >= k) & (labels < k + per_word),
            np.int64(1) << ((labels - k).clip(0, per_word - 1) * _bits(most)),
            0,
        )
        for k in range(0, votes.n_labels, per_word)
    ]


def _unpacked(packed: IntArray, n_labels: int, most: int) -> FloatArray:
    bits = _bits(most)
    per_word = max(1, _WORD_BITS // bits)
    mask = (1 << bits) - 1
    columns = [(packed[:, k // per_word] >> ((k % per_word) * bits)) & mask for k in range(n_labels)]
    return np.stack(columns, axis=1).astype(np.float64) if columns else np.zeros((len(packed), 0))


@dataclass(frozen=True)
class _Rows:
    key: IntArray
    items: FloatArray
    local: FloatArray
    local_squared: FloatArray


def _count_patterns(block: Block, words: list[IntArray], terms: FloatArray | None) -> _Rows:
    key = np.stack([block.slices.astype(np.int64), *(block.sums(word[block.cells]) for word in words)], axis=1)
    if terms is None:
        local = np.zeros(block.n_items)
    elif len(terms) == 1:
        local = block.sums(terms[0][block.cells])
    else:
        local = block.sums(terms[np.repeat(block.slices, block.votes), block.cells])
    return _collapsed(key, np.ones(block.n_items), local, local**2)


def _merge(rows: list[_Rows], width: int) -> _Rows:
    if not rows:
        none = np.zeros(0)
        return _Rows(np.zeros((0, width), np.int64), none, none, none)
    columns = ([getattr(r, name) for r in rows] for name in ("key", "items", "local", "local_squared"))
    return _collapsed(*(np.concatenate(c) for c in columns))


def _collapsed(key: IntArray, items: FloatArray, local: FloatArray, local_squared: FloatArray) -> _Rows:
    """Rows with equal keys added up."""
    code = np.zeros(len(key), np.int64)
    for column in key.T:
        _, part = np.unique(column, return_inverse=True)
        _, code = np.unique(code * (int(part.max(initial=0)) + 1) + part, return_inverse=True)
    first = np.unique(code, return_index=True)[1]
    n = len(first)
    sums = [np.asarray(np.bincount(code, weights=w, minlength=n), np.float64) for w in (items, local, local_squared)]
    return _Rows(key[first], *sums)
