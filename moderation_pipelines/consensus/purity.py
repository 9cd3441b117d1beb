"""Gold purity: how many of the labels called violating are probably right."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl

from moderation_pipelines.consensus.labels import decided_by_authority
from moderation_pipelines.stats.arrays import FloatArray

_EXACT = 5000
_DIGITS = 6


@dataclass(frozen=True)
class Purity:
    """``n`` items called violating, ``n_authority`` of them by gold or adjudication, which count as right.

    ``expected_right``: how many are right by their posterior; ``low`` and ``high``: the middle 95 % of that number.
    Null with no item. Posteriors of models are overconfident where raters err together: read it beside the purity
    measured on gold, in ``consensus_methods``.
    """

    n: int
    n_authority: int
    expected_right: float | None
    low: int | None
    high: int | None

    def as_dict(self, measured: dict[str, Any] | None) -> dict[str, Any]:
        """For a manifest: shares beside counts, and the purity measured on gold, if any."""

        def share(count: float | None) -> float | None:
            return None if count is None else round(count / self.n, _DIGITS)

        return {
            "n_violating": self.n,
            "n_by_authority": self.n_authority,
            "expected_right": None if self.expected_right is None else round(self.expected_right, _DIGITS),
            "purity": share(self.expected_right),
            "ci_low": share(self.low),
            "ci_high": share(self.high),
            "measured_on_gold": measured,
        }


def label_purity(items: pl.DataFrame, violating: tuple[str, ...]) -> Purity:
    """Purity of a release's items. ``violating``: the policy's violating labels; a label is right to call an item
    violating if the truth is any of them."""
    called = items.filter("violating").with_columns(sure=decided_by_authority())
    if called.is_empty():
        return Purity(0, 0, None, None, None)
    p = np.where(called["sure"].to_numpy(), 1.0, violating_probability(called, violating))
    low, high = poisson_binomial_interval(p)
    return Purity(called.height, int(called["sure"].sum()), float(p.sum()), low, high)


def violating_probability(items: pl.DataFrame, violating: tuple[str, ...]) -> FloatArray:
    """Probability that each item violates, by its posterior; 0 or 1 by its label where it has no posterior."""
    mass = pl.col("posterior").list.eval(
        pl.when(pl.element().struct.field("label").is_in(list(violating)))
        .then(pl.element().struct.field("probability"))
        .otherwise(0.0)
    )
    found = items.select(
        p=pl.when(pl.col("posterior").is_not_null())
        .then(mass.list.sum())
        .otherwise(pl.col("violating").cast(pl.Float64))
    )["p"]
    return np.clip(found.to_numpy().astype(np.float64), 0.0, 1.0)


def poisson_binomial_interval(p: FloatArray, level: float = 0.95) -> tuple[int, int]:
    """The middle ``level`` of how many of independent events with chances ``p`` happen. Exact up to 5,000 unsure ones.

    Source: Hong (2013), Computational Statistics & Data Analysis 59, 41-51.
    """
    sure = int((p >= 1).sum())
    unsure = p[(p > 0) & (p < 1)]
    tail = (1 - level) / 2
    if len(unsure) > _EXACT:
        mean, sd = float(unsure.sum()), float(np.sqrt((unsure * (1 - unsure)).sum()))
        half = NormalDist().inv_cdf(1 - tail) * sd
        low, high = np.floor(mean - half), np.ceil(mean + half)
        return sure + max(0, int(low)), sure + min(len(unsure), int(high))
    mass = np.ones(1)
    for chance in unsure:
        grown = np.zeros(len(mass) + 1)
        grown[:-1] = mass * (1 - chance)
        grown[1:] += mass * chance
        mass = grown
    below = np.cumsum(mass)
    low = int(np.searchsorted(below, tail, side="left"))
    high = int(np.searchsorted(below, 1 - tail, side="left"))
    return sure + low, sure + min(high, len(unsure))


def measured_purity(methods: pl.LazyFrame, policy: str) -> dict[str, Any] | None:
    """The latest purity of the chosen method on gold, from ``consensus_methods``; None where it was never measured."""
    rows = (
        methods.filter((pl.col("policy") == policy) & pl.col("is_chosen") & (pl.col("n_called_violating") > 0))
        .sort("drop_date")
        .tail(1)
        .select("method", "purity", "purity_low", "purity_high", "n_called_violating", "drop_date")
        .collect()
        .to_dicts()
    )
    if not rows:
        return None
    rounded = {k: round(v, _DIGITS) if isinstance(v, float) else v for k, v in rows[0].items()}
    return {**rounded, "drop_date": str(rounded["drop_date"])}
