"""Repeated votes in files of any size: which rows repeat a rater's vote on an item, and which of them counts.

One pass hashes item and rater of every vote; equal hashes stand side by side once sorted. Only rows behind those are
looked at again, by their values: memory is eight bytes a vote.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

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
    both = votes.key.hash(11) * 3 + pl.col("rater_id").hash(7)
    every = votes.prepare(votes.scan)
    hashes = every.filter(counted).select(h=both).collect(engine="streaming")["h"].sort().to_numpy()
    suspects = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
    del hashes
    if not len(suspects):
        return Repeats(votes, 0, empty, 0)
    among = counted & both.is_in(pl.Series(suspects).implode())
    hits = (part.with_row_index("row", start).filter(among) for start, part in votes.batches())
    found = pl.concat([_compact(h.collect(engine="streaming").sort("row")) for h in hits])
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


def _compact(few: pl.DataFrame) -> pl.DataFrame:
    """The rows with texts of their own: filtered ones hold on to the texts of the whole batch."""
    compact = pl.from_arrow(few.to_arrow(compat_level=pl.CompatLevel.oldest()))
    assert isinstance(compact, pl.DataFrame)
    return compact
