"""Paired differences of two judges on weighted sets: coverage, false alarms, power, and how often there is no answer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from moderation_pipelines.metrics.paired import Difference, paired_differences
from moderation_pipelines.stats.paired import mcnemar_exact
from moderation_pipelines_tests.simulations.page import Cell, over_grid, publish, repetitions, slack

pytestmark = pytest.mark.simulation
FULL = 1000
DRAWS = 400
METRICS = ("precision", "recall", "f1", "accuracy")
# Share of hard items; chance to be right on easy and hard ones: of the first judge, and how much better the second is.
HARD = 0.3
EFFECTS = {"none": 0.0, "small": 0.05, "middle": 0.1, "large": 0.2}
Sample = tuple[np.ndarray, np.ndarray]


def equal(rng: np.random.Generator, n: int) -> Sample:
    return (rng.random(n) < 0.2).astype(np.float64), np.ones(n)


def by_label(rng: np.random.Generator, n: int) -> Sample:
    """Half violating, half fine, from a frame in which 2 % violate."""
    truth = np.repeat([1.0, 0.0], [n // 2, n - n // 2])
    return truth, np.where(truth == 1, 0.02 / (n // 2), 0.98 / (n - n // 2)) * 1e5


def by_locale_and_label(rng: np.random.Generator, n: int) -> Sample:
    """Four locales of very different size, each half and half, 10 % violating: eight weights."""
    truth, locale = np.arange(n) % 2 * 1.0, np.arange(n) // 2 % 4
    size = np.array([0.7, 0.2, 0.08, 0.02])[locale]
    return truth, size * np.where(truth == 1, 0.1, 0.9) * 1e5


def by_size(rng: np.random.Generator, n: int) -> Sample:
    """Drawn with a probability of its own per item: weights all differ."""
    return (rng.random(n) < 0.2).astype(np.float64), rng.lognormal(0.0, 0.7, n)


DESIGNS: dict[str, Callable[[np.random.Generator, int], Sample]] = {
    "equal": equal, "by_label": by_label, "by_locale_and_label": by_locale_and_label, "by_size": by_size,
}  # fmt: skip


def verdicts(rng: np.random.Generator, truth: np.ndarray, better: float) -> Sample:
    hard = rng.random(len(truth)) < HARD
    out = []
    for more in (0.0, better):
        right = rng.random(len(truth)) < np.where(hard, 0.7 + more, 0.95 + more / 5)
        out.append(np.where(right, truth, 1 - truth))
    return out[0], out[1]


def balanced(rng: np.random.Generator, truth: np.ndarray, weight: np.ndarray) -> Sample:
    """The second finds .3 more of the violating items and flags so many more fine ones that accuracy stays the same."""
    share = float(weight @ truth / weight.sum())
    right = np.where(truth == 1, 0.6, 0.95), np.where(truth == 1, 0.9, 0.95 - 0.3 * share / (1 - share))
    first, second = (np.where(rng.random(len(truth)) < chance, truth, 1 - truth) for chance in right)
    return first, second


def one_cell(cell: Cell) -> dict[str, float]:
    design, effect, n, times = cell
    rng = np.random.default_rng([len(design), n, len(effect), 3])
    truth, weight = DESIGNS[design](rng, 1_000_000)

    def asked(truth: np.ndarray, weight: np.ndarray) -> Sample:
        return balanced(rng, truth, weight) if effect == "balanced" else verdicts(rng, truth, EFFECTS[effect])

    wide = paired_differences(truth, *asked(truth, weight), weight, 2, 1)
    true = {m: 0.0 if effect == "none" else wide[m].difference for m in METRICS}
    if effect == "balanced":
        true["accuracy"] = 0.0
    held: dict[str, list[bool]] = {m: [] for m in METRICS}
    rejected: dict[str, list[bool]] = {m: [] for m in METRICS}
    missing, old = 0, []
    for k in range(times):
        truth, weight = DESIGNS[design](rng, n)
        first, second = asked(truth, weight)
        found: dict[str, Difference] = paired_differences(truth, first, second, weight, DRAWS, k)
        old.append((mcnemar_exact((first == truth) * 1.0, (second == truth) * 1.0).p_value or 1.0) < 0.05)
        for m in METRICS:
            d = found[m]
            if d.interval.low is None or d.interval.high is None or d.p_value is None:
                missing += 1
                continue
            held[m].append(d.interval.low <= true[m] <= d.interval.high)
            rejected[m].append(d.p_value < 0.05)
    coverage = {m: float(np.mean(held[m])) for m in METRICS}
    alarms = {f"p_{m}": float(np.mean(rejected[m])) for m in METRICS}
    return {**coverage, **alarms, "mcnemar": float(np.mean(old)), "undecided": missing / times / len(METRICS)}


def test_paired_differences_hold_under_every_design() -> None:
    n = repetitions(FULL)
    cells = [(d, e, k, n) for d in DESIGNS for k in (200, 600) for e in (*EFFECTS, "balanced")]
    found = over_grid(one_cell, cells)
    table = pl.DataFrame(
        [{"design": c[0], "n": c[2], "effect": c[1], **row} for c, row in zip(cells, found, strict=True)]
    )
    publish("paired", table, ("design", "n", "effect"))
    for m in METRICS:
        assert 0.93 - slack(0.95, n) <= table[m].mean() <= 0.98 + slack(0.95, n), m
        bad = table.filter(~pl.col(m).is_between(0.89 - slack(0.95, n), 0.99 + slack(0.95, n)))
        assert bad.is_empty(), (m, bad.select("design", "n", "effect", m).to_dicts())
        alarms = table.filter((pl.col("effect") == "none") & (pl.col(f"p_{m}") > 0.08 + slack(0.05, n)))
        assert alarms.is_empty(), (m, alarms.select("design", "n", f"p_{m}").to_dicts())
    level = table.filter((pl.col("effect") == "balanced") & (pl.col("design") == "by_label"))
    assert (level["p_accuracy"] < 0.08 + slack(0.05, n)).all(), level.to_dicts()
    assert level["mcnemar"].min() > 0.8
    # A test that never decides is none: a large difference is seen.
    large = table.filter((pl.col("effect") == "large") & (pl.col("n") == 600))
    assert (large["p_accuracy"] > 0.7 - slack(0.7, n)).all(), large.to_dicts()
    assert table["undecided"].max() < 0.01
