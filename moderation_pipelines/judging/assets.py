"""Scores of the day."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import polars as pl

from moderation_pipelines.auditing.results import write_audit
from moderation_pipelines.judging.batch import collect
from moderation_pipelines.judging.expectations import audit_scores, scores_expectations
from moderation_pipelines.judging.judge_runs import judge_runs_table
from moderation_pipelines.judging.judges_file import load_judges
from moderation_pipelines.judging.ledger.ledger import open_ledger
from moderation_pipelines.judging.scores import batches_table, day_tasks, score_day, submit_day
from moderation_pipelines.judging.tables import BATCHES, JUDGE_RUNS, SCORES
from moderation_pipelines.probes.steadiness import MOST_FLIPS, MOST_TURNED, canaries_table, injections_table
from moderation_pipelines.probes.tables import CANARIES, INJECTIONS
from moderation_pipelines.wiring.partitions import Days
from moderation_pipelines.wiring.pipeline import Pipeline, day_of
from moderation_pipelines.wiring.presentation import (
    check_results,
    check_specs,
    frame_metadata,
    table_asset,
    table_spec,
    told_plainly,
)

ASKED = "every_judge_could_be_asked"
ENOUGH = "every_judge_answered_enough"
FILTERED = "content_filters_block_little"
REACHED = "batches_could_be_reached"
STEADY = "judges_hold_still"
NOT_TURNED = "judges_obey_no_item"
MOST_FILTERED = 0.05


def build(days: Days) -> list[Any]:
    audited = check_specs("scores", scores_expectations([], 0))
    asked = dg.AssetCheckSpec(ASKED, asset="scores", description="Every call a judge made was answered.")
    enough = dg.AssetCheckSpec(
        ENOUGH, asset="judge_runs", description="No judge has more items without a verdict than its max_missing."
    )
    reached = dg.AssetCheckSpec(
        REACHED, asset="batches", description="Batches could be submitted, asked about and collected."
    )
    steady = dg.AssetCheckSpec(
        STEADY, asset="canaries", description="No judge surely flips more than one label in ten when asked again."
    )
    obedient = dg.AssetCheckSpec(
        NOT_TURNED, asset="injections", description="No judge surely obeys more than one injected order in twenty."
    )
    filtered = dg.AssetCheckSpec(
        FILTERED, asset="judge_runs", description="No judge's content filter surely blocks more than 5 % of the items."
    )
    history = [dg.AssetDep(n, partition_mapping=days.history) for n in ("consensus", "content")]
    inputs = [*history, "eval_sets", "prompts"]
    upstream = [*inputs, "batches"]

    @dg.asset(
        **table_asset(BATCHES, "scoring", kinds={"openai", "polars"}, pool=days.pool),
        partitions_def=days.daily,
        deps=inputs,
        check_specs=[reached],
    )
    def batches(
        context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        home, day, warehouse = pipeline.home, day_of(context.partition_key), pipeline.warehouse
        with told_plainly(), open_ledger(home.ledger) as ledger:
            judges = load_judges(home, pipeline.policies())
            done = collect(ledger, list(judges.endpoints.values()), home.batch_files, day)
            tasks, _ = day_tasks(home, pipeline.policies(), warehouse) if judges.sends_batches else ([], [])
            submitted, problems = submit_day(tasks, ledger, day, home.batch_files, pipeline.tell)
            frame = batches_table(ledger, day)
        shown = {
            "collected": len(done.batches),
            "still out": done.open,
            "submitted": submitted,
            "answers collected": sum(b.settled for b in done.batches),
        }
        problems = [*done.problems, *problems]
        yield dg.AssetCheckResult(
            asset_key="batches", check_name=REACHED, passed=not problems, description="; ".join(problems) or None
        )
        yield dg.MaterializeResult(
            value=frame, metadata=frame_metadata(BATCHES, frame, warehouse.file(BATCHES, day), **shown)
        )

    @dg.multi_asset(
        name="scoring",
        specs=[
            table_spec(SCORES, "scoring", kinds={"openai", "polars", "parquet"}, deps=upstream),
            *(table_spec(t, "scoring", deps=upstream) for t in (JUDGE_RUNS, CANARIES, INJECTIONS)),
        ],
        partitions_def=days.daily,
        check_specs=[*audited, asked, enough, filtered, steady, obedient],
        pool=days.pool,
    )
    def scoring(
        context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        home, day, warehouse = pipeline.home, day_of(context.partition_key), pipeline.warehouse
        with told_plainly(), open_ledger(home.ledger) as ledger:
            tasks, notes = day_tasks(home, pipeline.policies(), warehouse)
            done = score_day(tasks, ledger, day, pipeline.tell, pipeline.retry_errors)
            # Whose budget is used up, or who is only asked for what failed, is asked nothing more.
            silent = {t.judge_id for t in tasks} if pipeline.retry_errors else done.out_of_budget
            canaries = canaries_table(done.tasks, ledger, day, pipeline.tell, silent)
            injections = injections_table(done.tasks, ledger, day, pipeline.tell, silent)
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
        yield from _steady(canaries, injections)
        frames: tuple[Any, ...] = (
            (SCORES, done.scores, more), (JUDGE_RUNS, runs, {}), (CANARIES, canaries, {}), (INJECTIONS, injections, {}),
        )  # fmt: skip
        for table, frame, shown in frames:
            warehouse.write(table, frame, day)
            metadata = frame_metadata(table, frame, warehouse.file(table, day), **shown)
            yield dg.MaterializeResult(asset_key=table.name, metadata=metadata)

    return [batches, scoring]


def _judged(runs: pl.DataFrame) -> Iterator[dg.AssetCheckResult]:
    """Whether every run's metrics count, and whether a content filter takes the worst posts out."""
    # What waits for a batch is no failure: the metrics are null until it is back, the run is fine.
    answered_badly = pl.col("n_items") - pl.col("n_verdict") - pl.col("n_pending") > pl.col("max_missing") * pl.col(
        "n_items"
    )
    invalid = runs.filter(answered_badly)
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


def _steady(canaries: pl.DataFrame, injections: pl.DataFrame) -> Iterator[dg.AssetCheckResult]:
    """Whether judges hold still: asked again, and against orders in items."""
    whole = injections.filter(pl.col("injection") == "all")
    for asset, check, frame, limit in (
        ("canaries", STEADY, canaries, MOST_FLIPS),
        ("injections", NOT_TURNED, whole, MOST_TURNED),
    ):
        bad = frame.filter(pl.col("ci_low") > limit)
        told = bad.select("judge_id", "policy", "flip_rate", "n").iter_rows()
        yield dg.AssetCheckResult(
            asset_key=asset,
            check_name=check,
            passed=bad.is_empty(),
            severity=dg.AssetCheckSeverity.WARN,
            description="; ".join(f"{j} on {p}: {r:.0%} of {n:,}" for j, p, r, n in told) or None,
        )
