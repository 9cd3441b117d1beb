"""All eval sets of a home: frame, draw, audit, publish."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl

from moderation_pipelines.auditing.page import audit_page
from moderation_pipelines.consensus.purity import measured_purity
from moderation_pipelines.eval_sets.expectations import audit_release
from moderation_pipelines.eval_sets.release import (
    Candidate,
    Published,
    canonical_rows,
    current_release,
    publish,
    release_sources,
)
from moderation_pipelines.eval_sets.selection import sampling_frame, selected
from moderation_pipelines.eval_sets.specs import EvalSetSpec, load_specs_leniently
from moderation_pipelines.eval_sets.tree import home_secret
from moderation_pipelines.foundation.errors import UserError
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.policies.policy import Policies, Policy
from moderation_pipelines.prompting.few_shot import load_examples
from moderation_pipelines.votes.stored import stray_labels


@dataclass(frozen=True)
class History:
    """Every day of the tables a release is made from; ``methods`` is ``consensus_methods``."""

    consensus: pl.LazyFrame
    content: pl.LazyFrame
    votes: pl.LazyFrame
    drops: pl.LazyFrame
    methods: pl.LazyFrame


def example_hashes(home: Home, policy: Policy) -> set[str]:
    """Hashes of the texts of a policy's few-shot examples: what an eval set must not hold."""
    return {e.text_sha256 for e in load_examples(home, policy)}


def candidate_for(home: Home, policy: Policy, spec: EvalSetSpec, history: History, examples: set[str]) -> Candidate:
    """The candidate a spec gives on the data as it stands, without the examples."""
    frame = sampling_frame(history.consensus, history.content, policy, spec, examples)
    items = canonical_rows(selected(frame, policy, spec))
    sources = release_sources(items, policy.id, history.content, history.votes, history.drops)
    labelled_by = items.filter("violating")["method"].unique().to_list()
    purity = measured_purity(history.methods, policy.id, labelled_by)
    return Candidate(spec, policy, items, frame, sources, home_secret(home), purity)


def build_eval_sets(
    home: Home,
    policies: Policies,
    history: History,
    eval_share: float,
    progress: Callable[[str], None] | None = None,
) -> list[Published]:
    """Build, audit and publish every eval set. One that is refused, or has mistakes, does not stop the others."""
    specs, _ = load_specs_leniently(home, policies)
    stray = stray_labels(history.votes, policies)
    out = []
    for policy in policies:
        for spec in specs[policy.id]:
            if progress is not None:
                progress(spec.name)
            try:
                if policy.id in stray:
                    raise UserError(stray[policy.id])
                out.append(_build_one(home, policy, spec, history, eval_share))
            except UserError as error:
                current = current_release(home, spec.name)
                out.append(Published(spec.name, "broken", current, [], reason=str(error)))
    return out


def _build_one(home: Home, policy: Policy, spec: EvalSetSpec, history: History, eval_share: float) -> Published:
    examples = example_hashes(home, policy)
    candidate = candidate_for(home, policy, spec, history, examples)
    return publish(home, candidate, lambda c: audit_release(c, examples, eval_share), validation_page)


def validation_page(candidate: Candidate, version: str, results: list[dict[str, Any]]) -> str:
    """The page of a candidate and its audit."""
    return audit_page(
        name=candidate.spec.name,
        version=version,
        policy_title=candidate.policy.title,
        rows=candidate.items.height,
        content_sha256=candidate.content_sha256,
        results=results,
    )
