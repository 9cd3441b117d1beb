"""Agreement coefficients from label-count patterns, for many bootstrap samples at once."""

from __future__ import annotations

from typing import Literal

import numpy as np

from moderation_pipelines.agreement.patterns import FloatArray, Patterns

Metric = Literal["nominal", "ordinal", "interval"]


def percent_agreement(patterns: Patterns, multiplicity: FloatArray) -> FloatArray:
    """Mean over items of the share of agreeing pairs of votes. Range 0 to 1; NaN without items.

    ``multiplicity``: samples x patterns. Returns one value per sample.
    Source: Fleiss (1971), Psychological Bulletin 76, 378-382, the observed agreement, for a varying number of votes.
    """
    votes = patterns.counts.sum(axis=1)
    agreeing = (patterns.counts * (patterns.counts - 1)).sum(axis=1) / (votes * (votes - 1))
    total = multiplicity.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(total > 0, multiplicity @ agreeing / total, np.nan))


def krippendorff_alpha(
    patterns: Patterns, multiplicity: FloatArray, metric: Metric, positions: FloatArray | None = None
) -> FloatArray:
    """Krippendorff's alpha with any number of votes per item, missing votes included.

    1: perfect agreement; 0: as if by chance; below 0: systematic disagreement. NaN when there is no item with two
    votes, or when all votes are one label (no variation: the expected disagreement is 0). ``positions`` are the
    places of the labels on the scale for ``interval`` (ranks by default). ``multiplicity``: samples x patterns.
    Source: Krippendorff (2011), Computing Krippendorff's Alpha-Reliability.
    """
    counts = patterns.counts
    n_labels = counts.shape[1]
    votes = counts.sum(axis=1)
    pairs = counts[:, :, None] * counts[:, None, :]
    pairs[:, np.arange(n_labels), np.arange(n_labels)] -= counts
    per_item = (pairs / (votes - 1)[:, None, None]).reshape(len(counts), n_labels * n_labels)
    coincidence = (multiplicity @ per_item).reshape(-1, n_labels, n_labels)
    margins = coincidence.sum(axis=2)
    total = margins.sum(axis=1)
    distance = _squared_distance(metric, margins, positions)
    observed = (coincidence * distance).sum(axis=(1, 2))
    expected = (margins[:, :, None] * margins[:, None, :] * distance).sum(axis=(1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(expected > 0, 1 - (total - 1) * observed / expected, np.nan))


def _squared_distance(metric: Metric, margins: FloatArray, positions: FloatArray | None) -> FloatArray:
    """Squared distances between labels. Shape: samples (or 1) x labels x labels."""
    n_labels = margins.shape[1]
    if metric == "nominal":
        return np.asarray(1.0 - np.eye(n_labels))[None]
    if metric == "interval":
        place = np.arange(n_labels, dtype=np.float64) if positions is None else positions
        return np.asarray((place[:, None] - place[None, :]) ** 2)[None]
    # Ordinal: all votes from one label up to the other, the two ends counted half.
    middle = np.cumsum(margins, axis=1) - margins / 2
    return np.asarray((middle[:, :, None] - middle[:, None, :]) ** 2)
