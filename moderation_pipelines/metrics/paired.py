"""Two judges, or two releases, compared: paired where the items are the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moderation_pipelines.metrics.classification import confusion_sums, sums_without_each
from moderation_pipelines.metrics.metric import of_sums
from moderation_pipelines.stats.arrays import FloatArray, IntArray, weighted_sums
from moderation_pipelines.stats.intervals import (
    ROUNDING,
    UNDEFINED,
    Z95,
    Interval,
    around,
    effective_sample_size,
    t_interval,
    weights_differ,
)
from moderation_pipelines.stats.paired import mcnemar_exact

COMPARED = ("precision", "recall", "f1", "accuracy", "fpr")
MIN_ITEMS = 10
MAX_CLASSES = 10
_PRIOR = 2.0


@dataclass(frozen=True)
class Difference:
    """A metric of the first and the second, and second minus first with its 95 % interval; NaN where undefined.

    ``p_value``: two-sided, of no difference; null without an interval. ``how``: the method of interval and p-value.
    """

    first: float
    second: float
    difference: float
    interval: Interval
    p_value: float | None = None
    how: str | None = None


@dataclass(frozen=True)
class Pair:
    """Two judges' verdicts on the same items: 0 or 1 per item. ``second_truth``: that of the second, if another."""

    truth: FloatArray
    first: FloatArray
    second: FloatArray
    weight: FloatArray
    second_truth: FloatArray

    @property
    def sides(self) -> tuple[tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]:
        return (self.truth, self.first), (self.second_truth, self.second)

    @property
    def p_of_accuracy(self) -> float | None:
        """McNemar's exact p-value: for equal weights only, it knows none."""
        right = [(flagged == truth).astype(np.float64) for truth, flagged in self.sides]
        return mcnemar_exact(*right).p_value


def paired_differences(
    truth: FloatArray,
    first: FloatArray,
    second: FloatArray,
    weight: FloatArray,
    replicates: int,
    seed: int,
    clusters: np.ndarray | None = None,
    second_truth: FloatArray | None = None,
) -> dict[str, Difference]:
    """Difference of each of COMPARED on the same items.

    ``truth``, ``first``, ``second``: 0 or 1 per item; ``second_truth``: the truth for the second, if another. Where at
    least ten items share a weight on average, interval and p-value are of draws of the joint cells
    (:func:`_drawn_differences`); where weights are continuous, or with ``clusters``, of a jackknife over items or
    clusters. The p-value of accuracy is McNemar's exact one where weights are equal. Undefined below ten items.
    Measured: docs/simulations.md.
    """
    pair = Pair(truth, first, second, weight, truth if second_truth is None else second_truth)
    points = [of_sums(confusion_sums(weight[None, :], *side)) for side in pair.sides]
    by_class = clusters is None and _few_weights(weight)
    draws: dict[str, FloatArray] = {}
    left_out: dict[str, FloatArray] = {}
    if len(truth) >= MIN_ITEMS:
        if by_class:
            draws = _drawn_differences(pair, replicates, seed)
        else:
            left_out = _without_each(pair, clusters)
    out = {}
    for name in COMPARED:
        a, b = (float(point[name][0]) for point in points)
        found = Difference(a, b, b - a, UNDEFINED)
        if not np.isnan(b - a) and draws:
            found = _of_draws(a, b, draws[name], effective_sample_size(weight[_rests_on(pair, name)]))
        elif not np.isnan(b - a) and left_out:
            n_effective = effective_sample_size(weight[_rests_on(pair, name)])
            found = _of_jackknife(a, b, left_out[name], min(n_effective, float(len(left_out[name]))))
        if name == "accuracy" and found.interval.low is not None and clusters is None and not weights_differ(weight):
            found = Difference(a, b, b - a, found.interval, pair.p_of_accuracy, found.how)
        out[name] = found
    return out


def _rests_on(pair: Pair, metric: str) -> np.ndarray:
    """The items that a metric of either judge is a share of."""
    violating = (pair.truth == 1) | (pair.second_truth == 1)
    flagged = (pair.first == 1) | (pair.second == 1)
    if metric == "accuracy":
        return np.ones(len(pair.truth), dtype=bool)
    if metric == "fpr":
        return (pair.truth == 0) | (pair.second_truth == 0)
    return {"precision": flagged, "recall": violating, "f1": flagged | violating}[metric]


def _few_weights(weight: FloatArray) -> bool:
    """Whether weights are those of strata, not each item's own: ten items or more to a weight on average."""
    if not len(weight):
        return True
    return len(np.unique(np.round(weight / weight.max(), 9))) <= max(1, len(weight) // MIN_ITEMS)


def _drawn_differences(pair: Pair, replicates: int, seed: int) -> dict[str, FloatArray]:
    """Draws of the differences: the joint cells of both verdicts per truth and weight class from a Dirichlet.

    A class is one weight or, of more than ten, as many neighbours as make ten classes; one of fewer than ten items
    joins its neighbour. The prior of each truth is two counts, spread over the classes by their weight and evenly over
    the four cells: it says no more than that a cell not seen is rare, and where an item weighs much it is there. Sizes
    of the classes are drawn too. Source: as :func:`moderation_pipelines.metrics.slice._beta_sums`.
    """
    generator = np.random.default_rng(seed)
    kind = (pair.truth * 2 + pair.second_truth).astype(np.int64)
    group = kind * (MAX_CLASSES + 1)
    for k in np.unique(kind):
        group[kind == k] += weight_classes(pair.weight[kind == k])
    codes, place = np.unique(group, return_inverse=True)
    place = place.reshape(-1)
    n = np.bincount(place).astype(np.float64)
    mass = weighted_sums(place, pair.weight, len(codes))
    cell = place * 4 + (pair.first * 2 + pair.second).astype(np.int64)
    counts = np.bincount(cell, minlength=len(codes) * 4).reshape(-1, 4).astype(np.float64)
    of_kind = weighted_sums(codes // (MAX_CLASSES + 1), mass, 4)
    prior = _PRIOR * mass / of_kind[codes // (MAX_CLASSES + 1)] / 4
    shares = generator.standard_gamma(counts + prior[:, None], size=(replicates, len(codes), 4))
    shares /= np.maximum(shares.sum(axis=2, keepdims=True), 1e-300)
    # How many items a class has, times what one of them weighs.
    size = generator.dirichlet(n, size=replicates) * n.sum() * (mass / n)
    drawn = shares * size[:, :, None]
    truths = (codes // (MAX_CLASSES + 1) // 2, codes // (MAX_CLASSES + 1) % 2)
    found = []
    for truth, flagged in zip(truths, ((2, 3), (1, 3)), strict=True):
        hit = drawn[:, :, flagged].sum(axis=2)
        miss = drawn.sum(axis=2) - hit
        positive = (truth == 1).astype(np.float64)
        sums = {"tp": hit @ positive, "fn": miss @ positive, "fp": hit @ (1 - positive), "tn": miss @ (1 - positive)}
        found.append(of_sums(sums))
    return {name: found[1][name] - found[0][name] for name in COMPARED}


def weight_classes(weight: FloatArray) -> IntArray:
    """Class of each item by its weight: at most ten, of ten items or more each but for a lone one."""
    values, place, counts = np.unique(np.round(weight, 9), return_inverse=True, return_counts=True)
    place = place.reshape(-1)
    least = max(MIN_ITEMS, -(-len(weight) // MAX_CLASSES)) if len(values) > MAX_CLASSES else MIN_ITEMS
    of_value, code, filled = np.zeros(len(values), np.int64), 0, 0
    for k, n in enumerate(counts):
        if filled >= least and code < MAX_CLASSES - 1:
            code, filled = code + 1, 0
        of_value[k] = code
        filled += int(n)
    if code and filled < MIN_ITEMS:
        of_value[of_value == code] = code - 1
    return of_value[place]


def _of_draws(a: float, b: float, draws: FloatArray, n_effective: float) -> Difference:
    """The middle 95 % of the draws, widened as t is against the normal at the effective number of items behind it; and
    twice the smaller tail beyond 0 as p-value, by its normal form where rare."""
    from scipy.special import ndtr, stdtrit

    defined = draws[~np.isnan(draws)]
    if len(defined) * 2 <= len(draws):
        return Difference(a, b, b - a, UNDEFINED)
    middle = float(np.median(defined))
    wider = float(stdtrit(max(n_effective - 1, 1.0), 0.975)) / Z95
    defined = middle + (defined - middle) * wider
    low, high = (float(np.clip(x, -1, 1)) for x in np.quantile(defined, (0.025, 0.975)))
    if high - low <= ROUNDING:  # as precision where everything violates
        return Difference(a, b, b - a, UNDEFINED)
    tail = min(float((defined <= 0).mean()), float((defined >= 0).mean()))
    if tail * len(defined) < 10:
        tail = float(ndtr(-abs(defined.mean()) / max(defined.std(), ROUNDING)))
    return Difference(a, b, b - a, around(b - a, Interval(low, high)), min(1.0, 2 * tail), "draws")


def _without_each(pair: Pair, clusters: np.ndarray | None) -> dict[str, FloatArray]:
    """The differences with one item, or one cluster, left out."""
    n = len(pair.truth)
    unit = np.arange(n) if clusters is None else np.unique(clusters, return_inverse=True)[1].reshape(-1)
    found = [of_sums(sums_without_each(*side, pair.weight, unit)) for side in pair.sides]
    return {name: found[1][name] - found[0][name] for name in COMPARED}


def _of_jackknife(a: float, b: float, left_out: FloatArray, n_effective: float) -> Difference:
    """t interval with the jackknife's standard error, at the effective number of items behind it or of clusters.

    Source: Efron & Tibshirani (1993), chapter 11.
    """
    from scipy.special import stdtr

    n = len(left_out)
    if n < MIN_ITEMS or np.isnan(left_out).any():
        return Difference(a, b, b - a, UNDEFINED)
    se = float(np.sqrt(((left_out - left_out.mean()) ** 2).sum() * (n - 1) / n))
    if se <= ROUNDING:
        return Difference(a, b, b - a, UNDEFINED)
    degrees = max(1.0, n_effective - 1)
    interval = t_interval(b - a, se, degrees)
    return Difference(a, b, b - a, interval, min(1.0, 2 * float(stdtr(degrees, -abs(b - a) / se))), "jackknife")
