"""Probabilities of labels and purity, where raters err independently and together: as the method says, and calibrated."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from moderation_pipelines.consensus.aggregate import aggregate
from moderation_pipelines.consensus.calibration import evidence_of
from moderation_pipelines.consensus.choice import measure_methods
from moderation_pipelines.consensus.method import METHODS
from moderation_pipelines.stats.intervals import clopper_pearson_interval
from moderation_pipelines_tests.simulations.page import Cell, over_grid, publish, repetitions
from moderation_pipelines_tests.simulations.test_consensus_grid import N_ITEMS, voted

pytestmark = pytest.mark.simulation
ERRORS = ("alike", "together")
PREVALENCES = (0.02, 0.1)
GOLD = (30, 100, 300)
SHOWN = ("dawid_skene", "majority")
COLUMNS = (
    "purity_true", "purity_stated", "off_by", "purity_calibrated", "calibrated_off_by", "brier", "brier_calibrated",
    "measured_holds",
)  # fmt: skip


def one_cell(cell: Cell) -> list[float | None]:
    method, errors, prevalence, n_gold, n = cell
    found = []
    for repetition in range(n):
        seed = [SHOWN.index(method), ERRORS.index(errors), int(prevalence * 100), n_gold, repetition]
        rng = np.random.default_rng(seed)
        truth, votes = voted(rng, errors, prevalence, 40, 3)
        gold = np.full(N_ITEMS, -1)
        known = rng.choice(N_ITEMS, n_gold, replace=False)
        gold[known] = truth[known]
        measured = measure_methods(votes, gold, (False, True), False, method, methods=[method])[0]
        fit = aggregate(votes, method, gold)
        rest = gold < 0
        plain = fit.posterior
        shares = votes.votes if METHODS[method].shares == "votes" else None
        # A posterior that gold does not contradict stays as it is.
        made = measured.calibration
        fitted = plain if made is None else made.applied(evidence_of(plain, shares))
        called = rest & (fit.label == 1)
        n_called = max(int(called.sum()), 1)
        true = truth[called].sum() / n_called
        holds = np.nan
        if measured.n_called:
            interval = clopper_pearson_interval(measured.n_called_right, measured.n_called)
            assert interval.low is not None
            assert interval.high is not None
            holds = float(interval.low <= true <= interval.high)
        stated, calibrated = (float(p[called, 1].sum() / n_called) for p in (plain, fitted))
        brier = [float(((p[rest, 1] - truth[rest]) ** 2).mean()) for p in (plain, fitted)]
        found.append([true, stated, abs(stated - true), calibrated, abs(calibrated - true), *brier, holds])
    return np.nanmean(found, axis=0).tolist()


def test_calibrated_probabilities_are_near_the_truth_where_raters_err_together_and_little_worse_elsewhere() -> None:
    n = repetitions(60)
    cells = [(m, e, p, g, n) for m in SHOWN for e in ERRORS for p in PREVALENCES for g in GOLD]
    rows = [
        {"method": m, "errors": e, "prevalence": f"{p:.2f}", "gold": g, **dict(zip(COLUMNS, found, strict=True))}
        for (m, e, p, g, _), found in zip(cells, over_grid(one_cell, cells), strict=True)
    ]
    table = pl.DataFrame(rows)
    publish("label_probabilities", table, ("method", "errors", "prevalence", "gold"))
    wide = 1.0 if n == 60 else 1.5
    gain = pl.col("calibrated_off_by") / pl.col("off_by")
    # Where the numbers are wrong, calibrating takes most of it away; where they are right it costs little.
    wrong = table.filter((pl.col("off_by") > 0.15) & (pl.col("gold") >= 100))
    assert wrong.height >= 8
    assert wrong.select(gain.max()).item() <= 0.6 * wide
    loss = table.select((pl.col("brier_calibrated") / pl.col("brier")).max()).item()
    assert loss <= 1 + 0.12 * wide
    # An exact interval on random gold holds in 95 % or more; called items differ a little between folds and the whole.
    assert table["measured_holds"].mean() >= 0.95 - (0.0 if n == 60 else 0.05)
