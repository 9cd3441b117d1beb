"""May a judge replace a rater, what errors cost, and operating points: by hand, by plain loops, by planted judges."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import ttest_1samp

from moderation_pipelines.eval_sets.release import Release
from moderation_pipelines.metrics.classification import confusion_sums
from moderation_pipelines.metrics.costs import cost_per_item
from moderation_pipelines.metrics.operating_points import THRESHOLDS, operating_points_table
from moderation_pipelines.metrics.scored import Scored
from moderation_pipelines.metrics.slice import slice_metrics
from moderation_pipelines.metrics.tables import JUDGE_VALIDITY, METRICS, OPERATING_POINTS
from moderation_pipelines.metrics.validity import judge_validity_table, replacement_test
from moderation_pipelines.policies.policy import Costs, load_policies
from moderation_pipelines.stats.multiplicity import benjamini_hochberg, benjamini_yekutieli
from moderation_pipelines.tables.checks import checked
from moderation_pipelines.votes.tables import VOTES
from moderation_pipelines_tests.conftest import DAY, SmallHome
from moderation_pipelines_tests.test_eval_sets import fill, released

COSTS = Costs(fn=20, fp=1)


def planted(
    rng: np.random.Generator, n: int, judge: float, rater: float = 0.85, raters: int = 5, votes: int = 4
) -> Any:
    """(item, rater, label, judged): raters right in ``rater`` of the items, a judge in ``judge``; three labels."""
    truth = rng.integers(0, 3, n)
    item = np.repeat(np.arange(n), votes)
    who = (rng.integers(0, raters, n)[:, None] + np.arange(votes)).ravel() % raters

    def said(right: float, of: np.ndarray) -> np.ndarray:
        return np.where(rng.random(len(of)) < right, of, (of + rng.integers(1, 3, len(of))) % 3)

    return item, who, said(rater, truth[item]), said(judge, truth)


def by_loops(
    item: Any, rater: Any, label: Any, judged: Any, ordered: bool, margin: float
) -> dict[int, tuple[float, float]]:
    """Per rater (how often the judge does as well or better, p-value), as the paper has it, vote by vote."""
    votes: dict[int, list[tuple[int, int]]] = {}
    for i, r, x in zip(item, rater, label, strict=True):
        votes.setdefault(int(i), []).append((int(r), int(x)))

    def score(x: int, others: list[int]) -> float:
        if ordered:
            return -math.sqrt(sum((x - y) ** 2 for y in others) / len(others))
        return sum(x == y for y in others) / len(others)

    out = {}
    for one in sorted({int(r) for r in rater if r >= 0}):
        wins, losses = [], []
        for i, given in votes.items():
            for k, (r, x) in enumerate(given):
                others = [y for j, (_, y) in enumerate(given) if j != k]
                if r == one and len(others) >= 2 and judged[i] >= 0:
                    ours, theirs = score(int(judged[i]), others), score(x, others)
                    wins.append(float(ours >= theirs - 1e-12))
                    losses.append(float(theirs >= ours - 1e-12))
        if len(wins) >= 30:
            d = np.array(wins) - np.array(losses)
            out[one] = (float(np.mean(wins)), float(ttest_1samp(d, -margin, alternative="greater").pvalue))
    return out


@pytest.mark.parametrize("ordered", [False, True])
def test_the_test_is_that_of_the_paper_vote_by_vote(ordered: bool) -> None:
    rng = np.random.default_rng(2)
    item, rater, label, judged = planted(rng, 120, 0.8)
    rater = np.where(rng.random(len(rater)) < 0.1, -1, rater)  # some votes are anonymous: others, never tested
    judged = np.where(rng.random(120) < 0.1, -1, judged)
    found = replacement_test(item, rater, label, judged, ordered, 3, 0.15)
    loops = by_loops(item, rater, label, judged, ordered, 0.15)
    adjusted = benjamini_yekutieli([p for _, p in loops.values()])
    assert (found.n_raters, found.n_won) == (len(loops), sum(p is not None and p <= 0.05 for p in adjusted))
    assert found.advantage == pytest.approx(np.mean([w for w, _ in loops.values()]))
    assert found.winning_rate == found.n_won / found.n_raters
    assert found.interval.low is not None


def test_a_judge_as_good_as_raters_may_replace_one_and_a_poor_one_may_not() -> None:
    rng = np.random.default_rng(5)
    good = replacement_test(*planted(rng, 600, 0.9), False, 3, 0.15)
    poor = replacement_test(*planted(rng, 600, 0.5), False, 3, 0.15)
    assert (good.may_replace, good.winning_rate) == (True, 1.0)
    assert (poor.may_replace, poor.winning_rate) == (False, 0.0)
    assert good.advantage is not None
    assert poor.advantage is not None
    assert good.advantage > 0.85 > poor.advantage
    assert good.agreement is not None
    assert good.rater_agreement is not None
    # .9 x .85 + .1 x .15 / 2 = .7725; .85^2 + .15^2 / 2 = .73375.
    assert good.agreement == pytest.approx(0.7725, abs=0.03)
    assert good.rater_agreement == pytest.approx(0.73375, abs=0.03)


def test_too_few_raters_or_votes_is_no_answer() -> None:
    rng = np.random.default_rng(6)
    for case in (
        planted(rng, 600, 0.9, raters=2, votes=2),  # one other vote only
        planted(rng, 20, 0.9),  # fewer than 30 items each
    ):
        found = replacement_test(*case, False, 3, 0.15)
        assert (found.winning_rate, found.may_replace, found.n_raters) == (None, None, 0)
        assert found.agreement is not None
    item, rater, label, judged = planted(rng, 600, 0.9)
    nameless = replacement_test(item, np.full(len(rater), -1), label, judged, False, 3, 0.15)
    assert (nameless.may_replace, nameless.n_raters, nameless.n_items) == (None, 0, 0)
    nobody = replacement_test(item, rater, label, np.full(600, -1), False, 3, 0.15)
    assert (nobody.agreement, nobody.n_agreement) == (None, 0)


def test_benjamini_yekutieli_by_hand() -> None:
    # Three tests: the sum 1 + 1/2 + 1/3 is 11/6 times what Benjamini-Hochberg gives.
    p = [0.01, None, 0.02, 0.5]
    bh = benjamini_hochberg(p)
    assert benjamini_yekutieli(p) == [
        pytest.approx(0.03 * 11 / 6),
        None,
        pytest.approx(0.03 * 11 / 6),
        pytest.approx(0.5 * 11 / 6),
    ]
    assert bh[0] == pytest.approx(0.03)


def test_expected_cost_by_hand() -> None:
    # 2 missed at 20 and 3 false alarms at 1, of 50 items: 43 / 50.
    sums = {k: np.array([v]) for k, v in {"tp": 8.0, "fn": 2.0, "fp": 3.0, "tn": 37.0}.items()}
    assert cost_per_item(sums, COSTS)[0] == pytest.approx(0.86)
    assert cost_per_item(sums, COSTS, missing=0.2)[0] == pytest.approx(0.86)
    # A fifth goes to people, at 5 each: .8 x .86 + .2 x 5.
    assert cost_per_item(sums, Costs(fn=20, fp=1, review=5), missing=0.2)[0] == pytest.approx(1.688)
    nothing = {k: np.zeros(1) for k in sums}
    assert np.isnan(cost_per_item(nothing, COSTS)[0])


def test_expected_cost_is_a_metric_where_the_policy_states_costs() -> None:
    rng = np.random.default_rng(3)
    truth = (rng.random(200) < 0.2).astype(float)
    flagged = np.where(rng.random(200) < 0.9, truth, 1 - truth)
    flagged[:20] = np.nan
    scored = Scored(truth, flagged, np.full(200, np.nan), np.ones(200), truth)
    assert "expected_cost" not in {r["metric"] for r in slice_metrics(scored, 200, 1)}
    row = next(r for r in slice_metrics(scored, 200, 1, costs=COSTS) if r["metric"] == "expected_cost")
    missed = float(((truth == 1) & (flagged == 0)).sum())
    alarms = float(((truth == 0) & (flagged == 1)).sum())
    assert row["value"] == pytest.approx((20 * missed + alarms) / 180)
    assert (row["n"], row["n_missing"], row["interval"]) == (180, 20, "beta")
    assert float(str(row["ci_low"])) < float(str(row["value"])) < float(str(row["ci_high"]))
    chosen = slice_metrics(scored, 200, 1, chosen_by_label=True, costs=COSTS)
    assert next(r for r in chosen if r["metric"] == "expected_cost")["value"] is None
    empty = Scored(*(np.zeros(0) for _ in range(5)))
    none = next(r for r in slice_metrics(empty, 200, 1, costs=COSTS) if r["metric"] == "expected_cost")
    assert (none["value"], none["n"]) == (None, 0)
    assert none["note"]


def scores_of(release: Release, p_of: Any) -> pl.DataFrame:
    items = release.items()
    p = np.array([p_of(k, bad) for k, bad in enumerate(items["violating"])])
    return pl.DataFrame(
        {
            "eval_set": release.name, "version": release.version, "policy": "harassment", "judge_id": "j",
            "item_id": items["item_id"], "outcome": "verdict", "p_violating": p, "violating": p >= 0.5,
            "label": np.where(p >= 0.5, "bad", "fine"),
        }
    )  # fmt: skip


def test_operating_points_are_what_the_probability_would_flag(small: SmallHome) -> None:
    fill(small)
    release = released(small).release
    assert release is not None
    scores = scores_of(release, lambda k, bad: (0.6 if bad else 0.1) + 0.3 * (k % 3) / 3)
    table = operating_points_table(scores, [release], DAY, {"harassment": COSTS}, 200)
    checked(OPERATING_POINTS, table.lazy())
    whole = table.filter(pl.col("locale").is_null()).sort("threshold")
    assert whole["threshold"].to_list() == list(THRESHOLDS)
    assert table.filter(locale="en").height == len(THRESHOLDS)
    items = release.items().join(scores.select("item_id", "p_violating"), on="item_id")
    for row in whole.to_dicts():
        flagged = (items["p_violating"] >= row["threshold"]).cast(pl.Float64).to_numpy()
        truth, weight = items["violating"].cast(pl.Float64).to_numpy(), items["weight"].to_numpy()
        sums = {k: float(v[0]) for k, v in confusion_sums(weight[None, :], truth, flagged).items()}
        assert row["recall"] == pytest.approx(sums["tp"] / (sums["tp"] + sums["fn"]))
        assert row["fpr"] == pytest.approx(sums["fp"] / (sums["fp"] + sums["tn"]))
        assert row["expected_cost"] == pytest.approx((20 * sums["fn"] + sums["fp"]) / weight.sum())
        assert row["n"] == items.height
        if sums["tp"] + sums["fp"] == 0:
            assert (row["precision"], row["precision_low"], row["n_flagged"]) == (None, None, 0)
        else:
            assert row["precision_low"] <= row["precision"] <= row["precision_high"]
    # The higher the threshold the less is flagged.
    assert whole["flag_rate"].to_list() == sorted(whole["flag_rate"], reverse=True)
    silent = scores.with_columns(p_violating=pl.lit(None, pl.Float64))
    assert operating_points_table(silent, [release], DAY, {}, 200).is_empty()


def test_the_table_of_validity_counts_what_it_could_not_test(small: SmallHome) -> None:
    fill(small)
    release = released(small).release
    assert release is not None
    scores = scores_of(release, lambda k, bad: 0.9 if bad else 0.1)
    votes = small.warehouse.scan(VOTES)
    table = judge_validity_table(scores, votes, [release], load_policies(small.home), DAY, 0.15)
    checked(JUDGE_VALIDITY, table.lazy())
    row = table.row(0, named=True)
    assert (row["winning_rate"], row["may_replace"], row["n_agreement"]) == (None, None, release.items().height)
    assert (row["agreement"], row["rater_agreement"]) == (1.0, 1.0)
    assert row["note"].endswith("0 of the 3 needed")


def test_a_policy_states_costs_and_mistakes_in_them_are_told(small: SmallHome) -> None:
    path = small.home.prompts / "harassment" / "policy.yaml"
    text = path.read_text()
    small.write("prompts/harassment/policy.yaml", text + "kpis: {costs: {fn: 20, fp: 1, review: 0.5}}\n")
    assert load_policies(small.home)["harassment"].kpis.costs == Costs(fn=20, fp=1, review=0.5)
    small.write("prompts/harassment/policy.yaml", text + "kpis: {costs: {fn: -1, fpp: 1}}\n")
    from moderation_pipelines.orchestration.stages import all_problems

    said = "\n".join(map(str, all_problems(small.home)))
    assert '"kpis.costs.fn" is -1; it must be 0.0 or more' in said
    assert 'key "fpp" is not known; did you mean "fp"?' in said
    assert '"kpis.costs.fp" is missing' in said


def test_metrics_hold_values_beyond_one_only_for_costs() -> None:
    assert METRICS.columns["value"].maximum is None


def test_items_that_hang_together_count_by_clusters() -> None:
    rng = np.random.default_rng(5)
    item, rater, label, judged = planted(rng, 600, 0.9)
    whole = replacement_test(item, rater, label, judged, False, 3, 0.15)
    # Twenty items a cluster: thirty clusters a rater are needed, and there are thirty.
    thirty = replacement_test(item, rater, label, judged, False, 3, 0.15, np.arange(600) // 20)
    assert (whole.may_replace, thirty.may_replace) == (True, True)
    fewer = replacement_test(item, rater, label, judged, False, 3, 0.15, np.arange(600) // 21)
    assert (fewer.may_replace, fewer.n_raters) == (None, 0)
    assert fewer.agreement_interval.low is not None
    nine = replacement_test(item, rater, label, judged, False, 3, 0.15, np.arange(600) // 67)
    assert (nine.agreement is None, nine.agreement_interval.low) == (False, None)
