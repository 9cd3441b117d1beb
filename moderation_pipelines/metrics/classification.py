"""Classification metrics with weights, many bootstrap samples at once.

Every function takes weights of shape samples x items and returns one value per sample; NaN where undefined (a
denominator of 0). Violating is the positive class. Weights of 1 give the textbook numbers. ``truth`` is 0 or 1 per
item, or per sample and item: labels drawn anew for each sample.
"""

from __future__ import annotations

import numpy as np

from moderation_pipelines.stats.arrays import FloatArray

RATES = ("accuracy", "precision", "recall", "fpr", "fnr", "prevalence", "flag_rate")
PROBABILITY_METRICS = ("auroc", "average_precision", "brier", "ece")
CALIBRATION_BINS = 10


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(denominator > 0, numerator / denominator, np.nan))


def confusion_sums(weights: FloatArray, truth: FloatArray, flagged: FloatArray) -> dict[str, FloatArray]:
    """Weighted true/false positives/negatives per sample; ``flagged`` is 0 or 1 per item."""
    positive = weights * truth
    tp, fn = positive @ flagged, positive @ (1 - flagged)
    return {"tp": tp, "fp": weights @ flagged - tp, "fn": fn, "tn": weights @ (1 - flagged) - fn}


def label_metrics(sums: dict[str, FloatArray]) -> dict[str, FloatArray]:
    """Metrics of labels from confusion sums.

    accuracy, precision, recall, fpr, fnr, prevalence, flag_rate in 0 to 1; f1 in 0 to 1; cohen_kappa in -1 to 1:
    judge-human agreement beyond chance (Cohen 1960, Educational and Psychological Measurement 20, 37-46), undefined
    when judge and labels are one and the same single class.
    """
    tp, fp, fn, tn = sums["tp"], sums["fp"], sums["fn"], sums["tn"]
    n = tp + fp + fn + tn
    observed = _ratio(tp + tn, n)
    chance = _ratio((tp + fn) * (tp + fp) + (tn + fp) * (tn + fn), n * n)
    return {
        "accuracy": observed,
        "precision": _ratio(tp, tp + fp),
        "recall": _ratio(tp, tp + fn),
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
        "fpr": _ratio(fp, fp + tn),
        "fnr": _ratio(fn, tp + fn),
        "prevalence": _ratio(tp + fn, n),
        "flag_rate": _ratio(tp + fp, n),
        "cohen_kappa": _ratio(observed - chance, 1 - chance),
    }


def auroc_and_average_precision(weights: FloatArray, truth: FloatArray, p: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Area under the ROC curve (ties count half) and average precision (ties are one threshold).

    AUROC: 0.5 is chance, 1 perfect; the chance that a violating item gets a higher probability than another
    (Hanley & McNeil 1982, Radiology 143, 29-36). Average precision: sum over thresholds of precision times the gain
    in recall, without interpolation; chance is the prevalence. Undefined without both classes (AP: without positives).
    """
    order = np.argsort(-p, kind="stable")
    ordered = p[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    w = weights[:, order]
    hits = w * truth[..., order]
    tp = np.cumsum(hits, axis=1)[:, last]
    fp = np.cumsum(w - hits, axis=1)[:, last]
    positives, negatives = tp[:, -1], fp[:, -1]
    tp_before = np.concatenate([np.zeros((len(w), 1)), tp[:, :-1]], axis=1)
    fp_before = np.concatenate([np.zeros((len(w), 1)), fp[:, :-1]], axis=1)
    area = ((fp - fp_before) * (tp + tp_before) / 2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(tp + fp > 0, tp / (tp + fp), 0.0)
    gained = ((tp - tp_before) * precision).sum(axis=1)
    # Sums of weights round: a perfect order must not be better than perfect.
    return np.minimum(_ratio(area, positives * negatives), 1.0), np.minimum(_ratio(gained, positives), 1.0)


def brier_score(weights: FloatArray, truth: FloatArray, p: FloatArray) -> FloatArray:
    """Mean squared distance of probability and truth, 0 (best) to 1. Source: Brier (1950), MWR 78, 1-3."""
    return _ratio((weights * (p - truth) ** 2).sum(axis=1), weights.sum(axis=1))


def expected_calibration_error(weights: FloatArray, truth: FloatArray, p: FloatArray) -> FloatArray:
    """Mean gap between probability and share violating over ten equal-width bins, 0 (best) to 1.

    Source: Naeini, Cooper & Hauskrecht (2015), AAAI 29, 2901-2907.
    """
    bins = np.minimum((p * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    member = np.zeros((len(p), CALIBRATION_BINS))
    member[np.arange(len(p)), bins] = 1.0
    gap = np.abs((weights * (p - truth)) @ member)
    return _ratio(gap.sum(axis=1), weights.sum(axis=1))
