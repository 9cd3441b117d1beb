"""A column and what is known of it. Checks, docs, previews, row rules and erasure are all derived from these facts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import polars as pl

Subject = Literal["item", "author", "rater"]
Choices = tuple[str, ...] | Callable[[], tuple[str, ...]]

UTC = pl.Datetime("us", "UTC")
STRING, INT, FLOAT, BOOL, DATE = pl.String(), pl.Int64(), pl.Float64(), pl.Boolean(), pl.Date()


@dataclass(frozen=True)
class Column:
    """One column of a table.

    ``meaning``: a noun phrase with its null rule. ``nullable``: whether the table may hold nulls in it. ``may_null``:
    ingestion nulls a bad value and counts it instead of putting the row in quarantine. ``unique``: no value stands
    twice in a partition. ``minimum``, ``maximum``: inclusive bounds. ``one_of``: the closed list of values, or a
    function that gives it. ``unit``: unit of measure. ``holds_text``: holds item text or what may quote it, and is
    never shown outside the table. ``about``: the column names whom the row is about; erasure finds rows by it.
    ``volatile``: may differ when an old day is materialised again. ``added``: rows of earlier versions lack the column
    and hold null in it. ``formerly``: the name it has in rows of earlier versions.
    """

    dtype: pl.DataType
    meaning: str
    nullable: bool = False
    may_null: bool = False
    unique: bool = False
    minimum: float | None = None
    maximum: float | None = None
    one_of: Choices = ()
    unit: str | None = None
    holds_text: bool = False
    about: Subject | None = None
    volatile: bool = False
    added: bool = False
    formerly: str | None = None

    def __post_init__(self) -> None:
        if self.added and not self.nullable:
            raise ValueError("a column that earlier rows lack must be nullable")

    @property
    def choices(self) -> tuple[str, ...]:
        """The closed list of values; empty when any value may stand."""
        return self.one_of() if callable(self.one_of) else self.one_of

    def with_(self, **facts: Any) -> Column:
        """The same column with other facts."""
        return replace(self, **facts)


def text(meaning: str, **facts: Any) -> Column:
    return Column(STRING, meaning, **facts)


def integer(meaning: str, **facts: Any) -> Column:
    return Column(INT, meaning, **facts)


def number(meaning: str, **facts: Any) -> Column:
    return Column(FLOAT, meaning, **facts)


def flag(meaning: str, **facts: Any) -> Column:
    return Column(BOOL, meaning, **facts)


def day(meaning: str, **facts: Any) -> Column:
    return Column(DATE, meaning, **facts)


def moment(meaning: str, **facts: Any) -> Column:
    return Column(UTC, meaning, **facts)


def texts(meaning: str, **facts: Any) -> Column:
    return Column(pl.List(pl.String()), meaning, **facts)


def count(meaning: str, **facts: Any) -> Column:
    """A whole number of things, 0 or more."""
    return Column(INT, meaning, **{"minimum": 0, **facts})


def share(meaning: str, **facts: Any) -> Column:
    """A share or probability, 0 to 1; null where it is undefined."""
    return Column(FLOAT, meaning, **{"nullable": True, "minimum": 0, "maximum": 1, **facts})


def estimate(meaning: str, **facts: Any) -> Column:
    """An estimate or an end of its interval; null where it is undefined."""
    return Column(FLOAT, meaning, **{"nullable": True, **facts})
