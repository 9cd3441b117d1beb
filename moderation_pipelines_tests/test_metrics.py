"""Intervals and classification metrics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation_pipelines.metrics.classification import (
    auroc,
    average_precision,
    brier_score,
    expected_calibration_error,
    ranked,
)
from moderation_pipelines.metrics.scored import Scored
from moderation_pipelines.metrics.slice import slice_metrics
from moderation_pipelines.stats.intervals import effective_sample_size, percentile_interval, wilson_interval


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe (1998), Statistics in Medicine 17, 857-872, table I, method 3 (score).
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_as_published(successes: int, n: int, low: float, high: float) -> None:
    interval = wilson_interval(successes, n)
    assert interval.low == pytest.approx(low, abs=5e-5)
    assert interval.high == pytest.approx(high, abs=5e-5)


def test_undefined_intervals_are_none() -> None:
    assert wilson_interval(0, 0).low is None
    assert percentile_interval(np.array([np.nan, np.nan, 1.0])).low is None


@given(st.integers(0, 200), st.integers(1, 200))
def test_wilson_interval_holds_the_proportion_and_mirrors(successes: int, n: int) -> None:
    successes = min(successes, n)
    a, b = wilson_interval(successes, n), wilson_interval(n - successes, n)
    assert a.low is not None
    assert a.high is not None
    assert b.high is not None
    assert 0 <= a.low <= successes / n <= a.high <= 1
    assert a.low == pytest.approx(1 - b.high, abs=1e-12)


def test_effective_sample_size_by_hand() -> None:
    # (1+1+2)^2 / (1+1+4) = 16/6.
    assert effective_sample_size(np.array([1.0, 1.0, 2.0])) == pytest.approx(16 / 6)


def scored(
    truth: list[int],
    flagged: list[float],
    p: list[float] | None = None,
    weight: list[float] | None = None,
    p_label: list[float] | None = None,
) -> Scored:
    n = len(truth)
    return Scored(
        np.array(truth, float),
        np.array(flagged, float),
        np.array(p if p is not None else [np.nan] * n, float),
        np.array(weight or [1.0] * n),
        np.array(truth if p_label is None else p_label, float),
    )


def by_name(rows: list[dict[str, object]]) -> dict[str, dict[str, object]]:
    return {str(r["metric"]): r for r in rows}


def test_metrics_worked_by_hand() -> None:
    # 3 true positives, 1 false positive, 2 false negatives, 4 true negatives.
    truth, flagged = [1, 1, 1, 0, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    m = by_name(slice_metrics(scored(truth, flagged), 200, 1))
    expected = {
        "precision": 3 / 4,
        "recall": 3 / 5,
        "f1": 6 / 9,
        "fpr": 1 / 5,
        "fnr": 2 / 5,
        "accuracy": 7 / 10,
        "prevalence": 0.5,
        "flag_rate": 0.4,
    }
    assert {k: m[k]["value"] for k in expected} == pytest.approx(expected)
    # Observed 0.7; chance 0.5*0.4 + 0.5*0.6 = 0.5; kappa = 0.2/0.5.
    assert m["cohen_kappa"]["value"] == pytest.approx(0.4)
    assert [m[k]["n"] for k in ("precision", "recall", "fpr", "accuracy")] == [4, 5, 5, 10]
    assert (m["precision"]["ci_low"], m["precision"]["interval"]) == (wilson_interval(3, 4).low, "wilson")
    assert "auroc" not in m


def test_weights_are_honoured() -> None:
    # A caught violating item of weight 9 and a missed one of weight 1: recall 0.9.
    m = by_name(slice_metrics(scored([1, 1, 0], [1, 0, 0], weight=[9, 1, 1]), 200, 1))
    assert m["recall"]["value"] == pytest.approx(0.9)
    assert m["recall"]["interval"] == "beta"
    assert float(str(m["recall"]["ci_low"])) < 0.2 < 0.9 <= float(str(m["recall"]["ci_high"]))


def test_weights_that_differ_make_unseen_false_alarms_possible() -> None:
    # 200 violating items of weight 5, 180 flagged; 200 fine ones of weight 495, none flagged. The rate of false alarms
    # may be 3 / 200 (the rule of three), which is 1,485 of weight against 900 rightly flagged: precision may be .38.
    truth, flagged = [1] * 200 + [0] * 200, [1.0] * 180 + [0.0] * 220
    m = by_name(slice_metrics(scored(truth, flagged, weight=[5.0] * 200 + [495.0] * 200), 2000, 1))
    precision = m["precision"]
    assert (precision["value"], precision["interval"]) == (1.0, "beta")
    # Jeffreys' upper 97.5 % limit of 0 in 200 is .0124: 900 / (900 + .0124 x 99,000) = .42.
    assert float(str(precision["ci_low"])) == pytest.approx(0.42, abs=0.05)
    assert float(str(m["f1"]["ci_low"])) < 0.65


def test_missing_outcomes_are_in_no_denominator_but_bounded() -> None:
    # Violating: one caught, one missing. Fine: one passed, one missing.
    nan = float("nan")
    m = by_name(slice_metrics(scored([1, 1, 0, 0], [1, nan, 0, nan]), 200, 1))
    assert (m["recall"]["value"], m["recall"]["n"], m["recall"]["n_missing"]) == (1.0, 1, 2)
    assert (m["recall"]["worst_low"], m["recall"]["worst_high"]) == (0.5, 1.0)
    assert (m["accuracy"]["worst_low"], m["accuracy"]["worst_high"]) == (0.5, 1.0)
    assert (m["fpr"]["worst_low"], m["fpr"]["worst_high"]) == (0.0, 0.5)
    assert (m["precision"]["worst_low"], m["precision"]["worst_high"]) == (0.5, 1.0)


@pytest.mark.parametrize(
    ("truth", "flagged", "metric", "said"),
    [
        ([0, 0], [0, 0], "recall", "no violating item"),
        ([0, 0], [0, 0], "precision", "no item was flagged"),
        ([1, 1], [1, 1], "fpr", "no fine item"),
        ([0, 0], [0, 0], "cohen_kappa", "one single class"),
        ([1, 0], [float("nan"), float("nan")], "accuracy", "no item has a verdict"),
    ],
)
def test_undefined_metrics_are_null_with_a_note(truth: list[int], flagged: list[float], metric: str, said: str) -> None:
    row = by_name(slice_metrics(scored(truth, flagged), 200, 1))[metric]
    assert (row["value"], row["ci_low"], row["interval"]) == (None, None, None)
    assert said in str(row["note"])


def test_where_resampling_says_nothing_there_is_no_interval_or_another() -> None:
    m = by_name(slice_metrics(scored([1, 1, 1] + [0] * 27, [1, 1, 1] + [0] * 27), 200, 1))
    # Every resample of a perfect judge is perfect. F1 through J = 3 of 3: Wilson low 0.4385, F1 low 2 J / (1 + J).
    assert (m["f1"]["value"], m["f1"]["interval"]) == (1.0, "wilson_jaccard")
    assert m["f1"]["ci_low"] == pytest.approx(2 * 0.4385 / 1.4385, abs=1e-4)
    assert (m["cohen_kappa"]["value"], m["cohen_kappa"]["ci_low"]) == (1.0, None)
    assert "no interval" in str(m["cohen_kappa"]["note"])


def test_probability_metrics_agree_with_scikit_learn() -> None:
    from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

    rng = np.random.default_rng(5)
    for _ in range(20):
        truth = rng.integers(0, 2, 80).astype(float)
        p = np.round(rng.random(80), 1)  # many ties
        w = rng.uniform(0.5, 3, 80)
        sums = ranked(w[None, :], truth, p)
        area, ap = auroc(sums), average_precision(sums)
        assert area[0] == pytest.approx(roc_auc_score(truth, p, sample_weight=w), abs=1e-12)
        assert ap[0] == pytest.approx(average_precision_score(truth, p, sample_weight=w), abs=1e-12)
        assert brier_score(w[None, :], truth, p)[0] == pytest.approx(
            brier_score_loss(truth, p, sample_weight=w), abs=1e-12
        )


def test_calibration_error_by_hand() -> None:
    # Bin 0.1-0.2: p 0.1 twice, one violates: gap |0.2 - 1| / 4 = 0.2. Bin 0.9-1: p 0.9 twice, both violate: 0.2/4 = 0.05.
    value = expected_calibration_error(np.ones((1, 4)), np.array([1.0, 0, 1, 1]), np.array([0.1, 0.1, 0.9, 0.9]))
    assert value[0] == pytest.approx(0.25)


def test_one_class_leaves_auroc_undefined() -> None:
    m = by_name(slice_metrics(scored([0, 0, 0], [0, 0, 1], [0.1, 0.2, 0.9]), 200, 1))
    assert (m["auroc"]["value"], m["auroc"]["note"]) == (None, "undefined: only one class is there")
    assert m["brier"]["value"] == pytest.approx((0.01 + 0.04 + 0.81) / 3)


def test_intervals_are_the_same_on_every_run_and_hold_their_value() -> None:
    rng = np.random.default_rng(11)
    truth = rng.integers(0, 2, 300)
    p = np.clip(truth * 0.4 + rng.random(300) * 0.6, 0, 1)
    s = scored(truth.tolist(), (p > 0.5).astype(float).tolist(), p.tolist())
    first, second = slice_metrics(s, 500, 3), slice_metrics(s, 500, 3)
    assert first == second
    for row in first:
        assert float(str(row["ci_low"])) <= float(str(row["value"])) <= float(str(row["ci_high"]))


def test_unsure_reference_labels_widen_the_interval_and_sure_ones_do_not() -> None:
    rng = np.random.default_rng(4)
    truth = [int(x) for x in rng.random(200) < 0.3]
    flagged = [float(t if rng.random() < 0.9 else 1 - t) for t in truth]
    p = [0.8 * t + 0.1 for t in truth]
    sure = by_name(slice_metrics(scored(truth, flagged, p), 300, 1))
    unsure = by_name(slice_metrics(scored(truth, flagged, p, p_label=[0.9 * t + 0.05 for t in truth]), 300, 1))
    for metric in ("precision", "recall", "f1", "accuracy", "brier"):
        a, b = sure[metric], unsure[metric]
        assert (a["relabelled_low"], a["relabelled_high"]) == (a["ci_low"], a["ci_high"]), metric
        assert (a["value"], a["ci_low"], a["ci_high"]) == (b["value"], b["ci_low"], b["ci_high"]), metric
        assert float(str(b["relabelled_high"])) - float(str(b["relabelled_low"])) > 1.1 * (
            float(str(b["ci_high"])) - float(str(b["ci_low"]))
        ), metric


def test_a_perfect_judge_has_an_interval_once_labels_are_unsure() -> None:
    truth = [0, 1] * 50
    p = [0.1, 0.9] * 50
    rows = by_name(slice_metrics(scored(truth, [float(t) for t in truth], p, p_label=p), 200, 1))
    assert 0.9 < float(str(rows["auroc"]["ci_low"])) < float(str(rows["auroc"]["ci_high"])) == 1.0
    assert 0.7 < float(str(rows["auroc"]["relabelled_low"])) < float(str(rows["auroc"]["ci_high"]))


def test_labels_drawn_anew_move_recall_by_as_much_as_they_are_wrong() -> None:
    # Every item flagged right; one label in ten is wrong whichever way: precision against the truth is near .9. Its
    # variance is that of a sample of known labels plus that of the labels (Rubin 1987, Multiple Imputation, formula
    # 3.1.5): .09 / n twice.
    n = 1000
    truth = [1] * n + [0] * n
    rows = by_name(slice_metrics(scored(truth, [float(t) for t in truth], p_label=[0.9] * n + [0.1] * n), 400, 1))
    precision = rows["precision"]
    assert precision["value"] == 1.0
    assert float(str(precision["relabelled_low"])) == pytest.approx(0.9 - 1.96 * (2 * 0.09 / n) ** 0.5, abs=0.006)
