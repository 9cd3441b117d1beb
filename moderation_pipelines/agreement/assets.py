"""Agreement between raters over the trailing window, and where they disagree."""

from collections.abc import Callable
from typing import Any

import polars as pl

from moderation_pipelines.agreement.daily import (
    agreement_table,
    disagreements_table,
    guideline_comparisons_table,
    rater_pairs_table,
    voted_with_items,
)
from moderation_pipelines.agreement.tables import AGREEMENT, DISAGREEMENTS, GUIDELINE_COMPARISONS, RATER_PAIRS
from moderation_pipelines.ingest.tables import CONTENT
from moderation_pipelines.policies.policy import Policies, usable_policies
from moderation_pipelines.tables.table import Table
from moderation_pipelines.votes.tables import VOTES
from moderation_pipelines.wiring.day_run import DayRun, Span
from moderation_pipelines.wiring.partitions import Days
from moderation_pipelines.wiring.table_assets import one, tables_asset

Make = Callable[[pl.LazyFrame, Policies, DayRun], pl.DataFrame]


def build(days: Days) -> list[Any]:
    def over_window(table: Table, make: Make) -> Any:
        def made(run: DayRun) -> pl.DataFrame:
            policies = usable_policies(run.home)
            voted = voted_with_items(
                run.read(VOTES), run.read(CONTENT), policies, run.tally if table is AGREEMENT else None
            )
            return make(voted, policies, run)

        reads = {VOTES: Span.WINDOW, CONTENT: Span.WINDOW}
        return tables_asset(days, [table], one(table, made, _alphas if table is AGREEMENT else None), reads)

    def replicates(run: DayRun) -> int:
        return run.settings.bootstrap_replicates

    return [
        over_window(AGREEMENT, lambda v, p, run: agreement_table(v, p, run.window_start, run.date, replicates(run))),
        over_window(DISAGREEMENTS, lambda v, p, run: disagreements_table(v, p, run.date, replicates(run))),
        over_window(RATER_PAIRS, lambda v, p, run: rater_pairs_table(v, p, run.date)),
        over_window(
            GUIDELINE_COMPARISONS, lambda v, p, run: guideline_comparisons_table(v, p, run.date, replicates(run))
        ),
    ]


def _alphas(frame: pl.DataFrame) -> dict[str, str]:
    overall = frame.filter(pl.col("slice") == "all", pl.col("coefficient") == "krippendorff_alpha")
    return {
        f"alpha {p}": "undefined" if v is None else f"{v:.3f}, n {n:,}"
        for p, v, n in overall.select("policy", "value", "n_items").iter_rows()
    }
