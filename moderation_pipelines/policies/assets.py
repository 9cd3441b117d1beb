"""Policies as they stand, as a table: those whose files are sound."""

from typing import Any

import polars as pl

from moderation_pipelines.policies.policy import Policies, usable_policies
from moderation_pipelines.policies.tables import POLICIES
from moderation_pipelines.wiring.partitions import Days
from moderation_pipelines.wiring.table_assets import one, tables_asset


def policies_frame(policies: Policies) -> pl.DataFrame:
    """The ``policies`` rows."""
    rows = [
        {
            "policy": p.id,
            "title": p.title,
            "version": p.version,
            "scale": p.scale,
            "labels": list(p.label_ids),
            "violating_labels": list(p.violating_labels),
            "aggregation": p.aggregation,
            "on_repeat": p.on_repeat,
            "sha256": p.sha256,
        }
        for p in policies
    ]
    return pl.DataFrame(rows, schema=POLICIES.schema)


def build(days: Days) -> list[Any]:
    def shown(frame: pl.DataFrame) -> dict[str, Any]:
        return {f"policy {p}": h for p, h in frame.select("policy", "sha256").iter_rows()}

    make = one(POLICIES, lambda run: policies_frame(usable_policies(run.home)), shown)
    return [tables_asset(days, [POLICIES], make, kinds=("yaml", "polars"))]
