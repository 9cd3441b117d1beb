"""What a judge's probability would flag at every threshold: rates, flags and costs with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl

from moderation_pipelines.eval_sets.release import Release
from moderation_pipelines.metrics.classification import confusion_sums
from moderation_pipelines.metrics.clustered import of_labels, widened_as
from moderation_pipelines.metrics.costs import EXPECTED_COST, cost_per_item
from moderation_pipelines.metrics.daily import ScoredSlice, scored_slices
from moderation_pipelines.metrics.metric import METRIC_KINDS, denominator, of_sums
from moderation_pipelines.metrics.scored import Scored
from moderation_pipelines.metrics.slice import drawn_sums, estimated
from moderation_pipelines.metrics.tables import OPERATING_POINTS, UNLIKE
from moderation_pipelines.metrics.unlike import Learners
from moderation_pipelines.policies.policy import Costs
from moderation_pipelines.stats.clusters import MIN_CLUSTERS
from moderation_pipelines.stats.intervals import (
    UNDEFINED,
    Interval,
    around,
    percentile_interval,
    weights_differ,
)

THRESHOLDS = tuple(round(k / 20, 2) for k in range(1, 20))
RATES = ("precision", "recall", "fpr", "flag_rate")
MEASURES = (*RATES, EXPECTED_COST)


def operating_points_table(
    scores: pl.DataFrame,
    releases: Sequence[Release],
    day: date,
    costs: Mapping[str, Costs],
    replicates: int = 1000,
    thresholds: Sequence[float] = THRESHOLDS,
    learners: Learners | None = None,
) -> pl.DataFrame:
    """The ``operating_points`` rows of ``day``: every judge that gives probabilities, on every release, over all items
    and by locale, at every threshold.

    An item is flagged from the threshold on. Values are weighted to the sampling frame; where weights are equal rates
    have Wilson intervals, else those of Beta draws, as in ``metrics``. Which threshold is best must not be read off the
    same items it is then measured on: choose on one release, measure on another. Of judges that learnt something also
    over the items unlike anything they learnt, null with the reason where fewer than 30 are left.
    """
    rows = []
    for release in releases:
        for part in scored_slices(scores, release, ("locale",), learners):
            asked = ~np.isnan(part.scored.p)
            if not asked.any() and not (part.is_unlike and _gives_p(scores, part)):
                continue
            why_null = part.why_null or (None if asked.any() else "no item has a probability")
            where = {"eval_set": release.name, "version": release.version, "policy": release.policy,
                     "judge_id": part.judge_id, "locale": part.value if part.slicing == "locale" else None,
                     "items": UNLIKE if part.is_unlike else "all", "note": why_null}  # fmt: skip
            if why_null is not None:
                rows += [where | _nothing(part.scored, asked, t) for t in thresholds]
                continue
            rows += [
                where | point
                for point in _points(part.scored, asked, thresholds, costs.get(release.policy), replicates, part.seed)
            ]
    table = pl.LazyFrame(rows, schema={k: v for k, v in OPERATING_POINTS.schema.items() if k != "drop_date"})
    return OPERATING_POINTS.picked(table.with_columns(drop_date=pl.lit(day))).collect()


def _gives_p(scores: pl.DataFrame, part: ScoredSlice) -> bool:
    return bool(scores.filter(pl.col("judge_id") == part.judge_id)["p_violating"].is_not_null().any())


def _nothing(scored: Scored, asked: np.ndarray, threshold: float) -> dict[str, object]:
    """A threshold without values: too few items are left."""
    mine = scored.where(asked)
    counts = {"n": len(mine.truth), "n_positive": int(mine.truth.sum()), "n_flagged": int((mine.p >= threshold).sum())}
    undefined = {f"{name}{end}": None for name in MEASURES for end in ("", "_low", "_high")}
    return {"threshold": threshold, **counts, "n_missing": int((~asked).sum()), **undefined}


def _points(
    scored: Scored, asked: np.ndarray, thresholds: Sequence[float], costs: Costs | None, replicates: int, seed: int
) -> Iterator[dict[str, object]]:
    mine = scored.where(asked)
    missing = 1 - float(mine.weight.sum() / scored.weight.sum())
    n_positive = int(mine.truth.sum())
    for threshold in thresholds:
        at = replace(mine, flagged=(mine.p >= threshold).astype(np.float64))
        found = {name: (value, interval) for name, value, interval in _measured(at, costs, missing, replicates, seed)}
        row: dict[str, object] = {
            "threshold": threshold, "n": len(mine.truth), "n_positive": n_positive, "n_flagged": int(at.flagged.sum()),
            "n_missing": int((~asked).sum()),
        }  # fmt: skip
        for name in MEASURES:
            value, interval = found.get(name, (None, UNDEFINED))
            row |= {name: value, f"{name}_low": interval.low, f"{name}_high": interval.high}
        yield row


def _measured(
    at: Scored, costs: Costs | None, missing: float, replicates: int, seed: int
) -> Iterator[tuple[str, float, Interval]]:
    sums = confusion_sums(at.weight[None, :], at.truth, at.flagged)
    points = of_sums(sums)
    by_draws = weights_differ(at.weight)
    drawn = drawn_sums(at, replicates, seed) if by_draws or costs is not None else {}
    draws = of_sums(drawn) if by_draws else {}
    for name in RATES:
        value, metric = float(points[name][0]), METRIC_KINDS[name]
        if not np.isnan(value):
            part = at.where(denominator(metric, at.judged))
            yield (
                name,
                value,
                _clustered(name, value, around(value, estimated(metric, value, part, draws).interval), at),
            )
    if costs is not None:
        value = float(cost_per_item(sums, costs, missing)[0])
        if 0 < at.truth.sum() < len(at.truth):
            found = around(value, percentile_interval(cost_per_item(drawn, costs, missing)))
            yield EXPECTED_COST, value, _clustered(EXPECTED_COST, value, found, at, costs)
        else:
            yield EXPECTED_COST, value, UNDEFINED


def _clustered(name: str, value: float, interval: Interval, at: Scored, costs: Costs | None = None) -> Interval:
    if at.cluster is None:
        return interval
    effect = of_labels(name, at, costs)
    return UNDEFINED if effect.n_clusters < MIN_CLUSTERS else widened_as(name, value, interval, effect)
