"""Results of the day's suites, kept until they are collected as a table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from moderation_pipelines.foundation.home import Home
from moderation_pipelines.tables import store


def _audit_file(home: Home, suite: str, day: date) -> Path:
    return home.warehouse / "_audits" / str(day) / f"{suite}.json"


def write_audit(home: Home, suite: str, day: date, results: Sequence[dict[str, Any]]) -> None:
    """Keep a day's results of a suite, for the ``validations`` table."""
    store.write_json(_audit_file(home, suite, day), list(results))


def read_audit(home: Home, suite: str, day: date) -> list[dict[str, Any]]:
    """A day's results of a suite; none if it was not run on that day."""
    file = _audit_file(home, suite, day)
    if not store.is_file(file):
        return []
    value = store.read_json(file)
    assert isinstance(value, list)
    return value
