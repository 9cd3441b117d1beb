"""A day of drops: four tables from one pass over the files."""

from collections.abc import Iterator
from typing import Any

import polars as pl

from moderation_pipelines.ingest.day import ingest_day
from moderation_pipelines.ingest.feed import FEEDS
from moderation_pipelines.ingest.sides import keyed_items
from moderation_pipelines.ingest.tables import CONTENT, CONVERSIONS, DROPS, NEAR_DUPLICATE_CLUSTERS, QUARANTINE
from moderation_pipelines.policies.policy import load_policies_leniently
from moderation_pipelines.wiring.day_run import DayRun, Span
from moderation_pipelines.wiring.partitions import Days
from moderation_pipelines.wiring.table_assets import Check, Checked, Made, tables_asset

ACCOUNTING = Check(DROPS.name, "rows_in_equal_rows_out", "accepted + quarantined + duplicates = delivered.")
ALL_READ = Check(DROPS.name, "every_file_could_be_read", "No file was rejected, and of none were all rows quarantined.")
KEYED = Check(
    CONTENT.name,
    "items_are_divided_by_their_key",
    "Every item is on the side of its key, has the key the home's items are divided by, and keeps no side it had by "
    "another; no key holds half of a hundred items or more.",
    "warning",
)


def build(days: Days) -> list[Any]:
    tables = (DROPS, QUARANTINE, CONVERSIONS, *(t for feed in FEEDS for t in (feed.table, *feed.along)))
    reads = {feed.table: Span.BEFORE for feed in FEEDS if feed.looks_back}

    def ingest(run: DayRun) -> Iterator[Made | Checked]:
        policies, problems = load_policies_leniently(run.home)
        broken = {p.file.split("/")[1] for p in problems if p.file.count("/") > 1}
        done = ingest_day(
            run.warehouse, policies, run.date, run.settings, lambda place, n: run.tell(place), run.made_from(), broken
        )
        drops = run.warehouse.scan(DROPS, [run.date]).collect()
        totals = drops.filter(pl.col("status") != "rejected").sum().to_dicts()[0]
        rows_out = totals["accepted"] + totals["quarantined"] + totals["duplicates"]
        counts = {k: totals[k] for k in ("rows", "accepted", "quarantined", "duplicates")}
        for table in tables:
            more = _bridges(run) if table is NEAR_DUPLICATE_CLUSTERS else {}
            yield Made(table, None, {"files": len(done.files), **more, **({} if done.files else {"note": _NOTHING})})
        if not done.files:
            yield ACCOUNTING.nothing(_NOTHING)
            yield ALL_READ.nothing(_NOTHING)
            yield KEYED.nothing(_NOTHING)
            return
        yield ACCOUNTING.result(rows_out == totals["rows"], **counts)
        yield ALL_READ.result(not done.rejected, **{f.place: str(f.why) for f in done.rejected})
        found = keyed_items(run.warehouse, run.date, run.settings.eval_share)
        yield KEYED.result(not found.wrong, "; ".join(found.wrong) or None, **found.counts)

    return [tables_asset(days, tables, ingest, reads, checks=(ACCOUNTING, ALL_READ, KEYED), name="ingest")]


def _bridges(run: DayRun) -> dict[str, int]:
    """How many of the day's texts have near-duplicates on the other side, where clusters divide."""
    texts = run.warehouse.scan(NEAR_DUPLICATE_CLUSTERS, [run.date]).select("is_bridge").collect()
    return {"bridges, not moved": int(texts["is_bridge"].sum())} if texts.height else {}


_NOTHING = "No files were delivered for this day."
