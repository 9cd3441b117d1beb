"""Rater cards over the trailing window."""

from typing import Any

import polars as pl

from moderation_pipelines.policies.policy import usable_policies
from moderation_pipelines.raters.cards import rater_cards
from moderation_pipelines.raters.tables import RATERS
from moderation_pipelines.votes.tables import VOTES
from moderation_pipelines.wiring.day_run import DayRun, Span
from moderation_pipelines.wiring.partitions import Days
from moderation_pipelines.wiring.table_assets import one, tables_asset


def build(days: Days) -> list[Any]:
    def cards(run: DayRun) -> pl.DataFrame:
        return rater_cards(run.read(VOTES), usable_policies(run.home), run.date)

    return [tables_asset(days, [RATERS], one(RATERS, cards), {VOTES: Span.WINDOW})]
