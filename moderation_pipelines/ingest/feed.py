"""What a feed is, and the registry of them: one file of ``feeds/`` each.

A feed says which columns its rows have, how its table's rows are finished, and what a repeated delivery is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Any, Literal

import polars as pl

from moderation_pipelines.foundation.registry import Registry
from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.ingest.fields import Field
from moderation_pipelines.ingest.sides import SideRule
from moderation_pipelines.policies.policy import Policies
from moderation_pipelines.tables.table import Table
from moderation_pipelines.tables.warehouse import Warehouse


@dataclass(frozen=True)
class Broken:
    """One rule one row broke."""

    row: int
    rule: str
    column: str | None
    value: str | None
    message: str


@dataclass(frozen=True)
class Delivery:
    """One delivered file, as its rows know it; and how the home's items are divided into sides."""

    day: date
    file: str
    sides: SideRule = field(default_factory=SideRule)


class Feed:
    """One feed. Subclasses set the class attributes, and override what they do otherwise.

    ``required``: fields every row must have. ``key``: the column that tells a repeated delivery. ``on_conflict``: what
    becomes of a row whose key was delivered before with other fields. ``looks_back``: reads its table's earlier days.
    ``along``: tables made along with its own.
    """

    name: str
    order: int = 100
    table: Table
    fields: Mapping[str, Field]
    required: tuple[str, ...]
    key: str
    on_conflict: Literal["quarantine", "duplicate"] = "quarantine"
    looks_back: bool = False
    along: tuple[Table, ...] = ()
    # The field that says which of two rows about the same came later; without it the order of rows does.
    ordered_by: str | None = None
    # Fields whose loss changes what a row is: a file that has one under another name is rejected.
    never_misnamed: tuple[str, ...] = ()
    # Columns of the table that a second delivery of the same row may have otherwise.
    apart: tuple[str, ...] = ("drop_file", "drop_line")

    @cached_property
    def known(self) -> frozenset[str]:
        """Every name a field of a row may have that is read."""
        return frozenset(self.fields) | {alias for _, alias in self.aliases}

    @cached_property
    def aliases(self) -> list[tuple[str, str]]:
        """(field, other name it may be delivered under)."""
        return [(name, alias) for name, f in self.fields.items() for alias in f.aliases]

    @property
    def schema(self) -> dict[str, Any]:
        """Types of the fields: those of the table's columns."""
        return {name: self.table.columns[name].dtype for name in self.fields}

    def row_mistakes(
        self,
        columns: Mapping[str, list[Any]],
        policies: Policies,
        told: Collection[tuple[int, str | None]],
        broken_policies: Collection[str],
    ) -> list[Broken]:
        """Mistakes that take more than one field to see. ``told``: (row, column) with a mistake already."""
        return []

    def finished(self, good: pl.DataFrame, delivery: Delivery, policies: Policies, settings: Settings) -> pl.DataFrame:
        """Good rows with everything the table wants that does not depend on other rows."""
        placed = good.lazy().with_columns(drop_date=pl.lit(delivery.day), drop_file=pl.lit(delivery.file))
        return self.table.filled(placed).collect()

    def fingerprints(self, frame: pl.DataFrame, policies: Policies) -> list[pl.Expr]:
        """What is looked at of a row, once repeated deliveries are gone, beside the hashes of its key and fields."""
        return []

    def marks(self, kept: pl.DataFrame) -> pl.DataFrame:
        """Columns of kept rows that depend on the day's other rows. ``kept``: row number and :meth:`fingerprints`."""
        return kept.select("row")

    def marks_schema(self) -> dict[str, Any]:
        """Types of those columns."""
        return {}

    def bucket(self) -> str:
        """Column of the fingerprints by which rows that concern each other fall together."""
        return "id_1"

    def completed(
        self, frames: Iterable[pl.DataFrame], warehouse: Warehouse, day: date, settings: Settings, sides: SideRule
    ) -> Any:
        """What all kept rows of the day tell of each other, for :meth:`published`; None if nothing is needed."""
        return None

    def published(self, frame: pl.DataFrame, completed: Any) -> pl.DataFrame:
        """Kept rows as they are written."""
        return frame.select(self.table.schema.names())

    def made_along(self, completed: Any) -> list[pl.DataFrame]:
        """The day's rows of the tables ``along``."""
        return []


FEEDS: Registry[Feed] = Registry("feed", "moderation_pipelines.ingest.feeds", "FEED", Feed, "order")


def feed_names() -> tuple[str, ...]:
    """Names of every feed."""
    return FEEDS.names
