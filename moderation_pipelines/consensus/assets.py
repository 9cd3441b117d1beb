"""Consensus labels, and how good each method of adding votes up is."""

from collections.abc import Iterator
from typing import Any

import polars as pl

from moderation_pipelines.consensus.basis import IN_WORDS
from moderation_pipelines.consensus.labels import (
    chosen_calibrations,
    chosen_methods,
    consensus_labels,
    measured_methods,
)
from moderation_pipelines.consensus.tables import CONSENSUS, CONSENSUS_METHODS, RELIABILITY
from moderation_pipelines.policies.policy import usable_policies
from moderation_pipelines.votes.tables import VOTES
from moderation_pipelines.wiring.day_run import DayRun, Span
from moderation_pipelines.wiring.partitions import Days
from moderation_pipelines.wiring.table_assets import Made, one, tables_asset


def build(days: Days) -> list[Any]:
    def methods(run: DayRun) -> Iterator[Made]:
        before = run.read(CONSENSUS_METHODS).collect()
        found, reliability = measured_methods(run.read(VOTES), usable_policies(run.home), run.date, before)
        yield Made(CONSENSUS_METHODS, found, _methods_shown(found))
        yield Made(RELIABILITY, reliability)

    def labels(run: DayRun) -> pl.DataFrame:
        policies, measured = usable_policies(run.home), run.read(CONSENSUS_METHODS).collect()
        return consensus_labels(
            run.read(VOTES), policies, run.date, chosen_methods(measured), run.tally,
            chosen_calibrations(measured, policies),
        )  # fmt: skip

    window = {VOTES: Span.WINDOW}
    return [
        tables_asset(
            days, [CONSENSUS_METHODS, RELIABILITY], methods,
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
    bases = {
        f"basis: {IN_WORDS[b]}": n
        for b, n in frame.drop_nulls("basis").group_by("basis").len().sort("basis").iter_rows()
    }
    methods = {f"by {m or 'nothing'}": n for m, n in frame.group_by("method").len().sort("method").iter_rows()}
    return {"ties": int(frame["is_tie"].sum()), **methods, **bases}
