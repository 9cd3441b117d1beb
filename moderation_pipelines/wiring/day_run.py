"""What the function behind an asset works on: one day, the files and settings in force on it, the tables it reads."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, TypeVar

import polars as pl
from pydantic import BaseModel

from moderation_pipelines.foundation.home import Home
from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.tables import store
from moderation_pipelines.tables.in_force import SETTING, Thing, digest, home_in_force
from moderation_pipelines.tables.left_out import Tally
from moderation_pipelines.tables.table import Table
from moderation_pipelines.tables.warehouse import Warehouse
from moderation_pipelines.wiring.pipeline import Pipeline, Tell
from moderation_pipelines.wiring.settings_file import load_thresholds


class Span(StrEnum):
    """Which days of a table a day's work reads."""

    DAY = "the day itself"
    WINDOW = "the trailing window that ends on the day"
    BEFORE = "the window without its last day"
    HISTORY = "every day"
    WHOLE = "a table without days"


Limits = TypeVar("Limits", bound=BaseModel)


@dataclass
class DayRun:
    """One run of one asset. ``day`` is None for assets without days: they take the home's files as they stand."""

    pipeline: Pipeline
    day: dt.date | None
    reads: Mapping[Table, Span]
    tallies: list[Tally] = field(default_factory=list)

    @cached_property
    def things(self) -> list[Thing]:
        """What is in force on the day; recorded now if the day was never run."""
        return [] if self.day is None else self.pipeline.state_day(self.day, open_again=False)

    @cached_property
    def home(self) -> Home:
        """The home with the files in force on the day."""
        return self.pipeline.home if self.day is None else home_in_force(self.pipeline.home, self.things)

    @cached_property
    def settings(self) -> Settings:
        """The settings in force on the day."""
        stated = {t.name: t.version for t in self.things if t.kind == SETTING}
        return self.pipeline.settings.stated(stated)

    @property
    def date(self) -> dt.date:
        """The day, for assets that have one."""
        assert self.day is not None
        return self.day

    @property
    def warehouse(self) -> Warehouse:
        return self.pipeline.warehouse

    @property
    def tell(self) -> Tell:
        return self.pipeline.tell

    @property
    def window_start(self) -> dt.date:
        """First day of the trailing window."""
        return self.date - dt.timedelta(days=self.settings.window_days - 1)

    def days(self, table: Table) -> list[dt.date] | None:
        """The days of a table this run reads; None for all of them, or for a table without days."""
        span = self.reads[table]
        if span in (Span.HISTORY, Span.WHOLE):
            return None
        if span is Span.DAY:
            return [self.date]
        last = self.date - dt.timedelta(days=1) if span is Span.BEFORE else self.date
        n = (last - self.window_start).days + 1
        return [self.window_start + dt.timedelta(days=i) for i in range(n)]

    def read(self, table: Table) -> pl.LazyFrame:
        """The rows this run reads of a table it declared."""
        return self.warehouse.scan(table, self.days(table))

    def made_from(self) -> dict[str, str]:
        """The version of everything a day's rows are made from, by name: partitions (empty: never written), and what
        is in force. Tables read over all of history are not listed."""
        out = {} if self.day is None else {f"in_force/{self.day}": digest(self.things)}
        for table in self.reads:
            for d in self.days(table) or ():
                out[f"{table.name}/{d}"] = self.warehouse.version(table, d) or ""
        return out

    def thresholds(self, stage: str, model: type[Limits]) -> Limits:
        """A stage's limits: those of ``prompts/settings.yaml`` in force, else the stage's own."""
        return load_thresholds(self.home, stage, model)

    def tally(self, stage: str, subject: str, n_in: int) -> Tally:
        """A count of what a step leaves out, kept for the ``left_out`` table."""
        tally = Tally(stage, subject, n_in)
        self.tallies.append(tally)
        return tally

    def keep_tallies(self, op: str) -> None:
        """Keep what this run left out until the day's tables are closed."""
        if self.day is not None:
            rows = [row for tally in self.tallies for row in tally.rows()]
            store.write_json(tallies_file(self.pipeline.home, self.day, op), rows)


def tallies_file(home: Home, day: dt.date, op: str) -> Any:
    return home.warehouse / "_accounts" / str(day) / f"{op}.json"


def kept_tallies(home: Home, day: dt.date) -> list[dict[str, Any]]:
    """The rows of ``left_out`` that the runs of a day have kept."""
    folder = tallies_file(home, day, "x").parent
    return [row for name in store.names(folder) if name.endswith(".json") for row in store.read_json(folder / name)]
