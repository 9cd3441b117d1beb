"""Repeated votes in files of any size: which rows repeat a rater's vote on an item, and which of them counts.

One pass hashes item and rater of every vote; equal hashes stand side by side once sorted. Only rows behind those are
looked at again, by their values: memory is eight bytes a vote.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from moderation_pipelines.votes.by_item import VoteRows
from moderation_pipelines.votes.repeats import mark_current


@dataclass(frozen=True)
class Repeats:
    """``votes`` without the repeats that do not count; ``n`` of those; ``rows``: every vote of a rater on an item that
    was voted on more than once, in delivery order; ``untimed``: how many of the repeats have no time."""

    votes: VoteRows
    n: int
    rows: pl.DataFrame
    untimed: int


def without_repeats(votes: VoteRows) -> Repeats:
    """Of each named rater's votes on an item the last counts: by the time of the vote (``labeled_at``) where every
    one of them has it, else by the order of the rows. Anonymous votes are no repeats."""
    columns = votes.columns
    empty = votes.prepare(votes.scan.head(0)).collect()
    if "rater_id" not in columns:
        return Repeats(votes, 0, empty, 0)
    counted = pl.col("rater_id").is_not_null() & pl.col("label").is_not_null()
    both = pl.struct(*votes.unit, "rater_id").hash(11)
    parts = [part.filter(counted).select(h=both).collect()["h"].to_numpy() for _, part in votes.batches()]
    hashes = np.concatenate(parts)
    del parts
    hashes.sort()
    suspects = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
    del hashes
    if not len(suspects):
        return Repeats(votes, 0, empty, 0)
    rows = []
    for start, part in votes.batches():
        hit = part.with_row_index("row", start).filter(counted & _among(both, suspects))
        rows.append(hit.collect())
    found = pl.concat(rows)
    key = [*votes.unit, "rater_id"]
    # Hashes of different votes can be equal: only equal values are repeats.
    found = found.filter(pl.len().over(key) > 1)
    timed = "labeled_at" in found.columns
    times = pl.col("labeled_at") if timed else pl.lit(None, dtype=pl.Datetime("us", "UTC"))
    marked = mark_current(
        found.lazy().with_columns(labeled_at=times, named=pl.lit(True), takes_last=pl.lit(True)), key
    ).collect()
    gone = marked.filter(~pl.col("is_current"))["row"].to_numpy().astype(np.int64)
    untimed = marked.filter(pl.col("labeled_at").is_null().any().over(key)).height if timed else marked.height
    return Repeats(replace(votes, skip=np.sort(gone)), len(gone), found.drop("row"), untimed)


def _among(value: pl.Expr, few: NDArray[np.uint64]) -> pl.Expr:
    return value.is_in(pl.Series(few).implode())
