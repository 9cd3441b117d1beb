"""95 % intervals hold the truth about as often as they say, by simulation: for balanced and for rare classes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from moderation_pipelines.agreement.formulas import (
    chance_corrected,
    krippendorff_alpha,
    percent_agreement,
    specific_agreement,
)
from moderation_pipelines.agreement.patterns import Patterns, Samples
from moderation_pipelines.metrics.paired import paired_differences
from moderation_pipelines.metrics.scored import Scored
from moderation_pipelines.metrics.slice import slice_metrics
from moderation_pipelines.stats.intervals import (
    Interval,
    bca_interval,
    clopper_pearson_interval,
    percentile_interval,
    wilson_interval,
)

pytestmark = pytest.mark.slow
TRIALS = 1000
# The share of 1,000 intervals that hold lies within 2.2 points of 95 % in 99.9 of 100 simulations of a perfect method;
# so 93 to 97 % is asked for.
LEAST, MOST = 0.93, 0.97

Statistic = Callable[[Samples], np.ndarray]
STATISTICS: dict[str, Statistic] = {
    "percent_agreement": percent_agreement,
    "krippendorff_alpha": lambda s: krippendorff_alpha(s, "nominal"),
    "gwet_ac1": lambda s: chance_corrected(s, "gwet", np.eye(2)),
    "brennan_prediger": lambda s: chance_corrected(s, "brennan_prediger", np.eye(2)),
    "fleiss_kappa": lambda s: chance_corrected(s, "fleiss", np.eye(2)),
    "specific_agreement": lambda s: specific_agreement(s)[:, 1],
    "prevalence": lambda s: s.shares[:, 1],
}


def voted(rng: np.random.Generator, n: int, rare: float, right: float, missing: float) -> Patterns:
    """Items of two labels, three raters each right with the same chance, votes missing at random."""
    truth = (rng.random(n) < rare)[:, None]
    label = np.where(rng.random((n, 3)) < right, truth, ~truth)
    there = rng.random((n, 3)) >= missing
    ones = (label & there).sum(axis=1)
    counts = np.stack([there.sum(axis=1) - ones, ones], axis=1)
    seen, items = np.unique(counts[counts.sum(axis=1) > 0], axis=0, return_counts=True)
    return Patterns(seen.astype(np.float64), items.astype(np.float64))


def held(intervals: list[Interval], truth: float) -> float:
    ends = [(i.low, i.high) for i in intervals if i.low is not None and i.high is not None]
    assert len(ends) > 0.99 * TRIALS
    return float(np.mean([low - 1e-12 <= truth <= high + 1e-12 for low, high in ends]))


@pytest.mark.parametrize(
    ("name", "n", "rare", "right", "missing"),
    [("balanced", 300, 0.5, 0.9, 0.2), ("rare", 2000, 0.03, 0.97, 0.2)],
)
def test_agreement_intervals(name: str, n: int, rare: float, right: float, missing: float) -> None:
    rng = np.random.default_rng(11)
    truth = {k: float(f(voted(rng, 4_000_000, rare, right, missing).as_seen())[0]) for k, f in STATISTICS.items()}
    found: dict[str, list[Interval]] = {k: [] for k in STATISTICS}
    for trial in range(TRIALS):
        patterns = voted(rng, n, rare, right, missing)
        (drawn,) = patterns.resampled(1000, trial)
        (left_out,) = patterns.without_one()
        for k, f in STATISTICS.items():
            value = float(f(patterns.as_seen())[0])
            found[k].append(bca_interval(value, f(drawn), f(left_out), patterns.items))
    shares = {k: held(found[k], truth[k]) for k in STATISTICS}
    assert all(LEAST <= share <= MOST for share in shares.values()), shares


@pytest.mark.parametrize(("n", "p"), [(50, 0.5), (200, 0.1), (1000, 0.02)])
def test_wilson_holds_as_often_as_it_says_and_clopper_pearson_at_least(n: int, p: float) -> None:
    # Exact coverage: the binomial chance of every count whose interval holds p.
    from scipy.stats import binom

    chances = binom.pmf(np.arange(n + 1), n, p)
    for interval, least, most in ((wilson_interval, LEAST, MOST), (clopper_pearson_interval, 0.95, 1.0)):
        ends = [interval(k, n) for k in range(n + 1)]
        holds = np.array([(e.low or 0) <= p <= (e.high or 0) for e in ends])
        assert least <= chances[holds].sum() <= most


@pytest.mark.parametrize("rare", [0.4, 0.08])
def test_paired_differences_of_two_judges(rare: float) -> None:
    rng = np.random.default_rng(5)

    def judged(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        truth = (rng.random(n) < rare).astype(np.float64)
        hard = rng.random(n) < 0.3
        flags = []
        for easy_right, hard_right in ((0.97, 0.7), (0.98, 0.8)):
            right = rng.random(n) < np.where(hard, hard_right, easy_right)
            flags.append(np.where(right, truth, 1 - truth))
        return truth, flags[0], flags[1]

    wide = judged(2_000_000)
    truth = {k: d.difference for k, d in paired_differences(*wide, np.ones(2_000_000), 1, 1).items()}
    found: dict[str, list[Interval]] = {k: [] for k in truth}
    for trial in range(TRIALS):
        for k, d in paired_differences(*judged(600), np.ones(600), 400, trial).items():
            found[k].append(d.interval)
    shares = {k: held(found[k], truth[k]) for k in truth}
    assert all(LEAST <= share <= MOST for share in shares.values()), shares


def test_a_percentile_interval_of_a_mean_holds() -> None:
    rng = np.random.default_rng(9)
    intervals = []
    for _ in range(TRIALS):
        sample = rng.exponential(1.0, 200)
        draws = rng.multinomial(200, np.full(200, 1 / 200), size=500) @ sample / 200
        intervals.append(percentile_interval(draws))
    assert LEAST - 0.01 <= held(intervals, 1.0) <= MOST


@pytest.mark.parametrize(("rare", "false_alarms"), [(0.1, 0.02), (0.01, 0.01)])
def test_precision_recall_and_f1_of_a_set_stratified_by_label(rare: float, false_alarms: float) -> None:
    # 200 violating and 200 fine items, weighted back to a frame in which violating ones are rare.
    rng = np.random.default_rng(3)
    truth = np.repeat([1.0, 0.0], 200)
    weight = np.repeat([rare * 1e5 / 200, (1 - rare) * 1e5 / 200], 200)
    tp, fp = rare * 0.9, (1 - rare) * false_alarms
    expected = {"precision": tp / (tp + fp), "recall": 0.9, "f1": 2 * tp / (tp + fp + rare), "fpr": false_alarms}
    found: dict[str, list[Interval]] = {k: [] for k in expected}
    for trial in range(TRIALS):
        flagged = (rng.random(400) < np.where(truth == 1, 0.9, false_alarms)).astype(np.float64)
        nothing = np.full(400, np.nan)
        rows = slice_metrics(Scored(truth, flagged, nothing, weight, truth), 400, trial)
        for row in rows:
            if row["metric"] in found:
                found[str(row["metric"])].append(Interval(row["ci_low"], row["ci_high"]))  # type: ignore[arg-type]
    shares = {k: held(found[k], expected[k]) for k in expected}
    # Few false alarms make a binomial lumpy: no interval covers 95 % exactly, and these err on the safe side. The
    # Dirichlet of the group sizes, which this draw fixed, widens them further.
    assert all(LEAST <= share <= 1.0 for share in shares.values()), shares
