"""Asking a judge about a few items again: what canaries and injections share."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from typing import Any

from moderation_pipelines.judging.calls.engine import EndpointStop, Item, Job, RunReport, score, settled_items
from moderation_pipelines.judging.ledger.ledger import Ledger
from moderation_pipelines.judging.ledger.records import Answer
from moderation_pipelines.judging.scores import ScoringTask

Tell = Callable[[str], None]


def task_columns(task: ScoringTask, day: date) -> dict[str, Any]:
    """The columns that name a task and its day."""
    return {
        "judge_id": task.judge_id, "policy": task.policy.id, "eval_set": task.release.name,
        "version": task.release.version, "drop_date": day,
    }  # fmt: skip


def is_verdict(answer: Answer | None) -> bool:
    """Whether there is an answer, and it is a verdict."""
    return answer is not None and answer.outcome == "verdict"


def ask_again(job: Job, items: Sequence[Item], ledger: Ledger) -> tuple[RunReport | None, str | None]:
    """(what the engine did, why the endpoint could not be asked or stopped answering)."""
    try:
        report = score(job, lambda: [items], ledger, len(items))
    except EndpointStop as stop:
        return None, str(stop)
    return report, report.stopped


def answers_of(job: Job, items: Sequence[Item], ledger: Ledger, report: RunReport | None) -> list[Answer | None]:
    """The answer to each item; None where there is none."""
    read: Iterable[Any] = settled_items(job, lambda: [items], ledger, report) if items else []
    return [end if isinstance(end, Answer) else None for chunk in read for _, _, end in chunk]


def one_per_policy(tasks: Sequence[ScoringTask]) -> Iterator[ScoringTask]:
    """For each judge and policy its first eval set: items of the others say the same of the judge. No baseline."""
    seen: set[tuple[str, str]] = set()
    for task in tasks:
        if task.kind.is_paid and (task.judge_id, task.policy.id) not in seen:
            seen.add((task.judge_id, task.policy.id))
            yield task


def canary_items(task: ScoringTask, n: int) -> list[Item]:
    """The same ``n`` items of a release every day: those with the smallest hash of judge and item."""

    def rank(item: Item) -> bytes:
        return hashlib.blake2b(f"canary {item[0]}".encode(), digest_size=8).digest()

    return heapq.nsmallest(n, (i for chunk in task.items() for i in chunk), key=rank)
