"""The prompt library: every version there is, and the promise that a published one never changes."""

from __future__ import annotations

from typing import Any

import polars as pl

from moderation_pipelines.foundation.errors import Problem, UserError
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.policies.policy import Policies, usable_policies
from moderation_pipelines.prompting.prompts import COMPILED, Prompt, load_prompt, prompt_versions
from moderation_pipelines.prompting.tables import PROMPTS
from moderation_pipelines.tables.warehouse import Warehouse


def all_prompts(home: Home, policies: Policies) -> tuple[list[Prompt], list[Problem]]:
    """Every prompt version of every policy that can be read, compiled ones included; and every mistake in the
    others."""
    prompts: list[Prompt] = []
    problems: list[Problem] = []
    for policy in policies:
        for version in [*prompt_versions(home, policy), COMPILED]:
            try:
                prompts.append(load_prompt(home, policy, version))
            except UserError as error:
                problems += error.problems
    return prompts, sorted(set(problems), key=lambda p: (p.file, p.line or 0, p.message))


def home_problems(home: Home) -> list[Problem]:
    """Every mistake in the home's prompts and examples, and every published prompt that changed."""
    policies = usable_policies(home)
    prompts, problems = all_prompts(home, policies)
    return problems + changed_since_published(home, policies, prompts, Warehouse(home).scan(PROMPTS))


def changed_since_published(
    home: Home, policies: Policies, prompts: list[Prompt], published: pl.LazyFrame
) -> list[Problem]:
    """Published vN prompts that read differently now than when they were published."""
    known = dict(published.select("prompt_id", "prompt_sha256").collect().iter_rows())
    problems = []
    for prompt in prompts:
        before = known.get(prompt.id)
        if prompt.version == COMPILED or before is None or before == prompt.sha256:
            continue
        numbers = [int(v[1:]) for v in prompt_versions(home, policies[prompt.policy])]
        file = f"prompts/{prompt.policy}/{prompt.version}.md"
        problems.append(
            Problem(
                file,
                None,
                "renders differently than when it was published (template, policy or examples changed); put it back "
                f"and write v{max(numbers) + 1}.md",
            )
        )
    return problems


def prompts_frame(home: Home, policies: Policies, published: pl.LazyFrame) -> pl.DataFrame:
    """The ``prompts`` table: every prompt but drafts. One that was published keeps the hash it was published with."""
    prompts, _ = all_prompts(home, policies)
    before = {p["prompt_id"]: p for p in published.collect().to_dicts()}
    rows: list[dict[str, Any]] = [
        {
            "prompt_id": p.id,
            "policy": p.policy,
            "version": p.version,
            "prompt_sha256": p.sha256,
            "n_examples": p.n_examples,
            "n_characters": len(p.system),
        }
        for p in prompts
        if p.status == "published"
    ]
    rows = [before.get(r["prompt_id"], r) if r["version"] != COMPILED else r for r in rows]
    return pl.DataFrame(rows, schema=PROMPTS.schema)
