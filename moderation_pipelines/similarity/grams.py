"""Texts as sets of character 3-grams, and the MinHash bands that near-duplicates share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from moderation_pipelines.foundation.text import normalised_text
from moderation_pipelines.stats.arrays import FloatArray, IntArray

Codes = NDArray[np.uint64]

SIZE = 3
BANDS, ROWS_OF_BAND = 32, 4
_SEED = 1
# A Unicode code point has 21 bits: three of them fit into 63. They are counted from 1: 0 is no character.
_BITS = 21
_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5], np.uint64)
_LAST = np.uint64(0xBF58476D1CE4E5B9)
_OF_BAND = np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True)
class Grams:
    """The different 3-grams of some texts: ``codes`` holds those of text k, ascending, from ``starts[k]`` on."""

    codes: Codes
    starts: IntArray

    @property
    def sizes(self) -> IntArray:
        """How many each text has; 0 for one of invisible characters only."""
        return np.diff(self.starts)

    @property
    def n(self) -> int:
        return len(self.starts) - 1

    def some(self, rows: IntArray) -> Grams:
        """Those of some of the texts."""
        sizes = self.sizes[rows]
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        place = np.arange(starts[-1]) + np.repeat(self.starts[rows] - starts[:-1], sizes)
        return Grams(self.codes[place], starts)


def grams_of(texts: Sequence[str]) -> Grams:
    """The sets of 3-grams of the normalised texts; a text of one or two characters is one gram, shorter than others.

    Grams are the code points themselves, no hashes: two are equal only if the characters are.
    """
    parts = [_grams_of(texts[k : k + _AT_ONCE]) for k in range(0, len(texts), _AT_ONCE)]
    codes = np.concatenate([np.zeros(0, np.uint64), *(p.codes for p in parts)])
    sizes = np.concatenate([np.zeros(0, np.int64), *(p.sizes for p in parts)])
    return Grams(codes, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))


def _grams_of(texts: Sequence[str]) -> Grams:
    normal = [normalised_text(t) for t in texts]
    n_characters = np.array([len(t) for t in normal], np.int64)
    characters = np.frombuffer("".join(normal).encode("utf-32-le", "surrogatepass"), dtype=np.uint32) + np.uint32(1)
    row = np.repeat(np.arange(len(normal), dtype=np.uint32), n_characters)
    ends = np.cumsum(n_characters)
    left = np.repeat(ends, n_characters) - np.arange(len(characters))
    codes = np.zeros(len(characters), np.uint64)
    for place in range(SIZE):
        following = np.zeros(len(characters), np.uint64)
        following[: max(len(characters) - place, 0)] = characters[place:]
        following[left <= place] = 0
        codes |= following << np.uint64(_BITS * place)
    first = np.zeros(len(characters), bool)
    first[(ends - n_characters)[n_characters > 0]] = True
    whole = (left >= SIZE) | first
    sets = pl.DataFrame({"row": row[whole], "code": codes[whole]}).unique().sort("row", "code")
    starts = np.searchsorted(sets["row"].to_numpy(), np.arange(len(normal) + 1))
    return Grams(sets["code"].to_numpy(), starts.astype(np.int64))


def bands_of(grams: Grams) -> Codes:
    """MinHash bands, texts x 32: two texts with a Jaccard similarity of .7 share one with probability .9998, of .5 with
    .87, of .2 with .05. Rows of texts without grams mean nothing.

    128 hashes in bands of four. Source: Broder (1997), Compression and Complexity of Sequences, 21-29; Leskovec,
    Rajaraman & Ullman (2020), Mining of Massive Datasets, 3rd ed., section 3.4.
    """
    from rensa import RMinHash

    parts = [np.zeros((0, BANDS), np.uint64)]
    for start in range(0, grams.n, _AT_ONCE):
        starts = grams.starts[start : start + _AT_ONCE + 1]
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            grams.codes[starts[0] : starts[-1]], (starts - starts[0]).astype(np.uint64), BANDS * ROWS_OF_BAND, _SEED
        )
        signatures = np.array(matrix.to_rows(), dtype=np.uint64).reshape(-1, BANDS, ROWS_OF_BAND)
        with np.errstate(over="ignore"):
            mixed = (signatures * _MIX).sum(axis=2, dtype=np.uint64)
            mixed = (mixed ^ (mixed >> np.uint64(29))) * _LAST
            parts.append(mixed ^ (np.arange(BANDS, dtype=np.uint64) * _OF_BAND))
    return np.concatenate(parts)


def bands_version() -> str:
    """What stored bands were made by: those of another version cannot be compared."""
    from rensa import RMinHash

    return f"rminhash {RMinHash.ALGORITHM_VERSION}, {BANDS} x {ROWS_OF_BAND}, {SIZE}-grams"


class GramMatrix:
    """Sets of grams as a sparse matrix, to count what pairs of them share."""

    def __init__(self, grams: Grams) -> None:
        self._vocabulary = np.unique(grams.codes)
        self.mine = self.rows(grams)

    def rows(self, grams: Grams) -> GramRows:
        """Sets of grams as rows over the grams of these: others do not count for what they share."""
        from scipy.sparse import csr_matrix

        place = np.searchsorted(self._vocabulary, grams.codes)
        place[place == len(self._vocabulary)] = 0
        known = self._vocabulary[place] == grams.codes if len(self._vocabulary) else np.zeros(len(place), bool)
        kept = np.concatenate([[0], np.cumsum(known)])[grams.starts]
        ones = np.ones(int(known.sum()), np.float32)
        matrix = csr_matrix((ones, place[known], kept), shape=(grams.n, max(len(self._vocabulary), 1)))
        return GramRows(matrix, grams.sizes)

    def similarities(self, other: GramRows, theirs: IntArray, mine: IntArray) -> FloatArray:
        """Jaccard similarity of text ``theirs[k]`` of the other and ``mine[k]`` of these; 0 where one has no grams."""
        out = np.zeros(len(mine))
        for start in range(0, len(mine), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            a, b = theirs[part], mine[part]
            shared = np.asarray(other.matrix[a].multiply(self.mine.matrix[b]).sum(axis=1)).ravel().astype(np.float64)
            out[part] = shared / np.maximum(other.sizes[a] + self.mine.sizes[b] - shared, 1)
        return out


@dataclass(frozen=True)
class GramRows:
    """A row for each set of grams, and the sizes of the sets."""

    matrix: Any
    sizes: IntArray


_PAIRS_AT_ONCE = 100_000
_AT_ONCE = 10_000
