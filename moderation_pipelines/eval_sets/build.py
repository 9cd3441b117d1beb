"""All eval sets of a home: frame, draw, audit, publish."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from moderation_pipelines.auditing.page import release_page
from moderation_pipelines.consensus.purity import measured_purity
from moderation_pipelines.eval_sets.expectations import audit_release
from moderation_pipelines.eval_sets.release import (
    Candidate,
    Published,
    canonical_rows,
    publish,
    release_sources,
)
from moderation_pipelines.eval_sets.selection import sampling_frame, selected
from moderation_pipelines.eval_sets.specs import EvalSetSpec, load_specs
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.policies.policy import Policies, Policy
from moderation_pipelines.prompting.few_shot import load_examples


def candidate_for(
    home: Home,
    policy: Policy,
    spec: EvalSetSpec,
    consensus: pl.LazyFrame,
    content: pl.LazyFrame,
    votes: pl.LazyFrame,
    drops: pl.LazyFrame,
    methods: pl.LazyFrame,
) -> Candidate:
    """The candidate a spec gives on the data as it stands."""
    examples = {e.text_sha256 for e in load_examples(home, policy)}
    frame = sampling_frame(consensus, content, policy, spec, examples)
    items = canonical_rows(selected(frame, policy, spec))
    sources = release_sources(items, policy.id, content, votes, drops)
    return Candidate(spec, policy, items, frame, sources, measured_purity(methods, policy.id))


def build_eval_sets(
    home: Home,
    policies: Policies,
    consensus: pl.LazyFrame,
    content: pl.LazyFrame,
    votes: pl.LazyFrame,
    drops: pl.LazyFrame,
    methods: pl.LazyFrame,
    eval_share: float,
    progress: Callable[[str], None] | None = None,
) -> list[Published]:
    """Build, audit and publish every eval set. One that fails its audit does not stop the others.

    The frames are the history of the tables; ``methods`` that of ``consensus_methods``.
    """
    specs = load_specs(home, policies)
    out = []
    for policy in policies:
        examples = {e.text_sha256 for e in load_examples(home, policy)}
        for spec in specs[policy.id]:
            if progress is not None:
                progress(spec.name)
            candidate = candidate_for(home, policy, spec, consensus, content, votes, drops, methods)

            def audit(c: Candidate, hashes: set[str] = examples) -> list[dict[str, object]]:
                return audit_release(c, hashes, eval_share)

            out.append(publish(home, candidate, audit, release_page))
    return out
