"""Types of arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def weighted_sums(codes: IntArray, weights: FloatArray, n: int) -> FloatArray:
    """Sum of the weights of each code below ``n``; zeros without any. (NumPy's bincount of nothing is of integers.)"""
    return np.bincount(codes, weights=weights, minlength=n).astype(np.float64, copy=False)
