"""Every release as a row, and what became of each set when it was last built."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from moderation_pipelines.eval_sets.release import Published, current_release, eval_set_names, releases
from moderation_pipelines.eval_sets.tables import RELEASES
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.tables import store

Outcome = dict[str, Any]
REFUSED = ("failed", "empty", "broken")


def _file(home: Home) -> Path:
    return home.warehouse / "_accounts" / "eval_sets.json"


def keep_outcomes(home: Home, published: Sequence[Published]) -> None:
    """Keep what became of each set until the list of releases is written."""
    rows = [
        {
            "name": p.name,
            "status": "stands" if p.status in ("published", "unchanged") else p.status,
            "failed": [r["id"] for r in p.failed],
            "page": None if p.candidate_path is None else home.relative(p.candidate_path / "validation.html"),
            "reason": p.reason,
        }
        for p in published
    ]
    store.write_json(_file(home), rows)


def kept_outcomes(home: Home) -> dict[str, Outcome]:
    """What became of each set when it was last built, by its name; none before the first time."""
    file = _file(home)
    return {row["name"]: row for row in store.read_json(file)} if store.is_file(file) else {}


def refusals(home: Home, outcomes: dict[str, Outcome]) -> list[str]:
    """A line for each set that was not published, with the reason and what stays in force."""
    said = []
    for name, outcome in outcomes.items():
        if outcome["status"] not in REFUSED or not (outcome["reason"] or outcome["failed"]):
            continue
        why = outcome["reason"] or f"the audit failed ({', '.join(outcome['failed'])})"
        see = f"; see {outcome['page']}" if outcome["page"] else ""
        current = current_release(home, name)
        stays = f"release {current.version} stays in force" if current else "no release is in force"
        said.append(f"{name}: {why}{see}; {stays}")
    return said


def releases_frame(home: Home, outcomes: dict[str, Outcome]) -> pl.DataFrame:
    """The ``releases`` rows: every published release of every set."""
    rows = []
    for name in eval_set_names(home):
        there = releases(home, name)
        for release in there:
            m = release.manifest
            rows.append(
                {
                    "eval_set": name,
                    "version": release.version,
                    "policy": m["policy"],
                    "policy_version": m["policy_version"],
                    "n_items": m["rows"],
                    "n_violating": m["rows_violating"],
                    "content_sha256": m["content_sha256"],
                    "parent_version": m["parent_version"],
                    "is_in_force": release is there[-1],
                    "last_outcome": outcomes.get(name, {}).get("status") if release is there[-1] else None,
                }
            )
    return pl.DataFrame(rows, schema=RELEASES.schema)
