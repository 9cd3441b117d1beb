"""The same items asked again on another day: does a judge give the same answer?"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from datetime import date
from typing import Any

import polars as pl

from moderation_pipelines.judging.ledger.ledger import Ledger
from moderation_pipelines.judging.scores import ScoringTask
from moderation_pipelines.probes.asking import (
    Tell,
    answers_of,
    ask_again,
    canary_items,
    is_verdict,
    one_per_policy,
    task_columns,
)
from moderation_pipelines.probes.tables import CANARIES
from moderation_pipelines.stats.intervals import wilson_interval


def canary_row(task: ScoringTask, ledger: Ledger, day: date, ask: bool = True) -> dict[str, Any]:
    """Ask the canary items once more on this day (a rerun asks nothing) and compare with the first answers.

    Only items that have a verdict are asked again. Without ``ask`` what was asked before is read, nothing is sent.
    """
    ordered = canary_items(task, 20 * task.judge.canary)
    verdicts = [
        (item, answer)
        for item, answer in zip(ordered, answers_of(task.job(day), ordered, ledger, None), strict=True)
        if answer is not None and is_verdict(answer)
    ][: task.judge.canary]
    items, first = [item for item, _ in verdicts], [answer for _, answer in verdicts]
    job = task.job(day, salt=f"canary {day}")
    report, why = ask_again(job, items, ledger) if ask and items else (None, None)
    again = answers_of(job, items, ledger, report)
    pairs = [(a, b) for a, b in zip(first, again, strict=True) if b is not None and is_verdict(b)]
    violating = set(task.policy.violating_labels)
    flips = [(a.label, b.label) for a, b in pairs if a.label != b.label]
    interval = wilson_interval(len(flips), len(pairs))
    returned = sorted({(a.model_returned or "", a.fingerprint or "") for a in again if a is not None})
    return {
        **task_columns(task, day),
        "model": task.judge.model,
        "models_returned": json.dumps(returned) if returned else None,
        "n_asked": len(items),
        "n": len(pairs),
        "n_flips": len(flips),
        "flip_rate": len(flips) / len(pairs) if pairs else None,
        "ci_low": interval.low,
        "ci_high": interval.high,
        "n_violating_flips": sum((a in violating) != (b in violating) for a, b in flips),
        "note": None if pairs else why or "no item has a verdict both times",
    }


def canaries_table(
    tasks: Sequence[ScoringTask], ledger: Ledger, day: date, tell: Tell | None = None, silent: Collection[str] = ()
) -> pl.DataFrame:
    """The ``canaries`` rows of a day. Judges with ``canary: 0`` are left out; the ``silent`` are not asked again."""
    rows = []
    for task in one_per_policy(tasks):
        if task.judge.canary:
            if tell is not None:
                tell(f"canary: {task.name}")
            rows.append(canary_row(task, ledger, day, task.judge_id not in silent))
    return pl.DataFrame(rows, schema=CANARIES.schema)
