"""What judges answered on a day: batches out and back, scores, and what became of each run."""

from collections.abc import Iterator
from typing import Any

import polars as pl

from moderation_pipelines.auditing.results import write_audit
from moderation_pipelines.eval_sets.asked import asked_releases, in_force
from moderation_pipelines.judging.batch import collect
from moderation_pipelines.judging.expectations import audit_scores, scores_expectations
from moderation_pipelines.judging.judge_runs import answered_badly, filtered_much, judge_runs_table
from moderation_pipelines.judging.judges_file import load_judges_leniently
from moderation_pipelines.judging.kept import kept_scores
from moderation_pipelines.judging.ledger.ledger import open_ledger
from moderation_pipelines.judging.scores import batches_table, day_tasks, score_day, submit_day
from moderation_pipelines.judging.tables import BATCHES, JUDGE_RUNS, SCORES
from moderation_pipelines.judging.thresholds import JudgingThresholds
from moderation_pipelines.policies.policy import usable_policies
from moderation_pipelines.wiring.day_run import DayRun
from moderation_pipelines.wiring.partitions import Days
from moderation_pipelines.wiring.table_assets import (
    Check,
    Checked,
    Made,
    expectation_checks,
    expectation_results,
    tables_asset,
)

REACHED = Check(BATCHES.name, "batches_could_be_reached", "Batches could be submitted, asked about and collected.")
ANSWERED = Check(SCORES.name, "every_call_was_answered", "Every call a judge made was answered.")
USABLE = Check(SCORES.name, "every_judge_is_usable", "Every judge of judges.yaml could be asked as written.")
ENOUGH = Check(
    JUDGE_RUNS.name,
    "every_judge_answered_enough",
    "No judge has more items without a verdict than its max_missing.",
)
FILTERED = Check(
    JUDGE_RUNS.name,
    "content_filters_block_little",
    "No judge's content filter surely blocks more of the items than max_filtered (5 % by default).",
    "warning",
)
_EXPECTED = expectation_checks(SCORES.name, scores_expectations([], 0))


def build(days: Days) -> list[Any]:
    after = ("eval_sets", "prompts", "consensus", "content")
    return [
        tables_asset(
            days, [BATCHES], batches, after=after, checks=[REACHED], kinds=("openai", "polars"), pool=days.pool
        ),
        tables_asset(
            days,
            [SCORES, JUDGE_RUNS],
            scoring,
            after=(*after, BATCHES.name),
            checks=[*_EXPECTED, ANSWERED, USABLE, ENOUGH, FILTERED],
            kinds=("openai", "polars", "parquet"),
            pool=days.pool,
            name="scoring",
        ),
    ]


def batches(run: DayRun) -> Iterator[Made | Checked]:
    """Batches that ended are collected, and what is missing of judges that go by batch is submitted."""
    home, day = run.home, run.date
    with open_ledger(home.ledger) as ledger:
        judges, _ = load_judges_leniently(home, usable_policies(home))
        done = collect(ledger, list(judges.endpoints.values()), home.batch_files, day)
        releases = in_force(asked_releases(home, usable_policies(home), run.warehouse, day))
        tasks = day_tasks(home, run.warehouse, releases, day)[0] if judges.sends_batches else []
        submitted, problems = submit_day(tasks, ledger, day, home.batch_files, run.tell)
        frame = batches_table(ledger, day)
    problems = [*done.problems, *problems]
    yield Made(
        BATCHES,
        frame,
        {
            "collected": len(done.batches),
            "still out": done.open,
            "submitted": submitted,
            "answers collected": sum(b.settled for b in done.batches),
        },
    )
    yield REACHED.result(not problems, "; ".join(problems) or None)


def scoring(run: DayRun) -> Iterator[Made | Checked]:
    """Every judge on every release the day was asked about. Rows it has of what is not asked now are kept."""
    home, day = run.home, run.date
    with open_ledger(home.ledger) as ledger:
        releases = asked_releases(home, usable_policies(home), run.warehouse, day)
        tasks, notes, problems = day_tasks(home, run.warehouse, in_force(releases), day)
        done = score_day(tasks, ledger, day, run.tell, run.pipeline.retry_errors)
        runs = judge_runs_table(done.tasks, done.scores, ledger, day)
        kept, runs_kept = kept_scores(home, run.warehouse, ledger, day, releases, tasks)
    scores, runs = pl.concat([done.scores, kept]), pl.concat([runs, runs_kept])
    results = (
        audit_scores(done.scores, sorted({t.judge_id for t in tasks}), sum(t.rows for t in tasks)) if tasks else []
    )
    write_audit(run.pipeline.home, "scores", day, results)
    outcomes = {f"outcome {o}": n for o, n in done.scores.group_by("outcome").len().sort("outcome").iter_rows()}
    cost = done.scores["cost_usd"].sum() if done.scores["cost_usd"].count() else None
    shown: dict[str, Any] = {
        "new answers": done.answered,
        **outcomes,
        **({} if cost is None else {"cost in USD": float(cost)}),
    }
    if notes or not tasks:
        shown["note"] = "; ".join(notes) or "no release to score yet"
    yield Made(SCORES, scores, shown)
    yield Made(JUDGE_RUNS, runs)
    yield from expectation_results(_EXPECTED, {str(day): results} if results else {})
    yield ANSWERED.result(not done.unanswered, "; ".join(done.unanswered) or None)
    yield USABLE.result(not problems, "; ".join(str(p) for p in problems) or None)
    bad, much = answered_badly(runs), filtered_much(runs, run.thresholds("judging", JudgingThresholds).max_filtered)
    yield ENOUGH.result(bad.is_empty(), _named(bad, "note"))
    yield FILTERED.result(much.is_empty(), _named(much, "filter_share"))


def _named(runs: pl.DataFrame, column: str) -> str | None:
    said = [
        f"{j} on {e}: {v:.1%}" if isinstance(v, float) else f"{j} on {e}: {v}"
        for j, e, v in runs.select("judge_id", "eval_set", column).iter_rows()
    ]
    return "; ".join(said) or None
