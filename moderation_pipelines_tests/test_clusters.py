"""Items that hang together: design effects, widened intervals, means by cluster."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation_pipelines.metrics.clustered import clustered_rows
from moderation_pipelines.metrics.paired import paired_differences
from moderation_pipelines.metrics.scored import Scored
from moderation_pipelines.metrics.slice import slice_metrics
from moderation_pipelines.policies.policy import Costs
from moderation_pipelines.stats.clusters import DesignEffect, cluster_mean, design_effect, widened
from moderation_pipelines.stats.intervals import UNDEFINED, Interval, wilson_interval

COSTS = Costs(fn=20, fp=1)


def without(x: np.ndarray, unit: np.ndarray) -> np.ndarray:
    return np.array([x[unit != u].mean() for u in np.unique(unit)])


def effect_of_mean(x: np.ndarray, cluster: np.ndarray) -> DesignEffect:
    n = len(x)
    return design_effect(without(x, np.arange(n)), without(x, cluster), np.ones(n), cluster, np.ones(n, bool))


def test_of_clusters_that_are_alike_it_is_their_size() -> None:
    found = effect_of_mean(np.repeat([0.0, 1.0, 1.0, 0.0, 1.0], 4), np.repeat(np.arange(5), 4))
    # Jackknife variances of a mean: 1.2 / (5 x 4) by cluster, 4.8 / (20 x 19) by item: 4.75, more than their size of 4.
    assert found.value == pytest.approx(4.75)
    assert found.n_clusters == 5
    # t with four degrees of freedom instead of the normal: (2.7764 / 1.96)^2.
    assert found.widening == pytest.approx(found.value * (2.776445 / 1.959964) ** 2, rel=1e-5)


def test_of_clusters_half_of_which_are_alike_by_hand() -> None:
    found = effect_of_mean(np.array([1.0, 1, 0, 0, 1, 0, 0, 1]), np.array([0, 0, 1, 1, 2, 2, 3, 3]))
    # Influence: +-1/14 of an item; +-1/6, 0, 0 of a cluster. Likeness (2/36 - 8/196) / (8/196) from four clusters.
    likeness = (2 / 36 - 8 / 196) / (8 / 196)
    assert found.value == pytest.approx(1 + (4 * likeness + 2) / 6 * (2 - 1))
    assert found.by_item == pytest.approx(8 / 196 * 7 / 8)


def test_of_single_items_it_is_one_and_of_nothing_that_varies_the_worst() -> None:
    assert effect_of_mean(np.array([0.0, 1.0, 1.0, 0.0]), np.arange(4)).value == 1.0
    # (9 + 4 + 1) / 6: no error was seen, so nothing says that errors do not come together.
    assert effect_of_mean(np.ones(6), np.array([0, 0, 0, 1, 1, 2])).value == pytest.approx(14 / 6)


def test_single_items_say_nothing_of_whether_the_large_clusters_err_together() -> None:
    rng = np.random.default_rng(1)
    x = np.concatenate([np.ones(600), (rng.random(400) > 0.05).astype(float)])
    cluster = np.concatenate([np.repeat(np.arange(20), 30), 20 + np.arange(400)])
    # (20 x 30^2 + 400) / 1000 = 18.4 if all items of a cluster are alike, and all that were seen are.
    assert effect_of_mean(x, cluster).value == pytest.approx(18.4, rel=0.02)


def test_an_interval_is_widened_on_the_logit_scale_and_at_a_bound_as_wilsons() -> None:
    found = widened(0.5, Interval(0.4, 0.6), 4.0)
    half = 2 * math.log(0.6 / 0.4)
    assert (found.low, found.high) == (
        pytest.approx(1 / (1 + math.exp(half))),
        pytest.approx(1 / (1 + math.exp(-half))),
    )
    # None of 60 and all of 60, as if they were 20.
    for k in (0, 60):
        few = wilson_interval(k / 3, 20)
        assert widened(k / 60, wilson_interval(k, 60), 3.0) == Interval(pytest.approx(few.low), pytest.approx(few.high))
    assert widened(2.0, Interval(1.0, 4.0), 4.0, 0.0, math.inf) == Interval(0.0, 6.0)
    kappa = widened(0.0, Interval(-0.5, 0.5), 4.0, -1.0, 1.0)
    assert (kappa.low, kappa.high) == (pytest.approx(-0.8), pytest.approx(0.8))
    assert widened(0.5, UNDEFINED, 2.0) == UNDEFINED
    assert widened(float("nan"), Interval(0.1, 0.2), 2.0) == UNDEFINED


@given(st.floats(0, 1), st.floats(0, 0.5), st.floats(0, 0.5), st.floats(1, 100))
def test_widening_never_narrows_and_stays_within(value: float, down: float, up: float, factor: float) -> None:
    before = Interval(max(0.0, value - down), min(1.0, value + up))
    after = widened(value, before, factor)
    assert after.low is not None
    assert after.high is not None
    assert before.low is not None
    assert before.high is not None
    assert 0 <= after.low <= before.low + 1e-9
    assert before.high - 1e-9 <= after.high <= 1


def test_a_mean_by_cluster_by_hand() -> None:
    found = cluster_mean(np.array([1.0, 1.0, 0.0, 0.0, 1.0]), np.array([7, 7, 2, 2, 5]))
    # Mean .6; sums of deviations .8, -1.2, .4; sqrt(3 / 2 x 2.24) / 5.
    assert (found.value, found.degrees) == (pytest.approx(0.6), 2)
    assert found.se == pytest.approx(math.sqrt(1.5 * 2.24) / 5)
    alone = cluster_mean(np.array([1.0, 0.0, 1.0]), np.arange(3))
    assert alone.se == pytest.approx(np.std([1, 0, 1], ddof=1) / math.sqrt(3))
    assert cluster_mean(np.ones(3), np.zeros(3, int)).degrees == 0


def scored(n_clusters: int, size: int, weights: bool = False) -> Scored:
    rng = np.random.default_rng(4)
    cluster = np.repeat(np.arange(n_clusters), size)
    truth = (rng.random(n_clusters) < 0.4).astype(float)[cluster]
    flagged = np.where(rng.random(n_clusters)[cluster] < 0.8, truth, 1 - truth)
    weight = np.where(truth == 1, 1.0, 5.0) if weights else np.ones(len(truth))
    p = np.clip(0.5 + (flagged - 0.5) * 0.6 + rng.normal(0, 0.1, len(truth)), 0, 1)
    return Scored(truth, flagged, p, weight, truth, truth.astype(str), False, cluster)


@pytest.mark.parametrize("weights", [False, True])
def test_every_metric_of_clusters_is_less_sure_and_says_by_how_much(weights: bool) -> None:
    items = scored(40, 5, weights)
    before = slice_metrics(items, 200, 1, costs=COSTS)
    after = clustered_rows(before, items, COSTS)
    for old, new in zip(before, after, strict=True):
        assert (new["metric"], new["value"], new["n"]) == (old["metric"], old["value"], old["n"])
        assert 2.0 < float(str(new["design_effect"])) < 8, new["metric"]
        assert float(str(new["n_effective"])) == pytest.approx(
            float(str(old["n_effective"])) / float(str(new["design_effect"]))
        )
        if old["ci_low"] is not None:
            width, wider = (float(str(r["ci_high"])) - float(str(r["ci_low"])) for r in (old, new))
            assert wider > 1.3 * width, new["metric"]
            assert float(str(new["ci_low"])) <= float(str(new["value"])) <= float(str(new["ci_high"]))


def test_few_clusters_have_no_interval_and_say_so() -> None:
    items = scored(9, 12)
    for row in clustered_rows(slice_metrics(items, 200, 1, costs=COSTS), items, COSTS):
        assert (row["ci_low"], row["interval"]) == (None, None)
        assert "clusters; 10 are needed" in str(row["note"])


def test_without_clusters_nothing_changes() -> None:
    items = scored(40, 5)
    alone = Scored(items.truth, items.flagged, items.p, items.weight, items.p_label)
    before = slice_metrics(alone, 200, 1)
    assert clustered_rows(before, alone, None) == [{**row, "design_effect": None} for row in before]


def test_odd_sets_of_clusters_are_no_error() -> None:
    nothing = np.full(20, np.nan)
    half = np.repeat(np.arange(10), 2)
    for items in (
        Scored(np.ones(20), nothing, nothing, np.ones(20), np.ones(20), None, False, half),  # no verdict
        Scored(np.ones(20), np.ones(20), np.ones(20), np.ones(20), np.ones(20), None, False, half),  # one class
        Scored(np.ones(1), np.ones(1), np.ones(1), np.ones(1), np.ones(1), None, False, np.zeros(1, np.int64)),
        Scored(*(np.zeros(0) for _ in range(5)), None, False, np.zeros(0, np.int64)),
        scored(1, 40),
    ):
        for row in clustered_rows(slice_metrics(items, 50, 1, costs=COSTS), items, COSTS):
            assert row["value"] is not None or row["note"]


def test_clusters_are_read_from_keys_and_missing_keys_stand_alone() -> None:
    columns = {"violating": [True] * 4, "outcome": ["verdict"] * 4, "flagged": [True] * 4, "p_violating": [0.5] * 4,
               "weight": [1.0] * 4, "p_label": [1.0] * 4, "stratum": ["a"] * 4}  # fmt: skip
    assert Scored.of(pl.DataFrame({**columns, "cluster": ["b", "a", "b", "c"]}), False).cluster.tolist() == [1, 0, 1, 2]  # type: ignore[union-attr]
    assert Scored.of(pl.DataFrame({**columns, "cluster": ["b", "a", "d", "c"]}), False).cluster is None
    assert (
        Scored.of(
            pl.DataFrame({**columns, "cluster": [None] * 4}, schema_overrides={"cluster": pl.String}), False
        ).cluster
        is None
    )


def test_a_difference_by_cluster_is_less_sure() -> None:
    items = scored(60, 5)
    other = np.where(np.random.default_rng(8).random(60)[items.cluster] < 0.3, 1 - items.flagged, items.flagged)
    alone = paired_differences(items.truth, items.flagged, other, items.weight, 500, 1)["accuracy"]
    both = paired_differences(items.truth, items.flagged, other, items.weight, 500, 1, items.cluster)["accuracy"]
    assert both.difference == alone.difference
    assert both.how == "jackknife"
    width, wider = (float(str(d.interval.high)) - float(str(d.interval.low)) for d in (alone, both))
    assert wider > 1.5 * width
    assert both.p_value is not None
    assert alone.p_value is not None
    assert both.p_value > alone.p_value


def test_the_factor_of_few_clusters_is_that_of_t() -> None:
    assert DesignEffect(2.0, 10).widening == pytest.approx(2 * (2.262157 / 1.959964) ** 2, rel=1e-5)
