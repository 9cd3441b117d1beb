"""JSONL: one JSON object per line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from moderation_pipelines.foundation.settings import Bounds
from moderation_pipelines.ingest.reading import RawRow, Reader, Source, batched, lines_of

DIGITS = 40
PARTS = 10_000
PART_BYTES = 200
_LONG_NUMBER = re.compile(rb"\d{19}")
_NO_NUMBER = re.compile(rb"NaN|Infinity|\d[eE]\+?\d{3}|\d{300}")
# Strings, of which the last may be open, and brackets. Possessive: a line is gone through once.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)


def jsonl_rows(source: Source, required: Sequence[str], batch_rows: int) -> Iterator[list[RawRow]]:
    """A row per line; blank lines are skipped. A missing field is the row's mistake, not the file's."""
    bounds = source.bounds
    with source.text() as stream:
        lines = lines_of(stream, bounds.record)
        rows = (_jsonl_row(n, line.strip(), cut, bounds) for n, line, cut in lines if line.strip())
        yield from batched(rows, batch_rows)


def _jsonl_row(number: int, line: bytes, cut: bool, bounds: Bounds) -> RawRow:
    row = RawRow(number, {}, line, size=len(line))
    if cut:
        row.rule, row.message = "overlong_line", f"line is over {bounds.record:,} bytes; one item or vote per line"
    elif b"\x00" in line:
        row.rule, row.message = "nul_byte", "line holds a NUL byte; remove it"
    elif (too := _too_nested(line, bounds.depth, row)) is not None:
        row.rule, row.message = "too_deep", too
    else:
        try:
            value = _parsed(line)
        except orjson.JSONDecodeError as error:
            row.rule, row.message = _json_trouble(line, error.msg, error.colno)
        else:
            if not isinstance(value, dict):
                row.rule = "broken_json"
                row.message = f'line is a JSON {_json_kind(value)}, not an object; write {{"item_id": …}}'
            elif len(value) > bounds.columns:
                row.rule, row.message = "too_many_fields", f"has {len(value):,} fields; at most {bounds.columns:,}"
            else:
                row.fields = value
    return row


def _parsed(line: bytes) -> Any:
    """What a line holds. One parser decides what is JSON; the standard library reads again what it cannot express:
    integers beyond 64 bits, and NaN and infinities, which much software writes. Raises JSONDecodeError of orjson."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        value = _with_odd_numbers(line)
        if value is None:
            raise
        return value
    return json.loads(line, parse_int=_whole) if _LONG_NUMBER.search(line) else value


def _with_odd_numbers(line: bytes) -> Any:
    """What a line holds that is JSON but for NaN, infinities and numbers beyond a float; None if it is not that."""
    if not _NO_NUMBER.search(line):
        return None
    try:
        value = json.loads(line, parse_int=_whole)
        orjson.dumps(json.dumps(value, ensure_ascii=False))  # refuses half surrogate pairs
    except (ValueError, TypeError):
        return None
    return value


def _whole(digits: str) -> int | str:
    """An integer; one with more digits than anybody means as text."""
    return int(digits) if len(digits) <= DIGITS else digits


def _too_nested(line: bytes, limit: int, row: RawRow) -> str | None:
    """What is too deep or too much about the lists and objects of a line; looked at only where it could be, and then
    counted in the row's size."""
    if line.count(b"[") + line.count(b"{") <= limit:
        return None
    depth = parts = 0
    for token in _TOKEN.finditer(line):
        byte = line[token.start()]
        if byte in b"[{":
            depth, parts = depth + 1, parts + 1
            if depth > limit:
                return f"nested more than {limit} levels deep; flatten it"
            if parts > PARTS:
                return f"holds over {PARTS:,} lists and objects; one item or vote per line"
        elif byte in b"]}":
            depth -= 1
    row.size += parts * PART_BYTES
    return None


def _json_trouble(line: bytes, said: str, column: int) -> tuple[str, str]:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as bad:
        return "invalid_utf8", f"byte {bad.start + 1} of the line is not UTF-8; save the file as UTF-8"
    reason = said.split(":")[0]
    return "broken_json", f"not valid JSON at column {column} ({reason}); one complete object per line"


def _json_kind(value: object) -> str:
    kinds = {
        list: "array",
        str: "string",
        int: "number",
        float: "number",
        bool: "true or false",
        type(None): "null",
    }
    return kinds.get(type(value), "value")


READER = Reader("jsonl", 1, (".jsonl", ".ndjson"), jsonl_rows)
