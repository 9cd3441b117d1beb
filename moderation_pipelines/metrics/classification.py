"""Classification metrics with weights, many bootstrap samples at once.

Every function takes weights of shape samples x items and returns one value per sample; NaN where undefined (a
denominator of 0). Violating is the positive class. Weights of 1 give the textbook numbers. ``truth`` is 0 or 1 per
item, or per sample and item: labels drawn again for each sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moderation_pipelines.stats.arrays import FloatArray, IntArray, weighted_sums
from moderation_pipelines.stats.calibration import BINS, bin_of


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Quotient; NaN where the denominator is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(denominator > 0, numerator / denominator, np.nan))


def confusion_sums(weights: FloatArray, truth: FloatArray, flagged: FloatArray) -> dict[str, FloatArray]:
    """Weighted true/false positives/negatives per sample; ``flagged`` is 0 or 1 per item."""
    positive = weights * truth
    tp, fn = positive @ flagged, positive @ (1 - flagged)
    return {"tp": tp, "fp": weights @ flagged - tp, "fn": fn, "tn": weights @ (1 - flagged) - fn}


def sums_without_each(
    truth: FloatArray, flagged: FloatArray, weight: FloatArray, unit: IntArray
) -> dict[str, FloatArray]:
    """Confusion sums with each unit of items (codes from 0) left out in turn."""
    n, fine, passed = int(unit.max(initial=-1)) + 1, 1 - truth, 1 - flagged
    cells = {"tp": truth * flagged, "fn": truth * passed, "fp": fine * flagged, "tn": fine * passed}
    parts = {k: weighted_sums(unit, weight * v, n) for k, v in cells.items()}
    return {k: np.maximum(v.sum() - v, 0.0) for k, v in parts.items()}


@dataclass(frozen=True)
class Ranked:
    """Running sums down the ranking, one column per different probability: samples x thresholds.

    ``tp``, ``fp``: weight of violating and of fine items at or above each threshold.
    """

    tp: FloatArray
    fp: FloatArray

    @staticmethod
    def _before(sums: FloatArray) -> FloatArray:
        return np.concatenate([np.zeros((len(sums), 1)), sums[:, :-1]], axis=1)

    @property
    def tp_before(self) -> FloatArray:
        return self._before(self.tp)

    @property
    def fp_before(self) -> FloatArray:
        return self._before(self.fp)


def ranked(weights: FloatArray, truth: FloatArray, p: FloatArray) -> Ranked:
    """The running sums of items ranked by probability; ties are one threshold."""
    order = np.argsort(-p, kind="stable")
    ordered = p[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    w = weights[:, order]
    hits = w * truth[..., order]
    return Ranked(np.cumsum(hits, axis=1)[:, last], np.cumsum(w - hits, axis=1)[:, last])


def auroc(sums: Ranked) -> FloatArray:
    """Area under the ROC curve; ties count half. 0.5 is chance, 1 perfect; undefined without both classes.

    The chance that a violating item gets a higher probability than another.
    Source: Hanley & McNeil (1982), Radiology 143, 29-36.
    """
    positives, negatives = sums.tp[:, -1], sums.fp[:, -1]
    area = ((sums.fp - sums.fp_before) * (sums.tp + sums.tp_before) / 2).sum(axis=1)
    # Sums of weights round: a perfect order must not be better than perfect.
    return np.minimum(ratio(area, positives * negatives), 1.0)


def average_precision(sums: Ranked) -> FloatArray:
    """Sum over thresholds of precision times the gain in recall, without interpolation; ties are one threshold.

    Chance is the prevalence, 1 perfect; undefined without a violating item.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(sums.tp + sums.fp > 0, sums.tp / (sums.tp + sums.fp), 0.0)
    gained = ((sums.tp - sums.tp_before) * precision).sum(axis=1)
    return np.minimum(ratio(gained, sums.tp[:, -1]), 1.0)


def brier_score(weights: FloatArray, truth: FloatArray, p: FloatArray) -> FloatArray:
    """Mean squared distance of probability and truth, 0 (best) to 1. Source: Brier (1950), MWR 78, 1-3."""
    return ratio((weights * (p - truth) ** 2).sum(axis=1), weights.sum(axis=1))


def expected_calibration_error(weights: FloatArray, truth: FloatArray, p: FloatArray) -> FloatArray:
    """Mean gap between probability and share violating over ten equal-width bins, 0 (best) to 1.

    Source: Naeini, Cooper & Hauskrecht (2015), AAAI 29, 2901-2907.
    """
    member = np.zeros((len(p), BINS))
    member[np.arange(len(p)), bin_of(p)] = 1.0
    gap = np.abs((weights * (p - truth)) @ member)
    return ratio(gap.sum(axis=1), weights.sum(axis=1))
