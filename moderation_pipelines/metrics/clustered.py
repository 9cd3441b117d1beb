"""Intervals of metrics of clustered items: those of independent items, widened by the design effect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from moderation_pipelines.metrics.classification import sums_without_each
from moderation_pipelines.metrics.costs import EXPECTED_COST, cost_per_item
from moderation_pipelines.metrics.metric import (
    METRIC_KINDS,
    Metric,
    Probabilities,
    Sums,
    denominator,
    label_metrics,
)
from moderation_pipelines.metrics.scored import Scored
from moderation_pipelines.policies.policy import Costs
from moderation_pipelines.stats.arrays import FloatArray, IntArray
from moderation_pipelines.stats.clusters import MIN_CLUSTERS, DesignEffect, design_effect, widened
from moderation_pipelines.stats.intervals import UNDEFINED, Z95, Interval

Row = dict[str, object]
_PAIRS = (("ci_low", "ci_high"), ("relabelled_low", "relabelled_high"))
_AT_ONCE = 2_000_000
# Leaving out each of n items costs n squared: of more, whole clusters are looked at until there are so many.
MAX_ITEMS = 1_500


def clustered_rows(rows: list[Row], scored: Scored, costs: Costs | None) -> list[Row]:
    """Rows of ``slice_metrics`` for clustered items: intervals widened, n_effective lowered, design_effect
    stated. No interval where the items of a metric are in fewer than ten clusters."""
    if scored.cluster is None:
        return [{**row, "design_effect": None} for row in rows]
    judged = scored.where(~np.isnan(scored.flagged))
    with_p = scored.where(~np.isnan(scored.flagged) & ~np.isnan(scored.p))
    out = []
    for row in rows:
        name, value = str(row["metric"]), row["value"]
        if not isinstance(value, float):
            out.append({**row, "design_effect": None})
            continue
        metric = METRIC_KINDS[name] if name != EXPECTED_COST else None
        if metric is not None and metric.of_probabilities is not None:
            effect = of_probabilities(metric, with_p)
        elif metric is not None and metric.of_reference:
            effect = _of_reference(name, scored, _interval(row["ci_low"], row["ci_high"]))
        else:
            effect = of_labels(name, judged, costs)
        out.append(_widened(row, value, effect, name))
    return out


def _widened(row: Row, value: float, effect: DesignEffect, name: str) -> Row:
    few = effect.n_clusters < MIN_CLUSTERS
    said: Row = {}
    for low, high in _PAIRS:
        found = _interval(row[low], row[high])
        wide = UNDEFINED if few else widened_as(name, value, found, effect)
        said |= {low: wide.low, high: wide.high}
    n = row["n_effective"]
    n_effective = max(1.0, n / effect.value) if isinstance(n, float) else n
    row = {**row, **said, "design_effect": effect.value, "n_effective": n_effective}
    if few:
        where = "one cluster" if effect.n_clusters == 1 else f"{effect.n_clusters} clusters"
        why = f"no interval: its items are in {where}; {MIN_CLUSTERS} are needed"
        row |= {"interval": None, "note": "; ".join(str(s) for s in (row["note"], why) if s)}
    return row


def _interval(low: object, high: object) -> Interval:
    return Interval(low, high) if isinstance(low, float) and isinstance(high, float) else UNDEFINED


def widened_as(name: str, value: float, interval: Interval, effect: DesignEffect) -> Interval:
    """The interval of a metric with the design effect, within the metric's range."""
    if name == EXPECTED_COST:
        return widened(value, interval, effect.widening, 0.0, np.inf)
    return widened(value, interval, effect.widening, -1.0 if name == "cohen_kappa" else 0.0, 1.0)


def of_labels(name: str, items: Scored, costs: Costs | None = None) -> DesignEffect:
    """The design effect of a metric of labels, or of the expected cost."""
    known = label_metrics()
    if name == EXPECTED_COST:
        assert costs is not None
        priced = costs.model_copy(update={"review": None})
        measure: Callable[[Sums], FloatArray] = partial(cost_per_item, costs=priced)
        mask = np.ones(len(items.truth), bool)
    else:
        found = known[name].of_sums
        assert found is not None
        measure, mask = found, denominator(known[name], items.judged)
    cluster, each = _codes(items), np.arange(len(items.truth))
    by_item, by_cluster = (
        measure(sums_without_each(items.truth, items.flagged, items.weight, unit)) for unit in (each, cluster)
    )
    return design_effect(by_item, by_cluster, items.weight, cluster, mask)


def _of_reference(name: str, items: Scored, interval: Interval) -> DesignEffect:
    """That of a share of the labels, whoever judged. Where strata fix the share its interval is narrower than that of
    a sample of independent items, so what clusters add is compared with the variance it has itself."""
    effect = of_labels(name, replace(items, flagged=np.zeros(len(items.truth))))
    if interval.low is None or interval.high is None or effect.by_item <= 0:
        return effect
    own = ((interval.high - interval.low) / 2 / Z95) ** 2
    return replace(effect, value=1 + (effect.value - 1) * effect.by_item / own) if own > 0 else effect


def _codes(items: Scored) -> IntArray:
    assert items.cluster is not None
    return np.unique(items.cluster, return_inverse=True)[1].reshape(-1).astype(np.int64)


def of_probabilities(metric: Metric, items: Scored) -> DesignEffect:
    """The design effect of a metric of probabilities; of many items by some of the clusters."""
    cluster = _codes(items)
    n_clusters = int(cluster.max(initial=-1)) + 1
    if len(items.truth) > MAX_ITEMS:
        order = np.random.default_rng(0).permutation(n_clusters)
        sizes = np.bincount(cluster, minlength=n_clusters)[order]
        some = order[: max(int((np.cumsum(sizes) <= MAX_ITEMS).sum()), MIN_CLUSTERS)]
        items = items.where(np.isin(cluster, some))
        cluster = _codes(items)
    each = np.arange(len(items.truth))
    effect = design_effect(
        _measured_without(metric, items, each), _measured_without(metric, items, cluster), items.weight, cluster,
        np.ones(len(each), bool),
    )  # fmt: skip
    return replace(effect, n_clusters=n_clusters)


def _measured_without(metric: Metric, items: Scored, unit: IntArray) -> FloatArray:
    n = int(unit.max(initial=-1)) + 1
    size = max(1, _AT_ONCE // max(len(unit), 1))
    parts = []
    for start in range(0, n, size):
        units = np.arange(start, min(start + size, n))
        weights = np.where(unit[None, :] == units[:, None], 0.0, items.weight[None, :])
        parts.append(metric.of(Probabilities(weights, items.truth, items.p)))
    return np.concatenate(parts) if parts else np.zeros(0)
