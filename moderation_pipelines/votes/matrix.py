"""Votes as a sparse matrix, items x (rater, label): what every aggregation method reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from moderation_pipelines.stats.arrays import FloatArray, IntArray
from moderation_pipelines.votes.by_item import ItemVotes

_CHUNK_VOTES = 400_000
_THREADS = 2
T = TypeVar("T")


@dataclass(frozen=True)
class Chunk:
    """Some items in a row: ``first`` and ``end`` of them, and their votes as a sparse matrix, items x cells."""

    first: int
    end: int
    votes: Any

    @property
    def items(self) -> slice:
        return slice(self.first, self.end)


@dataclass(frozen=True)
class VoteMatrix:
    """Votes sorted by item. ``starts``: first vote of each item, and the end; ``cells``: cell of each vote.

    A cell is a rater with a label. All of them are numbered, rater x n_labels + label, unless there are more than
    twice as many as votes: then only those with votes are, and ``occupied`` holds their codes, sorted. So what has a
    row per cell grows with the votes, not with raters times labels. Items without votes are allowed. The ones of the
    sparse matrices are one shared array: a vote costs 4 bytes.
    """

    starts: NDArray[np.int32]
    cells: NDArray[np.int32]
    n_raters: int
    n_labels: int
    occupied: IntArray | None = None

    @property
    def n_items(self) -> int:
        return len(self.starts) - 1

    @property
    def n_votes(self) -> int:
        return len(self.cells)

    @property
    def n_cells(self) -> int:
        return self.n_raters * self.n_labels if self.occupied is None else len(self.occupied)

    @cached_property
    def cell_raters(self) -> IntArray:
        """Rater of each cell."""
        return self._codes // max(self.n_labels, 1)

    @cached_property
    def cell_labels(self) -> IntArray:
        """Label of each cell."""
        return self._codes % max(self.n_labels, 1)

    @property
    def _codes(self) -> IntArray:
        return np.arange(self.n_cells, dtype=np.int64) if self.occupied is None else self.occupied

    def raters_of(self, cells: NDArray[np.int32]) -> IntArray:
        """Raters of some cells."""
        return (cells // self.n_labels).astype(np.int64) if self.occupied is None else self.cell_raters[cells]

    def labels_of(self, cells: NDArray[np.int32]) -> IntArray:
        """Labels of some cells."""
        return (cells % self.n_labels).astype(np.int64) if self.occupied is None else self.cell_labels[cells]

    @cached_property
    def votes(self) -> IntArray:
        """Votes per item."""
        return np.diff(self.starts).astype(np.int64)

    @cached_property
    def item_of_vote(self) -> IntArray:
        return np.repeat(np.arange(self.n_items), self.votes)

    @cached_property
    def raters(self) -> IntArray:
        """Rater of each vote."""
        return self.raters_of(self.cells)

    @cached_property
    def labels(self) -> IntArray:
        """Label of each vote."""
        return self.labels_of(self.cells)

    @cached_property
    def rater_components(self) -> IntArray:
        """For each rater the number of its component: raters of one item, directly or by others, have the same."""
        from scipy.sparse import csr_matrix
        from scipy.sparse.csgraph import connected_components

        def pairs(chunk: Chunk) -> IntArray:
            start, end = int(self.starts[chunk.first]), int(self.starts[chunk.end])
            rater = self.raters_of(self.cells[start:end])
            item = np.repeat(np.arange(chunk.end - chunk.first), self.votes[chunk.items])
            same = np.flatnonzero(item[1:] == item[:-1])
            return np.unique(rater[same] * self.n_raters + rater[same + 1])

        found = np.unique(np.concatenate([np.zeros(0, np.int64), *self.each(pairs)]))
        edges = (np.ones(len(found), dtype=np.int8), (found // self.n_raters, found % self.n_raters))
        graph = csr_matrix(edges, shape=(self.n_raters, self.n_raters))
        return connected_components(graph, directed=False)[1].astype(np.int64)

    @cached_property
    def counts(self) -> FloatArray:
        """Votes per item and label."""
        onto = np.eye(self.n_labels)[self.cell_labels]
        out = np.empty((self.n_items, self.n_labels))

        def fill(chunk: Chunk) -> None:
            out[chunk.items] = chunk.votes @ onto

        self.each(fill)
        return out

    @cached_property
    def shares(self) -> FloatArray:
        """Share of an item's votes per label; uniform without votes."""
        total = self.votes[:, None]
        return np.where(total > 0, self.counts / np.maximum(total, 1), 1.0 / max(self.n_labels, 1))

    @cached_property
    def chunks(self) -> tuple[Chunk, ...]:
        from scipy.sparse import csr_matrix

        borders = [0]
        while borders[-1] < self.n_items:
            aim = self.starts[borders[-1]] + _CHUNK_VOTES
            borders.append(max(borders[-1] + 1, int(np.searchsorted(self.starts, aim, side="right")) - 1))
        spans = [(a, b, int(self.starts[a]), int(self.starts[b])) for a, b in pairwise(borders)]
        ones = np.ones(max((end - start for _, _, start, end in spans), default=0))
        return tuple(
            Chunk(
                a,
                b,
                csr_matrix(
                    (ones[: end - start], self.cells[start:end], self.starts[a : b + 1] - self.starts[a]),
                    shape=(b - a, self.n_cells),
                    copy=False,
                ),
            )
            for a, b, start, end in spans
        )

    def each(self, work: Callable[[Chunk], T]) -> list[T]:
        """``work(chunk)`` for every chunk, two at a time, results in order."""
        if len(self.chunks) < 2:
            return [work(chunk) for chunk in self.chunks]
        with ThreadPoolExecutor(_THREADS) as pool:
            return list(pool.map(work, self.chunks))

    def tally(self, per_item: FloatArray) -> FloatArray:
        """For every cell the sum of ``per_item`` (items x k) over its votes: cells x k."""
        parts = self.each(lambda chunk: chunk.votes.T @ per_item[chunk.items])
        return sum(parts, np.zeros((self.n_cells, per_item.shape[1])))

    def rater_sums(self, per_cell: FloatArray) -> FloatArray:
        """Sums over a rater's cells: raters x k from cells x k."""
        return _grouped_sums(self.cell_raters, per_cell, self.n_raters)

    def label_sums(self, per_cell: FloatArray) -> FloatArray:
        """Sums over the cells of a label: labels x k from cells x k."""
        return _grouped_sums(self.cell_labels, per_cell, self.n_labels)

    def of_items(self, keep: NDArray[np.bool_]) -> VoteMatrix:
        """The same for some of the items."""
        votes = self.votes[keep]
        mask = np.repeat(keep, self.votes)
        starts = np.concatenate([[0], np.cumsum(votes)]).astype(np.int32)
        return VoteMatrix(starts, self.cells[mask], self.n_raters, self.n_labels, self.occupied)

    def with_items(self, n_items: int) -> VoteMatrix:
        """The same with items without votes at its end, up to so many."""
        starts = np.concatenate([self.starts, np.full(n_items - self.n_items, self.starts[-1], dtype=np.int32)])
        return VoteMatrix(starts, self.cells, self.n_raters, self.n_labels, self.occupied)

    def compact(self) -> VoteMatrix:
        """The same with only the cells that have votes numbered."""
        return _compact(self.starts, self._codes[self.cells], self.n_raters, self.n_labels)


def _grouped_sums(group: IntArray, per_cell: FloatArray, n: int) -> FloatArray:
    from scipy.sparse import csr_matrix

    place = np.arange(len(group) + 1)
    return np.asarray(csr_matrix((np.ones(len(group)), group, place), shape=(len(group), n)).T @ per_cell)


def _matrix(starts: NDArray[np.int32], cells: NDArray[Any], n_raters: int, n_labels: int) -> VoteMatrix:
    """From codes rater x n_labels + label, compact where raters times labels are many for the votes."""
    if n_raters * n_labels <= 2 * max(len(cells), 1):
        return VoteMatrix(starts, cells.astype(np.int32, copy=False), n_raters, n_labels)
    return _compact(starts, cells, n_raters, n_labels)


def _compact(starts: NDArray[np.int32], codes: NDArray[Any], n_raters: int, n_labels: int) -> VoteMatrix:
    occupied, place = np.unique(codes, return_inverse=True)
    return VoteMatrix(starts, place.astype(np.int32), n_raters, n_labels, occupied.astype(np.int64))


def matrix_of(votes: ItemVotes) -> VoteMatrix:
    """The matrix of votes grouped by item, items in the order of their keys. ValueError for anonymous votes."""
    if votes.raters is None:
        raise ValueError("votes are anonymous: give each a rater_id, such as its pool")
    starts = [np.zeros(1, np.int32)]
    for block in votes.blocks:
        starts.append(block.starts[1:] + starts[-1][-1])
    cells = [block.cells.view(np.int32) for block in votes.blocks]
    cell = np.concatenate(cells) if cells else np.zeros(0, np.int32)
    return _matrix(np.concatenate(starts), cell, len(votes.raters), votes.n_labels)


def matrix_of_ids(votes: pl.LazyFrame, item_ids: pl.Series, labels: Sequence[str]) -> VoteMatrix:
    """The matrix of votes with columns item_id, label, rater; items in the order of ``item_ids``, raters sorted."""
    items = pl.LazyFrame({"item_id": item_ids}).with_row_index("item")
    codes = pl.LazyFrame({"label": list(labels)}, schema={"label": pl.String}).with_row_index("code")
    indexed = (
        votes.select("item_id", "label", "rater")
        .join(items, on="item_id")
        .join(codes, on="label")
        .with_columns(rater_code=pl.col("rater").rank("dense").cast(pl.Int64) - 1)
        .collect()
    )
    item, rater, code = (indexed[c].cast(pl.Int64).to_numpy() for c in ("item", "rater_code", "code"))
    return vote_matrix(item, rater, code, len(item_ids), int(rater.max(initial=-1)) + 1, len(labels))


def vote_matrix(
    items: IntArray, raters: IntArray, labels: IntArray, n_items: int, n_raters: int, n_labels: int
) -> VoteMatrix:
    """From three equally long index arrays. ValueError for an index outside its range."""
    for name, codes, n in (("items", items, n_items), ("raters", raters, n_raters), ("labels", labels, n_labels)):
        if len(codes) and (codes.min() < 0 or codes.max() >= n):
            raise ValueError(f"{name} must lie between 0 and {n - 1}")
    cells = np.asarray(raters) * n_labels + np.asarray(labels)
    order = np.lexsort((cells, items))
    starts = np.concatenate([[0], np.cumsum(np.bincount(items, minlength=n_items))]).astype(np.int32)
    return _matrix(starts, cells[order], n_raters, n_labels)
