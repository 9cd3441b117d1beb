"""Consensus labels, and how good each method of adding votes up is."""

from typing import Any

import polars as pl

from moderation_pipelines.consensus.labels import chosen_methods, consensus_labels, consensus_methods_table
from moderation_pipelines.consensus.tables import CONSENSUS, CONSENSUS_METHODS
from moderation_pipelines.policies.policy import usable_policies
from moderation_pipelines.votes.tables import VOTES
from moderation_pipelines.wiring.day_run import DayRun, Span
from moderation_pipelines.wiring.partitions import Days
from moderation_pipelines.wiring.table_assets import one, tables_asset


def build(days: Days) -> list[Any]:
    def methods(run: DayRun) -> pl.DataFrame:
        before = run.read(CONSENSUS_METHODS).collect()
        return consensus_methods_table(run.read(VOTES), usable_policies(run.home), run.date, before)

    def labels(run: DayRun) -> pl.DataFrame:
        chosen = chosen_methods(run.read(CONSENSUS_METHODS).collect())
        return consensus_labels(run.read(VOTES), usable_policies(run.home), run.date, chosen, run.tally)

    window = {VOTES: Span.WINDOW}
    return [
        tables_asset(
            days, [CONSENSUS_METHODS], one(CONSENSUS_METHODS, methods, _methods_shown),
            {**window, CONSENSUS_METHODS: Span.BEFORE},
        ),
        tables_asset(
            days, [CONSENSUS], one(CONSENSUS, labels, _labels_shown),
            {**window, CONSENSUS_METHODS: Span.DAY},
        ),
    ]  # fmt: skip


def _methods_shown(frame: pl.DataFrame) -> dict[str, Any]:
    unsettled = frame.filter(pl.col("is_chosen") & ~pl.col("is_converged")).height
    return {**{f"method of {p}": m for p, m in chosen_methods(frame).items()}, "not converged": unsettled}


def _labels_shown(frame: pl.DataFrame) -> dict[str, Any]:
    methods = {f"by {m or 'nothing'}": n for m, n in frame.group_by("method").len().sort("method").iter_rows()}
    return {"ties": int(frame["is_tie"].sum()), **methods}
