"""What became of each judge's run on each release, what it cost, and whether its metrics count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from moderation_pipelines.judging.ledger.ledger import Ledger
from moderation_pipelines.judging.money import usd
from moderation_pipelines.judging.requests.outcomes import OUTCOMES
from moderation_pipelines.judging.scores import ScoringTask
from moderation_pipelines.judging.tables import JUDGE_RUNS
from moderation_pipelines.stats.intervals import wilson_interval


def judge_runs_table(tasks: Sequence[ScoringTask], scores: pl.DataFrame, ledger: Ledger, day: date) -> pl.DataFrame:
    """One row per task, from its score rows and the ledger's spending of the day."""
    rows = []
    for task in tasks:
        mine = scores.filter(
            pl.col("judge_id") == task.judge_id,
            pl.col("eval_set") == task.release.name,
            pl.col("version") == task.release.version,
        )
        counts = dict(mine.group_by("outcome").len().iter_rows())
        n, n_missing = mine.height, mine.height - counts.get("verdict", 0)
        missing, blocked = wilson_interval(n_missing, n), wilson_interval(counts.get("content_filter", 0), n)
        n_pending = mine.filter(pl.col("kind") == "batch_pending").height
        limit = task.judge.max_missing
        spend = ledger.spend(day.isoformat(), task.judge_id)
        priced = task.price(day) is not None
        latency = mine.filter(pl.col("latency_ms").is_not_null())["latency_ms"].to_numpy()
        p50, p95 = np.percentile(latency, [50, 95]) if len(latency) else (None, None)
        rows.append(
            {
                "judge_id": task.judge_id,
                "policy": task.policy.id,
                "eval_set": task.release.name,
                "version": task.release.version,
                "provider": task.kind.provider(task),
                "endpoint": task.kind.place(task),
                "model": task.judge.model,
                "parameters": task.parameters(),
                "n_items": n,
                **{f"n_{o}": counts.get(o, 0) for o in OUTCOMES},
                "n_pending": n_pending,
                "missing_share": n_missing / n if n else None,
                "missing_low": missing.low,
                "missing_high": missing.high,
                "filter_share": counts.get("content_filter", 0) / n if n else None,
                "filter_low": blocked.low,
                "filter_high": blocked.high,
                "max_missing": limit,
                "is_valid": n_missing <= limit * n,
                "note": why_invalid(n_missing, n, limit, n_pending),
                "attempts": int(mine["attempts"].sum()),
                **{c: _total(mine, c) for c in ("input_tokens", "cached_tokens", "output_tokens", "cost_usd")},
                "day_spent_usd": usd(spend.spent) if priced else None,
                "day_maybe_usd": usd(spend.maybe) if priced else None,
                "latency_p50_ms": p50,
                "latency_p95_ms": p95,
                "n_latency": len(latency),
                "drop_date": day,
            }
        )
    return pl.DataFrame(rows, schema=JUDGE_RUNS.schema)


def _total(frame: pl.DataFrame, column: str) -> Any:
    """The sum of what is known; None when nothing is."""
    return frame[column].sum() if frame[column].count() else None


def why_invalid(n_missing: int, n: int, limit: float, n_pending: int = 0) -> str | None:
    """Why the metrics of a run do not count, or None if they do."""
    if n_missing <= limit * n:
        return None
    if n_missing - n_pending <= limit * n:
        return f"not valid yet: {n_pending:,} of {n:,} items wait for a batch"
    return f"not valid: {n_missing:,} of {n:,} items have no verdict, more than the {limit:.0%} allowed (max_missing)"


def answered_badly(runs: pl.DataFrame) -> pl.DataFrame:
    """Runs with more items without a verdict than allowed. What waits for a batch is no failure: the metrics are null
    until it is back, the run is fine."""
    unanswered = pl.col("n_items") - pl.col("n_verdict") - pl.col("n_pending")
    return runs.filter(unanswered > pl.col("max_missing") * pl.col("n_items"))


def filtered_much(runs: pl.DataFrame, limit: float) -> pl.DataFrame:
    """Runs of which a content filter surely blocked a larger share of the items than ``limit``."""
    return runs.filter(pl.col("filter_low") > limit)


def invalid_runs(runs: pl.DataFrame) -> Mapping[tuple[str, str, str], str]:
    """(judge, eval set, version) of every run whose metrics do not count, with the reason."""
    columns = ("judge_id", "eval_set", "version", "note")
    return {(j, e, v): note for j, e, v, note in runs.filter(~pl.col("is_valid")).select(columns).iter_rows()}
