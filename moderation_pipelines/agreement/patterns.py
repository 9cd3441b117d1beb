"""Label-count patterns: the sufficient statistic of agreement.

Items that got the same number of votes per label are the same to every coefficient that does not look at who voted.
A few hundred distinct patterns stand for any number of items, and a bootstrap by item is a draw of pattern
multiplicities: its cost does not depend on the number of items.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from moderation_pipelines.stats.arrays import FloatArray, IntArray

_CELLS = 4_000_000
PSEUDO_ITEMS = 2.0


@dataclass(frozen=True)
class Patterns:
    """``counts``: patterns x labels, votes per label. ``items``: how many items show each pattern.

    Items with one vote are among them: they take no part in any agreement, but Gwet's coefficients, Fleiss' and
    Conger's kappa and Brennan-Prediger take the chance term from all rated items.
    """

    counts: FloatArray
    items: FloatArray

    @property
    def votes(self) -> FloatArray:
        """Votes per item of each pattern."""
        return np.asarray(self.counts.sum(axis=1))

    @property
    def n_rated(self) -> int:
        """Items with a vote."""
        return int(self.items.sum())

    @property
    def n_items(self) -> int:
        """Items with two or more votes."""
        return int(self.items[self.votes >= 2].sum())

    @property
    def n_votes(self) -> int:
        """Votes on items with two or more."""
        paired = self.votes >= 2
        return int((self.votes * self.items)[paired].sum())

    def paired(self) -> Patterns:
        """The patterns of items with two or more votes."""
        keep = self.votes >= 2
        return Patterns(self.counts[keep], self.items[keep])

    def merged(self, group: IntArray, n_groups: int) -> Patterns:
        """The patterns with labels merged: label k goes to ``group[k]``."""
        onto = np.zeros((self.counts.shape[1], n_groups))
        onto[np.arange(self.counts.shape[1]), group] = 1.0
        return Patterns(self.counts @ onto, self.items)

    def as_seen(self) -> Samples:
        """The items as they are: one sample."""
        return Samples(self, self.items[None, :])

    def resampled(self, replicates: int, seed: int) -> Iterator[Samples]:
        """Bootstrap samples of items, in chunks. Seeded."""
        generator = np.random.default_rng(seed)
        n = self.n_rated
        if n == 0:
            return
        share = self.items / self.items.sum()
        for size in _chunks(replicates, len(self.items)):
            yield Samples(self, generator.multinomial(n, share, size=size).astype(np.float64))

    def believed(self, replicates: int, seed: int) -> Iterator[Samples]:
        """Draws of what the items are a sample of: a Bayesian bootstrap with two items more, each of two votes of any
        labels, in chunks. Seeded.

        What never happened in few items is so taken to be rare, not never.
        Sources: Rubin (1981), Annals of Statistics 9, 130-134; two counts in all over the cells of two votes: Perks
        (1947), Journal of the Institute of Actuaries 73, 285-334.
        """
        generator = np.random.default_rng(seed)
        k = self.counts.shape[1]
        first, second = np.triu_indices(k)
        unit = np.eye(k)
        more = Patterns(
            np.concatenate([self.counts, unit[first] + unit[second]]),
            np.concatenate([self.items, np.where(first == second, 1.0, 2.0) * PSEUDO_ITEMS / k**2]),
        )
        for size in _chunks(replicates, len(more.items)):
            yield Samples(more, generator.standard_gamma(more.items, size=(size, len(more.items))))

    def without_one(self) -> Iterator[Samples]:
        """For each pattern the sample with one of its items left out, in chunks."""
        start = 0
        for size in _chunks(len(self.items), len(self.items)):
            left = np.repeat(self.items[None, :], size, axis=0)
            left[np.arange(size), start + np.arange(size)] -= 1
            start += size
            yield Samples(self, left)


@dataclass(frozen=True)
class Samples:
    """Samples of items as pattern multiplicities, samples x patterns; what several coefficients share is kept."""

    patterns: Patterns
    multiplicity: FloatArray

    @cached_property
    def shares(self) -> FloatArray:
        """Mean over rated items of each label's share of the item's votes, samples x labels; NaN in an empty sample."""
        p = self.patterns
        total = self.multiplicity.sum(axis=1)
        own = p.counts / np.maximum(p.votes, 1)[:, None]
        return np.asarray(self.multiplicity @ own / np.where(total > 0, total, np.nan)[:, None])

    @cached_property
    def coincidences(self) -> FloatArray:
        """Krippendorff's coincidence matrices, samples x labels x labels: pairs of votes by 1 / (votes - 1)."""
        counts, votes = self.patterns.counts, self.patterns.votes
        n_labels = counts.shape[1]
        rows, columns = np.triu_indices(n_labels)
        pairs = counts[:, rows] * counts[:, columns]
        pairs[:, rows == columns] -= counts
        half = self.multiplicity @ (pairs / np.maximum(votes - 1, 1)[:, None])
        full = np.empty((len(half), n_labels, n_labels))
        full[:, rows, columns] = half
        full[:, columns, rows] = half
        return full

    @cached_property
    def specific(self) -> FloatArray:
        """Agreeing and possible pairs per label, 2 x samples x labels."""
        counts, votes = self.patterns.counts, self.patterns.votes
        same = self.multiplicity @ (counts * (counts - 1))
        possible = self.multiplicity @ (counts * np.maximum(votes - 1, 0)[:, None])
        return np.stack([same, possible])


def _chunks(total: int, width: int) -> Iterator[int]:
    size = max(1, _CELLS // max(width, 1))
    for start in range(0, total, size):
        yield min(size, total - start)
