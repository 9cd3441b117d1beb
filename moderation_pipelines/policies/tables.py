"""The table of policies."""

from __future__ import annotations

from moderation_pipelines.tables.column import text, texts
from moderation_pipelines.tables.table import Table
from moderation_pipelines.tables.vocabulary import POLICY

POLICIES = Table(
    "policies",
    "one policy as it stands",
    ("policy",),
    {
        "policy": POLICY.with_(unique=True),
        "title": text("name for people"),
        "version": text("version"),
        "scale": text("scale of the labels", one_of=("nominal", "ordinal", "interval", "ratio")),
        "labels": texts("labels in order"),
        "violating_labels": texts("labels that violate"),
        "aggregation": text("method by which votes become a label"),
        "on_repeat": text("which of a rater's repeated votes counts", one_of=("last", "first")),
        "sha256": text("SHA-256 of policy.yaml"),
    },
    daily=False,
)
