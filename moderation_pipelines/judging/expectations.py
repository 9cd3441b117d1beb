"""What a day's scores must be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from moderation_pipelines.auditing.expectation import Expectation, expectation
from moderation_pipelines.auditing.gx import run_expectations
from moderation_pipelines.judging.requests.outcomes import OUTCOMES

if TYPE_CHECKING:
    pass


def scores_expectations(judges: Sequence[str], expected_rows: int) -> list[Expectation]:
    """The suite of a day's scores."""
    null, in_set, between = (
        "expect_column_values_to_not_be_null",
        "expect_column_values_to_be_in_set",
        "expect_column_values_to_be_between",
    )
    return [
        expectation("every_item_scored_once", "critical", "expect_table_row_count_to_equal",
            "a missing row is a silent denominator", value=expected_rows),
        expectation("decision_id_unique", "critical", "expect_column_values_to_be_unique",
            "decisions are traced by id", column="decision_id"),
        expectation("judge_known", "critical", in_set, "scores belong to a configured judge", column="judge_id", value_set=list(judges)),
        expectation("outcome_known", "critical", in_set, "outcomes are a closed list", column="outcome", value_set=list(OUTCOMES)),
        expectation("label_only_with_verdict", "critical", in_set,
            "an error is never a label", column="label_fits_outcome", value_set=[True]),
        expectation("p_violating_range", "critical", between, "a probability lies in 0 to 1", column="p_violating", min_value=0, max_value=1),
        expectation("request_key_present", "critical", null, "without it an answer cannot be replayed", column="request_key"),
        expectation("cost_not_negative", "critical", between, "money is spent, not earned", column="cost_usd", min_value=0),
        expectation("no_transport_errors", "warning", in_set,
            "failed calls can be asked again: run once more", column="is_transport_error", value_set=[False]),
        expectation("mostly_verdicts", "critical", "expect_column_mean_to_be_between",
            "with more than 20 % of verdicts missing the metrics say little", column="is_verdict", min_value=0.8),
    ]  # fmt: skip


def audit_scores(scores: pl.DataFrame, judges: Sequence[str], expected_rows: int) -> list[dict[str, Any]]:
    """The audit of a day's scores."""
    is_verdict = pl.col("outcome") == "verdict"
    waits = (pl.col("kind") == "batch_pending").fill_null(False)
    frame = scores.select(
        "decision_id", "judge_id", "outcome", "p_violating", "request_key", "cost_usd",
        label_fits_outcome=pl.col("label").is_not_null() == is_verdict,
        is_transport_error=pl.col("outcome").is_in(["timeout", "api_error"]) & ~waits,
        is_verdict=pl.when(~waits).then(is_verdict.cast(pl.Int64)),
    )  # fmt: skip
    return run_expectations(frame, scores_expectations(judges, expected_rows), "decision_id", "scores")
