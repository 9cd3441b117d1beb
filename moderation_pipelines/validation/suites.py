"""The suites, on the frames they judge."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from moderation_pipelines.consensus.labels import decided_by_authority
from moderation_pipelines.home import Home
from moderation_pipelines.ingest.text import sides
from moderation_pipelines.tables.schema import VALIDATIONS
from moderation_pipelines.tables.warehouse import write_text
from moderation_pipelines.validation.expectations import (
    RELEASE_COLUMNS,
    metrics_expectations,
    release_expectations,
    scores_expectations,
)
from moderation_pipelines.validation.gx import run_expectations

if TYPE_CHECKING:
    from moderation_pipelines.eval_sets.release import Candidate

_DERIVED = (
    "side", "context_or_none", "violating_by_policy", "posterior_sum", "support", "weight_times_inclusion",
    "violating_count",
)  # fmt: skip


# Ids, severities and reasons of the release suite; the numbers in it come with a candidate.
RELEASE_EXPECTATIONS = release_expectations(("-",), "-", 1, 1, (), ())


def release_frame(candidate: Candidate, eval_share: float) -> pl.DataFrame:
    """A candidate's rows with the derived columns the suite looks at."""
    items = candidate.items
    flags = {label.id: label.violating for label in candidate.policy.labels}
    return items.with_columns(
        side=sides(items["text_sha256"], eval_share),
        context_or_none=pl.col("context").fill_null(""),
        violating_by_policy=pl.col("label").replace_strict(flags, default=None, return_dtype=pl.Boolean),
        posterior_sum=pl.col("posterior").list.eval(pl.element().struct.field("probability")).list.sum(),
        support=pl.col("n_votes") + decided_by_authority().cast(pl.Int64),
        weight_times_inclusion=pl.col("weight") * pl.col("inclusion_probability"),
        violating_count=pl.col("violating").cast(pl.Int64),
    ).drop("posterior")


def audit_release(candidate: Candidate, example_hashes: Collection[str], eval_share: float) -> list[dict[str, Any]]:
    """The audit of a candidate: one result per expectation."""
    columns = [*(c for c in RELEASE_COLUMNS if c != "posterior"), *_DERIVED]
    suite = release_expectations(
        candidate.policy.label_ids,
        candidate.policy.id,
        candidate.spec.size,
        candidate.frame.items.height,
        example_hashes,
        columns,
    )
    return run_expectations(release_frame(candidate, eval_share), suite, "item_id", "release")


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
        explained=value.is_not_null() | pl.col("note").is_not_null(),
        number=named,
    )  # fmt: skip
    return run_expectations(frame, metrics_expectations(), "number", "metrics")


def validation_rows(suite: str, subject: str, results: Iterable[dict[str, Any]], day: date) -> pl.DataFrame:
    """Results as rows of the ``validations`` table."""
    rows = [
        {
            "suite": suite,
            "subject": subject,
            "expectation": r["id"],
            **{k: r[k] for k in ("severity", "passed", "n", "n_unexpected", "examples", "observed", "why")},
            "drop_date": day,
        }
        for r in results
    ]
    return pl.DataFrame(rows, schema=VALIDATIONS.schema)


def _audit_file(home: Home, suite: str, day: date) -> Path:
    return home.warehouse / "_audits" / str(day) / f"{suite}.json"


def write_audit(home: Home, suite: str, day: date, results: Sequence[dict[str, Any]]) -> None:
    """Keep a day's results of a suite, for the ``validations`` table."""
    write_text(_audit_file(home, suite, day), json.dumps(list(results), ensure_ascii=False, indent=1) + "\n")


def read_audit(home: Home, suite: str, day: date) -> list[dict[str, Any]]:
    """A day's results of a suite; none if it was not run on that day."""
    file = _audit_file(home, suite, day)
    if not file.is_file():
        return []
    value = json.loads(file.read_bytes())
    assert isinstance(value, list)
    return value
