"""Results of the day's suites, kept until they are collected as a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moderation_pipelines.foundation.home import Home
from moderation_pipelines.tables.store import write_text

if TYPE_CHECKING:
    pass


def _audit_file(home: Home, suite: str, day: date) -> Path:
    return home.warehouse / "_audits" / str(day) / f"{suite}.json"


def write_audit(home: Home, suite: str, day: date, results: Sequence[dict[str, Any]]) -> None:
    """Keep a day's results of a suite, for the ``validations`` table."""
    write_text(_audit_file(home, suite, day), json.dumps(list(results), ensure_ascii=False, indent=1) + "\n")


def read_audit(home: Home, suite: str, day: date) -> list[dict[str, Any]]:
    """A day's results of a suite; none if it was not run on that day."""
    file = _audit_file(home, suite, day)
    if not file.is_file():
        return []
    value = json.loads(file.read_bytes())
    assert isinstance(value, list)
    return value
