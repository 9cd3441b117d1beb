"""Bootstrap samples as weights: plain, stratified, clustered, and with survey weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from moderation_pipelines.stats.arrays import FloatArray

_CHUNK = 4_000_000


def bootstrap_weights(
    n: int,
    replicates: int,
    seed: int,
    weight: FloatArray | None = None,
    strata: NDArray[np.generic] | None = None,
    clusters: NDArray[np.generic] | None = None,
) -> Iterator[FloatArray]:
    """Weights of bootstrap samples of ``n`` items, in chunks of samples x items; seeded.

    Each weight is how often the item was drawn times its own ``weight`` (1 by default). ``strata``: items (or
    clusters) are drawn within each stratum, as many as it has. ``clusters``: whole clusters are drawn, so that items
    of one author or conversation stay together; a cluster must lie in one stratum. Weights must be finite, not
    negative and not all zero, else ValueError.

    Stratify only by what was fixed before the data were seen: fixing the label counts, say, would hide the
    uncertainty of everything that depends on prevalence.
    Source: Efron & Tibshirani (1993), An Introduction to the Bootstrap, chapters 6 and 8; Davison & Hinkley (1997),
    Bootstrap Methods and their Application, sections 3.2 and 3.8.
    """
    own = np.ones(n) if weight is None else checked_weights(weight, n)
    for name, given in (("strata", strata), ("clusters", clusters)):
        if given is not None and len(given) != n:
            raise ValueError(f"{name} must have one entry per item: {n}, not {len(given)}")
    unit = np.arange(n) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    n_units = int(unit.max(initial=-1)) + 1
    stratum = np.zeros(n_units, np.int64)
    if strata is not None:
        codes = np.unique(strata, return_inverse=True)[1]
        stratum[unit] = codes
        if (stratum[unit] != codes).any():
            raise ValueError("a cluster must lie in one stratum")
    groups = [np.flatnonzero(stratum == s) for s in np.unique(stratum)]
    generator = np.random.default_rng(seed)
    for start in range(0, replicates, chunk := max(1, _CHUNK // max(n, 1))):
        size = min(chunk, replicates - start)
        drawn = np.zeros((size, n_units))
        for group in groups:
            drawn[:, group] = generator.multinomial(len(group), np.full(len(group), 1 / len(group)), size=size)
        yield (drawn if clusters is None else drawn[:, unit]) * own


def checked_weights(weight: FloatArray, n: int) -> FloatArray:
    """The weights, if they can be weights: one per item, finite, not negative, not all zero. ValueError otherwise."""
    if len(weight) != n:
        raise ValueError(f"weights must have one entry per item: {n}, not {len(weight)}")
    wrong = ~np.isfinite(weight) | (weight < 0)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"{int(wrong.sum())} weights are negative or not finite, first at row {first}: {weight[first]:g}"
        )
    if n and not weight.any():
        raise ValueError("all weights are zero; at least one must be above 0")
    return np.asarray(weight, dtype=np.float64)
