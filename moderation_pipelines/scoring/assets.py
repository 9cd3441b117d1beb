"""Scores of the day."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from moderation_pipelines.eval_sets.release import current_releases
from moderation_pipelines.orchestration.assets_common import (
    check_results,
    check_specs,
    frame_metadata,
    table_asset,
    told_plainly,
)
from moderation_pipelines.orchestration.partitions import Days
from moderation_pipelines.orchestration.pipeline import Pipeline, day_of
from moderation_pipelines.scoring.judges import load_judges
from moderation_pipelines.scoring.ledger import Ledger
from moderation_pipelines.scoring.scores import score_day, scoring_tasks
from moderation_pipelines.tables.schema import SCORES
from moderation_pipelines.validation.expectations import scores_expectations
from moderation_pipelines.validation.suites import audit_scores, write_audit

ASKED = "every_judge_could_be_asked"


def build(days: Days) -> list[dg.AssetsDefinition]:
    audited = check_specs("scores", scores_expectations([], 0))
    asked = dg.AssetCheckSpec(ASKED, asset="scores", description="Every call a judge made was answered.")

    @dg.asset(
        **table_asset(SCORES, "scoring", kinds={"openai", "polars", "parquet"}),
        partitions_def=days.daily,
        ins={n: dg.AssetIn(partition_mapping=days.history) for n in ("consensus", "content")},
        deps=["eval_sets", "prompts"],
        check_specs=[*audited, asked],
    )
    def scores(
        context: dg.AssetExecutionContext,
        consensus: pl.LazyFrame,
        content: pl.LazyFrame,
        pipeline: dg.ResourceParam[Pipeline],
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        home, day = pipeline.home, day_of(context.partition_key)
        with told_plainly(), Ledger(home.ledger) as ledger:
            policies = pipeline.policies()
            current = current_releases(home, policies)
            tasks, notes = scoring_tasks(home, policies, load_judges(home, policies), current, consensus, content)
            done = score_day(tasks, ledger, day, pipeline.tell)
        results = (
            audit_scores(done.scores, sorted({t.judge_id for t in tasks}), sum(t.rows for t in tasks)) if tasks else []
        )
        write_audit(home, "scores", day, results)
        outcomes = {f"outcome {o}": n for o, n in done.scores.group_by("outcome").len().sort("outcome").iter_rows()}
        cost = done.scores["cost_usd"].sum() if done.scores["cost_usd"].count() else None
        more = {
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
        yield dg.MaterializeResult(
            value=done.scores,
            metadata=frame_metadata(done.scores, pipeline.warehouse.file(SCORES, day), **more),
        )

    return [scores]
