"""Intervals of metrics and of paired differences where items hang together in clusters."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.special import ndtr, ndtri

from moderation_pipelines.metrics.clustered import clustered_rows
from moderation_pipelines.metrics.paired import paired_differences
from moderation_pipelines.metrics.scored import Scored
from moderation_pipelines.metrics.slice import slice_metrics
from moderation_pipelines_tests.simulations.page import Cell, over_grid, publish, repetitions, slack

pytestmark = pytest.mark.simulation
SHOWN = (
    "accuracy",
    "precision",
    "recall",
    "f1",
    "fpr",
    "cohen_kappa",
    "prevalence",
    "auroc",
    "average_precision",
    "brier",
)
CAUGHT, ALARMS, FINE_KEPT = 0.85, 0.10, 0.2
Drawn = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def drawn(
    rng: np.random.Generator, clusters: int, size: float, prevalence: float, alike: float, by_label: bool
) -> Drawn:
    """(cluster, truth, flagged, other, p, weight): every cluster is of one label, and the errors of its items are alike.

    ``other``: the flags of a second judge as good. By label: a fifth of the fine items is kept, each for five.
    """
    members = rng.poisson(size - 1, clusters) + 1
    cluster = np.repeat(np.arange(clusters), members)
    truth = (rng.random(clusters) < prevalence).astype(np.float64)[cluster]
    reach = ndtri(np.where(truth == 1, CAUGHT, ALARMS))

    def error() -> np.ndarray:
        common, own = rng.standard_normal(clusters)[cluster], rng.standard_normal(len(cluster))
        return np.sqrt(alike) * common + np.sqrt(1 - alike) * own

    first, second = error(), error()
    kept = (truth == 1) | (rng.random(len(truth)) < FINE_KEPT) if by_label else np.ones(len(truth), bool)
    fine_weight = (truth == 0).sum() / max((kept & (truth == 0)).sum(), 1)
    weight = np.where(truth == 1, 1.0, fine_weight)
    p = ndtr((reach - first) / 2)
    columns = (cluster, truth, (first < reach).astype(float), (second < reach).astype(float), p, weight)
    return tuple(c[kept] for c in columns)  # type: ignore[return-value]


def true_values(prevalence: float) -> dict[str, float]:
    _, truth, flagged, _, p, weight = drawn(np.random.default_rng(1), 200_000, 1.0, prevalence, 0.0, False)
    rows = slice_metrics(Scored(truth, flagged, p, weight, truth), 10, 1)
    return {str(r["metric"]): float(str(r["value"])) for r in rows if r["metric"] in SHOWN}


def holds(low: object, high: object, true: float) -> bool:
    return float(str(low)) <= true <= float(str(high))


def one_cell(cell: Cell) -> dict[str, float | None]:
    clusters, size, prevalence, alike, by_label, n = cell
    true = true_values(prevalence)
    held: dict[str, list[bool]] = {m: [] for m in SHOWN}
    plain: list[bool] = []
    pairs: list[tuple[bool, bool]] = []
    for repetition in range(n):
        rng = np.random.default_rng([clusters, int(prevalence * 100), int(alike * 100), by_label, repetition])
        cluster, truth, flagged, other, p, weight = drawn(rng, clusters, size, prevalence, alike, by_label)
        strata = truth.astype(str) if by_label else None
        scored = Scored(truth, flagged, p, weight, truth, strata, by_label, cluster)
        rows = slice_metrics(scored, 200, repetition)
        for before, row in zip(rows, clustered_rows(rows, scored, None), strict=True):
            metric = str(row["metric"])
            if metric in SHOWN and row["ci_low"] is not None:
                held[metric].append(holds(row["ci_low"], row["ci_high"], true[metric]))
            if metric == "accuracy":
                plain.append(holds(before["ci_low"], before["ci_high"], true[metric]))
        found = paired_differences(truth, flagged, other, weight, 200, repetition, cluster)["accuracy"]
        if found.interval.low is not None and found.p_value is not None:
            pairs.append((holds(found.interval.low, found.interval.high, 0.0), found.p_value < 0.05))
    return {
        **{m: float(np.mean(held[m])) if held[m] else None for m in SHOWN},
        "offered": float(np.mean([len(held[m]) / n for m in SHOWN])),
        "accuracy_as_if_independent": float(np.mean(plain)),
        "difference": float(np.mean([h for h, _ in pairs])),
        "p_below_.05": float(np.mean([p for _, p in pairs])),
    }


def test_intervals_hold_where_items_hang_together() -> None:
    n = repetitions(500)
    sets = [(30, 5.0, False), (100, 5.0, False), (300, 2.0, False), (100, 5.0, True)]
    cells = [
        (clusters, size, p, alike, by_label, n)
        for clusters, size, by_label in sets for p in (0.1, 0.4) for alike in (0.0, 0.3, 0.9)
    ]  # fmt: skip
    table = pl.DataFrame(
        [
            {"clusters": c, "mean_size": f"{size:g}", "design": "by label" if by_label else "equal",
             "violating": f"{p:.1f}", "alike": f"{alike:.1f}", **found}
            for (c, size, p, alike, by_label, _), found in zip(cells, over_grid(one_cell, cells), strict=True)
        ]
    )  # fmt: skip
    publish("clustered_intervals", table, ("clusters", "mean_size", "design", "violating", "alike"))
    for metric in SHOWN:
        found = table[metric].drop_nulls()
        assert found.min() >= 0.92 - slack(0.92, n), metric
        assert found.mean() >= 0.94 - slack(0.94, n * len(found)), metric
    assert table["difference"].min() >= 0.92 - slack(0.92, n)
    assert table["p_below_.05"].max() <= 0.08 + slack(0.08, n)
    # Without it the intervals are no intervals.
    assert table.filter(alike="0.9")["accuracy_as_if_independent"].min() <= 0.8 + slack(0.8, n)
