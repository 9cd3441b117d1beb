"""How well probabilities rank items, with intervals: area under the ROC curve and average precision."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from moderation_pipelines.stats.arrays import FloatArray
from moderation_pipelines.stats.design import Labelled
from moderation_pipelines.stats.intervals import (
    UNDEFINED,
    Interval,
    effective_sample_size,
    holding_both,
    logit_interval,
)

MIN_PER_CLASS = 10
_FEW = 30


def auroc_interval(items: Labelled, level: float = 0.95) -> Interval:
    """Interval of the area under the ROC curve: weighted DeLong on the logit scale, t with Satterthwaite's degrees.

    With thirty items of a class or fewer it also holds Newcombe's score interval at the effective class sizes, which
    does not shrink to nothing where the order is perfect. Undefined with fewer than ten items of a class.
    Sources: DeLong, DeLong & Clarke-Pearson (1988), Biometrics 44, 837-845; logit: Pepe (2003), The Statistical
    Evaluation of Medical Tests, section 5.2; Newcombe (2006), Statistics in Medicine 25, 559-573, method 5.
    Measured: docs/simulations.md.
    """
    if items.n_of_rarer < MIN_PER_CLASS:
        return UNDEFINED
    positive = items.truth == 1
    value, placed = _placements(items)
    parts = np.empty(items.n)
    variance = 0.0
    for mine in (positive, ~positive):
        n, weight = int(mine.sum()), items.weight[mine]
        parts[mine] = weight / weight.sum() * (placed[mine] - value) * math.sqrt(n / (n - 1))
        variance += float((parts[mine] ** 2).sum())
    found = logit_interval(value, math.sqrt(variance), items.degrees(parts), level)
    if items.n_of_rarer > _FEW and found.low is not None:
        return found
    n_positive, n_fine = (effective_sample_size(items.weight[m]) for m in (positive, ~positive))
    return holding_both(found, _newcombe(value, n_positive, n_fine, level))


def _placements(items: Labelled) -> tuple[float, FloatArray]:
    """The area, and for every item the weighted share of the other class that it is ranked rightly against."""
    positive = items.truth == 1
    placed = np.empty(items.n)
    for mine, others in ((positive, ~positive), (~positive, positive)):
        order = np.argsort(items.p[others], kind="stable")
        ranked, weight = items.p[others][order], items.weight[others][order]
        below = np.concatenate([[0.0], np.cumsum(weight)])
        low, high = (np.searchsorted(ranked, items.p[mine], side=side) for side in ("left", "right"))
        share = (below[low] + below[high]) / 2 / below[-1]
        placed[mine] = share if mine is positive else 1 - share
    weight = items.weight[positive]
    return float(min(weight @ placed[positive] / weight.sum(), 1.0)), placed


def _newcombe(area: float, n_positive: float, n_fine: float, level: float) -> Interval:
    """The areas whose own standard error, by Hanley and McNeil's model, puts ``area`` within reach."""
    from scipy.optimize import brentq

    z = NormalDist().inv_cdf(0.5 + level / 2)
    half = (n_positive + n_fine) / 2 - 1

    def beyond(t: float) -> float:
        spread = 1 + half * (1 - t) / (2 - t) + half * t / (1 + t)
        return (area - t) ** 2 - z * z * t * (1 - t) * spread / (n_positive * n_fine)

    tiny = 1e-9
    low = float(brentq(beyond, tiny, area - tiny)) if area > 2 * tiny and beyond(tiny) > 0 else 0.0
    high = float(brentq(beyond, area + tiny, 1 - tiny)) if area < 1 - 2 * tiny and beyond(1 - tiny) > 0 else 1.0
    return Interval(min(low, area), max(high, area))


def average_precision_interval(items: Labelled, draws: int, seed: int, level: float = 0.95) -> Interval:
    """Interval of average precision: the middle of its posterior under a smoothed Bayesian bootstrap.

    In every draw violating items have random weights, and the shares of fine items above each threshold are those of
    order statistics: the weight before, between and after the fine items seen is random too. So "no fine item above
    this one" becomes "few of them", which matters most where fine items stand for many of a rare class's frame: a
    jackknife on the logit scale held the truth in 41 to 77 % there. The share violating is drawn as
    :meth:`Labelled.share_draws` says. Undefined with fewer than ten items of a class.
    Sources: Rubin (1981), Annals of Statistics 9, 130-134; Banks (1988), Biometrika 75, 673-684; Gu, Ghosal & Roy
    (2008), Statistics in Medicine 27, 5407-5420. Measured: docs/simulations.md.
    """
    if items.n_of_rarer < MIN_PER_CLASS:
        return UNDEFINED
    generator = np.random.default_rng(seed)
    found = np.concatenate([_precision_draws(items, generator, size) for size in items.batches(draws)])
    tail = (1 - level) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    return Interval(float(low), float(high))


def _precision_draws(items: Labelled, generator: np.random.Generator, draws: int) -> FloatArray:
    positive = items.truth == 1
    hit, fine = (np.flatnonzero(m)[np.argsort(-items.p[m], kind="stable")] for m in (positive, ~positive))
    p, weight = items.p[hit], items.weight[hit]
    found = generator.exponential(size=(draws, len(hit))) * weight
    found /= found.sum(axis=1, keepdims=True)
    # Share of violating items at or above each one's threshold: ties are one threshold.
    last = np.searchsorted(-p, -p, side="right") - 1
    recall = np.cumsum(found, axis=1)[:, last]

    gaps = generator.exponential(size=(draws, len(fine) + 1)) * np.append(items.weight[fine], items.weight[fine].mean())
    gaps /= gaps.sum(axis=1, keepdims=True)
    edges = np.concatenate([np.zeros((draws, 1)), np.cumsum(gaps, axis=1)], axis=1)
    above = np.searchsorted(-items.p[fine], -p, side="right")
    # Somewhere in the gap after the fine items at or above it; thresholds that share a gap keep their order.
    first = np.searchsorted(-p, -p, side="left")
    within = generator.random((draws, len(hit)))
    for start, end in _runs(above):
        within[:, start:end] = np.sort(within[:, start:end], axis=1)
    alarms = edges[:, above] + within[:, first] * gaps[:, above]
    share = items.share_draws(generator, draws)[:, None]
    caught = share * recall
    return np.asarray((found * caught / (caught + (1 - share) * alarms)).sum(axis=1))


def _runs(values: np.ndarray) -> list[tuple[int, int]]:
    """First and end of each run of equal values."""
    starts = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
    return list(zip(starts.tolist(), [*starts[1:].tolist(), len(values)], strict=True))
