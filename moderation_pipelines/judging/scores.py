"""Scores of a day: every judge on every current release of its policies."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import polars as pl

from moderation_pipelines.consensus.tables import CONSENSUS
from moderation_pipelines.eval_sets.release import Release
from moderation_pipelines.foundation.collector import relaxed_gc
from moderation_pipelines.foundation.errors import Problem
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.ingest.tables import CONTENT
from moderation_pipelines.judging.batch import submit
from moderation_pipelines.judging.calls.engine import (
    EndpointStop,
    Item,
    Progress,
    RunReport,
    note_unasked,
    score,
    settled_items,
)
from moderation_pipelines.judging.judges_file import (
    load_judges_leniently,
)
from moderation_pipelines.judging.ledger.batches import Batches
from moderation_pipelines.judging.ledger.ledger import Ledger
from moderation_pipelines.judging.ledger.records import Answer, Failure
from moderation_pipelines.judging.money import PICO
from moderation_pipelines.judging.tables import BATCHES, SCORES
from moderation_pipelines.judging.tasks import Asked, ScoringTask, scoring_tasks
from moderation_pipelines.policies.policy import usable_policies
from moderation_pipelines.tables.table import Table
from moderation_pipelines.tables.warehouse import Warehouse

Tell = Callable[[str], None]


@dataclass(frozen=True)
class DayScores:
    """The day's score rows, how many answers are new, and a line for each judge whose calls were not all answered."""

    scores: pl.DataFrame
    answered: int
    unanswered: list[str]
    tasks: list[ScoringTask]

    @property
    def out_of_budget(self) -> set[str]:
        """Judges whose budget did not let everything through."""
        return set(self.scores.filter(pl.col("outcome") == "over_budget")["judge_id"])


def day_tasks(
    home: Home, warehouse: Warehouse, releases: Sequence[Release], day: date
) -> tuple[list[ScoringTask], list[str], list[Problem]]:
    """The tasks of a day with the files of ``home``, notes on what cannot be scored, and mistakes in judges.yaml.

    Judges that learn, learn from the labelled history up to the day.
    """
    policies = usable_policies(home)
    judges, problems = load_judges_leniently(home, policies)

    def history(table: Table) -> pl.LazyFrame:
        return warehouse.scan(table, [d for d in warehouse.days(table) if d <= day])

    asked = Asked(home, policies, judges, history(CONSENSUS), history(CONTENT))
    return *scoring_tasks(asked, releases), problems


def score_day(
    tasks: Sequence[ScoringTask], ledger: Ledger, day: date, tell: Tell | None = None, retry_errors: bool = False
) -> DayScores:
    """Score every task. The baseline is trained and served only if some request to it was never answered.

    A judge's budget holds over all its tasks of the day. A judge that cannot be asked does not stop the others: its
    items end as ``api_error``. ``tell`` hears how far each task is.
    """
    frames, answered = [], 0
    unanswered: list[str] = []
    profiled: list[ScoringTask] = []
    for given in tasks:
        task, why = _able(given, ledger)
        profiled.append(task)
        # Mostly all is answered already: one pass tells.
        frame = score_rows(task, day, ledger, None, why)
        if why is None and task.judge.via == "live" and (retry_errors or frame["via"].null_count()):
            report, why = _ask(task, ledger, day, tell, retry_errors)
            answered += 0 if report is None else _new_answers(report)
            frame = score_rows(task, day, ledger, report, why)
        failed = frame.filter(pl.col("outcome").is_in(["api_error", "timeout"]))
        waiting = failed.filter(pl.col("kind") == "batch_pending").height
        if failed.height > waiting:
            reasons = failed.filter(pl.col("kind") != "batch_pending")["error"].value_counts().sort(
                ["count", "error"], descending=[True, False]
            )  # fmt: skip
            reason = str(reasons["error"][0])
            where = "" if reason.startswith("http") or not task.kind.is_paid else f" at {task.kind.place(task)}"
            unanswered.append(
                f"{task.name}: {failed.height - waiting} of {frame.height} items have no answer{where}: {reason}"
            )
        frames.append(frame)
    return DayScores(pl.concat(frames) if frames else SCORES.empty(), answered, unanswered, profiled)


def submit_day(
    tasks: Sequence[ScoringTask], ledger: Ledger, day: date, folder: Path, tell: Tell | None = None
) -> tuple[int, list[str]]:
    """Submit what is missing of the judges that go by batch: (batches submitted, what did not work)."""
    submitted, problems = 0, []
    for given in tasks:
        if given.judge.via != "batch" or not given.kind.is_paid:
            continue
        try:
            task = given.kind.able(given, ledger)
            price = task.price(day)
            if price is not None:
                ledger.note_price(task.judge.model, price)
            submitted += submit(task.job(day), task.items, ledger, folder, price, tell)
        except EndpointStop as stop:
            problems.append(f"{given.name}: {stop}")
    return submitted, problems


def batches_table(ledger: Ledger, day: date) -> pl.DataFrame:
    """The ``batches`` rows of a day."""
    rows = [
        {
            "batch": b.name, "judge_id": b.account, "endpoint": b.endpoint, "state": b.state, "requests": b.requests,
            "tokens": b.tokens, "settled": b.settled, "failed": b.failed, "note": b.note, "file_id": b.file_id,
            "batch_id": b.batch_id, "created_at": datetime.fromisoformat(b.created_at), "drop_date": day,
        }
        for b in Batches(ledger).all()
        if b.day == day.isoformat()
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=BATCHES.schema)


def _able(task: ScoringTask, ledger: Ledger) -> tuple[ScoringTask, str | None]:
    """(the task with its endpoint's capabilities, why it could not be asked for them)."""
    try:
        return task.kind.able(task, ledger), None
    except EndpointStop as stop:
        return task, str(stop)


def _ask(
    task: ScoringTask, ledger: Ledger, day: date, tell: Tell | None, retry_errors: bool
) -> tuple[RunReport | None, str | None]:
    """(what the engine did, why it could not ask at all)."""
    job, told = task.job(day, retry_errors), _told(tell, task.name)
    price = task.price(day)
    if price is not None:
        ledger.note_price(task.judge.model, price)
    try:
        return score(job, task.items, ledger, task.rows, told), None
    except EndpointStop as stop:
        if not retry_errors:
            run = ledger.begin(job.account, day, job.what)
            note_unasked(job, task.items, ledger, run, str(stop))
            ledger.end(run)
        return None, str(stop)


def _new_answers(report: RunReport) -> int:
    return sum(n for outcome, n in report.progress.outcomes.items() if outcome not in _UNANSWERED)


_UNANSWERED = frozenset({"timeout", "api_error", "over_budget"})


def _told(tell: Tell | None, name: str) -> Callable[[Progress], None] | None:
    if tell is None:
        return None
    last = [""]

    def told(progress: Progress) -> None:
        line = f"{name}: {progress.line()}"
        if line != last[0]:
            tell(line)
            last[0] = line

    return told


def score_rows(
    task: ScoringTask, day: date, ledger: Ledger, report: RunReport | None = None, why: str | None = None
) -> pl.DataFrame:
    """The ``scores`` rows of one task, from the ledger. ``why`` is the reason of items that were not asked for."""
    with relaxed_gc():
        parts = list(score_frames(task, day, ledger, report, why))
    return pl.concat(parts) if parts else SCORES.empty()


def score_frames(
    task: ScoringTask, day: date, ledger: Ledger, report: RunReport | None = None, why: str | None = None
) -> Iterator[pl.DataFrame]:
    """What :func:`score_rows` gives, chunk by chunk."""
    for chunk in settled_items(task.job(day), task.items, ledger, report):
        yield _rows(task, day, _in_batches(chunk, ledger), why)


Settled = tuple[Item, bytes, Answer | Failure]


def _in_batches(chunk: list[Settled], ledger: Ledger) -> list[Settled]:
    """Unanswered items say which batch they are in, if they are in one, be it that of a judge who asks the same."""
    unanswered = [key for _, key, end in chunk if isinstance(end, Failure)]
    claimed = ledger.claimed(unanswered) if unanswered else {}
    if not claimed:
        return chunk
    out: list[Settled] = []
    for item, key, end in chunk:
        if isinstance(end, Failure) and claimed.get(key, "").startswith("batch:"):
            name = claimed[key].removeprefix("batch:")
            out.append((item, key, Failure(key, "api_error", "batch_pending", f"batch {name} is not back yet", 0)))
        else:
            out.append((item, key, end))
    return out


def _rows(task: ScoringTask, day: date, chunk: list[Settled], why: str | None) -> pl.DataFrame:
    # What was never sent is dated to the start of its day, so that a rerun says the same.
    today, midnight = day.isoformat(), datetime.combine(day, time()).isoformat() + "+00:00"
    ends = [end if isinstance(end, Answer) else _no_answer(end, why, today, midnight) for _, _, end in chunk]
    answers = pl.DataFrame(
        dict(zip(Answer._fields, zip(*ends, strict=True), strict=True)), schema_overrides=_ANSWER_TYPES
    ).rename({"cost": "cost_usd"})
    started = hashlib.blake2b(
        f"{task.judge_id}\x1f{task.release.name}\x1f{task.release.version}\x1f".encode(), digest_size=16
    )
    names = [key.hex() for _, key, _ in chunk]
    evidence = [
        start if end.evidence and (start := text.find(end.evidence)) >= 0 else None
        for ((_, text, _), _, _), end in zip(chunk, ends, strict=True)
    ]
    violating = {label.id: label.violating for label in task.policy.labels}
    frame = answers.with_columns(
        pl.Series("item_id", [item_id for (item_id, _, _), _, _ in chunk], pl.String()),
        pl.Series("decision_id", [_decision(started, c[0][0], name) for c, name in zip(chunk, names, strict=True)]),
        pl.Series("request_key", names, pl.String()),
        pl.Series("evidence_start", evidence, pl.Int64()),
        pl.col("created_at").str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", time_unit="us"),
        pl.col("cost_usd") / PICO,
        violating=pl.col("label").replace_strict(violating, return_dtype=pl.Boolean()),
        is_cached=pl.col("first_day") < today,
        judge_id=pl.lit(task.judge_id),
        policy=pl.lit(task.policy.id),
        eval_set=pl.lit(task.release.name),
        version=pl.lit(task.release.version),
        prompt_id=pl.lit(task.prompt.id),
        prompt_sha256=pl.lit(task.prompt.sha256),
        model=pl.lit(task.judge.model),
        parameters=pl.lit(task.parameters()),
        drop_date=pl.lit(day),
    )
    return frame.select(pl.col(n).cast(t) for n, t in SCORES.schema.items())


def _no_answer(failure: Failure, why: str | None, today: str, midnight: str) -> Answer:
    """A failure in the shape of an answer, for the table."""
    error = why if why is not None and failure.kind == "not_asked" else failure.error
    return Answer(
        failure.outcome, failure.kind, error=error, attempts=failure.attempts, via=None,
        first_day=today, created_at=failure.at or midnight,
    )  # fmt: skip


def _decision(started: Any, item_id: str, name: str) -> str:
    """Identity of one judge's decision about one item of one release."""
    hashed = started.copy()
    hashed.update(f"{item_id}\x1f{name}".encode())
    return str(hashed.hexdigest())


_ANSWER_TYPES = {
    **{n: SCORES.schema.get(n, pl.String()) for n in Answer._fields}, "cost": pl.Int64(), "created_at": pl.String(),
}  # fmt: skip
