"""Columns that mean the same in every table, defined once."""

from __future__ import annotations

import polars as pl

from moderation_pipelines.tables.column import Column, count, day, estimate, integer, share, text

LABEL_PROBABILITIES = pl.List(pl.Struct({"label": pl.String(), "probability": pl.Float64()}))

POLICY = text("policy id")
ITEM_ID = text("item id", about="item")
RATER_ID = text("rater id", about="rater")
JUDGE_ID = text("judge id")
EVAL_SET = text("eval set")
VERSION = text("release of the eval set")
NOTE = text("reason why a value is null or misleading; null when there is none", nullable=True)
SLICE_VALUE = text("value of the slice; null for all", nullable=True)
DROP_DATE = day("the day")
DROP_FILE = text("file name inside the day folder")
DELIVERED = day("day folder the file was delivered to")
LINE = integer("line of the row in the file, from 1 (CSV: first line of the row; Parquet: row number)", minimum=1)
EXTRA = text("every other field delivered, as JSON; null without one", nullable=True, holds_text=True)
WINDOW_DAY = day("last day of the window")
SCORED_DAY = day("day it was scored for")


def low(of: str = "95 % interval", **facts: object) -> Column:
    """Lower end of an interval."""
    return estimate(f"lower end of the {of}; null when undefined", **facts)


def high(of: str = "95 % interval", **facts: object) -> Column:
    """Upper end of an interval."""
    return estimate(f"upper end of the {of}; null when undefined", **facts)


def low_share(of: str = "95 % interval") -> Column:
    return share(f"lower end of the {of}; null when undefined")


def high_share(of: str = "95 % interval") -> Column:
    return share(f"upper end of the {of}; null when undefined")


def p_value(of: str) -> Column:
    """A p-value."""
    return share(f"p-value, {of}" if "null" in of or "else null" in of else f"p-value, {of}; null when undefined")


def tokens(of: str) -> Column:
    return count(of, nullable=True, unit="tokens")


def usd(of: str) -> Column:
    return estimate(of, minimum=0, unit="USD")


def milliseconds(of: str) -> Column:
    return estimate(of, minimum=0, unit="ms")
