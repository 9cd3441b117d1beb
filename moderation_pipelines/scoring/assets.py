"""Scores of the day."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import polars as pl

from moderation_pipelines.orchestration.assets_common import (
    check_results,
    check_specs,
    frame_metadata,
    table_spec,
    told_plainly,
)
from moderation_pipelines.orchestration.partitions import Days
from moderation_pipelines.orchestration.pipeline import Pipeline, day_of
from moderation_pipelines.scoring.judge_runs import judge_runs_table
from moderation_pipelines.scoring.ledger import open_ledger
from moderation_pipelines.scoring.scores import day_tasks, score_day
from moderation_pipelines.tables.schema import JUDGE_RUNS, SCORES
from moderation_pipelines.validation.expectations import scores_expectations
from moderation_pipelines.validation.suites import audit_scores, write_audit

ASKED = "every_judge_could_be_asked"
ENOUGH = "every_judge_answered_enough"
FILTERED = "content_filters_block_little"
MOST_FILTERED = 0.05


def build(days: Days) -> list[dg.AssetsDefinition]:
    audited = check_specs("scores", scores_expectations([], 0))
    asked = dg.AssetCheckSpec(ASKED, asset="scores", description="Every call a judge made was answered.")
    enough = dg.AssetCheckSpec(
        ENOUGH, asset="judge_runs", description="No judge has more items without a verdict than its max_missing."
    )
    filtered = dg.AssetCheckSpec(
        FILTERED, asset="judge_runs", description="No judge's content filter surely blocks more than 5 % of the items."
    )
    upstream = [
        *(dg.AssetDep(n, partition_mapping=days.history) for n in ("consensus", "content")), "eval_sets", "prompts",
    ]  # fmt: skip

    @dg.multi_asset(
        name="scoring",
        specs=[
            table_spec(SCORES, "scoring", kinds={"openai", "polars", "parquet"}, deps=upstream),
            table_spec(JUDGE_RUNS, "scoring", deps=upstream),
        ],
        partitions_def=days.daily,
        check_specs=[*audited, asked, enough, filtered],
        pool=days.pool,
    )
    def scoring(
        context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        home, day, warehouse = pipeline.home, day_of(context.partition_key), pipeline.warehouse
        with told_plainly(), open_ledger(home.ledger) as ledger:
            tasks, notes = day_tasks(home, pipeline.policies(), warehouse)
            done = score_day(tasks, ledger, day, pipeline.tell, pipeline.retry_errors)
            runs = judge_runs_table(done.tasks, done.scores, ledger, day)
        results = (
            audit_scores(done.scores, sorted({t.judge_id for t in tasks}), sum(t.rows for t in tasks)) if tasks else []
        )
        write_audit(home, "scores", day, results)
        outcomes = {f"outcome {o}": n for o, n in done.scores.group_by("outcome").len().sort("outcome").iter_rows()}
        cost = done.scores["cost_usd"].sum() if done.scores["cost_usd"].count() else None
        more: dict[str, Any] = {
            "new answers": done.answered,
            **outcomes,
            **({} if cost is None else {"cost in USD": float(cost)}),
        }
        if notes or not tasks:
            more["note"] = "; ".join(notes) or "no release to score yet"
        yield from check_results("scores", audited, {str(day): results} if results else {})
        yield dg.AssetCheckResult(
            asset_key="scores",
            check_name=ASKED,
            passed=not done.unanswered,
            description="; ".join(done.unanswered) or None,
        )
        yield from _judged(runs)
        frames: tuple[Any, ...] = ((SCORES, done.scores, more), (JUDGE_RUNS, runs, {}))
        for table, frame, shown in frames:
            warehouse.write(table, frame, day)
            metadata = frame_metadata(frame, warehouse.file(table, day), **shown)
            yield dg.MaterializeResult(asset_key=table.name, metadata=metadata)

    return [scoring]


def _judged(runs: pl.DataFrame) -> Iterator[dg.AssetCheckResult]:
    """Whether every run's metrics count, and whether a content filter takes the worst posts out."""
    invalid = runs.filter(~pl.col("is_valid"))
    told = [f"{j} on {e}: {n}" for j, e, n in invalid.select("judge_id", "eval_set", "note").iter_rows()]
    yield dg.AssetCheckResult(
        asset_key="judge_runs", check_name=ENOUGH, passed=invalid.is_empty(), description="; ".join(told) or None
    )
    much = runs.filter(pl.col("filter_low") > MOST_FILTERED)
    shares = [f"{j} on {e}: {s:.1%}" for j, e, s in much.select("judge_id", "eval_set", "filter_share").iter_rows()]
    yield dg.AssetCheckResult(
        asset_key="judge_runs",
        check_name=FILTERED,
        passed=much.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(shares) or None,
    )
