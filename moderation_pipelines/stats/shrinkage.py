"""Values of many small groups drawn towards a common one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moderation_pipelines.stats.intervals import Z95


def shrunk_values(
    values: Sequence[float | None], half_widths: Sequence[float | None], towards: float | None
) -> list[float | None]:
    """Each value drawn towards ``towards``, the more the wider its 95 % interval: empirical Bayes.

    ``half_widths``: half of the interval's width. How far groups truly differ is estimated from how much more the
    values differ than their intervals explain, by the method of moments; if no more, all are ``towards``. Null for a
    value or width that is null, and everywhere if ``towards`` is.
    Sources: DerSimonian & Laird (1986), Controlled Clinical Trials 7, 177-188 (the variance between groups); Morris
    (1983), JASA 78, 47-55 (the estimate).
    """
    known = [k for k, (v, h) in enumerate(zip(values, half_widths, strict=True)) if v is not None and h]
    out: list[float | None] = [None] * len(values)
    if towards is None or not known:
        return out
    value = np.array([values[k] for k in known], dtype=np.float64)
    precision = (Z95 / np.array([half_widths[k] for k in known], dtype=np.float64)) ** 2
    between = _variance_between(value, precision)
    for k, v, own in zip(known, value, precision, strict=True):
        share = between * own / (1 + between * own)
        out[k] = float(towards + share * (v - towards))
    return out


def _variance_between(value: np.ndarray, precision: np.ndarray) -> float:
    total = precision.sum()
    spread = total - (precision**2).sum() / total
    if spread <= 0:
        return 0.0
    off = float(precision @ (value - precision @ value / total) ** 2)
    return max(0.0, (off - (len(value) - 1)) / spread)
