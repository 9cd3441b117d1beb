"""Metrics of the day, and judges against each other."""

from collections.abc import Iterator
from typing import Any

import polars as pl

from moderation_pipelines.auditing.results import write_audit
from moderation_pipelines.eval_sets.asked import releases_of
from moderation_pipelines.judging.judge_runs import invalid_runs
from moderation_pipelines.judging.tables import JUDGE_RUNS, SCORES
from moderation_pipelines.leakage.tables import LEAKAGE, SEEN_ITEMS
from moderation_pipelines.metrics.daily import metrics_table
from moderation_pipelines.metrics.expectations import audit_metrics, metrics_expectations
from moderation_pipelines.metrics.operating_points import operating_points_table
from moderation_pipelines.metrics.pairs import comparisons_table
from moderation_pipelines.metrics.tables import COMPARISONS, JUDGE_VALIDITY, METRICS, OPERATING_POINTS, UNLIKE
from moderation_pipelines.metrics.thresholds import MetricsThresholds
from moderation_pipelines.metrics.unlike import WORDS, Learners, leading, leading_items
from moderation_pipelines.metrics.validity import judge_validity_table
from moderation_pipelines.policies.policy import Costs, usable_policies
from moderation_pipelines.votes.tables import VOTES
from moderation_pipelines.wiring.day_run import DayRun, Span
from moderation_pipelines.wiring.partitions import Days
from moderation_pipelines.wiring.settings_file import load_thresholds
from moderation_pipelines.wiring.table_assets import (
    Checked,
    Made,
    expectation_checks,
    expectation_results,
    one,
    tables_asset,
)

_EXPECTED = expectation_checks(METRICS.name, metrics_expectations())


def build(days: Days) -> list[Any]:
    reads = dict.fromkeys((SCORES, LEAKAGE, SEEN_ITEMS), Span.DAY)
    after = ("eval_sets",)
    return [
        tables_asset(days, [METRICS], metrics, {**reads, JUDGE_RUNS: Span.DAY}, after=after, checks=_EXPECTED),
        tables_asset(days, [COMPARISONS], one(COMPARISONS, comparisons, _differences), reads, after=after),
        tables_asset(days, [OPERATING_POINTS], one(OPERATING_POINTS, operating_points), reads, after=after),
        tables_asset(
            days, [JUDGE_VALIDITY], one(JUDGE_VALIDITY, judge_validity, _validity), {**reads, VOTES: Span.WINDOW},
            after=after,
        ),
    ]  # fmt: skip


def metrics(run: DayRun) -> Iterator[Made | Checked]:
    """Every judge on every release the day was asked about."""
    releases = releases_of(run.home, run.warehouse, run.date)
    invalid = invalid_runs(run.read(JUDGE_RUNS).collect())
    frame = metrics_table(
        run.read(SCORES).collect(), releases, run.date, run.settings.bootstrap_replicates, invalid,
        bool(run.settings.weigh_missing), _costs(run), _learners(run),
    )  # fmt: skip
    results = audit_metrics(frame) if frame.height else []
    write_audit(run.pipeline.home, "metrics", run.date, results)
    overall = leading(frame).filter(pl.col("metric") == "f1", pl.col("value").is_not_null())
    shown = {
        f"F1 {s} {version}, {j}{_which(which)}": f"{v:.3f} ({low:.3f} to {high:.3f}), n {n:,}"
        for s, version, j, which, v, low, high, n in overall.select(
            "eval_set", "version", "judge_id", "slice", "value", "ci_low", "ci_high", "n"
        ).iter_rows()
        if low is not None
    }
    yield Made(METRICS, frame, shown if frame.height else {"note": "nothing was scored on this day"})
    yield from expectation_results(_EXPECTED, {str(run.date): results} if results else {})


def comparisons(run: DayRun) -> pl.DataFrame:
    """Every two judges on every release the day was asked about."""
    releases = releases_of(run.home, run.warehouse, run.date)
    scores, replicates = run.read(SCORES).collect(), run.settings.bootstrap_replicates
    return comparisons_table(scores, releases, run.date, replicates, _learners(run))


def operating_points(run: DayRun) -> pl.DataFrame:
    """Every judge with probabilities at every threshold, on every release the day was asked about."""
    releases = releases_of(run.home, run.warehouse, run.date)
    return operating_points_table(
        run.read(SCORES).collect(), releases, run.date, _costs(run), run.settings.bootstrap_replicates,
        learners=_learners(run),
    )  # fmt: skip


def judge_validity(run: DayRun) -> pl.DataFrame:
    """Whether each judge may replace a rater, on the items the day was asked about."""
    releases = releases_of(run.home, run.warehouse, run.date)
    margin = load_thresholds(run.home, "metrics", MetricsThresholds).replacement_margin
    policies = usable_policies(run.home)
    return judge_validity_table(
        run.read(SCORES).collect(), run.read(VOTES), releases, policies, run.date, margin, _learners(run)
    )


def _which(items: str) -> str:
    return f", {WORDS}" if items == UNLIKE else ""


def _learners(run: DayRun) -> Learners:
    return Learners(run.read(LEAKAGE).collect(), run.read(SEEN_ITEMS).collect())


def _costs(run: DayRun) -> dict[str, Costs]:
    return {p.id: p.kpis.costs for p in usable_policies(run.home) if p.kpis.costs is not None}


def _validity(frame: pl.DataFrame) -> dict[str, Any]:
    tested = leading_items(frame).filter(pl.col("locale").is_null() & pl.col("winning_rate").is_not_null())
    found = {
        f"{judge} on {policy}{_which(items)}": f"within the margin of {won} of {n} raters"
        for judge, policy, items, won, n in
        tested.select("judge_id", "policy", "items", "n_won", "n_raters").iter_rows()
    }  # fmt: skip
    return found or {"note": "no judge could be tested: too few named raters with votes on the same items"}


def _differences(frame: pl.DataFrame) -> dict[str, Any]:
    if not frame.height:
        return {"note": "no two judges on one release on this day"}
    found = leading(frame).filter(pl.col("metric") == "f1", pl.col("ci_low").is_not_null())
    return {
        f"F1 {s}: {b} minus {a}{_which(which)}": f"{d:+.3f} ({low:+.3f} to {high:+.3f}), n {n:,}"
        for s, a, b, which, d, low, high, n in found.select(
            "eval_set", "judge_a", "judge_b", "slice", "difference", "ci_low", "ci_high", "n"
        ).iter_rows()
    }
