"""Consensus labels where raters err independently, one-sidedly and together: which method is right how often."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from moderation_pipelines.consensus.confusion_models import dawid_skene, one_coin
from moderation_pipelines.votes.matrix import VoteMatrix, vote_matrix
from moderation_pipelines_tests.simulations.page import Cell, over_grid, publish, repetitions

pytestmark = pytest.mark.simulation
N_ITEMS = 2000
ERRORS = ("alike", "good", "cautious", "eager", "together")
PREVALENCES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
DESIGNS = ((10, 2), (40, 2), (10, 3), (40, 3), (40, 5), (200, 3))
COLUMNS = ("majority", "one_coin", "dawid_skene", "purity_stated", "purity_true")


def voted(
    rng: np.random.Generator, errors: str, prevalence: float, raters: int, votes: int
) -> tuple[np.ndarray, VoteMatrix]:
    """Items and votes. Sensitivity and specificity per rater: alike (equal, mean .85), good (.90 to .99), cautious
    (means .70 and .95), eager (.95 and .85), together (as cautious; on half the items all raters share their luck)."""
    truth = (rng.random(N_ITEMS) < prevalence).astype(np.int64)
    if errors in ("alike", "good"):
        sensitivity = specificity = rng.beta(17, 3, raters) if errors == "alike" else rng.uniform(0.9, 0.99, raters)
    elif errors == "eager":
        sensitivity, specificity = rng.beta(19, 1, raters), rng.beta(17, 3, raters)
    else:
        sensitivity, specificity = rng.beta(14, 6, raters), rng.beta(38, 2, raters)
    rater = rng.random((N_ITEMS, raters)).argsort(axis=1)[:, :votes]
    luck = rng.random((N_ITEMS, votes))
    if errors == "together":
        shared = rng.random(N_ITEMS) < 0.5
        luck[shared] = luck[shared][:, :1]
    label = (luck < np.where(truth[:, None] == 1, sensitivity[rater], 1 - specificity[rater])).astype(np.int64)
    item = np.repeat(np.arange(N_ITEMS), votes)
    return truth, vote_matrix(item, rater.ravel(), label.ravel(), N_ITEMS, raters, 2)


def one_cell(cell: Cell) -> list[float]:
    errors, prevalence, (raters, votes), n = cell
    found = []
    for repetition in range(n):
        seed = [ERRORS.index(errors), int(prevalence * 100), raters, votes, repetition]
        truth, matrix = voted(np.random.default_rng(seed), errors, prevalence, raters, votes)
        posterior = dawid_skene(matrix).posterior[:, 1]
        called = posterior > 0.5
        labels = (matrix.counts[:, 1] > matrix.counts[:, 0], one_coin(matrix).posterior[:, 1] > 0.5, called)
        purity = (posterior[called].sum(), truth[called].sum(), called.sum())
        found.append([*(float((label == truth).mean()) for label in labels), *map(float, purity)])
    mean = np.mean(found, axis=0)
    n_called = max(mean[5], 1e-9)
    return [*mean[:3], mean[3] / n_called, mean[4] / n_called]


def test_dawid_skene_is_near_the_best_of_three_methods_wherever_raters_err_independently() -> None:
    n = repetitions(20)
    cells = [(e, p, d, n) for e in ERRORS for p in PREVALENCES for d in DESIGNS]
    rows = []
    for (errors, prevalence, (raters, votes), _), found in zip(cells, over_grid(one_cell, cells), strict=True):
        named = dict(zip(COLUMNS, found, strict=True))
        loss = max(found[:3]) - named["dawid_skene"]
        rows.append(
            {
                "errors": errors,
                "votes": votes,
                "raters": raters,
                "prevalence": f"{prevalence:.2f}",
                **named,
                "loss": loss,
            }
        )
    table = pl.DataFrame(rows)
    publish("consensus", table, ("errors", "votes", "raters", "prevalence"))
    independent = table.filter((pl.col("errors") != "together") & (pl.col("votes") > 2))
    # With two votes an item nothing tells cautious raters from careful ones: the loss is on the page.
    bound = 0.005 if n == 20 else 0.010
    assert independent.filter(pl.col("loss") > bound).is_empty(), independent.sort("loss").tail(5).to_dicts()
    two = table.filter((pl.col("errors") != "together") & (pl.col("votes") == 2))
    assert two["loss"].max() <= (0.02 if n == 20 else 0.04)
    # The case this was made for: 2 % violating, 40 raters alike, 3 votes.
    case = table.row(
        by_predicate=(pl.col("errors") == "alike")
        & (pl.col("prevalence") == "0.02")
        & (pl.col("raters") == 40)
        & (pl.col("votes") == 3),
        named=True,
    )
    assert case["dawid_skene"] > 0.98
    assert abs(case["purity_stated"] - case["purity_true"]) < 0.1
