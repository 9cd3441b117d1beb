"""The table of prompt versions."""

from __future__ import annotations

from moderation_pipelines.tables.column import count, text
from moderation_pipelines.tables.table import Table
from moderation_pipelines.tables.vocabulary import POLICY

PROMPTS = Table(
    "prompts",
    "one prompt version",
    ("prompt_id",),
    {
        "prompt_id": text("policy/version; version `compiled` when made from policy.yaml", unique=True),
        "policy": POLICY,
        "version": text("v1, v2, ... or compiled"),
        "prompt_sha256": text("SHA-256 of the template and what it is rendered with, but for the item"),
        "n_examples": count("few-shot examples in it", unit="examples"),
        "n_characters": count("length of the constant part", unit="characters"),
    },
    daily=False,
)
