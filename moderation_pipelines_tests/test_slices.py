"""Metrics of slices: what is defined there, values drawn together, prevalence, missing verdicts; intervals by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation_pipelines.metrics.scored import Scored
from moderation_pipelines.metrics.slice import CHOSEN_BY_LABEL, slice_metrics
from moderation_pipelines.stats.calibration import brier_interval, calibration_error
from moderation_pipelines.stats.design import Labelled, stratified_variance
from moderation_pipelines.stats.intervals import logit_interval, stratified_share_interval, t_interval, wilson_interval
from moderation_pipelines.stats.ranking import auroc_interval, average_precision_interval
from moderation_pipelines.stats.shrinkage import shrunk_values

Rows = dict[str, dict[str, object]]


def measured(scored: Scored, **asked: object) -> Rows:
    return {str(r["metric"]): r for r in slice_metrics(scored, 300, 1, **asked)}  # type: ignore[arg-type]


def release(n: int, rare: float = 0.2, seed: int = 1) -> Scored:
    rng = np.random.default_rng(seed)
    truth = (rng.random(n) < rare).astype(np.float64)
    p = np.clip(0.6 * truth + 0.4 * rng.random(n), 0, 1)
    return Scored(truth, (p > 0.5) * 1.0, p, np.ones(n), truth)


def test_of_a_severity_only_rates_of_its_own_label_are_defined() -> None:
    violating = release(200, rare=1.0)
    rows = measured(violating, chosen_by_label=True)
    defined = {m for m, r in rows.items() if r["value"] is not None}
    assert defined == {"recall", "fnr"}
    for name in ("precision", "f1", "accuracy", "prevalence", "auroc", "brier"):
        assert (rows[name]["value"], rows[name]["ci_low"], rows[name]["note"]) == (None, None, CHOSEN_BY_LABEL)
    fine = measured(release(200, rare=0.0), chosen_by_label=True)
    assert {m for m, r in fine.items() if r["value"] is not None} == {"fpr"}
    assert fine["recall"]["note"] == "undefined: no violating item has a verdict"


def test_prevalence_is_of_the_labels_whoever_was_answered() -> None:
    whole = release(500)
    # Every second violating item and no fine one is refused.
    flagged = whole.flagged.copy()
    flagged[np.flatnonzero(whole.truth)[::2]] = np.nan
    partly = Scored(whole.truth, flagged, whole.p, whole.weight, whole.p_label)
    before, after = measured(whole)["prevalence"], measured(partly)["prevalence"]
    assert before == after
    assert (after["n"], after["n_missing"]) == (500, 0)
    assert after["value"] == whole.truth.mean()
    assert measured(partly)["accuracy"]["n_missing"] == int(np.isnan(flagged).sum())


def test_prevalence_is_bounded_by_items_without_a_label() -> None:
    row = measured(release(500), unlabelled=0.1)["prevalence"]
    value = float(str(row["value"]))
    assert (row["worst_low"], row["worst_high"]) == (pytest.approx(0.9 * value), pytest.approx(0.9 * value + 0.1))


def test_prevalence_of_a_set_by_label_knows_its_frame() -> None:
    # 50 of 1,000 violating and 50 of 9,000 fine items: the frame has 10 % and 10,000 items; Wilson of 1,000 in 10,000.
    truth = np.repeat([1.0, 0.0], 50)
    weight = np.repeat([1000 / 50, 9000 / 50], 50)
    scored = Scored(truth, truth, np.full(100, np.nan), weight, truth, truth, strata_hold_labels=True)
    row = measured(scored)["prevalence"]
    expected = wilson_interval(1000, 10_000)
    assert (row["value"], row["ci_low"], row["ci_high"]) == (
        pytest.approx(0.1), pytest.approx(expected.low), pytest.approx(expected.high),
    )  # fmt: skip
    assert float(str(row["n_effective"])) < 100


def test_a_share_by_strata_by_hand() -> None:
    # Strata of 800 and 200 items, 20 drawn of each: 5 and 10 hits. Share .8 x .25 + .2 x .5 = .3, which pulls theirs to
    # (5 + .3) / 21 = .252381 and (10 + .3) / 21 = .490476. Variance .64 x (1 - 20/800) x .252381 x .747619 / 20
    # + .04 x (1 - 20/200) x .490476 x .509524 / 20 + .3 x .7 / 1000 = .005887 + .000450 + .00021.
    truth = np.array([1.0] * 5 + [0.0] * 15 + [1.0] * 10 + [0.0] * 10)
    weight, stratum = np.repeat([40.0, 10.0], 20), np.repeat([0, 1], 20)
    found = stratified_share_interval(truth, weight, stratum)
    n = 0.3 * 0.7 / (0.64 * 0.975 * 0.252381 * 0.747619 / 20 + 0.04 * 0.9 * 0.490476 * 0.509524 / 20 + 0.00021)
    expected = wilson_interval(0.3 * n, n)
    assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    # One stratum of equal weights, drawn from a large frame: Wilson of the sample.
    plain = stratified_share_interval(truth, np.ones(40) * 1e6, np.zeros(40, np.int64))
    assert plain.low == pytest.approx(wilson_interval(15, 40).low, abs=1e-4)
    # Strata of one item each say as much as a sample without strata, not that all is known.
    alone = stratified_share_interval(truth, np.full(40, 50.0), np.arange(40))
    assert alone.low is not None
    assert alone.high is not None
    assert 0.7 < (alone.high - alone.low) / 0.29 < 1.1
    assert stratified_share_interval(np.zeros(0), np.zeros(0), np.zeros(0, np.int64)).low is None


def test_verdicts_stand_for_missing_ones_of_their_stratum() -> None:
    # Stratum a: 4 items, all flagged, 2 answered; b: 4 items, none flagged, all answered. Of the answered 2 in 6 are
    # flagged, of the set 4 in 8.
    truth = np.zeros(8)
    flagged = np.array([1.0, 1.0, np.nan, np.nan, 0, 0, 0, 0])
    scored = Scored(truth, flagged, np.full(8, np.nan), np.ones(8), truth, np.repeat(["a", "b"], 4))
    assert measured(scored)["flag_rate"]["value"] == pytest.approx(2 / 6)
    row = measured(scored, weigh_missing=True)["flag_rate"]
    assert row["value"] == pytest.approx(0.5)
    assert (row["n"], row["n_missing"]) == (6, 2)
    # (2 x 2 + 4 x 1)^2 / (2 x 4 + 4 x 1)
    assert row["n_effective"] == pytest.approx(64 / 12)


def test_slices_are_drawn_together_by_hand() -> None:
    # Two groups, .2 and .6, standard error .1 each; towards .5. Weights 100: mean .4, Q = 100 (.04 + .04) = 8,
    # C = 200 - 20000 / 200 = 100, between = (8 - 1) / 100 = .07. Share .07 / (.07 + .01) = .875.
    half = 1.959964 * 0.1
    found = shrunk_values([0.2, 0.6, None], [half, half, None], 0.5)
    assert found == [pytest.approx(0.5 - 0.875 * 0.3), pytest.approx(0.5 + 0.875 * 0.1), None]
    # Groups that differ by no more than chance are one.
    assert shrunk_values([0.48, 0.52], [half, half], 0.5) == [0.5, 0.5]
    assert shrunk_values([0.2], [half], None) == [None]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 0.5)), min_size=1, max_size=12), st.floats(0, 1))
def test_drawn_values_lie_between_their_own_and_the_common_one(
    groups: list[tuple[float, float]], common: float
) -> None:
    values, halves = zip(*groups, strict=True)
    for value, drawn in zip(values, shrunk_values(values, halves, common), strict=True):
        assert drawn is not None
        assert min(value, common) - 1e-9 <= drawn <= max(value, common) + 1e-9


def labelled(truth: list[float], p: list[float], weight: float = 1.0) -> Labelled:
    n = len(truth)
    return Labelled(np.array(truth), np.array(p), np.full(n, weight), np.zeros(n, np.int64))


def test_delong_by_hand() -> None:
    # Forty items a class so that the score interval does not join. Violating: twenty at .9, twenty at .5; fine: twenty
    # at .5, twenty at .1. Area: 1/4 ties x .5 + 3/4 = .875. Placements: violating 1 or .75; fine .75 or 1: deviations
    # of .125, so each class adds .125^2 / 39 to the variance.
    found = auroc_interval(labelled([1.0] * 40 + [0.0] * 40, [0.9] * 20 + [0.5] * 40 + [0.1] * 20))
    se = (2 * 0.125**2 / 39) ** 0.5
    expected = logit_interval(0.875, se, 78)
    assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))


def test_ten_items_of_each_class_are_needed() -> None:
    items = labelled([1.0] * 9 + [0.0] * 91, [k / 100 for k in range(100)])
    assert auroc_interval(items).low is None
    assert average_precision_interval(items, 100, 1).low is None
    assert brier_interval(items, 100, 1).low is None
    assert calibration_error(items, 100, 1).interval.low is None
    rows = measured(Scored(items.truth, items.truth, items.p, items.weight, items.truth))
    assert rows["auroc"]["note"] == "no interval: 9 violating and 91 fine items, 10 of each are needed"
    assert rows["auroc"]["value"] is not None


def test_a_perfect_order_is_not_sure() -> None:
    found = auroc_interval(labelled([1.0] * 12 + [0.0] * 200, [0.9] * 12 + [0.1] * 200))
    assert found.high == 1.0
    assert found.low is not None
    assert 0.6 < found.low < 0.99


def test_ties_are_one_threshold_in_average_precision() -> None:
    # A judge that says 1 to everything has average precision of the share violating, and so do its draws.
    found = average_precision_interval(labelled([1.0] * 100 + [0.0] * 300, [1.0] * 400), 500, 1)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.25 < found.high
    assert found.high - found.low < 0.15


def test_calibration_error_of_a_calibrated_judge_can_be_nothing() -> None:
    rng = np.random.default_rng(2)
    p = rng.random(100)
    found = calibration_error(labelled((rng.random(100) < p).astype(float).tolist(), p.tolist()), 500, 1)
    assert found.value < found.plain
    assert found.interval.low == 0.0
    # Far off and many items: hardly any bias.
    sure = calibration_error(labelled([0.0, 1.0] * 2000, [0.85] * 4000), 500, 1)
    assert sure.plain == pytest.approx(0.35)
    assert sure.value == pytest.approx(0.35, abs=0.002)


def test_variance_by_strata_by_hand() -> None:
    # Stratum 0: 1, 3 (squares 2, times 2 / 1); strata 1 and 2 have one item each and go together: 5, 9 (8, times 2 / 1).
    assert stratified_variance(np.array([1.0, 3, 5, 9]), np.array([0, 0, 1, 2])) == pytest.approx(4 + 16)
    assert stratified_variance(np.array([2.0]), np.array([0])) == 4.0
    assert stratified_variance(np.zeros(0), np.zeros(0, np.int64)) == 0.0


def test_rounding_is_no_variation() -> None:
    noise = float(np.array([0.1] * 3).sum() - 0.3)
    assert noise > 0
    assert t_interval(0.5, noise, 10).low is None
    assert logit_interval(0.5, noise, 10).low is None
    n = 30
    third = Scored(np.ones(n), np.ones(n), np.full(n, 1 / 3), np.full(n, 0.1), np.ones(n))
    for row in measured(third).values():
        if row["ci_low"] is not None:
            assert float(str(row["ci_high"])) - float(str(row["ci_low"])) > 1e-6, row


def test_relabelled_intervals_are_there_where_intervals_are() -> None:
    scored = release(60)
    unsure = Scored(scored.truth, scored.flagged, scored.p, scored.weight, np.clip(scored.truth, 0.02, 0.98))
    for row in measured(unsure).values():
        if row["ci_low"] is not None:
            assert float(str(row["relabelled_low"])) <= float(str(row["ci_low"])), row
            assert float(str(row["ci_high"])) <= float(str(row["relabelled_high"])), row


def test_an_error_that_was_not_seen_is_not_ruled_out() -> None:
    # Forty right answers, all given for sure: up to 1 - .025^(1/40) = .0881 may be wrong.
    truth = [1.0] * 20 + [0.0] * 20
    sure = calibration_error(labelled(truth, truth), 400, 1)
    assert (sure.value, sure.interval.low) == (0.0, 0.0)
    assert sure.interval.high == pytest.approx(1 - 0.025 ** (1 / 40))
    wrong = brier_interval(labelled(truth, [1 - t for t in truth]), 400, 1)
    assert wrong.low is not None
    assert (wrong.low < 0.95, wrong.high) == (True, 1.0)
    half = calibration_error(labelled([0.0, 1.0] * 50, [0.5] * 100), 400, 1)
    assert half.interval.high is not None
    assert half.interval.high > 0.03


def test_probability_metrics_without_an_interval_say_why_and_have_no_other() -> None:
    scored = release(40, rare=1.0)
    unsure = Scored(scored.truth, scored.flagged, scored.p, scored.weight, np.full(40, 0.9))
    for name in ("brier", "ece"):
        row = measured(unsure)[name]
        assert (row["ci_low"], row["relabelled_low"]) == (None, None)
        assert "no interval: 40 violating and 0 fine items, 10 of each are needed" in str(row["note"])


def test_probabilities_of_a_stratum_stand_for_its_missing_ones_too() -> None:
    whole = release(200)
    strata = np.repeat(["a", "b"], 100)
    flagged = np.where((np.arange(200) < 80), np.nan, whole.flagged)
    scored = Scored(whole.truth, flagged, whole.p, whole.weight, whole.p_label, strata)
    left_out, weighted = measured(scored)["brier"], measured(scored, weigh_missing=True)["brier"]
    error = (whole.p - whole.truth) ** 2
    assert left_out["value"] == pytest.approx(error[80:].mean())
    assert weighted["value"] == pytest.approx((error[80:100].mean() + error[100:].mean()) / 2)
    # (20 x 5 + 100)^2 / (20 x 25 + 100)
    assert weighted["n_effective"] == pytest.approx(200**2 / 600)


def test_prevalence_of_a_slice_of_a_set_by_label_holds() -> None:
    # A frame of 20,000 items, a tenth of them one locale with 15 % violating, elsewhere 4 %; 200 drawn of each label.
    # How many of each label the locale gets is by chance.
    rng = np.random.default_rng(1)
    locale = rng.random(20_000) < 0.1
    truth = (rng.random(20_000) < np.where(locale, 0.15, 0.04)) * 1.0
    held = 0
    for _ in range(400):
        drawn = np.concatenate([rng.choice(np.flatnonzero(truth == k), 200, replace=False) for k in (1, 0)])
        mine = drawn[locale[drawn]]
        weight = np.where(truth[mine] == 1, truth.sum(), 20_000 - truth.sum()) / 200
        found = stratified_share_interval(truth[mine], weight, np.zeros(len(mine), np.int64))
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.15 <= found.high
    assert 0.93 <= held / 400 <= 0.99
