"""Clusters of near-duplicates, grown day by day: each keeps the side of its first member, and no text ever moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from moderation_pipelines.ingest.tables import CONTENT, NEAR_DUPLICATE_CLUSTERS, SIDES
from moderation_pipelines.similarity.grams import (
    BANDS,
    ROWS_OF_BAND,
    Codes,
    GramMatrix,
    Grams,
    bands_of,
    bands_version,
    grams_of,
)
from moderation_pipelines.similarity.near import NEAR, band_rows, components, pairs_among, places_in_runs
from moderation_pipelines.tables.warehouse import Warehouse

OF_CLUSTER, AT_MOST = 3, 500
_AT_ONCE = 4_000_000
_ORDER = ["similarity", "first_seen", "first_item_id", "key"]
_DESCENDING = [True, False, False, False]


@dataclass(frozen=True)
class Assigned:
    """``of_texts``: text_sha256, side_key of every text of the day. ``clusters``, ``sides``: the day's rows of
    ``near_duplicate_clusters`` and ``sides``."""

    of_texts: pl.DataFrame
    clusters: pl.DataFrame
    sides: pl.DataFrame


def assigned_clusters(
    texts: pl.DataFrame, warehouse: Warehouse, day: date, side_of: Callable[[pl.Series], pl.Series]
) -> Assigned:
    """The cluster of every text of a day. ``texts``: text_sha256 (unique), text, item_id (the least that has it).

    A text that was seen before stays where it is. Another joins the cluster of its nearest near-duplicate of days that
    were read before; else that of the day's text it is nearest to that has joined one; the day's texts that are left
    are clusters by themselves, each with the hash of its first member's text by item id as key. A text with
    near-duplicates on the other side is a bridge: it is marked, and stays.
    """
    history = warehouse.scan(NEAR_DUPLICATE_CLUSTERS)
    known = history.join(texts.lazy().select("text_sha256"), on="text_sha256", how="semi").collect(engine="streaming")
    new = texts.join(known, on="text_sha256", how="anti").sort("item_id", "text_sha256").with_row_index("row")
    before = warehouse.scan(SIDES).select("key", "first_seen", "first_item_id").collect(engine="streaming")
    grams = grams_of(new["text"].to_list())
    bands = bands_of(grams)
    near_before = _near_before(new, grams, bands, history, warehouse)
    within = pairs_among(grams, bands)
    keys = _joined(new.height, near_before.join(before, on="key", how="left"), within)
    leaders = components(new.height, *_between(within, np.array([k is None for k in keys])))
    hashes = new["text_sha256"].to_list()
    found = new.select("row", "text_sha256", "item_id").with_columns(
        key=pl.Series([hashes[leaders[r]] if k is None else k for r, k in enumerate(keys)], dtype=pl.String)
    )
    found = found.with_columns(side=side_of(found["key"]))
    bridges = _bridges(found, near_before.with_columns(side=side_of(near_before["key"])), within)
    made = pl.concat(
        [
            history.filter(pl.col("drop_date") == day).collect(),
            NEAR_DUPLICATE_CLUSTERS.exactly(
                found.lazy().select(
                    "text_sha256", "key", "side", is_bridge=pl.col("row").is_in(bridges),
                    bands=_lists(bands),
                    made_by=pl.lit(bands_version()), drop_date=pl.lit(day),
                )
            ).collect(),
        ]
    )  # fmt: skip
    begun = found.filter(pl.col("key") == pl.col("text_sha256")).select(
        "key", "side", first_seen=pl.lit(day), first_item_id="item_id", drop_date=pl.lit(day)
    )
    sides = pl.concat([warehouse.scan(SIDES, [day]).collect(), SIDES.exactly(begun.lazy()).collect()])
    of_texts = pl.concat([known.select("text_sha256", side_key="key"), found.select("text_sha256", side_key="key")])
    return Assigned(of_texts, made, sides)


def _near_before(
    new: pl.DataFrame, grams: Grams, bands: Codes, history: pl.LazyFrame, warehouse: Warehouse
) -> pl.DataFrame:
    """Near-duplicates of new texts among those of days read before: row, key, similarity."""
    empty = pl.DataFrame(schema={"row": pl.UInt32, "key": pl.String, "similarity": pl.Float64})
    if new.is_empty():
        return empty
    mine = band_rows(bands, grams.sizes > 0)
    earlier = (
        _with_current_bands(history, warehouse)
        .explode("bands")
        .rename({"bands": "band"})
        .join(mine.lazy().select("band").unique(), on="band", how="semi")
        .collect(engine="streaming")
    )
    named = earlier.select("text_sha256", "key").unique().sort("text_sha256").with_row_index("at")
    texts = (
        warehouse.scan(CONTENT)
        .select("text_sha256", "text")
        .join(named.lazy().select("text_sha256"), on="text_sha256", how="semi")
        .unique("text_sha256")
        .collect(engine="streaming")
    )
    placed = named.join(texts, on="text_sha256", how="left", maintain_order="left")
    gone = placed["text"].is_null().to_numpy()
    theirs = grams_of(placed["text"].fill_null("").to_list())
    coded = earlier.join(named, on=["text_sha256", "key"]).select("band", "at", "key")
    parts = [empty]
    for pairs in _candidates(mine, coded):
        at, row = (pairs[c].to_numpy().astype(np.int64) for c in ("at", "row"))
        # A text that was withdrawn cannot be compared; a share s ** 4 of its bands is what a similarity of s shares.
        estimated = (pairs["n_shared"].to_numpy() / BANDS) ** (1 / ROWS_OF_BAND)
        (new_rows, mine_at), (old_rows, theirs_at) = (np.unique(x, return_inverse=True) for x in (row, at))
        sets = GramMatrix(grams.some(new_rows))
        exact = sets.similarities(sets.rows(theirs.some(old_rows)), theirs_at.reshape(-1), mine_at.reshape(-1))
        similarity = np.where(gone[at], estimated, exact)
        near = similarity >= NEAR
        parts.append(
            pl.DataFrame(
                {"row": pairs["row"].filter(near), "key": named["key"][at[near]], "similarity": similarity[near]}
            )
        )
    return pl.concat(parts).group_by("row", "key").agg(pl.col("similarity").max()).sort("row", "key")


def _candidates(mine: pl.DataFrame, earlier: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Earlier texts each new one is compared with, a bounded number at once: row, at (place of the text), n_shared
    (bands).

    ``mine``: band, row; ``earlier``: band, at, key. Of a cluster crowded into one band three texts stand for it. Of
    more than 500 candidates those that share the most bands are taken: near-duplicates share eight of 32 on average,
    others of one template fewer.
    """
    earlier = earlier.sort("band", "key", "at")
    of_key = places_in_runs(earlier.select(pl.struct("band", "key").rle_id()).to_series().to_numpy())
    earlier = earlier.drop("key").filter(pl.Series(of_key < OF_CLUSTER))
    sizes = earlier.group_by("band").agg(n=pl.len())
    expected = mine.join(sizes, on="band").group_by("row").agg(pl.col("n").sum()).sort("row")
    piece = (expected["n"].cum_sum() // _AT_ONCE).alias("piece")
    for _, some in expected.with_columns(piece).group_by("piece", maintain_order=True):
        shared = (
            mine.join(some.select("row"), on="row", how="semi")
            .join(earlier, on="band")
            .group_by("row", "at")
            .agg(n_shared=pl.len())
            .sort("row", "n_shared", "at", descending=[False, True, False])
        )
        yield shared.filter(pl.Series(places_in_runs(shared["row"].to_numpy()) < AT_MOST))


def _with_current_bands(history: pl.LazyFrame, warehouse: Warehouse) -> pl.LazyFrame:
    """text_sha256, key, bands of earlier texts. Those another version of the method made are made again."""
    current = pl.col("made_by") == bands_version()
    stale = history.filter(~current).select("text_sha256", "key").collect(engine="streaming")
    rows = history.filter(current).select("text_sha256", "key", "bands")
    if stale.is_empty():
        return rows
    texts = (
        warehouse.scan(CONTENT).select("text_sha256", "text").join(stale.lazy(), on="text_sha256")
        .unique("text_sha256").collect(engine="streaming")
    )  # fmt: skip
    again = texts.select("text_sha256", "key", bands=_lists(bands_of(grams_of(texts["text"].to_list()))))
    return pl.concat([rows, again.lazy()])


def _lists(bands: Codes) -> pl.Series:
    return pl.Series(bands).arr.to_list() if len(bands) else pl.Series([], dtype=pl.List(pl.UInt64))


def _joined(n: int, near: pl.DataFrame, within: pl.DataFrame) -> list[str | None]:
    """The cluster of earlier days each new text joins, by itself or through texts of the day; None for none."""
    keys: list[str | None] = [None] * n
    both = pl.concat([within, within.select(first="second", second="first", similarity="similarity")])
    facts = near.select("key", "first_seen", "first_item_id").unique("key")
    while near.height:
        ordered = near.sort("row", *_ORDER, descending=[False, *_DESCENDING])
        best = ordered.unique("row", keep="first", maintain_order=True)
        for row, key in best.select("row", "key").iter_rows():
            keys[row] = key
        joined = best.select(first=pl.col("row").cast(pl.Int64), key="key")
        free = pl.Series([k is None for k in keys], dtype=pl.Boolean)
        near = (
            both.filter(free[both["second"]]).join(joined, on="first").join(facts, on="key").rename({"second": "row"})
        )
    return keys


def _between(pairs: pl.DataFrame, some: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs both of which are among ``some``."""
    first, second = pairs["first"].to_numpy(), pairs["second"].to_numpy()
    both = some[first] & some[second] if len(first) else np.zeros(0, bool)
    return first[both], second[both]


def _bridges(found: pl.DataFrame, near: pl.DataFrame, within: pl.DataFrame) -> list[int]:
    """Rows of new texts with a near-duplicate on the other side."""
    side = found["side"]
    across = near.filter(side[near["row"]] != near["side"])["row"].to_list() if near.height else []
    apart = within.filter(side[within["first"]] != side[within["second"]]) if within.height else within
    return sorted({*across, *apart["first"].to_list(), *apart["second"].to_list()})
