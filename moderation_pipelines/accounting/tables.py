"""The table of expectations: what held and what did not."""

from __future__ import annotations

from moderation_pipelines.auditing.expectation import SEVERITIES
from moderation_pipelines.tables.column import count, flag, text, texts
from moderation_pipelines.tables.table import Table
from moderation_pipelines.tables.vocabulary import DROP_DATE

VALIDATIONS = Table(
    "validations",
    "one expectation on one subject",
    ("suite", "subject", "expectation", "drop_date"),
    {
        "suite": text("suite the expectation belongs to: release, scores or metrics"),
        "subject": text("what was looked at: a release, or the day"),
        "expectation": text("expectation id"),
        "severity": text("critical stops publication, warning is shown", one_of=SEVERITIES),
        "passed": flag("whether it held"),
        "n": count("rows looked at", unit="rows"),
        "n_unexpected": count("rows that broke it; null for expectations about the whole", nullable=True, unit="rows"),
        "examples": texts("up to five ids of rows that broke it"),
        "observed": text("what was found, for expectations about the whole; null for others", nullable=True),
        "why": text("reason why the expectation exists"),
        "drop_date": DROP_DATE,
    },
)
