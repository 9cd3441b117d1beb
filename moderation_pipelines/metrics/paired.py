"""Two judges, or two releases, compared: paired where the items are the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moderation_pipelines.metrics.classification import confusion_sums
from moderation_pipelines.metrics.metric import of_sums
from moderation_pipelines.stats.arrays import FloatArray
from moderation_pipelines.stats.bootstrap import bootstrap_weights
from moderation_pipelines.stats.intervals import UNDEFINED, Interval, t_interval

COMPARED = ("precision", "recall", "f1", "accuracy", "fpr")


@dataclass(frozen=True)
class Difference:
    """A metric of the first and the second, and second minus first with its 95 % interval; NaN where undefined."""

    first: float
    second: float
    difference: float
    interval: Interval


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
    """Difference of each of COMPARED on the same items, with a paired bootstrap: both are measured on each sample.

    ``truth``, ``first``, ``second``: 0 or 1 per item; ``second_truth``: the truth for the second, if another.
    The interval is t with the bootstrap's standard error over items (or clusters), its degrees of freedom from the
    items a metric rests on: with fifty violating ones percentiles cover 92 % (docs/statistics.md). Undefined below ten
    items and where resampling gives one value only.
    Source: Efron & Tibshirani (1993), chapter 8; for F1 Berg-Kirkpatrick, Burkett & Klein (2012), EMNLP, 995-1005.
    """
    sides = ((truth, first), (truth if second_truth is None else second_truth, second))
    points = [of_sums(confusion_sums(weight[None, :], *side)) for side in sides]
    draws: dict[str, list[FloatArray]] = {name: [] for name in COMPARED}
    for weights in bootstrap_weights(len(truth), replicates, seed, weight, clusters=clusters) if len(truth) else ():
        one, two = (of_sums(confusion_sums(weights, *side)) for side in sides)
        for name in COMPARED:
            draws[name].append(two[name] - one[name])
    either = (first == 1) | (second == 1)
    violating = (truth == 1) | (sides[1][0] == 1)
    everything = np.ones(len(truth), dtype=bool)
    rests_on = {"precision": either, "recall": violating, "f1": either | violating, "accuracy": everything}
    rests_on["fpr"] = (truth == 0) | (sides[1][0] == 0)
    out = {}
    for name in COMPARED:
        a, b = (float(point[name][0]) for point in points)
        interval = UNDEFINED
        if len(truth) >= 10 and not np.isnan(b - a):
            interval = _around(b - a, np.concatenate(draws[name]), int(rests_on[name].sum()) - 1)
        out[name] = Difference(a, b, b - a, interval)
    return out


def _around(value: float, draws: FloatArray, degrees: int) -> Interval:
    defined = draws[~np.isnan(draws)]
    if len(defined) < 2 or len(defined) * 2 <= len(draws):
        return UNDEFINED
    return t_interval(value, float(defined.std(ddof=1)), degrees)
