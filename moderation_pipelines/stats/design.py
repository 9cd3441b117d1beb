"""How a sample was drawn, and the variance of a weighted sum under it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moderation_pipelines.stats.arrays import FloatArray, IntArray, weighted_sums
from moderation_pipelines.stats.intervals import effective_sample_size

_MAX_DRAWN = 2_000_000


@dataclass(frozen=True)
class Labelled:
    """Items with a probability and a label: one entry per item.

    ``truth``: 0 or 1; ``p``: 0 to 1; ``weight``: above 0; ``stratum``: code from 0, all 0 without strata.
    ``share_is_known``: whether strata hold one label each, so that their sizes in the frame fix the share violating.
    """

    truth: FloatArray
    p: FloatArray
    weight: FloatArray
    stratum: IntArray
    share_is_known: bool = False

    @property
    def n(self) -> int:
        return len(self.truth)

    @property
    def n_of_rarer(self) -> int:
        """Items of the class that has fewer."""
        return int(min(self.truth.sum(), (1 - self.truth).sum()))

    @property
    def share(self) -> float:
        """Weighted share violating."""
        return float(self.weight @ self.truth / self.weight.sum())

    def variance(self, parts: FloatArray) -> float:
        """Variance of the sum of ``parts``, one per item, drawn by stratum. See :func:`stratified_variance`."""
        return stratified_variance(parts, self.stratum)

    def degrees(self, parts: FloatArray) -> float:
        """Satterthwaite's degrees of freedom of that variance, the two classes at their effective sizes; at least 1.

        Source: Satterthwaite (1946), Biometrics Bulletin 2, 110-114.
        """
        shares, scale = [], float((parts**2).sum())
        for label in (0.0, 1.0):
            mine = self.truth == label
            n = effective_sample_size(self.weight[mine])
            if n > 1 and scale > 0:
                shares.append(float((parts[mine] ** 2).sum() / scale) ** 2 / (n - 1))
        return max(1.0, 1 / sum(shares)) if sum(shares) > 0 else 1.0

    def share_draws(self, generator: np.random.Generator, draws: int) -> FloatArray:
        """Draws of the share violating: a Beta per stratum, one pseudo-item in all spread by the strata's weight.

        Known where strata hold one label each: the same value in every draw. Weights that differ within a stratum
        count by their effective number.
        """
        if self.share_is_known:
            return np.full(draws, self.share)
        out = np.zeros(draws)
        for code in np.unique(self.stratum):
            mine = self.stratum == code
            weight, truth = self.weight[mine], self.truth[mine]
            part = float(weight.sum() / self.weight.sum())
            n, positive = effective_sample_size(weight), float(weight @ truth / weight.sum())
            out += part * generator.beta(n * positive + part / 2, n * (1 - positive) + part / 2, draws)
        return out

    def batches(self, draws: int) -> list[int]:
        """Sizes of batches of draws that keep an array of draws x items small."""
        size = max(1, _MAX_DRAWN // max(self.n, 1))
        return [min(size, draws - start) for start in range(0, draws, size)]


def stratified_variance(parts: FloatArray, stratum: IntArray) -> float:
    """Variance of the sum of ``parts``, as of a sample drawn with replacement within strata.

    Strata of one item are taken together; a lone one counts by its square. 0 without items.
    Source: Cochran (1977), Sampling Techniques, 3rd ed., section 5A.12 (collapsed strata); Taylor-linearised statistics
    as in Wolter (2007), Introduction to Variance Estimation, 2nd ed., chapter 6.
    """
    n = np.bincount(stratum, minlength=1).astype(np.float64)
    together = np.where(n[stratum] == 1, len(n), stratum)
    n = np.bincount(together, minlength=len(n) + 1).astype(np.float64)
    mean = weighted_sums(together, parts, len(n)) / np.maximum(n, 1)
    mean[n == 1] = 0.0
    squares = weighted_sums(together, (parts - mean[together]) ** 2, len(n))
    return float((squares * n / np.maximum(n - 1, 1)).sum())
