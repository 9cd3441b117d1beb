"""Scores a day has already: kept for every judge and release that is not asked now."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import polars as pl

from moderation_pipelines.eval_sets.release import Release
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.judging.judge_runs import judge_runs_table
from moderation_pipelines.judging.ledger.ledger import Ledger
from moderation_pipelines.judging.scores import day_tasks, score_rows
from moderation_pipelines.judging.tables import JUDGE_RUNS, RUN_KEY, SCORES
from moderation_pipelines.judging.tasks import ScoringTask, run_keys
from moderation_pipelines.tables.warehouse import Warehouse


def kept_scores(
    home: Home,
    warehouse: Warehouse,
    ledger: Ledger,
    day: date,
    releases: Sequence[Release],
    asked: Sequence[ScoringTask],
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The day's stored scores and judge runs of whatever is not ``asked`` now: releases the day was asked about before
    (``releases``: all of them), and judges that cannot be asked because a policy, a prompt or their entry has mistakes.

    Rows of a judge that is still there are read from the ledger again, so that a batch that came back since settles
    them; the others stay as they are, those of a judge that was removed too. Nothing is asked.
    """
    now = run_keys(asked)
    scores, runs = (
        warehouse.scan(table, [day]).collect().join(now, on=RUN_KEY, how="anti") for table in (SCORES, JUDGE_RUNS)
    )
    if scores.is_empty():
        return scores, runs
    there = set(scores.select(RUN_KEY).unique().iter_rows())
    tasks = [t.kind.known(t, ledger) for t in day_tasks(home, warehouse, releases, day)[0] if t.run_key in there]
    if not tasks:
        return scores, runs
    again = pl.concat([score_rows(task, day, ledger) for task in tasks])
    again_runs = judge_runs_table(tasks, again, ledger, day)
    return (
        pl.concat([again, scores.join(again, on=RUN_KEY, how="anti")]),
        pl.concat([again_runs, runs.join(again_runs, on=RUN_KEY, how="anti")]),
    )
