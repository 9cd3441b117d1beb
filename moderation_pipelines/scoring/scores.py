"""Scores of a day: every judge on every current release of its policies."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import polars as pl

from moderation_pipelines.eval_sets.release import Release
from moderation_pipelines.eval_sets.selection import labelled_items
from moderation_pipelines.home import Home
from moderation_pipelines.ingest.text import DEVELOPMENT
from moderation_pipelines.policies.policy import Policies, Policy
from moderation_pipelines.prompting.prompts import Prompt, load_prompt
from moderation_pipelines.scoring.baseline import BaselineModel, TrainingSet, training_set
from moderation_pipelines.scoring.baseline_server import BaselineApp, serving
from moderation_pipelines.scoring.engine import EndpointStop, Request, score_requests
from moderation_pipelines.scoring.judges import BASELINE, Endpoint, Judge, JudgesFile
from moderation_pipelines.scoring.ledger import SETTLED, Ledger, Settled, request_key
from moderation_pipelines.scoring.outcomes import LabelSet, answer_schema, label_set
from moderation_pipelines.tables.schema import SCORES

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

    @property
    def rows(self) -> int:
        return int(self.release.manifest["rows"])

    @property
    def asked(self) -> str:
        """Who is asked, as part of a request's identity: the endpoint's address; the baseline lives nowhere."""
        return BASELINE if self.training is not None else self.endpoint.base_url.rstrip("/")

    @property
    def labels(self) -> LabelSet:
        return label_set(self.policy.label_ids, self.policy.violating_labels)

    def requests(self) -> list[tuple[str, Request]]:
        """(item_id, request) for every item of the release."""
        rows = self.release.items().select("item_id", "text", "context").iter_rows()
        labels = self.labels
        out = []
        for item_id, text, context in rows:
            body = request_body(self.judge, self.endpoint, self.prompt, labels, text, context)
            out.append((item_id, Request(request_key(self.asked, body, labels), body, labels)))
        return out


@dataclass(frozen=True)
class DayScores:
    """The day's score rows, how many answers are new, and a line for each judge whose calls were not all answered."""

    scores: pl.DataFrame
    answered: int
    unanswered: list[str]


def request_body(
    judge: Judge, endpoint: Endpoint, prompt: Prompt, labels: LabelSet, text: str, context: str | None
) -> dict[str, Any]:
    """The chat-completions body for one item, within what the endpoint can do."""
    body: dict[str, Any] = {
        "model": judge.model,
        "messages": prompt.messages(text, context),
        endpoint.max_tokens_field: judge.max_tokens,
    }
    if endpoint.temperature:
        body["temperature"] = judge.temperature
    if endpoint.seed:
        body["seed"] = judge.seed
    if endpoint.logprobs:
        body |= {"logprobs": True, "top_logprobs": 20}
    if endpoint.json_schema:
        schema = {"name": "judgement", "strict": True, "schema": answer_schema(labels)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


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
                judge = Judge(endpoint=BASELINE, model=training.model, prompt="compiled", max_tokens=64)
                endpoint = Endpoint(base_url="http://127.0.0.1/v1", concurrency=4, timeout_seconds=120)
                prompt = Prompt(policy.id, BASELINE, "Judge the item.\n", 0)
                tasks.append(ScoringTask(BASELINE, judge, endpoint, release, policy, prompt, training))
        for judge_id, judge in judges.judges.items():
            if judge.policies is None or policy.id in judge.policies:
                prompt = load_prompt(home, policy, judge.prompt)
                tasks.append(ScoringTask(judge_id, judge, judges.endpoints[judge.endpoint], release, policy, prompt))
    return tasks, sorted(set(notes))


def score_day(tasks: Sequence[ScoringTask], ledger: Ledger, day: date, tell: Tell | None = None) -> DayScores:
    """Score every task. The baseline is trained and served only if some request to it was never answered.

    A judge's budget holds over all its tasks of the day. A judge that cannot be asked does not stop the others: its
    items end as ``api_error``. ``tell`` hears how far each task is.
    """
    frames, answered = [], 0
    unanswered: list[str] = []
    for task in tasks:
        pairs = task.requests()
        requests = list({r.key: r for _, r in pairs}.values())
        known = ledger.known([r.key for r in requests])
        tick = _counter(tell, f"{task.judge_id} on {task.release.name}", len(requests))
        with ExitStack() as stack:
            endpoint = task.endpoint
            if task.training is not None and len(known) < len(requests):
                model = BaselineModel(task.training)
                url = stack.enter_context(serving(BaselineApp({task.training.model: model})))
                endpoint = endpoint.model_copy(update={"base_url": url})
            try:
                judge = task.judge
                settled = score_requests(
                    requests, endpoint, ledger, day, judge.price, judge.budget_usd, tick, task.judge_id
                )
            except EndpointStop as stop:
                settled = _unasked(requests, ledger, day, str(stop))
            answered += sum(s.outcome in SETTLED for key, s in settled.items() if key not in known)
            failed = [s.error for s in settled.values() if s.outcome in ("api_error", "timeout")]
            if failed:
                why = max(sorted(set(failed), key=str), key=failed.count)
                where = "" if str(why).startswith("http") else f" at {endpoint.base_url}"
                share = f"{len(failed)} of {len(settled)} calls{where}"
                unanswered.append(f"{task.judge_id} on {task.release.name}: {share} failed: {why}")
        frames.append(score_rows(task, [(item, r.key, settled[r.key]) for item, r in pairs], day))
    return DayScores(pl.concat(frames) if frames else SCORES.empty(), answered, unanswered)


def _unasked(requests: Sequence[Request], ledger: Ledger, day: date, why: str) -> dict[str, Settled]:
    """What was settled before an endpoint refused everything; the rest as errors that say why."""
    error = Settled.unanswered("api_error", why, day)
    return {r.key: error for r in requests} | ledger.known([r.key for r in requests])


def _counter(tell: Tell | None, name: str, total: int) -> Callable[[int], None] | None:
    if tell is None:
        return None
    done = 0

    def tick(n: int) -> None:
        nonlocal done
        before, done = done, done + n
        if done == total or done // 50 != before // 50:
            tell(f"{name}: {done:,} of {total:,}")

    return tick


def score_rows(task: ScoringTask, settled: Sequence[tuple[str, str, Settled]], day: date) -> pl.DataFrame:
    """The ``scores`` rows of one task."""
    violating: Mapping[str, bool] = {label.id: label.violating for label in task.policy.labels}
    rows = []
    for item_id, key, s in settled:
        name = f"{task.judge_id}\x1f{task.release.name}\x1f{task.release.version}\x1f{item_id}\x1f{key}"
        rows.append(
            {
                "decision_id": hashlib.blake2b(name.encode(), digest_size=16).hexdigest(),
                "judge_id": task.judge_id,
                "policy": task.policy.id,
                "eval_set": task.release.name,
                "version": task.release.version,
                "item_id": item_id,
                "outcome": s.outcome,
                "label": s.label,
                "violating": None if s.label is None else violating[s.label],
                "p_violating": s.p_violating,
                "p_source": s.p_source,
                "rationale": s.rationale,
                "error": s.error,
                "prompt_id": task.prompt.id,
                "prompt_sha256": task.prompt.sha256,
                "model": task.judge.model,
                "model_returned": s.model_returned,
                "input_tokens": s.input_tokens,
                "cached_tokens": s.cached_tokens,
                "output_tokens": s.output_tokens,
                "cost_usd": s.cost_usd,
                "latency_ms": s.latency_ms,
                "attempts": s.attempts,
                "is_cached": s.first_day < day.isoformat(),
                "request_key": key,
                "created_at": datetime.fromisoformat(s.created_at),
                "drop_date": day,
            }
        )
    return pl.DataFrame(rows, schema=SCORES.schema)
