"""What a metric is, and the registry of them: one file of ``definitions/`` each.

Every metric takes weights of shape samples x items, or what is summed from them, and gives one value per sample; NaN
where undefined. Violating is the positive class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from moderation_pipelines.foundation.errors import did_you_mean
from moderation_pipelines.foundation.registry import Registry
from moderation_pipelines.metrics.classification import Ranked, ranked
from moderation_pipelines.stats.arrays import FloatArray
from moderation_pipelines.stats.design import Labelled
from moderation_pipelines.stats.intervals import Interval

Denominator = Literal["all", "flagged", "unflagged", "violating", "fine"]
Sums = dict[str, FloatArray]


@dataclass(frozen=True)
class Judged:
    """Items with a verdict: 0 or 1 per item, and their weights."""

    truth: FloatArray
    flagged: FloatArray
    weight: FloatArray


@dataclass(frozen=True)
class Probabilities:
    """Items with a probability. ``weights``: samples x items; ``truth``: per item, or per sample and item."""

    weights: FloatArray
    truth: FloatArray
    p: FloatArray

    @cached_property
    def ranked(self) -> Ranked:
        """Running sums over the items from the highest probability down."""
        return ranked(self.weights, self.truth, self.p)


@dataclass(frozen=True)
class Estimate:
    """An interval, the name of its method, a value that replaces the plain one, and a remark; each may be missing."""

    interval: Interval
    how: str | None = None
    value: float | None = None
    note: str | None = None


@dataclass(frozen=True)
class Metric:
    """One metric: of labels (``of_sums``, from weighted tp, fp, fn, tn) or of probabilities (``of_probabilities``).

    ``denominator``: the items it is a share of: its n. ``is_rate``: a plain share of them, with Wilson's interval where
    weights are equal; others resample. ``worst_case``: whether missing outcomes bound it. ``undefined``: why it can be
    undefined, in words. ``fallback``: an interval by formula where resampling says nothing, and its name.
    ``of_reference``: a share of the reference labels, of all items whether judged or not. ``measure(items, draws,
    seed)``: a probability metric's own interval; others resample.
    """

    name: str
    order: int
    of_sums: Callable[[Sums], FloatArray] | None = None
    of_probabilities: Callable[[Probabilities], FloatArray] | None = None
    denominator: Denominator = "all"
    is_rate: bool = False
    worst_case: bool = False
    undefined: str | None = None
    fallback: tuple[str, Callable[[Judged], Interval]] | None = None
    of_reference: bool = False
    measure: Callable[[Labelled, int, int], Estimate] | None = None

    def __post_init__(self) -> None:
        known = get_args(Denominator)
        if self.denominator not in known:
            hint = did_you_mean(self.denominator, known)
            raise ValueError(f'metric "{self.name}": denominator "{self.denominator}" is not known{hint}')

    def of(self, given: Probabilities) -> FloatArray:
        """The metric of probabilities, one value per sample."""
        assert self.of_probabilities is not None
        return self.of_probabilities(given)


METRIC_KINDS: Registry[Metric] = Registry(
    "metric", "moderation_pipelines.metrics.definitions", "METRIC", Metric, "order"
)


def label_metrics() -> dict[str, Metric]:
    """The metrics of labels, by name."""
    return {m.name: m for m in METRIC_KINDS if m.of_sums is not None}


def probability_metrics() -> dict[str, Metric]:
    """The metrics of probabilities, by name."""
    return {m.name: m for m in METRIC_KINDS if m.of_probabilities is not None}


def of_sums(sums: Sums) -> dict[str, FloatArray]:
    """Every metric of labels from confusion sums."""
    return {name: metric.of_sums(sums) for name, metric in label_metrics().items() if metric.of_sums is not None}


def of_probabilities(given: Probabilities) -> dict[str, FloatArray]:
    """Every metric of probabilities."""
    return {
        name: metric.of_probabilities(given)
        for name, metric in probability_metrics().items()
        if metric.of_probabilities is not None
    }


def denominator(metric: Metric, judged: Judged) -> np.ndarray:
    """Which items a metric is a share of."""
    if metric.denominator == "flagged":
        return np.asarray(judged.flagged == 1)
    if metric.denominator == "unflagged":
        return np.asarray(judged.flagged == 0)
    if metric.denominator == "violating":
        return np.asarray(judged.truth == 1)
    if metric.denominator == "fine":
        return np.asarray(judged.truth == 0)
    return np.ones(len(judged.truth), dtype=bool)
