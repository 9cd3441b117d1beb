"""Near-duplicates: texts whose sets of character 3-grams have a Jaccard similarity of .7 or more.

Candidates share a MinHash band; each is then compared exactly, so what is found is right. Looking for texts in an index
misses one pair in five thousand at a similarity of .7, fewer above.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from moderation_pipelines.similarity.grams import BANDS, Codes, GramMatrix, Grams, bands_of, grams_of
from moderation_pipelines.stats.arrays import IntArray

NEAR = 0.7
BUCKET = 100
_AT_ONCE = 5_000
_MAX_CANDIDATES = 4_000_000
_BAND = "band"


class TextIndex:
    """Some texts, to look for near-duplicates of them among others. Memory: about 1.5 kB a text of 100 characters."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.n = len(texts)
        grams = grams_of(texts)
        self._sets = GramMatrix(grams)
        self._bands = band_rows(bands_of(grams), grams.sizes > 0)

    def near(self, texts: Sequence[str], active: np.ndarray | None = None) -> pl.DataFrame:
        """Pairs of one of ``texts`` and an indexed one: query, indexed (places), similarity, from .7.

        ``active``: whether each indexed text is still looked for; all are without it.
        """
        index = self._bands
        if active is not None:
            index = index.filter(pl.Series(active)[index["row"]])
        sizes = index.group_by(_BAND).agg(n=pl.len())
        parts = [
            self._compared(grams, pairs)
            for grams, pairs in _candidates([*texts], index, sizes)
        ]  # fmt: skip
        empty = pl.DataFrame(schema={"query": pl.Int64, "indexed": pl.Int64, "similarity": pl.Float64})
        return pl.concat([empty, *parts])

    def nearest(self, texts: Sequence[str], active: np.ndarray | None = None) -> pl.DataFrame:
        """Indexed texts with a near-duplicate among ``texts``: indexed, similarity (of the nearest)."""
        best = pl.DataFrame(schema={"indexed": pl.Int64, "similarity": pl.Float64})
        for start in range(0, len(texts), _AT_ONCE):
            found = self.near(texts[start : start + _AT_ONCE], active).select("indexed", "similarity")
            best = pl.concat([best, found]).group_by("indexed").agg(pl.col("similarity").max())
        return best.sort("indexed")

    def _compared(self, grams: Grams, pairs: pl.DataFrame) -> pl.DataFrame:
        mine, theirs = pairs["row"].to_numpy().astype(np.int64), pairs["at"].to_numpy().astype(np.int64)
        found = pl.Series(self._sets.similarities(self._sets.rows(grams), theirs, mine), dtype=pl.Float64)
        return pl.DataFrame(
            {"query": pairs["query"].cast(pl.Int64), "indexed": mine, "similarity": found}
        ).filter(pl.col("similarity") >= NEAR)  # fmt: skip


def band_rows(bands: Codes, some: np.ndarray) -> pl.DataFrame:
    """Bands as rows: band, row. Of ``some`` of the texts."""
    rows = np.flatnonzero(some).astype(np.uint32)
    return pl.DataFrame({_BAND: bands[rows].ravel(), "row": np.repeat(rows, BANDS)})


def _candidates(
    texts: list[str], index: pl.DataFrame, sizes: pl.DataFrame, offset: int = 0
) -> Iterator[tuple[Grams, pl.DataFrame]]:
    """(grams of some texts, pairs that share a band), a bounded number of pairs at once.

    Pairs: query (place among all texts), at (place among the grams), row (of the index).
    """
    for start in range(0, len(texts), _AT_ONCE):
        part = texts[start : start + _AT_ONCE]
        grams = grams_of(part)
        mine = band_rows(bands_of(grams), grams.sizes > 0).rename({"row": "at"})
        expected = mine.join(sizes, on=_BAND)["n"].sum()
        if expected > _MAX_CANDIDATES and len(part) > 1:
            half = len(part) // 2
            yield from _candidates(part[:half], index, sizes, offset + start)
            yield from _candidates(part[half:], index, sizes, offset + start + half)
            continue
        pairs = mine.join(index, on=_BAND).select("at", "row").unique().sort("at", "row")
        if pairs.height:
            yield grams, pairs.with_columns(query=pl.col("at").cast(pl.Int64) + offset + start)


def near_pairs(texts: Sequence[str]) -> pl.DataFrame:
    """Pairs among some texts: see :func:`pairs_among`."""
    grams = grams_of(texts)
    return pairs_among(grams, bands_of(grams))


def pairs_among(grams: Grams, bands: Codes) -> pl.DataFrame:
    """Pairs of near-duplicates among some texts: first, second (places, first < second), similarity, from .7, sorted.

    Of texts that share a band with more than a hundred others each is compared with the first hundred of them, so that
    the work grows with the number of texts. A pair that shares such crowded bands only may be missed: of 12,000 texts
    of one template, strangers among which have a similarity of .59 to .67, one to three pairs in a hundred.
    """
    parts = [pl.DataFrame(schema={"first": pl.Int64, "second": pl.Int64, "similarity": pl.Float64})]
    for first, second in _shared_bands(band_rows(bands, grams.sizes > 0).sort(_BAND, "row"), grams.n):
        rows, places = np.unique(np.concatenate([first, second]), return_inverse=True)
        sets = GramMatrix(grams.some(rows))
        similarity = sets.similarities(sets.mine, *np.split(places.reshape(-1), 2))
        found = pl.DataFrame({"first": first, "second": second, "similarity": similarity})
        parts.append(found.filter(pl.col("similarity") >= NEAR))
    return pl.concat(parts).unique(["first", "second"]).sort("first", "second")


def _shared_bands(bands: pl.DataFrame, n: int) -> Iterator[tuple[IntArray, IntArray]]:
    """Pairs of rows that share a band, a bounded number at once: first, second, first < second; each with the first
    hundred of its band. ``bands``: band, row, sorted; rows below ``n``."""
    row, place = bands["row"].to_numpy().astype(np.int64), places_in_runs(bands[_BAND].to_numpy())
    # The k-th row of a band is compared with those before it, a hundred at most.
    n_before = np.minimum(place, BUCKET)
    later = np.flatnonzero(n_before)
    ends = np.cumsum(n_before[later])
    for some in np.split(
        later, np.searchsorted(ends, np.arange(_MAX_CANDIDATES, ends.max(initial=0), _MAX_CANDIDATES))
    ):
        counts = n_before[some]
        offset = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        first = row[np.repeat(some - place[some], counts) + offset]
        pairs = np.unique(first * n + np.repeat(row[some], counts))
        yield pairs // n, pairs % n


def places_in_runs(values: np.ndarray) -> IntArray:
    """Place of each value within its run of equal neighbours, from 0."""
    if not len(values):
        return np.zeros(0, np.int64)
    starts = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
    lengths = np.diff(np.append(starts, len(values)))
    return np.arange(len(values)) - np.repeat(starts, lengths)


def components(n: int, first: IntArray, second: IntArray) -> IntArray:
    """Code of the connected component of each of ``n`` things, by pairs of them; that of the first
    member is its own place."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(first), np.int8), (first, second)), shape=(n, n))
    _, code = connected_components(graph, directed=False)
    _, leaders = np.unique(code, return_index=True)
    return np.asarray(leaders[code], dtype=np.int64)
