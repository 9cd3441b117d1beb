"""Results of expectations, and frames of releases, as rows."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any

import polars as pl

from moderation_pipelines.accounting.tables import VALIDATIONS
from moderation_pipelines.eval_sets.release import Release
from moderation_pipelines.tables.left_out import Tally


def validation_rows(suite: str, subject: str, results: Iterable[dict[str, Any]], day: date) -> pl.DataFrame:
    """Results as rows of the ``validations`` table."""
    rows = [
        {
            "suite": suite,
            "subject": subject,
            "expectation": r["id"],
            **{k: r[k] for k in ("severity", "passed", "n", "n_unexpected", "examples", "observed", "why")},
            "drop_date": day,
        }
        for r in results
    ]
    return pl.DataFrame(rows, schema=VALIDATIONS.schema)


def release_left_out(release: Release) -> list[dict[str, Any]]:
    """What the frame of a release left out, and how many of the frame were not drawn. Rows of ``left_out`` but the
    day."""
    m = release.manifest
    drawn, frame = m["rows"], sum(s["frame_size"] for s in m["frame"])
    tally = Tally("eval_sets", f"{release.name} {release.version}", frame + sum(m["left_out"].values()))
    for rule, n in m["left_out"].items():
        if n:
            tally.leave_out(rule, n)
    if frame - drawn:
        tally.leave_out("not drawn", frame - drawn)
    return tally.rows()
