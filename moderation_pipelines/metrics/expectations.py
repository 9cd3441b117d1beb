"""What a day's metrics must be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from moderation_pipelines.auditing.expectation import Expectation, expectation
from moderation_pipelines.auditing.gx import run_expectations
from moderation_pipelines.metrics.costs import EXPECTED_COST

if TYPE_CHECKING:
    pass


def metrics_expectations() -> list[Expectation]:
    """The suite of a day's metrics."""
    null, between = "expect_column_values_to_not_be_null", "expect_column_values_to_be_between"
    return [
        expectation("has_metrics", "critical", "expect_table_row_count_to_be_between", "no metrics is no report", min_value=1),
        expectation("metric_key_unique", "critical", "expect_compound_columns_to_be_unique", "two values for one number is none",
            column_list=["eval_set", "version", "judge_id", "slice", "slice_text", "metric"]),
        expectation("metric_value_range", "critical", between, "these metrics lie in -1 to 1", column="bounded_value", min_value=-1, max_value=1),
        expectation("metric_n_present", "critical", null, "never a number without its n", column="n"),
        expectation("metric_interval_ordered", "critical", "expect_column_values_to_be_in_set",
            "an interval holds its value", column="interval_holds_value", value_set=[True]),
        expectation("undefined_explained", "critical", "expect_column_values_to_be_in_set",
            "undefined is null with a note, never 0", column="explained", value_set=[True]),
        expectation("metric_missing_not_negative", "critical", between, "missing outcomes are counted", column="n_missing", min_value=0),
        expectation("worst_case_ordered", "critical", "expect_column_values_to_be_in_set",
            "bounds hold the value", column="bounds_hold_value", value_set=[True]),
    ]  # fmt: skip


def audit_metrics(metrics: pl.DataFrame) -> list[dict[str, Any]]:
    """The audit of a day's metrics."""
    value, tolerance = pl.col("value"), 1e-9

    def holds(low: str, high: str) -> pl.Expr:
        inside = (pl.col(low) <= value + tolerance) & (value <= pl.col(high) + tolerance)
        return inside.fill_null(True)

    named = pl.format("{} {} {} {} {}", "judge_id", "eval_set", "slice", pl.col("slice_value").fill_null("-"), "metric")
    frame = metrics.select(
        "eval_set", "version", "judge_id", "slice", "metric", "value", "n", "n_missing",
        slice_text=pl.col("slice_value").fill_null("-"),
        interval_holds_value=holds("ci_low", "ci_high"),
        bounds_hold_value=holds("worst_low", "worst_high"),
        bounded_value=pl.when(pl.col("metric") != EXPECTED_COST).then(value),
        explained=value.is_not_null() | pl.col("note").is_not_null(),
        number=named,
    )  # fmt: skip
    return run_expectations(frame, metrics_expectations(), "number", "metrics")
