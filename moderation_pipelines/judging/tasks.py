"""What is to be scored: one judge on one release, and what kind of judge it is."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, Literal, TypeVar

import polars as pl

from moderation_pipelines.eval_sets.release import Release
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.foundation.registry import Registry
from moderation_pipelines.judging.calls.engine import CHUNK, Item, Job
from moderation_pipelines.judging.calls.transport import Transport, transport_for
from moderation_pipelines.judging.capabilities import CAPABILITIES, Profile, profile_of
from moderation_pipelines.judging.judges_file import Endpoint, Judge, JudgesFile
from moderation_pipelines.judging.ledger.ledger import Ledger
from moderation_pipelines.judging.money import Price, Rates, picodollars, price_on
from moderation_pipelines.judging.probing import probe
from moderation_pipelines.judging.requests.outcomes import LabelSet, label_set
from moderation_pipelines.judging.requests.wire import RequestTemplate, request_template
from moderation_pipelines.judging.tables import RUN_KEY
from moderation_pipelines.policies.policy import Policies, Policy
from moderation_pipelines.prompting.prompts import Prompt

T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    """What a day's tasks are made from: the home and judges in force, and the labelled history up to the day."""

    home: Home
    policies: Policies
    judges: JudgesFile
    consensus: pl.LazyFrame
    content: pl.LazyFrame
    made: dict[tuple[str, str], Any] = field(default_factory=dict, compare=False)

    def once(self, name: tuple[str, str], make: Callable[[], T]) -> T:
        """What ``make`` gives, made once for all releases of a day."""
        if name not in self.made:
            self.made[name] = make()
        return self.made[name]


@dataclass(frozen=True)
class Learnt:
    """What of this home a judge learnt something from. ``hashes``: text_sha256 of each text; ``item_ids``: of the items
    that have these texts, empty for an example without one."""

    used_as: Literal["trained", "shown", "calibrated"]
    texts: tuple[str, ...]
    hashes: tuple[str, ...]
    item_ids: tuple[str, ...]


class JudgeKind(ABC):
    """A kind of judge. What is not overridden describes one that is asked at an OpenAI-compatible endpoint.

    ``name``: the kind, as the registry knows it. ``is_paid``: whether asking costs: only then it is planned, batched,
    and asked again by probes.
    """

    name: str = "endpoint"
    order: int = 1
    is_paid: bool = True

    @abstractmethod
    def tasks(self, asked: Asked, release: Release, policy: Policy) -> tuple[list[ScoringTask], list[str]]:
        """The tasks of this kind on a release, and notes on what cannot be scored."""

    def learnt(self, task: ScoringTask) -> list[Learnt]:
        """What the judge learnt of this home before it answers: the examples it is shown, if any.

        What its model was trained on before, nobody here knows.
        """
        examples = task.prompt.examples
        if not examples:
            return []
        texts, hashes, ids = zip(*((e.text, e.text_sha256, e.item_id) for e in examples), strict=True)
        return [Learnt("shown", texts, hashes, ids)]

    def asked(self, task: ScoringTask) -> str:
        """Who is asked, as part of a request's identity."""
        return task.endpoint.base_url

    def place(self, task: ScoringTask) -> str:
        """Where the judge is, as messages and tables name it."""
        return task.endpoint.base_url

    def provider(self, task: ScoringTask) -> str:
        """Whose limits it shares."""
        return task.endpoint.provider

    def able(self, task: ScoringTask, ledger: Ledger) -> ScoringTask:
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

    def known(self, task: ScoringTask, ledger: Ledger) -> ScoringTask:
        """The task with the capabilities that are known by now; nothing is probed."""
        endpoint = task.endpoint
        found = ledger.profile(endpoint.base_url, task.judge.model) if endpoint.probe else None
        return replace(task, profile=profile_of(endpoint, found))

    def transport(self, task: ScoringTask, key: str) -> Transport:
        """How requests reach the judge. Made inside a running event loop."""
        return transport_for(task.endpoint, key)


JUDGE_KINDS: Registry[JudgeKind] = Registry("judge", "moderation_pipelines.judging.judges", "KIND", JudgeKind, "order")


@dataclass(frozen=True)
class ScoringTask:
    """One judge on one release: everything needed to ask."""

    judge_id: str
    judge: Judge
    endpoint: Endpoint
    release: Release
    policy: Policy
    prompt: Prompt
    kind: JudgeKind
    profile: Profile = field(default_factory=Profile)

    @property
    def name(self) -> str:
        return f"{self.judge_id} on {self.release.name}"

    @property
    def run_key(self) -> tuple[str, str, str]:
        """What names its rows: the values of RUN_KEY."""
        return self.judge_id, self.release.name, self.release.version

    @property
    def rows(self) -> int:
        return int(self.release.manifest["rows"])

    @property
    def labels(self) -> LabelSet:
        clauses = [c.id for c in self.policy.clauses]
        return label_set(self.policy.label_ids, self.policy.violating_labels, clauses)

    @property
    def learnt(self) -> list[Learnt]:
        """What the judge learnt of this home."""
        return self.kind.learnt(self)

    def template(self, salt: str = "") -> RequestTemplate:
        """How items are put to the judge. ``salt`` sets apart what is asked again on purpose."""
        api, asked = self.endpoint.api, self.kind.asked(self)
        return request_template(api, self.judge, self.profile, self.prompt, self.labels, asked, salt)

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
            repair=judge.repair and self.kind.is_paid,
            max_item_characters=judge.max_item_characters,
            retry_errors=retry_errors,
            what=self.name,
            transport=lambda key: self.kind.transport(self, key),
            refusal=f"{self.judge_id} has a budget but no price in force on {day}" if unpriced else None,
        )


def run_keys(tasks: Sequence[ScoringTask]) -> pl.DataFrame:
    """The RUN_KEY of every task, a row each."""
    return pl.DataFrame([t.run_key for t in tasks], schema=dict.fromkeys(RUN_KEY, pl.String), orient="row")


def scoring_tasks(asked: Asked, releases: Sequence[Release]) -> tuple[list[ScoringTask], list[str]]:
    """Every judge x release there is to score, and notes on what cannot be."""
    tasks: list[ScoringTask] = []
    notes: list[str] = []
    for release in releases:
        if release.policy not in asked.policies:
            notes.append(
                f"eval set {release.name} belongs to policy {release.policy}, which is gone or has mistakes; "
                "it is not scored"
            )
            continue
        for kind in JUDGE_KINDS:
            made, said = kind.tasks(asked, release, asked.policies[release.policy])
            tasks += made
            notes += said
    return tasks, sorted(set(notes))
