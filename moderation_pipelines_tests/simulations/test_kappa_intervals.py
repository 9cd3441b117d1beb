"""How often the intervals of Cohen's and Conger's kappa hold, and are there, with few of a label."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from moderation_pipelines.agreement.pack import agreement
from moderation_pipelines.agreement.raters import cohen_kappas
from moderation_pipelines.votes.scale import Scale
from moderation_pipelines_tests.simulations.page import Cell, over_grid, publish, repetitions, slack

pytestmark = pytest.mark.simulation
FULL = 1000
SCALE = Scale(("fine", "bad"))
# (items, share violating, sensitivity, specificity)
CASES = (
    (150, 0.02, 0.8, 0.99),
    (150, 0.02, 0.95, 0.995),
    (150, 0.1, 0.8, 0.95),
    (60, 0.5, 0.9, 0.9),
    (500, 0.02, 0.8, 0.99),
)
COEFFICIENTS = ("cohen_kappa", "conger_kappa")


def true_kappa(rare: float, sensitivity: float, specificity: float) -> float:
    """Of two such raters: Cohen's and Conger's are one where raters are alike."""
    table = sum(
        share * np.outer([1 - says, says], [1 - says, says])
        for share, says in ((rare, sensitivity), (1 - rare, 1 - specificity))
    )
    return float(cohen_kappas(np.asarray(table)[None] * 1e6, np.eye(2)).value[0])


def one_cell(cell: Cell) -> dict[str, float]:
    (n, rare, sensitivity, specificity), raters, times = cell
    rng = np.random.default_rng([n, int(rare * 100), raters, int(sensitivity * 100)])
    true = true_kappa(rare, sensitivity, specificity)
    ids = {
        "item_id": np.repeat(np.arange(n), raters).astype(str),
        "rater_id": np.tile([f"r{k}" for k in range(raters)], n),
    }
    held: dict[str, list[bool]] = {c: [] for c in COEFFICIENTS}
    missing = undefined = 0
    for k in range(times):
        violating = np.repeat(rng.random(n) < rare, raters)
        says_bad = rng.random(n * raters) < np.where(violating, sensitivity, 1 - specificity)
        votes = pl.DataFrame({**ids, "label": np.where(says_bad, "bad", "fine")})
        rows = {r["coefficient"]: r for r in agreement(votes, SCALE, replicates=400, seed=k).to_dicts()}
        for c in COEFFICIENTS:
            row = rows[c]
            undefined += row["value"] is None
            missing += row["value"] is not None and row["ci_low"] is None
            if row["ci_low"] is not None:
                held[c].append(row["ci_low"] <= true <= row["ci_high"])
    every = times * len(COEFFICIENTS)
    return {
        "kappa": true,
        **{c: float(np.mean(held[c])) for c in COEFFICIENTS},
        "undefined": undefined / every,
        "no_interval": missing / every,
    }


def test_kappa_intervals_hold_with_few_of_a_label() -> None:
    n = repetitions(FULL)
    cells = [(case, raters, n) for case in CASES for raters in (2, 3)]
    rows = []
    for (case, raters, _), found in zip(cells, over_grid(one_cell, cells), strict=True):
        named = {
            "n": case[0],
            "violating": f"{case[1]:.2f}",
            "sensitivity": f"{case[2]:.2f}",
            "specificity": f"{case[3]:.3f}",
            "raters": raters,
        }
        rows.append({**named, **found})
    table = pl.DataFrame(rows)
    publish("kappas", table, ("n", "violating", "sensitivity", "specificity", "raters"))
    for c in COEFFICIENTS:
        assert table[c].min() >= 0.92 - slack(0.95, n), table.to_dicts()
        assert table[c].max() <= 0.98 + slack(0.95, n), table.to_dicts()
    assert table["no_interval"].max() == 0
