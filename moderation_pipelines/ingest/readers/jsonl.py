"""JSONL: one JSON object per line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

import orjson

from moderation_pipelines.ingest.reading import LINE_LIMIT, RawRow, Reader, Source, batched, lines_of

DEPTH_LIMIT = 64
_LONG_NUMBER = re.compile(rb"\d{19}")
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"')


def jsonl_rows(source: Source, required: Sequence[str], batch_rows: int) -> Iterator[list[RawRow]]:
    """A row per line; blank lines are skipped. A missing field is the row's mistake, not the file's."""
    with source.text() as stream:
        rows = (_jsonl_row(n, line.strip(), cut) for n, line, cut in lines_of(stream) if line.strip())
        yield from batched(rows, batch_rows)


def _jsonl_row(number: int, line: bytes, cut: bool) -> RawRow:
    row = RawRow(number, {}, line, size=len(line))
    if cut:
        row.rule, row.message = "overlong_line", f"line is over {LINE_LIMIT:,} bytes; one item or vote per line"
    elif b"\x00" in line:
        row.rule, row.message = "nul_byte", "line holds a NUL byte; remove it"
    elif _depth(line) > DEPTH_LIMIT:
        row.rule, row.message = "too_deep", f"nested more than {DEPTH_LIMIT} levels deep; flatten it"
    else:
        try:
            # orjson turns integers beyond 64 bits into floats; the standard library keeps them as they are.
            value = json.loads(line) if _LONG_NUMBER.search(line) else orjson.loads(line)
        except orjson.JSONDecodeError as error:
            row.rule, row.message = _json_trouble(line, error.msg, error.colno)
        except UnicodeDecodeError:
            row.rule, row.message = _json_trouble(line, "", 0)
        except json.JSONDecodeError as error:
            row.rule, row.message = _json_trouble(line, error.msg, error.colno)
        else:
            if isinstance(value, dict):
                row.fields = value
            else:
                row.rule = "broken_json"
                row.message = f'line is a JSON {_json_kind(value)}, not an object; write {{"item_id": …}}'
    return row


def _depth(line: bytes) -> int:
    """An upper bound of how deep a JSON line is nested; exact only where it could matter."""
    if line.count(b"[") + line.count(b"{") <= DEPTH_LIMIT:
        return 0
    deepest = depth = 0
    for byte in _STRINGS.sub(b"", line):
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


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
