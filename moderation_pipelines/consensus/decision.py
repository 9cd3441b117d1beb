"""From a posterior to a label, or to a tie."""

from __future__ import annotations

import numpy as np

from moderation_pipelines.stats.arrays import FloatArray, IntArray

TIE = 1e-9


def decided(posterior: FloatArray, by_median: bool) -> IntArray:
    """The mode of each row, or its median label; -1 where two labels tie or the median lies between two."""
    if by_median:
        mass = np.cumsum(posterior, axis=1)
        label = (mass < 0.5 - TIE).sum(axis=1)
        between = np.abs(mass[np.arange(len(mass)), np.minimum(label, mass.shape[1] - 1)] - 0.5) <= TIE
        return np.where(between, -1, label)
    top = posterior.max(axis=1, initial=0.0)
    return np.where((posterior >= top[:, None] - TIE).sum(axis=1) > 1, -1, posterior.argmax(axis=1))
