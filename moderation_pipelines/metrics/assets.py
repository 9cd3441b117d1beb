"""Metrics of the day."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from moderation_pipelines.auditing.results import write_audit
from moderation_pipelines.eval_sets.release import current_releases
from moderation_pipelines.judging.judge_runs import invalid_runs
from moderation_pipelines.metrics.daily import metrics_table
from moderation_pipelines.metrics.expectations import audit_metrics, metrics_expectations
from moderation_pipelines.metrics.pairs import comparisons_table
from moderation_pipelines.metrics.tables import COMPARISONS, METRICS
from moderation_pipelines.wiring.partitions import Days
from moderation_pipelines.wiring.pipeline import Pipeline, day_of
from moderation_pipelines.wiring.presentation import (
    check_results,
    check_specs,
    frame_metadata,
    table_asset,
    told_plainly,
)


def build(days: Days) -> list[dg.AssetsDefinition]:
    specs = check_specs("metrics", metrics_expectations())

    @dg.asset(**table_asset(METRICS, "metrics"), partitions_def=days.daily, deps=["eval_sets"], check_specs=specs)
    def metrics(
        context: dg.AssetExecutionContext,
        scores: pl.LazyFrame,
        judge_runs: pl.LazyFrame,
        pipeline: dg.ResourceParam[Pipeline],
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        home, day = pipeline.home, day_of(context.partition_key)
        with told_plainly():
            current = current_releases(home, pipeline.policies())
            invalid = invalid_runs(judge_runs.collect())
            frame = metrics_table(scores.collect(), current, day, pipeline.settings.bootstrap_replicates, invalid)
        results = audit_metrics(frame) if frame.height else []
        write_audit(home, "metrics", day, results)
        overall = frame.filter(pl.col("slice") == "all", pl.col("metric") == "f1", pl.col("value").is_not_null())
        shown = {
            f"F1 {s}, {j}": f"{v:.3f} ({low:.3f} to {high:.3f}), n {n:,}"
            for s, j, v, low, high, n in overall.select(
                "eval_set", "judge_id", "value", "ci_low", "ci_high", "n"
            ).iter_rows()
            if low is not None
        }
        if not frame.height:
            shown["note"] = "nothing was scored on this day"
        yield from check_results("metrics", specs, {str(day): results} if results else {})
        yield dg.MaterializeResult(
            value=frame,
            metadata=frame_metadata(METRICS, frame, pipeline.warehouse.file(METRICS, day), **shown),
        )

    @dg.asset(**table_asset(COMPARISONS, "metrics"), partitions_def=days.daily, deps=["eval_sets"])
    def comparisons(
        context: dg.AssetExecutionContext, scores: pl.LazyFrame, pipeline: dg.ResourceParam[Pipeline]
    ) -> dg.MaterializeResult[pl.DataFrame]:
        day = day_of(context.partition_key)
        with told_plainly():
            current = current_releases(pipeline.home, pipeline.policies())
            frame = comparisons_table(scores.collect(), current, day, pipeline.settings.bootstrap_replicates)
        found = frame.filter(pl.col("slice") == "all", pl.col("metric") == "f1", pl.col("ci_low").is_not_null())
        shown = {
            f"F1 {s}: {b} minus {a}": f"{d:+.3f} ({low:+.3f} to {high:+.3f}), n {n:,}"
            for s, a, b, d, low, high, n in found.select(
                "eval_set", "judge_a", "judge_b", "difference", "ci_low", "ci_high", "n"
            ).iter_rows()
        }
        if not frame.height:
            shown["note"] = "no two judges on one release on this day"
        return dg.MaterializeResult(
            value=frame, metadata=frame_metadata(COMPARISONS, frame, pipeline.warehouse.file(COMPARISONS, day), **shown)
        )

    return [metrics, comparisons]
