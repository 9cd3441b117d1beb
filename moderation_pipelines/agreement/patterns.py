"""Label-count patterns: the sufficient statistic of agreement.

Items that got the same number of votes per label are the same to every coefficient. A few hundred distinct patterns
stand for any number of items, and a bootstrap by item is a draw of pattern multiplicities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Patterns:
    """``counts``: patterns x labels, votes per label. ``items``: how many items show each pattern."""

    counts: FloatArray
    items: FloatArray

    @property
    def n_items(self) -> int:
        return int(self.items.sum())

    @property
    def n_votes(self) -> int:
        return int((self.counts.sum(axis=1) * self.items).sum())

    def resampled(self, replicates: int, seed: int) -> FloatArray:
        """Pattern multiplicities of bootstrap samples of items. Shape: replicates x patterns."""
        if self.n_items == 0:
            return np.zeros((replicates, 0))
        generator = np.random.default_rng(seed)
        return generator.multinomial(self.n_items, self.items / self.items.sum(), size=replicates).astype(np.float64)

    def merged(self, group: NDArray[np.int64], n_groups: int) -> Patterns:
        """The patterns with labels merged: label k goes to ``group[k]``."""
        onto = np.zeros((self.counts.shape[1], n_groups))
        onto[np.arange(self.counts.shape[1]), group] = 1.0
        return Patterns(self.counts @ onto, self.items)


def patterns_from_counts(counts: pl.LazyFrame, n_labels: int) -> Patterns:
    """Patterns of items with two or more votes, from one row of counts (c0, c1, ...) per item. Sorted."""
    names = [f"c{k}" for k in range(n_labels)]
    table = (
        counts.select(names)
        .filter(pl.sum_horizontal(names) >= 2)
        .group_by(names)
        .agg(items=pl.len())
        .sort(names)
        .collect()
    )
    return Patterns(table.select(names).to_numpy().astype(np.float64), table["items"].to_numpy().astype(np.float64))
