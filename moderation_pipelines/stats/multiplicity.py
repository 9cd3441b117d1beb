"""Several tests at once: p-values adjusted for how many there are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def benjamini_yekutieli(p_values: Sequence[float | None]) -> list[float | None]:
    """As :func:`benjamini_hochberg`, for p-values that may depend on each other in any way.

    Source: Benjamini & Yekutieli (2001), Annals of Statistics 29, 1165-1188.
    """
    n = sum(p is not None and not np.isnan(p) for p in p_values)
    factor = float((1 / np.arange(1, n + 1)).sum())
    return [None if p is None else min(1.0, p * factor) for p in benjamini_hochberg(p_values)]


def benjamini_hochberg(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted p-values that keep the false discovery rate: reject where the adjusted value is at most the rate.

    Null p-values stay null and do not count among the tests. Same order as given.
    Source: Benjamini & Hochberg (1995), Journal of the Royal Statistical Society B 57, 289-300.
    """
    known = [(p, k) for k, p in enumerate(p_values) if p is not None and not np.isnan(p)]
    out: list[float | None] = [None] * len(p_values)
    least = 1.0
    for rank, (p, k) in sorted(enumerate(sorted(known), start=1), reverse=True):
        least = min(least, p * len(known) / rank)
        out[k] = least
    return out
