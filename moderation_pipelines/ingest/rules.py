"""Row rules: raw rows in, typed good rows and quarantined rows out. Every mistake of a row is named at once."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import orjson
import polars as pl

from moderation_pipelines.foundation.errors import nearest
from moderation_pipelines.ingest.feed import Broken, Feed
from moderation_pipelines.ingest.fields import SHOWN_VALUE, Unfit, shown
from moderation_pipelines.ingest.reading import RawRow
from moderation_pipelines.ingest.tables import QUARANTINE
from moderation_pipelines.policies.policy import Policies


@dataclass
class Batch:
    """What became of a batch: good rows (typed columns, ``extra``, ``drop_line``) and quarantined rows."""

    good: pl.DataFrame
    bad: pl.DataFrame
    broken: list[Broken] = field(default_factory=list)


def checked_batch(
    rows: Sequence[RawRow], feed: Feed, day: date, file: str, policies: Policies, broken_policies: Collection[str] = ()
) -> Batch:
    """Split raw rows into typed good rows and quarantine rows. Good + bad = rows, always."""
    broken: list[Broken] = [Broken(i, r.rule, None, None, r.message) for i, r in enumerate(rows) if r.rule is not None]
    unreadable = {b.row for b in broken}
    fields = feed.fields
    known = set(fields) | {a for f in fields.values() for a in f.aliases}
    columns: dict[str, list[Any]] = {}
    for name in fields:
        columns[name] = _converted(rows, feed, name, known, unreadable, broken)
    broken += feed.row_mistakes(columns, policies, {(b.row, b.column) for b in broken}, broken_policies)
    columns["extra"] = [_extra(row, feed, known) for row in rows]
    columns["drop_line"] = [row.line for row in rows]
    schema = {**feed.schema, "extra": pl.String, "drop_line": pl.Int64}
    frame = pl.DataFrame(columns, schema=schema, strict=True)
    bad_rows = sorted({b.row for b in broken})
    if bad_rows:
        mask = pl.Series([True] * len(rows))
        mask[bad_rows] = False
        frame = frame.filter(mask)
    return Batch(frame, _quarantine(rows, broken, feed.name, day, file), broken)


def _converted(
    rows: Sequence[RawRow],
    feed: Feed,
    name: str,
    known: set[str],
    skip: set[int],
    broken: list[Broken],
) -> list[Any]:
    convert, aliases, required = feed.fields[name].convert, feed.fields[name].aliases, name in feed.required
    # Most values of these columns repeat: each is looked at once per batch.
    memo: dict[str, Any] | None = {} if feed.fields[name].repeats else None
    out: list[Any] = [None] * len(rows)
    for i, row in enumerate(rows):
        value = row.fields.get(name)
        if value is None:
            for alias in aliases:
                value = row.fields.get(alias)
        if value is None or (value == "" and feed.fields[name].empty_is_absent):
            if required and i not in skip:
                hint = _misspelt(name, row.fields, known)
                broken.append(Broken(i, "missing_value", name, None, f'"{name}" is missing{hint}'))
            continue
        if memo is not None and type(value) is str and (done := memo.get(value)) is not None:
            out[i] = done
            continue
        try:
            out[i] = convert(value)
            if memo is not None and type(value) is str:
                memo[value] = out[i]
        except Unfit as bad:
            holds_text = feed.table.columns[name].holds_text
            kept = None if holds_text else shown(value).strip('"')[:200]
            message = bad.message.split("; write it in quotes")[0] if holds_text else bad.message
            broken.append(Broken(i, bad.rule, name, kept, f'"{name}" {message}'))
        else:
            if required and out[i] is None:
                broken.append(Broken(i, "missing_value", name, None, f'"{name}" is empty'))
    return out


def _misspelt(name: str, fields: dict[str, Any], known: set[str]) -> str:
    near = nearest(name, [k for k in fields if k not in known and len(k) <= SHOWN_VALUE])
    return f'; the row has "{near}": did you mean that?' if near else ""


def _extra(row: RawRow, feed: Feed, known: set[str]) -> str | None:
    other = {k: v for k, v in row.fields.items() if k not in known and v is not None}
    for name, alias in feed.aliases:
        if row.fields.get(name) is not None and row.fields.get(alias) is not None:
            other[alias] = row.fields[alias]
    if not other or row.rule is not None:
        return None
    try:
        return orjson.dumps(other, option=orjson.OPT_SORT_KEYS, default=str).decode()
    except (TypeError, orjson.JSONEncodeError):
        return json.dumps(other, sort_keys=True, default=str, ensure_ascii=True)


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
