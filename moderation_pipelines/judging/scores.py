"""Scores of a day: every judge on every current release of its policies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import polars as pl

from moderation_pipelines.consensus.tables import CONSENSUS
from moderation_pipelines.eval_sets.release import Release, current_releases
from moderation_pipelines.eval_sets.selection import labelled_items
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.foundation.text import DEVELOPMENT
from moderation_pipelines.ingest.tables import CONTENT
from moderation_pipelines.judging.batch import submit
from moderation_pipelines.judging.calls.engine import (
    CHUNK,
    EndpointStop,
    Item,
    Job,
    Progress,
    RunReport,
    calm_collector,
    note_unasked,
    score,
    settled_items,
)
from moderation_pipelines.judging.capabilities import CAPABILITIES, Profile, profile_of
from moderation_pipelines.judging.judges.baseline import BaselineModel, TrainingSet, training_set
from moderation_pipelines.judging.judges.baseline_server import BaselineApp, serving
from moderation_pipelines.judging.judges_file import BASELINE, Endpoint, Judge, JudgesFile, load_judges
from moderation_pipelines.judging.ledger.batches import Batches
from moderation_pipelines.judging.ledger.ledger import Ledger
from moderation_pipelines.judging.ledger.records import Answer, Failure
from moderation_pipelines.judging.money import PICO, Price, Rates, picodollars, price_on
from moderation_pipelines.judging.probing import probe
from moderation_pipelines.judging.requests.outcomes import LabelSet, label_set
from moderation_pipelines.judging.requests.wire import RequestTemplate, request_template
from moderation_pipelines.judging.tables import BATCHES, SCORES
from moderation_pipelines.policies.policy import Policies, Policy
from moderation_pipelines.prompting.prompts import Prompt, load_prompt
from moderation_pipelines.tables.warehouse import Warehouse

Tell = Callable[[str], None]


@dataclass(frozen=True)
class ScoringTask:
    """One judge on one release: everything needed to ask."""

    judge_id: str
    judge: Judge
    endpoint: Endpoint
    release: Release
    policy: Policy
    prompt: Prompt
    training: TrainingSet | None = None
    profile: Profile = field(default_factory=Profile)

    @property
    def name(self) -> str:
        return f"{self.judge_id} on {self.release.name}"

    @property
    def rows(self) -> int:
        return int(self.release.manifest["rows"])

    @property
    def asked(self) -> str:
        """Who is asked, as part of a request's identity: the endpoint's address; the baseline lives nowhere."""
        return BASELINE if self.training is not None else self.endpoint.base_url

    @property
    def labels(self) -> LabelSet:
        clauses = [c.id for c in self.policy.clauses]
        return label_set(self.policy.label_ids, self.policy.violating_labels, clauses)

    def template(self, salt: str = "") -> RequestTemplate:
        """How items are put to the judge. ``salt`` sets apart what is asked again on purpose."""
        api = self.endpoint.api
        return request_template(api, self.judge, self.profile, self.prompt, self.labels, self.asked, salt)

    def items(self) -> Iterator[list[Item]]:
        """The release's items in chunks: (item id, text, context)."""
        return self.release.chunks(("item_id", "text", "context"), CHUNK)

    def price(self, day: date) -> Price | None:
        return price_on(self.judge.prices, day)

    def parameters(self) -> str:
        """What was asked with, for the record."""
        judge = self.judge
        said = {
            "api": self.endpoint.api, "via": judge.via, "max_tokens": judge.max_tokens,
            "temperature": judge.temperature if self.profile.temperature else None,
            "seed": judge.seed if self.profile.seed else None, "capabilities": self.profile.as_dict(),
        }  # fmt: skip
        return json.dumps(said, sort_keys=True)

    def job(self, day: date, retry_errors: bool = False, salt: str = "") -> Job:
        """The engine's job for this task."""
        judge, price = self.judge, self.price(day)
        unpriced = price is None and (judge.budget_usd is not None or judge.budget_usd_per_run is not None)
        return Job(
            account=self.judge_id,
            template=self.template(salt),
            endpoint=self.endpoint,
            day=day,
            max_tokens=judge.max_tokens,
            rates=None if price is None else Rates(price),
            budget=None if judge.budget_usd is None else picodollars(judge.budget_usd),
            run_budget=None if judge.budget_usd_per_run is None else picodollars(judge.budget_usd_per_run),
            repair=judge.repair and self.training is None,
            max_item_characters=judge.max_item_characters,
            retry_errors=retry_errors,
            what=self.name,
            refusal=f"{self.judge_id} has a budget but no price in force on {day}" if unpriced else None,
        )


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


def day_tasks(home: Home, policies: Policies, warehouse: Warehouse) -> tuple[list[ScoringTask], list[str]]:
    """The tasks of the home as it stands, and notes on what cannot be scored."""
    releases, judges = current_releases(home, policies), load_judges(home, policies)
    return scoring_tasks(home, policies, judges, releases, warehouse.scan(CONSENSUS), warehouse.scan(CONTENT))


def scoring_tasks(
    home: Home,
    policies: Policies,
    judges: JudgesFile,
    releases: Sequence[Release],
    consensus: pl.LazyFrame,
    content: pl.LazyFrame,
) -> tuple[list[ScoringTask], list[str]]:
    """Every judge x release there is to score, and notes on what cannot be."""
    tasks, notes = [], []
    trained: dict[str, TrainingSet] = {}
    for release in releases:
        if release.policy not in policies:
            notes.append(f"eval set {release.name} belongs to policy {release.policy}, which is gone; it is not scored")
            continue
        policy = policies[release.policy]
        if judges.baseline:
            if policy.id not in trained:
                items = labelled_items(consensus, content, policy, DEVELOPMENT).collect()
                trained[policy.id] = training_set(items, policy)
            training = trained[policy.id]
            if training.why_not is not None:
                notes.append(training.why_not)
            else:
                tasks.append(_baseline_task(training, release, policy))
        tasks += judge_tasks(home, judges, release, policy)
    return tasks, sorted(set(notes))


def judge_tasks(home: Home, judges: JudgesFile, release: Release, policy: Policy) -> list[ScoringTask]:
    """The tasks of the configured judges on one release; the baseline is none of them."""
    tasks = []
    for judge_id, judge in judges.judges.items():
        if judge.policies is None or policy.id in judge.policies:
            prompt, endpoint = load_prompt(home, policy, judge.prompt), judges.endpoints[judge.endpoint]
            task = ScoringTask(judge_id, judge, endpoint, release, policy, prompt)
            tasks.append(replace(task, profile=profile_of(endpoint)))
    return tasks


def _baseline_task(training: TrainingSet, release: Release, policy: Policy) -> ScoringTask:
    judge = Judge(endpoint=BASELINE, model=training.model, prompt="compiled", max_tokens=64)
    endpoint = Endpoint(
        base_url="http://127.0.0.1/v1", concurrency=4, timeout_seconds=120, transport="direct", temperature=True
    )
    prompt = Prompt(policy.id, BASELINE, "Judge the item.\n", 0)
    return ScoringTask(BASELINE, judge, endpoint, release, policy, prompt, training, profile_of(endpoint))


def with_profile(task: ScoringTask, ledger: Ledger) -> ScoringTask:
    """The task with what its endpoint can do: declared, or probed once and kept in the ledger.

    Raises :class:`EndpointStop` when it must be probed and cannot be asked.
    """
    endpoint = task.endpoint
    if not endpoint.probe or all(getattr(endpoint, c) is not None for c in CAPABILITIES):
        return replace(task, profile=profile_of(endpoint))
    found = ledger.profile(endpoint.base_url, task.judge.model)
    if found is None:
        found = probe(endpoint, task.judge.model)
        ledger.keep_profile(endpoint.base_url, task.judge.model, found)
    return replace(task, profile=profile_of(endpoint, found))


def profiled(task: ScoringTask, ledger: Ledger) -> ScoringTask:
    """The task with the profile that is known by now; nothing is probed."""
    endpoint = task.endpoint
    found = ledger.profile(endpoint.base_url, task.judge.model) if endpoint.probe else None
    return task if task.training is not None else replace(task, profile=profile_of(endpoint, found))


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
            where = "" if reason.startswith("http") or task.training else f" at {task.endpoint.base_url}"
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
        if given.judge.via != "batch" or given.training is not None:
            continue
        try:
            task = with_profile(given, ledger)
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
        return (with_profile(task, ledger) if task.training is None else task), None
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
    with ExitStack() as stack:
        if task.training is not None:
            model = BaselineModel(task.training)
            url = stack.enter_context(serving(BaselineApp({task.training.model: model})))
            job = replace(job, endpoint=job.endpoint.model_copy(update={"base_url": url}))
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
    with calm_collector():
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
