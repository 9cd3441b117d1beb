"""Intervals, paired comparison, adjustment and planning against published values; coverage by simulation."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation_pipelines.consensus.purity import label_purity, purity_text
from moderation_pipelines.eval_sets.tables import EVAL_SET_ITEMS
from moderation_pipelines.metrics.paired import paired_differences, weight_classes
from moderation_pipelines.stats.bootstrap import bootstrap_weights
from moderation_pipelines.stats.intervals import (
    acceleration,
    bca_interval,
    clopper_pearson_interval,
    percentile_interval,
    t_interval,
    wilson_interval,
)
from moderation_pipelines.stats.multiplicity import benjamini_hochberg
from moderation_pipelines.stats.paired import mcnemar_exact
from moderation_pipelines.stats.power import (
    items_for_interval,
    items_for_paired_rates,
    items_for_two_rates,
    power_of_paired_rates,
    power_of_two_rates,
)

# Newcombe (1998), Statistics in Medicine 17, 857-872, Table I: Wilson's (method 3) and Clopper-Pearson's (method 5).
NEWCOMBE = [
    (81, 263, (0.2553, 0.3662), (0.2527, 0.3676)),
    (15, 148, (0.0624, 0.1605), (0.0578, 0.1617)),
    (0, 20, (0.0, 0.1611), (0.0, 0.1684)),
    (1, 29, (0.0061, 0.1718), (0.0009, 0.1776)),
]


@pytest.mark.parametrize(("k", "n", "wilson", "exact"), NEWCOMBE)
def test_binomial_intervals(k: int, n: int, wilson: tuple[float, float], exact: tuple[float, float]) -> None:
    score, worst = wilson_interval(k, n), clopper_pearson_interval(k, n)
    assert (score.low, score.high) == (pytest.approx(wilson[0], abs=6e-5), pytest.approx(wilson[1], abs=6e-5))
    assert (worst.low, worst.high) == (pytest.approx(exact[0], abs=6e-5), pytest.approx(exact[1], abs=6e-5))


def test_intervals_without_data_are_undefined() -> None:
    assert clopper_pearson_interval(0, 0).low is None
    assert t_interval(0.5, 0.0, 10).low is None
    assert t_interval(float("nan"), 0.1, 10).low is None


# Efron & Tibshirani (1993), An Introduction to the Bootstrap, Table 14.1: spatial test, subjects' A scores. Section 14.3:
# the variance is 171.5, the acceleration .061, the 90 % BCa interval (115.8, 259.6) from 2,000 samples.
SPATIAL = [48, 36, 20, 29, 42, 42, 20, 42, 22, 41, 45, 14, 6, 0, 33, 28, 34, 4, 32, 24, 47, 41, 24, 26, 30, 41]


def test_bca_of_the_textbook() -> None:
    scores = np.array(SPATIAL, dtype=np.float64)
    without = np.array([np.delete(scores, k).var() for k in range(26)])
    assert acceleration(without, np.ones(26)) == pytest.approx(0.061, abs=6e-4)
    draws = np.random.default_rng(1).choice(scores, (100_000, 26)).var(axis=1)
    found = bca_interval(float(scores.var()), draws, without, np.ones(26), level=0.9)
    assert found.low == pytest.approx(115.8, abs=1.5)
    # The published upper end has the noise of its 2,000 samples; with 200,000 it settles at about 261.
    assert found.high == pytest.approx(259.6, abs=4)


def test_bca_of_a_constant_is_undefined() -> None:
    assert bca_interval(1.0, np.ones(100), np.ones(5), np.ones(5)).low is None


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [
        (2, 9, 0.06543),  # Fay (2016), vignette of the R package exact2x2
        (1, 7, 0.0703),  # Fagerland, Lydersen & Laake (2013), BMC Medical Research Methodology 13, 91: exact .070
        (6, 16, 0.0525),  # the same: .052
        (0, 0, 1.0),
    ],
)
def test_exact_mcnemar(only_first: int, only_second: int, p: float) -> None:
    first = np.array([1] * only_first + [0] * only_second + [1] * 5 + [0] * 5, dtype=np.float64)
    second = np.array([0] * only_first + [1] * only_second + [1] * 5 + [0] * 5, dtype=np.float64)
    found = mcnemar_exact(first, second)
    assert (found.only_first, found.only_second) == (only_first, only_second)
    assert found.p_value == pytest.approx(p, abs=6e-5)


def test_mcnemar_without_items_has_no_p_value() -> None:
    assert mcnemar_exact(np.zeros(0), np.zeros(0)).p_value is None


def test_benjamini_and_hochbergs_own_example() -> None:
    # Benjamini & Hochberg (1995), section 3.2: of fifteen p-values four are rejected at a rate of .05.
    p = [
        0.0001,
        0.0004,
        0.0019,
        0.0095,
        0.0201,
        0.0278,
        0.0298,
        0.0344,
        0.0459,
        0.3240,
        0.4262,
        0.5719,
        0.6528,
        0.7590,
        1.0,
    ]
    found = benjamini_hochberg(p)
    assert sum(q is not None and q <= 0.05 for q in found) == 4
    # By hand: 15/1 x .0001; then 15/4 x .0095 = .035625; 15/7 x .0298 = .063857 also for the one before.
    assert found[:7] == pytest.approx([0.0015, 0.003, 0.0095, 0.035625, 0.0603, 0.063857, 0.063857], abs=1e-6)
    assert benjamini_hochberg([None, 0.04, None, 0.01]) == [None, 0.04, None, 0.02]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=30))
def test_adjusted_p_values_keep_order_and_only_grow(p: list[float]) -> None:
    found = [q for q in benjamini_hochberg(p) if q is not None]
    assert all(q >= x - 1e-12 and q <= 1 for q, x in zip(found, p, strict=True))
    by_p = [q for _, q in sorted(zip(p, found, strict=True))]
    assert by_p == sorted(by_p)


def test_paired_differences_by_hand_and_their_interval() -> None:
    # Twelve items; the first finds 2 of 4 violating with 2 false alarms, the second 3 of 4 with none.
    truth = np.array([1, 1, 1, 1] + [0] * 8, dtype=np.float64)
    first = np.array([1, 1, 0, 0, 1, 1] + [0] * 6, dtype=np.float64)
    second = np.array([1, 1, 1, 0] + [0] * 8, dtype=np.float64)
    found = paired_differences(truth, first, second, np.ones(12), 500, 1)
    assert (found["precision"].difference, found["recall"].difference) == (pytest.approx(0.5), pytest.approx(0.25))
    # F1: 2 x 2 / 8 = .5 against 2 x 3 / 7 = .857143.
    assert found["f1"].difference == pytest.approx(0.857143 - 0.5, abs=1e-6)
    interval = found["accuracy"].interval
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low <= 0.25 <= interval.high
    same = paired_differences(truth, first, first, np.ones(12), 100, 1)
    # None of twelve items is judged differently: that bounds the difference, it does not make it nothing.
    low, high = same["accuracy"].interval.low, same["accuracy"].interval.high
    assert (same["accuracy"].difference, same["accuracy"].p_value) == (0.0, 1.0)
    assert low is not None
    assert high is not None
    assert -0.35 < low < -0.02
    assert 0.02 < high < 0.35


def test_weights_reach_the_test_and_mcnemar_only_where_there_are_none() -> None:
    # 200 items of each truth. Of the violating, which weigh 1, the second is right on 30 more; of the fine, which weigh
    # 49, the first on 6 more: unweighted the second is surely better, weighted the first is, if any.
    truth = np.repeat([1.0, 0.0], 200)
    weight = np.where(truth == 1, 1.0, 49.0)
    first, second = truth.copy(), truth.copy()
    first[:60], second[:30] = 0.0, 0.0
    first[200:210], second[200:216] = 1.0, 1.0
    plain = paired_differences(truth, first, second, np.ones(400), 2000, 1)["accuracy"]
    weighted = paired_differences(truth, first, second, weight, 2000, 1)["accuracy"]
    test = mcnemar_exact((first == truth) * 1.0, (second == truth) * 1.0)
    assert (test.only_first, test.only_second) == (6, 30)
    assert plain.p_value == test.p_value
    assert plain.p_value < 0.001
    # (30 x 1 - 6 x 49) / (200 x 50)
    assert weighted.difference == pytest.approx(-0.0264)
    assert weighted.p_value is not None
    assert weighted.p_value > 0.001
    assert weighted.how == "draws"


def test_continuous_weights_are_compared_by_jackknife() -> None:
    rng = np.random.default_rng(8)
    truth = (rng.random(300) < 0.3).astype(np.float64)
    first = np.where(rng.random(300) < 0.8, truth, 1 - truth)
    second = np.where(rng.random(300) < 0.9, truth, 1 - truth)
    found = paired_differences(truth, first, second, rng.lognormal(0, 0.7, 300), 500, 1)
    assert all(d.how == "jackknife" for d in found.values())
    # Every item a cluster of its own is the same; two items a cluster is not.
    alone = paired_differences(truth, first, second, np.ones(300), 500, 1, clusters=np.arange(300))
    pairs = paired_differences(truth, first, second, np.ones(300), 500, 1, clusters=np.arange(300) // 2)
    # The jackknife of a mean is its standard error: s / sqrt(n).
    off = (second == truth) * 1.0 - (first == truth)
    low, high = alone["accuracy"].interval.low, alone["accuracy"].interval.high
    assert low is not None
    assert high is not None
    assert (high - low) / 2 == pytest.approx(1.97 * off.std(ddof=1) / 300**0.5, rel=0.02)
    assert pairs["accuracy"].interval != alone["accuracy"].interval


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from([1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0]), min_size=1, max_size=300
    )
)
def test_weight_classes_are_few_and_filled(weights: list[float]) -> None:
    weight = np.array(weights)
    code = weight_classes(weight)
    sizes = np.bincount(code)
    assert len(sizes) <= 10
    assert len(sizes) == 1 or (sizes >= 10).all()
    # Neighbours: sorted by weight the codes never fall.
    assert (np.diff(code[np.argsort(weight, kind="stable")]) >= 0).all()


def test_bootstrap_keeps_strata_and_clusters() -> None:
    strata = np.array(["a"] * 6 + ["b"] * 4)
    clusters = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    (drawn,) = bootstrap_weights(10, 200, 1, strata=strata)
    assert (drawn[:, :6].sum(axis=1) == 6).all()
    assert (drawn[:, 6:].sum(axis=1) == 4).all()
    (drawn,) = bootstrap_weights(10, 200, 1, weight=np.full(10, 2.0), strata=strata, clusters=clusters)
    assert (drawn[:, ::2] == drawn[:, 1::2]).all()
    assert (drawn[:, :6].sum(axis=1) == 12).all()
    assert drawn[:, 0].std() > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"weight": np.array([1.0, -1.0])}, "negative"),
        ({"weight": np.array([1.0, np.nan])}, "not finite"),
        ({"weight": np.zeros(2)}, "all weights are zero"),
        ({"weight": np.ones(3)}, "one entry per item"),
        ({"strata": np.array(["a"])}, "one entry per item"),
        ({"strata": np.array(["a", "b"]), "clusters": np.array([1, 1])}, "one stratum"),
    ],
)
def test_weights_that_cannot_be_are_refused(arguments: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        list(bootstrap_weights(2, 10, 1, **arguments))


def test_clusters_widen_an_interval_that_ignores_them() -> None:
    rng = np.random.default_rng(5)
    authors = np.repeat(np.arange(60), 10)
    value = np.repeat(rng.random(60), 10)
    widths = []
    for clusters in (None, authors):
        means = np.concatenate([w @ value / w.sum(axis=1) for w in bootstrap_weights(600, 800, 2, clusters=clusters)])
        interval = percentile_interval(means)
        assert interval.low is not None
        assert interval.high is not None
        widths.append(interval.high - interval.low)
    # Ten equal values an author: the honest interval is the root of ten wider.
    assert widths[1] / widths[0] == pytest.approx(10**0.5, rel=0.15)


@pytest.mark.parametrize(
    ("arguments", "items"),
    [
        # R, help page of power.prop.test: .50 against .75 at power .9 needs 76.7 a group.
        ((0.5, 0.75, 0.9), 77),
        # Stata, manual of power twoproportions: .25 against .40 at power .8 needs 152 a group.
        ((0.25, 0.40, 0.8), 152),
    ],
)
def test_items_for_two_rates(arguments: tuple[float, float, float], items: int) -> None:
    assert items_for_two_rates(*arguments) == items


def test_items_for_paired_rates() -> None:
    # Connor (1987), Biometrics 43, 207-211: discordant shares .05 and .45 at power .8 need 22.01, so 23 items.
    assert items_for_paired_rates(0.05, 0.45, exact=False) == 23
    # By hand for .1 and .2: (1.959964 sqrt(.3) + .841621 sqrt(.29))^2 / .01 = 233.09.
    assert items_for_paired_rates(0.1, 0.2, exact=False) == 234
    # The exact test asks for more; its power is what the sum over its own distribution says.
    n = items_for_paired_rates(0.1, 0.2)
    assert 234 <= n <= 260
    assert power_of_paired_rates(0.1, 0.2, n) >= 0.8


def test_exact_power_of_few_discordant_items_by_hand() -> None:
    # All items discordant and one way: five give p = 2 / 32, six 2 / 64, so six are needed and then surely enough.
    assert power_of_paired_rates(1.0, 0.0, 5) == 0.0
    assert power_of_paired_rates(1.0, 0.0, 6) == pytest.approx(1.0)
    assert items_for_paired_rates(1.0, 0.0) == 6


def test_exact_power_by_simulation() -> None:
    rng = np.random.default_rng(1)
    draws = rng.multinomial(80, [0.3, 0.1, 0.6], size=4000)
    rejected = 0
    for only_first, only_second, _ in draws:
        first = np.repeat([1.0, 0.0], [only_first, only_second])
        p = mcnemar_exact(first, 1 - first).p_value
        rejected += p is not None and p <= 0.05
    # Binomial standard error of 4,000 draws at most .0079.
    assert rejected / 4000 == pytest.approx(power_of_paired_rates(0.3, 0.1, 80), abs=0.03)


def test_power_of_two_rates() -> None:
    # R, help page of power.prop.test: .50 against .75 with 50 a group has power .740.
    assert power_of_two_rates(0.5, 0.75, 50) == pytest.approx(0.740, abs=6e-4)


def test_items_for_an_interval_are_just_enough() -> None:
    for rate, width in ((0.8, 0.03), (0.5, 0.1), (0.01, 0.01), (0.0, 0.05)):
        n = items_for_interval(rate, width)
        just, less = wilson_interval(rate * n, n), wilson_interval(rate * (n - 1), n - 1)
        assert max((just.high or 0) - rate, rate - (just.low or 0)) <= width
        assert max((less.high or 0) - rate, rate - (less.low or 0)) > width


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: items_for_two_rates(0.5, 0.5), "equal"),
        (lambda: items_for_two_rates(0.5, 1.5), "between 0 and 1"),
        (lambda: items_for_paired_rates(0.2, 0.2), "equal"),
        (lambda: items_for_paired_rates(0.7, 0.6), "at most 1"),
        (lambda: items_for_interval(0.5, 0.0), "between 0 and 1"),
        (lambda: power_of_paired_rates(-0.1, 0.2, 100), "between 0 and 1"),
        (lambda: power_of_two_rates(0.5, 0.6, -5), "1 or more"),
    ],
)
def test_plans_that_cannot_be_say_why(call: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call()  # type: ignore[operator]


def test_purity_counts_authority_as_right_and_sums_posteriors() -> None:
    def posterior(p: float) -> list[dict[str, object]]:
        return [{"label": "fine", "probability": 1 - p}, {"label": "bad", "probability": p}]

    items = EVAL_SET_ITEMS.filled(
        pl.LazyFrame(
            {
                "violating": [True, True, True, False, True],
                "method": ["gold", "dawid_skene", "dawid_skene", "dawid_skene", "majority"],
                "posterior": [posterior(0.4), posterior(0.9), posterior(0.6), posterior(0.1), None],
                "basis": ["authority", "posterior", "calibrated", "posterior", "vote_share"],
            }
        )
    ).collect()
    found = label_purity(items, ("bad",))
    # Gold counts as 1; the vote share is no probability and is in no sum.
    assert (found.n, found.n_authority, found.n_believed, found.expected_right) == (4, 1, 3, pytest.approx(2.5))
    assert found.bases == {"authority": 1, "calibrated": 1, "posterior": 1, "vote_share": 1}
    assert label_purity(items.filter(~pl.col("violating")), ("bad",)).expected_right is None


def test_purity_has_an_interval_only_where_gold_measured_it_and_says_that_first() -> None:
    believed = label_purity(
        EVAL_SET_ITEMS.filled(
            pl.LazyFrame(
                {
                    "violating": [True] * 4,
                    "method": ["dawid_skene"] * 4,
                    "posterior": [[{"label": "bad", "probability": 0.9}]] * 4,
                }
            )
        ).collect(),
        ("bad",),
    )
    alone = purity_text(believed.as_dict(None))
    assert alone.startswith("Gold purity: not measured")
    assert "95 %" not in alone
    assert "3.6 of 4 (90.0%): an expectation" in alone
    measured = {
        "method": "dawid_skene", "drop_date": "2026-03-02", "purity": 0.779, "purity_low": 0.72, "purity_high": 0.83,
        "n_called_violating": 204,
    }  # fmt: skip
    said = purity_text(believed.as_dict(measured))
    assert said.startswith(
        "Gold purity, of all gold of the policy and not of this set (dawid_skene, 2026-03-02): of 204 gold items"
    )
    assert said.index("95 %: 72.0% to 83.0%") < said.index("90.0%")


def test_where_everything_violates_precision_is_1_and_has_no_interval() -> None:
    first, second = np.array([1.0] * 15 + [0.0] * 5), np.array([1.0] * 10 + [0.0] * 10)
    found = paired_differences(np.ones(20), first, second, np.ones(20), 400, 1)
    assert (found["precision"].difference, found["precision"].interval.low, found["precision"].p_value) == (
        0.0,
        None,
        None,
    )
    assert found["recall"].interval.low is not None
