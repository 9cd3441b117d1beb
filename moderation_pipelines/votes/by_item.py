"""Votes grouped by item, as arrays: one pass over a file of any size, 4 to 8 bytes a vote.

Items are told apart by the 64-bit hash of their id and split into blocks by it. That two of 25 million items share a
hash happens with probability 2e-5 (n^2 / 2^65); they would then count as one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from moderation_pipelines.foundation.errors import did_you_mean
from moderation_pipelines.stats.arrays import IntArray
from moderation_pipelines.votes.scale import SET_SEPARATOR, Scale

UNKNOWN = "unknown"
Prepare = Callable[[pl.LazyFrame], pl.LazyFrame]
_BATCH_ROWS = 2_000_000
_BLOCK_VOTES = 1_000_000
_MAX_BLOCK_BITS = 8
_THREADS = 2
_Part = tuple[np.ndarray, ...]
T = TypeVar("T")


@dataclass(frozen=True)
class VoteRows:
    """Votes in Parquet, read in batches so that memory does not grow with the rows.

    ``prepare`` brings a batch into shape, row for row: columns item_id, label (null: no vote), rater_id as text, and
    those to slice by. ``unit``: columns that together are one item. ``skip``: numbers of rows left out, sorted.
    """

    scan: pl.LazyFrame
    prepare: Prepare
    unit: tuple[str, ...] = ("item_id",)
    skip: NDArray[np.int64] | None = None

    @cached_property
    def rows(self) -> int:
        return int(self.scan.select(pl.len()).collect().item())

    @cached_property
    def columns(self) -> list[str]:
        return self.prepare(self.scan).collect_schema().names()

    def batches(self) -> Iterator[tuple[int, pl.LazyFrame]]:
        """(number of its first row, rows) of each batch; at least one."""
        for start in range(0, max(self.rows, 1), _BATCH_ROWS):
            part = self.scan.slice(start, _BATCH_ROWS)
            if self.skip is not None:
                first, end = np.searchsorted(self.skip, (start, start + _BATCH_ROWS))
                if end > first:
                    stays = np.ones(min(_BATCH_ROWS, self.rows - start), dtype=bool)
                    stays[self.skip[first:end] - start] = False
                    yield start, self.prepare(part).filter(pl.Series(stays))
                    continue
            yield start, self.prepare(part)

    @property
    def key(self) -> pl.Expr:
        """The item of a vote, as what is hashed."""
        return pl.col("item_id") if self.unit == ("item_id",) else pl.struct(*self.unit)

    def item_ids(self, keys: NDArray[np.uint64]) -> pl.DataFrame:
        """The columns of ``unit`` for hashes of items, in their order. ``keys``: sorted, without repeats."""
        seen = self.prepare(self.scan).select(*self.unit, key=self.key.hash()).unique("key", keep="any")
        ids = seen.sort("key").collect(engine="streaming")
        return ids.filter(pl.Series(_among(ids["key"].to_numpy(), keys))).drop("key")


def _among(values: NDArray[np.uint64], keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which ``values`` are in ``keys``; both sorted."""
    if not len(keys):
        return np.zeros(len(values), dtype=bool)
    return keys[np.minimum(np.searchsorted(keys, values), len(keys) - 1)] == values


VotesSource = pl.LazyFrame | pl.DataFrame | Path | Sequence[Path] | VoteRows


@dataclass(frozen=True)
class Block:
    """Some items' votes. ``starts``: first vote of each item, and the end; ``cells``: rater x labels + label of each
    vote (just the label where raters are not looked at); ``slices``: slice of each item; ``keys``: hash of its id,
    sorted within a block and from block to block."""

    starts: NDArray[np.int32]
    cells: np.ndarray
    slices: np.ndarray
    keys: np.ndarray
    n_repeats: int = 0

    @property
    def n_items(self) -> int:
        return len(self.starts) - 1

    @property
    def votes(self) -> IntArray:
        """Votes per item."""
        return np.diff(self.starts).astype(np.int64)

    def sums(self, per_vote: np.ndarray) -> np.ndarray:
        """Sum of a quantity per vote over each item."""
        return np.add.reduceat(per_vote, self.starts[:-1])

    @property
    def item_of_vote(self) -> IntArray:
        return np.repeat(np.arange(self.n_items), self.votes)


@dataclass(frozen=True)
class ItemVotes:
    """All votes of one slicing. ``names``: value of each slice. ``raters``: ids by code; None where a vote is
    anonymous, then ``cells`` hold labels only."""

    scale: Scale
    names: tuple[str | None, ...]
    raters: tuple[str, ...] | None
    blocks: tuple[Block, ...]

    @property
    def n_labels(self) -> int:
        return len(self.scale.labels)

    @property
    def n_repeats(self) -> int:
        """Votes that repeat the vote of the same named rater on the same item."""
        return sum(block.n_repeats for block in self.blocks)

    @property
    def n_cells(self) -> int:
        return self.n_labels * (1 if self.raters is None else len(self.raters))

    @property
    def label_of_cell(self) -> IntArray:
        return np.arange(self.n_cells) % self.n_labels

    def each(self, work: Callable[[Block], T]) -> list[T]:
        """``work(block)`` for every block, two at a time, results in order."""
        with ThreadPoolExecutor(_THREADS) as pool:
            return list(pool.map(work, self.blocks))


def item_votes(source: VotesSource, scale: Scale, by: str | None = None, with_raters: bool = True) -> ItemVotes:
    """Read votes and group them by item (and by the column ``by``: an item has its votes of each value apart).

    ``source``: Parquet file or files, read in batches, or a frame. Columns: item_id, label and, where there,
    rater_id and ``by``. Votes without a label are missing and left out; a null ``by`` is "unknown". Raises ValueError
    naming labels that are not on the scale, or a column that is missing, and for votes without item_id.
    """
    frame = as_lazy(source)
    columns = source.columns if isinstance(source, VoteRows) else frame.collect_schema().names()
    for name in ("item_id", "label", *([by] if by else [])):
        if name not in columns:
            raise ValueError(f'votes have no column "{name}"{did_you_mean(name, columns)}; there: {", ".join(columns)}')
    in_files = not isinstance(source, pl.LazyFrame | pl.DataFrame)
    votes = source if isinstance(source, VoteRows) else VoteRows(frame, lambda part: part)
    reader = _Reader(votes, scale, by, with_raters and "rater_id" in columns)
    batches = reader.batches(in_files)
    first = next(batches)
    rows = votes.rows if in_files else first.height
    bits = min(_MAX_BLOCK_BITS, max(0, (rows // _BLOCK_VOTES).bit_length()))
    parts: list[list[_Part]] = [[] for _ in range(1 << bits)]
    anonymous = not reader.with_raters
    with ThreadPoolExecutor(1) as background:
        pending = None
        for batch in chain([first], batches):
            anonymous = anonymous or batch["rater"].null_count() > 0
            if pending is not None:
                pending.result()
            pending = background.submit(_scatter, batch, parts, bits, by is not None)
            del batch
        if pending is not None:
            pending.result()
    raters, rater_code = (None, None) if anonymous else _in_order(reader.raters)
    names, slice_code = ((None,), None) if by is None else _in_order(reader.slices)

    def group(k: int) -> Block:
        mine, parts[k] = parts[k], []
        return _grouped(mine, len(scale.labels), rater_code, slice_code)

    with ThreadPoolExecutor(_THREADS) as pool:
        blocks = tuple(b for b in pool.map(group, range(len(parts))) if b.n_items)
    return ItemVotes(scale, names, raters, blocks)


def as_lazy(source: VotesSource) -> pl.LazyFrame:
    """Votes as a lazy frame, whatever they came as, with labels as text: a list of words is a set of them."""
    if isinstance(source, VoteRows):
        return source.prepare(source.scan)
    if isinstance(source, pl.LazyFrame | pl.DataFrame):
        frame = source.lazy()
    else:
        frame = pl.scan_parquet(source if isinstance(source, Path) else list(source), glob=False)
    dtype = frame.collect_schema().get("label")
    if dtype is None or dtype == pl.String:
        return frame
    label = pl.col("label")
    if isinstance(dtype, pl.List):
        words = label.cast(pl.List(pl.String)).list.drop_nulls().list.unique().list.sort()
        return frame.with_columns(label=words.list.join(SET_SEPARATOR))
    return frame.with_columns(label=label.cast(pl.String))


class _Reader:
    """Votes as frames of small integers: key, label, rater, slice."""

    def __init__(self, votes: VoteRows, scale: Scale, by: str | None, with_raters: bool) -> None:
        self.votes, self.scale, self.by, self.with_raters = votes, scale, by, with_raters
        self.raters, self.slices = pl.Categories.random(), pl.Categories.random()
        # The codes are forgotten when no column of the type is left.
        self._kept = [pl.Series([], dtype=pl.Categorical(c)) for c in (self.raters, self.slices)]

    def batches(self, in_files: bool) -> Iterator[pl.DataFrame]:
        if not in_files:
            yield self._coded(self.votes.scan)
            return
        for _, part in self.votes.batches():
            yield self._coded(part)

    def _coded(self, frame: pl.LazyFrame) -> pl.DataFrame:
        labels = list(self.scale.labels)
        label = pl.col("label").cast(pl.String)
        key = self.votes.key
        columns = {
            "label": label.cast(pl.Enum(labels), strict=False).to_physical().cast(pl.UInt32),
            "rater": pl.lit(0, dtype=pl.UInt32),
        }
        if self.with_raters:
            columns["rater"] = _code(pl.col("rater_id"), self.raters)
        if self.by is not None:
            value = pl.col(self.by).cast(pl.String).fill_null(UNKNOWN)
            columns["slice"] = _code(value, self.slices)
            key = pl.struct(key, value.alias("slice_value"))
        columns["nameless"] = pl.col("item_id").is_null()
        coded = frame.filter(pl.col("label").is_not_null()).select(key=key.hash(), **columns).collect()
        if nameless := int(coded["nameless"].sum()):
            raise ValueError(f"{nameless:,} votes have no item_id; leave them out or name their item")
        if coded["label"].null_count():
            stray = frame.select(label.unique()).filter(~pl.col("label").is_in(labels)).collect()["label"]
            raise ValueError(f"labels not on the scale: {sorted(stray.to_list())[:5]}; known: {labels}")
        return coded


def _code(value: pl.Expr, categories: pl.Categories) -> pl.Expr:
    return value.cast(pl.String).cast(pl.Categorical(categories)).to_physical().cast(pl.UInt32)


def _in_order(categories: pl.Categories) -> tuple[tuple[str, ...], np.ndarray]:
    """The values met, sorted, and for each code as met its place among them: no trace of the order of reading."""
    met = categories.to_series()
    order = met.arg_sort()
    place = np.empty(len(order), np.uint32)
    place[order.to_numpy()] = np.arange(len(order), dtype=np.uint32)
    return tuple(met.gather(order).to_list()), place


def _scatter(batch: pl.DataFrame, parts: list[list[_Part]], bits: int, sliced: bool) -> None:
    """Split a batch's votes over the blocks, by the leading bits of the item's hash."""
    columns = [batch[c].to_numpy() for c in ("key", "label", *(("slice",) if sliced else ()))]
    columns.insert(2, batch["rater"].fill_null(0).to_numpy())
    if bits == 0:
        parts[0].append(tuple(columns))
        return
    block = (columns[0] >> np.uint64(64 - bits)).astype(np.uint8)
    order = np.argsort(block, kind="stable")
    ends = np.cumsum(np.bincount(block, minlength=len(parts)))
    columns = [c[order] for c in columns]
    for k, end in enumerate(ends):
        start = ends[k - 1] if k else 0
        parts[k].append(tuple(c[start:end].copy() for c in columns))


def _grouped(parts: list[_Part], n_labels: int, rater_code: np.ndarray | None, slice_code: np.ndarray | None) -> Block:
    """A block's votes, sorted by item."""
    key, label, rater, *sliced = (np.concatenate(c) for c in zip(*parts, strict=True))
    cell = label if rater_code is None else rater_code[rater] * np.uint32(n_labels) + label
    order = np.argsort(key)
    key = key[order]
    first = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]])) if len(key) else np.zeros(0, np.int64)
    starts = np.append(first, len(key)).astype(np.int32)
    if sliced:
        assert slice_code is not None
        slices = slice_code[sliced[0][order[first]]]
    else:
        slices = np.zeros(len(first), np.uint32)
    # Within an item by cell: the order of delivery leaves no trace, and a rater's repeats stand side by side.
    item = np.repeat(np.arange(len(first), dtype=np.uint64), np.diff(starts))
    both = (item << np.uint64(32)) | cell[order]
    both.sort()
    cell = (both & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    n_repeats = 0
    if rater_code is not None:
        same = both[1:] >> np.uint64(32) == both[:-1] >> np.uint64(32)
        n_repeats = int((same & (cell[1:] // n_labels == cell[:-1] // n_labels)).sum()) if n_labels else 0
    return Block(starts, cell, slices, key[first], n_repeats)
