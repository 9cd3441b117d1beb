"""The accuracy printed of a method chosen on gold, against what it is on items without."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from moderation_pipelines.consensus.aggregate import aggregate
from moderation_pipelines.consensus.choice import measure_methods
from moderation_pipelines_tests.simulations.page import Cell, over_grid, publish, repetitions
from moderation_pipelines_tests.simulations.test_consensus_grid import N_ITEMS, voted

pytestmark = pytest.mark.simulation
FULL = 200
METHODS = ("majority", "weighted_majority", "one_coin", "dawid_skene", "mace", "glad")


def one_cell(cell: Cell) -> dict[str, float]:
    n_gold, prevalence, times = cell
    best, printed, held, true = [], [], [], []
    for k in range(times):
        rng = np.random.default_rng([n_gold, int(prevalence * 100), k])
        truth, votes = voted(rng, "cautious", prevalence, 20, 3)
        some = rng.random(N_ITEMS).argsort()[:400]
        keep = np.zeros(N_ITEMS, dtype=bool)
        keep[some] = True
        truth, votes = truth[keep], votes.of_items(keep)
        gold = np.where(rng.random(400).argsort() < n_gold, truth, -1)
        rows = measure_methods(votes, gold, (False, True), False, None, methods=METHODS)
        chosen = next(m for m in rows if m.is_chosen)
        others = [m.n_right / n_gold for m in rows]
        label = aggregate(votes, chosen.method, gold).label
        assert chosen.accuracy is not None
        printed.append(chosen.accuracy)
        best.append(max(others))
        true.append(float((label == truth)[gold < 0].mean()))
        held.append(
            chosen.interval.low is not None
            and chosen.interval.high is not None
            and chosen.interval.low <= true[-1] <= chosen.interval.high
        )
    return {
        "best_of_six": float(np.mean(best)),
        "printed": float(np.mean(printed)),
        "true": float(np.mean(true)),
        "held": float(np.mean(held)),
    }


def test_the_accuracy_of_a_choice_is_not_that_of_the_best_of_many() -> None:
    n = repetitions(FULL)
    cells = [(g, p, n) for g in (30, 60, 200) for p in (0.1, 0.5)]
    table = pl.DataFrame(
        [
            {"gold": c[0], "violating": f"{c[1]:.2f}", **row}
            for c, row in zip(cells, over_grid(one_cell, cells), strict=True)
        ]
    )
    publish("choice", table, ("gold", "violating"))
    bias = (table["printed"] - table["true"]).to_numpy()
    # Fits that know four fifths of the gold label a little worse than those that know it all.
    margin = 0.0 if n == FULL else 0.03
    assert (np.abs(bias) < 0.012 + margin).all(), table.to_dicts()
