"""Policies as they stand, as a table."""

import dagster as dg
import polars as pl

from moderation_pipelines.policies.policy import Policies
from moderation_pipelines.policies.tables import POLICIES
from moderation_pipelines.wiring.partitions import Days
from moderation_pipelines.wiring.pipeline import Pipeline
from moderation_pipelines.wiring.presentation import frame_metadata, table_asset, told_plainly


def policies_frame(policies: Policies) -> pl.DataFrame:
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


def build(days: Days) -> list[dg.AssetsDefinition]:
    @dg.asset(**table_asset(POLICIES, "policies", kinds={"yaml", "polars"}))
    def policies(pipeline: dg.ResourceParam[Pipeline]) -> dg.MaterializeResult[pl.DataFrame]:
        with told_plainly():
            frame = policies_frame(pipeline.policies())
        path = pipeline.warehouse.file(POLICIES)
        hashes = {f"policy {p}": h for p, h in frame.select("policy", "sha256").iter_rows()}
        return dg.MaterializeResult(value=frame, metadata=frame_metadata(POLICIES, frame, path, **hashes))

    return [policies]
