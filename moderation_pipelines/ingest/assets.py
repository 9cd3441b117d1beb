"""A day of drops: four tables from one pass over the files."""

from collections.abc import Iterator

import dagster as dg

from moderation_pipelines.ingest.day import ingest_day
from moderation_pipelines.ingest.tables import CONTENT, DROPS, QUARANTINE, VOTES
from moderation_pipelines.tables.table import Table
from moderation_pipelines.wiring.partitions import Days
from moderation_pipelines.wiring.pipeline import Pipeline, day_of
from moderation_pipelines.wiring.presentation import frame_metadata, table_spec, told_plainly

ACCOUNTING = "rows_in_equal_rows_out"
ALL_READ = "every_file_could_be_read"


def build(days: Days) -> list[dg.AssetsDefinition]:
    tables: list[Table] = [DROPS, QUARANTINE, CONTENT, VOTES]
    past = {
        CONTENT.name: [dg.AssetDep(CONTENT.name, partition_mapping=days.before)],
        VOTES.name: ["policies"],
    }

    @dg.multi_asset(
        name="ingest",
        specs=[table_spec(t, "ingest", deps=past.get(t.name, [])) for t in tables],
        partitions_def=days.daily,
        check_specs=[
            dg.AssetCheckSpec(
                ACCOUNTING, asset=DROPS.name, description="accepted + quarantined + duplicates = delivered."
            ),
            dg.AssetCheckSpec(ALL_READ, asset=DROPS.name, description="No file was rejected as a whole."),
        ],
    )
    def ingest(
        context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> Iterator[dg.MaterializeResult]:
        day, warehouse = day_of(context.partition_key), pipeline.warehouse
        with told_plainly():
            done = ingest_day(
                warehouse, pipeline.policies(), day, pipeline.settings, lambda place, n: pipeline.tell(place)
            )
        delivered = {t.name: warehouse.scan(t, [day]).collect() for t in (DROPS, QUARANTINE)}
        totals = delivered["drops"].filter(status="accepted").sum().to_dicts()[0]
        rows_out = totals["accepted"] + totals["quarantined"] + totals["duplicates"]
        checks = [
            dg.AssetCheckResult(
                check_name=ACCOUNTING,
                asset_key=DROPS.name,
                passed=rows_out == totals["rows"],
                metadata={k: totals[k] for k in ("rows", "accepted", "quarantined", "duplicates")},
            ),
            dg.AssetCheckResult(
                check_name=ALL_READ,
                asset_key=DROPS.name,
                passed=not done.rejected,
                metadata={f.place: str(f.reason) for f in done.rejected},
            ),
        ]
        for table in tables:
            frame = warehouse.scan(table, [day]).head(8).collect()
            metadata = frame_metadata(table, frame, warehouse.file(table, day), files=len(done.files))
            metadata["dagster/row_count"] = warehouse.rows(table, day)
            if not done.files:
                metadata["note"] = "no files were delivered for this day"
            yield dg.MaterializeResult(
                asset_key=table.name, metadata=metadata, check_results=checks if table is DROPS else []
            )

    return [ingest]
