"""Stored votes against the policies of today: a label that left its policy is told, never dropped in silence."""

from __future__ import annotations

import polars as pl

from moderation_pipelines.foundation.errors import Problem, did_you_mean
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.policies.policy import Policies, usable_policies
from moderation_pipelines.tables.warehouse import Warehouse
from moderation_pipelines.votes.tables import VOTES
from moderation_pipelines.votes.window import unknown_labels


def stray_labels(votes: pl.LazyFrame, policies: Policies) -> dict[str, str]:
    """Per policy with stored votes on labels it does not have: what they are, how many, and how to settle it."""
    out = {}
    for policy in policies:
        found = unknown_labels(votes, policy, policies)
        if found:
            said = [
                f'{n:,} stored votes have label "{label[:40]}", which is not in the policy'
                f"{did_you_mean(label, policy.label_ids)}"
                for label, n in found.items()
            ]
            out[policy.id] = "; ".join(said) + '; if a label was renamed, write renamed_from: ["old id"] on it'
    return out


def home_problems(home: Home) -> list[Problem]:
    """A problem for each policy whose stored votes have labels it does not have."""
    found = stray_labels(Warehouse(home).scan(VOTES), usable_policies(home))
    return [Problem(f"prompts/{policy}/policy.yaml", None, said) for policy, said in found.items()]
