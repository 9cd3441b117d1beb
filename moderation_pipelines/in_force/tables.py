"""The table of the files a person edits."""

from __future__ import annotations

from moderation_pipelines.tables.column import count, text
from moderation_pipelines.tables.table import Table

HOME_FILES = Table(
    "home_files",
    "one file a person edits, as it stands",
    ("name",),
    {
        "kind": text("kind of file"),
        "name": text("path inside prompts/", unique=True),
        "sha256": text("SHA-256 of its bytes"),
        "n_problems": count("mistakes in it", unit="mistakes"),
    },
    daily=False,
)
