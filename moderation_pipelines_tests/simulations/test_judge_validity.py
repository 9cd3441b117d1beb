"""The leave-one-rater-out test and the interval of the expected cost: errors and power at several effects."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from moderation_pipelines.metrics.costs import cost_per_item
from moderation_pipelines.metrics.scored import Scored
from moderation_pipelines.metrics.slice import slice_metrics
from moderation_pipelines.metrics.validity import replacement_test
from moderation_pipelines.policies.policy import Costs
from moderation_pipelines_tests.simulations.page import Cell, over_grid, publish, repetitions, slack

pytestmark = pytest.mark.simulation
RATERS, RIGHT, MARGIN = 6, 0.85, 0.15
SHIFTS = ("boundary", -0.10, -0.05, 0.0, 0.05)
ITEMS = (150, 600)
COSTS = Costs(fn=20, fp=1)


def voted(rng: np.random.Generator, n: int, judge: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Four votes an item of six raters right in .85, two labels, 30 % violating; a judge right in ``judge``."""
    truth = (rng.random(n) < 0.3).astype(np.int64)
    item = np.repeat(np.arange(n), 4)
    rater = (rng.integers(0, RATERS, n)[:, None] + np.arange(4)).ravel() % RATERS
    label = np.where(rng.random(4 * n) < RIGHT, truth[item], 1 - truth[item])
    return item, rater, label, np.where(rng.random(n) < judge, truth, 1 - truth)


def boundary() -> float:
    """How often a judge is right whose advantage is exactly minus the margin: the worst that must not pass."""
    item, rater, label, _ = voted(np.random.default_rng(1), 200_000, 1.0)
    low, high = 0.3, 0.95
    for _ in range(18):
        middle = (low + high) / 2
        found = advantage(item, rater, label, voted(np.random.default_rng(1), 200_000, middle)[3])
        low, high = (middle, high) if found < -MARGIN else (low, middle)
    return (low + high) / 2


def advantage(item: np.ndarray, rater: np.ndarray, label: np.ndarray, judged: np.ndarray) -> float:
    counts = np.zeros((len(judged), 2))
    np.add.at(counts, (item, label), 1)
    others = counts[item].copy()
    others[np.arange(len(item)), label] -= 1
    row = np.arange(len(item))
    return float(np.sign(others[row, judged[item]] - others[row, label]).mean())


def one_cell(cell: Cell) -> list[float]:
    judge, items, n = cell
    found = []
    for repetition in range(n):
        rng = np.random.default_rng([int(judge * 1000), items, repetition])
        tested = replacement_test(*voted(rng, items, judge), False, 2, MARGIN)
        found.append(
            [tested.may_replace is True, (tested.n_won or 0) / max(tested.n_raters, 1), tested.may_replace is None]
        )
    return [float(x) for x in np.mean(np.array(found, dtype=float), axis=0)]


def test_a_judge_at_the_margin_seldom_passes_and_one_as_good_as_raters_mostly_does() -> None:
    n = repetitions(1000)
    at = boundary()
    cells = [(at if s == "boundary" else RIGHT + float(s), k, n) for s in SHIFTS for k in ITEMS]
    rows = [
        {
            "judge": "at the margin" if s == "boundary" else f"{RIGHT + float(s):.2f}",
            "items": k,
            "passes": found[0],
            "raters_won": found[1],
            "not_tested": found[2],
        }
        for (s, k), found in zip([(s, k) for s in SHIFTS for k in ITEMS], over_grid(one_cell, cells), strict=True)
    ]
    table = pl.DataFrame(rows)
    publish("judge_validity", table, ("judge", "items"))
    worst = table.filter(judge="at the margin")
    assert worst["passes"].max() <= 0.05 + slack(0.05, n)
    assert worst["raters_won"].max() <= 0.05 + slack(0.05, n)
    assert table.filter((pl.col("judge") == "0.85") & (pl.col("items") == 600))["passes"].item() >= 0.9 - slack(0.9, n)


def one_cost(cell: Cell) -> list[float]:
    items, prevalence, n = cell
    # Missed .15 of the violating, flagged .08 of the fine.
    true = 20 * prevalence * 0.15 + (1 - prevalence) * 0.08
    held, offered = 0, 0
    for repetition in range(n):
        rng = np.random.default_rng([items, int(prevalence * 100), repetition])
        truth = (rng.random(items) < prevalence).astype(np.float64)
        flagged = np.where(rng.random(items) < np.where(truth == 1, 0.85, 0.08), 1.0, 0.0)
        scored = Scored(truth, flagged, np.full(items, np.nan), np.ones(items), truth)
        row = next(r for r in slice_metrics(scored, 500, repetition, costs=COSTS) if r["metric"] == "expected_cost")
        low, high = row["ci_low"], row["ci_high"]
        if low is not None and high is not None:
            offered += 1
            held += float(str(low)) <= true <= float(str(high))
    assert cost_per_item({k: np.ones(1) for k in ("tp", "fp", "fn", "tn")}, COSTS)[0] > 0
    return [held / max(offered, 1), offered / n]


def test_the_interval_of_the_expected_cost_holds_it() -> None:
    n = repetitions(1000)
    cells = [(items, p, n) for items in (60, 150, 500) for p in (0.02, 0.1, 0.5)]
    rows = [
        {"items": items, "prevalence": f"{p:.2f}", "holds": held, "offered": offered}
        for (items, p, _), (held, offered) in zip(cells, over_grid(one_cost, cells), strict=True)
    ]
    table = pl.DataFrame(rows)
    publish("expected_cost", table, ("items", "prevalence"))
    assert table["holds"].min() >= 0.92 - slack(0.92, n)
