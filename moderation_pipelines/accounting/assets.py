"""The day closed: every expectation's result, and every row a filter left out."""

from collections.abc import Iterator
from typing import Any

import polars as pl

from moderation_pipelines.accounting.rows import release_left_out, validation_rows
from moderation_pipelines.accounting.tables import VALIDATIONS
from moderation_pipelines.auditing.results import read_audit
from moderation_pipelines.eval_sets.asked import in_force, releases_of
from moderation_pipelines.tables.left_out import LEFT_OUT, gaps, left_out_table
from moderation_pipelines.wiring.day_run import DayRun, kept_tallies
from moderation_pipelines.wiring.partitions import Days
from moderation_pipelines.wiring.table_assets import Check, Checked, Made, one, tables_asset

CLOSES = Check(LEFT_OUT.name, "sums_close", "Rows in = rows out + rows left out, for every step and its next.")


def build(days: Days) -> list[Any]:
    after = tuple(n for n in days.earlier if n in ("eval_sets", "scores", "metrics"))
    return [
        tables_asset(days, [VALIDATIONS], one(VALIDATIONS, validations, _shown), after=after),
        tables_asset(days, [LEFT_OUT], left_out, after=days.earlier, checks=[CLOSES]),
    ]


def validations(run: DayRun) -> pl.DataFrame:
    """What the audits of the day's releases, scores and metrics found."""
    releases = in_force(releases_of(run.home, run.warehouse, run.date))
    parts = [validation_rows("release", f"{r.name} {r.version}", r.validation(), run.date) for r in releases]
    parts += [
        validation_rows(suite, str(run.date), read_audit(run.pipeline.home, suite, run.date), run.date)
        for suite in ("scores", "metrics")
    ]
    return pl.concat(parts)


def left_out(run: DayRun) -> Iterator[Made | Checked]:
    """What each step of the day left out, with the frames of the releases in force."""
    releases = in_force(releases_of(run.home, run.warehouse, run.date))
    rows = kept_tallies(run.pipeline.home, run.date)
    frame = left_out_table([*rows, *(row for r in releases for row in release_left_out(r))], run.date)
    yield Made(LEFT_OUT, frame)
    open_sums = gaps(frame)
    if not frame.height:
        yield CLOSES.nothing("No step of the day has told what it left out.")
    else:
        yield CLOSES.result(not open_sums, "; ".join(open_sums) or None)


def _shown(frame: pl.DataFrame) -> dict[str, Any]:
    broken = frame.filter(~pl.col("passed"))
    named = ", ".join(f"{s}: {e}" for s, e in broken.select("subject", "expectation").iter_rows())
    return {"held": int(frame["passed"].sum()), "broken": broken.height, "which": named or "none"}
