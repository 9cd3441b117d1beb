"""Releases a day was asked about before: their scores are kept, whatever is asked later."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import polars as pl

from moderation_pipelines.eval_sets.asked import in_force
from moderation_pipelines.eval_sets.release import Release
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.judging.judge_runs import judge_runs_table
from moderation_pipelines.judging.ledger.ledger import Ledger
from moderation_pipelines.judging.scores import day_tasks, score_rows
from moderation_pipelines.judging.tables import JUDGE_RUNS, SCORES
from moderation_pipelines.tables.warehouse import Warehouse


def earlier_scores(
    home: Home, warehouse: Warehouse, ledger: Ledger, day: date, releases: Sequence[Release]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The day's stored scores and judge runs of the releases it was asked about before those in force.

    Rows of a judge that is still there are read from the ledger again, so that a batch that came back since settles
    them; those of one that is gone stay as they are. Nothing is asked.
    """
    current = in_force(list(releases))
    earlier = [r for r in releases if r not in current]
    named = pl.DataFrame(
        [(r.name, r.version) for r in earlier], schema={"eval_set": pl.String, "version": pl.String}, orient="row"
    )
    key = ["judge_id", "eval_set", "version"]
    scores, runs = (
        warehouse.scan(table, [day]).collect().join(named, on=key[1:], how="semi") for table in (SCORES, JUDGE_RUNS)
    )
    if scores.is_empty():
        return scores, runs
    there = {(j, e, v) for j, e, v in scores.select(key).unique().iter_rows()}
    tasks = [
        t.kind.known(t, ledger)
        for t in day_tasks(home, warehouse, earlier, day)[0]
        if (t.judge_id, t.release.name, t.release.version) in there
    ]
    if not tasks:
        return scores, runs
    again = pl.concat([score_rows(task, day, ledger) for task in tasks])
    again_runs = judge_runs_table(tasks, again, ledger, day)
    return (
        pl.concat([again, scores.join(again, on=key, how="anti")]),
        pl.concat([again_runs, runs.join(again_runs, on=key, how="anti")]),
    )
