"""Row rules: raw rows in, typed good rows and quarantined rows out. Every mistake of a row is named at once."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from itertools import islice
from typing import Any

import orjson
import polars as pl

from moderation_pipelines.foundation.errors import SHOWN_VALUE, shown
from moderation_pipelines.foundation.settings import Bounds
from moderation_pipelines.ingest.feed import Broken, Feed
from moderation_pipelines.ingest.fields import Mended, Unfit
from moderation_pipelines.ingest.looks_like import column_meant
from moderation_pipelines.ingest.reading import RawRow, Unreadable
from moderation_pipelines.ingest.tables import QUARANTINE
from moderation_pipelines.policies.policy import Policies

_HINTS, _COMPARED_FIELDS = 50, 50
_NUMBERS = (float, Decimal)


@dataclass
class Batch:
    """What became of a batch: good rows (typed columns, ``extra``, ``drop_line``) and quarantined rows."""

    good: pl.DataFrame
    bad: pl.DataFrame
    broken: list[Broken] = field(default_factory=list)
    conversions: Counter[tuple[str, str]] = field(default_factory=Counter)


@dataclass
class _Findings:
    """What was found in a batch: rules that rows broke, and values that were read otherwise or nulled, by row."""

    broken: list[Broken]
    converted: list[tuple[int, str, str]] = field(default_factory=list)
    nulled: dict[int, set[str]] = field(default_factory=dict)
    hints: dict[tuple[str, tuple[str, ...]], str] = field(default_factory=dict)


def checked_batch(
    rows: Sequence[RawRow],
    feed: Feed,
    day: date,
    file: str,
    policies: Policies,
    broken_policies: Collection[str] = (),
    cell: int = Bounds.cell,
) -> Batch:
    """Split raw rows into typed good rows and quarantine rows. Good + bad = rows, always.

    A value that is unfit for a column that may be null is nulled, kept in ``extra`` and counted, by column and rule, in
    ``conversions`` (of good rows); any other costs the row. ``cell``: characters a value may have.
    """
    broken: list[Broken] = [Broken(i, r.rule, None, None, r.message) for i, r in enumerate(rows) if r.rule is not None]
    unreadable = {b.row for b in broken}
    fields = feed.fields
    known = feed.known
    found = _Findings(broken)
    met = set().union(*(row.fields for row in rows))
    columns: dict[str, list[Any]] = {}
    for name, field_ in fields.items():
        if name not in feed.required and met.isdisjoint((name, *field_.aliases)):
            columns[name] = [None] * len(rows)
            continue
        columns[name] = _converted(rows, feed, name, known, unreadable, found, cell)
    broken += feed.row_mistakes(columns, policies, {(b.row, b.column) for b in broken}, broken_policies)
    columns["extra"] = [_extra(row, feed, known, found.nulled.get(i, ())) for i, row in enumerate(rows)]
    columns["drop_line"] = [row.line for row in rows]
    schema = {**feed.schema, "extra": pl.String, "drop_line": pl.Int64}
    frame = pl.DataFrame(columns, schema=schema, strict=True)
    bad_rows = sorted({b.row for b in broken})
    if bad_rows:
        mask = pl.Series([True] * len(rows))
        mask[bad_rows] = False
        frame = frame.filter(mask)
    lost = set(bad_rows)
    conversions = Counter((column, rule) for row, column, rule in found.converted if row not in lost)
    return Batch(frame, _quarantine(rows, broken, feed.name, day, file), broken, conversions)


def _converted(
    rows: Sequence[RawRow],
    feed: Feed,
    name: str,
    known: Collection[str],
    skip: set[int],
    found: _Findings,
    cell: int,
) -> list[Any]:
    field_, column = feed.fields[name], feed.table.columns[name]
    convert, aliases, required = field_.convert, field_.aliases, name in feed.required
    # Most values of these columns repeat: each is looked at once per batch.
    memo: dict[str, Any] | None = {} if field_.repeats else None
    nan_is_absent, empty_is_absent = field_.nan_is_absent, field_.empty_is_absent
    out: list[Any] = [None] * len(rows)
    for i, row in enumerate(rows):
        value = row.fields.get(name)
        if value is None or (value == "" and empty_is_absent):
            for alias in aliases:
                value = row.fields.get(alias, value)
        if value != value and nan_is_absent and type(value) in _NUMBERS:
            value = None
            found.converted.append((i, name, "nan_as_missing"))
        if value is None or (value == "" and empty_is_absent):
            if required and i not in skip:
                hint = _misspelt(name, row.fields, known, found)
                found.broken.append(Broken(i, "missing_value", name, None, f'"{name}" is missing{hint}'))
            continue
        if memo is not None and type(value) is str and (done := memo.get(value)) is not None:
            out[i] = done
            continue
        try:
            if type(value) is Unreadable:
                raise Unfit("invalid_utf8", "cannot be read as the type its column has; write it again")
            if type(value) is str and len(value) > cell:
                raise Unfit("overlong_text", f"has {len(value):,} characters; at most {cell:,}")
            made = convert(value)
            if type(made) is Mended:
                found.converted.append((i, name, made.rule))
                made = made.value
            elif memo is not None and type(value) is str:
                memo[value] = made
            out[i] = made
        except Unfit as bad:
            if column.may_null:
                found.converted.append((i, name, bad.rule))
                found.nulled.setdefault(i, set()).add(name)
                continue
            kept = None if column.holds_text else shown(value).strip('"')
            found.broken.append(Broken(i, bad.rule, name, kept, f'"{name}" {bad.message}'))
        else:
            if required and out[i] is None:
                found.broken.append(Broken(i, "missing_value", name, None, f'"{name}" is empty'))
    return out


def _misspelt(name: str, fields: dict[str, Any], known: Collection[str], found: _Findings) -> str:
    """Which field of the row may be meant. Asked once for the same fields, and of so many different ones not at all."""
    keys = tuple(islice((k for k in fields if len(k) <= SHOWN_VALUE), _COMPARED_FIELDS))
    if (name, keys) not in found.hints:
        if len(found.hints) >= _HINTS:
            return ""
        near = column_meant(name, keys, known)
        found.hints[name, keys] = f'; the row has "{near}": did you mean that?' if near else ""
    return found.hints[name, keys]


def _extra(row: RawRow, feed: Feed, known: Collection[str], nulled: Collection[str]) -> str | None:
    other = {k: _kept(v) for k, v in row.fields.items() if (k not in known or k in nulled) and v is not None}
    for name, alias in feed.aliases:
        if row.fields.get(name) is not None and row.fields.get(alias) is not None:
            other[alias] = row.fields[alias]
    if not other or row.rule is not None:
        return None
    try:
        return orjson.dumps(other, option=orjson.OPT_SORT_KEYS, default=str).decode()
    except (TypeError, orjson.JSONEncodeError):
        return json.dumps(other, sort_keys=True, default=str, ensure_ascii=True)


def _kept(value: Any) -> Any:
    """A value as ``extra`` holds it: JSON knows no NaN and no infinity."""
    if type(value) is float and not math.isfinite(value):
        return str(value)
    return str(value) if type(value) is Unreadable else value


def _quarantine(rows: Sequence[RawRow], broken: list[Broken], feed: str, day: date, file: str) -> pl.DataFrame:
    by_row: dict[int, list[Broken]] = {}
    for b in broken:
        by_row.setdefault(b.row, []).append(b)
    out = [
        {
            "feed": feed,
            "drop_date": day,
            "drop_file": file,
            "drop_line": rows[i].line,
            "rule": found[0].rule,
            "column": found[0].column,
            "value": found[0].value,
            "message": "; ".join(dict.fromkeys(b.message for b in found)),
            "raw": rows[i].raw_text(),
        }
        for i, found in sorted(by_row.items())
    ]
    return pl.DataFrame(out, schema=QUARANTINE.schema)
