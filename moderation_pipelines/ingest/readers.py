"""Drop files as batches of raw rows, in bounded memory.

A reader knows formats and nothing of policies. It yields batches of :class:`RawRow`; a row it cannot make sense of
comes with the rule it broke. A file it cannot read at all raises :class:`DropRejected`.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import stat
import tempfile
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from moderation_pipelines.foundation.errors import nearest

BATCH_ROWS = 20_000
LINE_LIMIT = 16 * 1024 * 1024
BATCH_BYTES = 32 * 1024 * 1024
RAW_LIMIT = 10_000
RECORD_LINES = 1_000
DEPTH_LIMIT = 64
_DAMAGED_PARQUET = "not a valid Parquet file, or damaged; write it again"
FORMATS = (".jsonl", ".ndjson", ".csv", ".parquet")
_READ_ERRORS = (OSError, EOFError, zlib.error, pa.ArrowException)
_DAMAGED_PARQUET_ERRORS = (ValueError, LookupError, OverflowError, MemoryError)

_LONG_NUMBER = re.compile(rb"\d{19}")
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"')

csv.field_size_limit(LINE_LIMIT)


class DropRejected(Exception):
    """The file as a whole cannot be read. The message says why and what would be right."""


@dataclass(slots=True)
class RawRow:
    """One delivered row: its line, its fields, or the rule that made it unreadable."""

    line: int
    fields: dict[str, Any]
    raw: str | bytes = ""
    rule: str | None = None
    message: str = ""
    size: int = 0

    def raw_text(self) -> str:
        """The row as delivered, for the quarantine; bytes that are not UTF-8 are escaped."""
        if self.raw:
            raw = self.raw[:RAW_LIMIT] if isinstance(self.raw, str) else self.raw[: RAW_LIMIT * 4]
            text = raw if isinstance(raw, str) else raw.decode("utf-8", "backslashreplace")
        else:
            text = json.dumps(self.fields, ensure_ascii=False, default=str, sort_keys=True)
        return text[:RAW_LIMIT].encode("utf-8", "backslashreplace").decode()


def split_name(name: str) -> tuple[str, str]:
    """Format and compression by a file's name, e.g. (".csv", ".gz"). Raises :class:`DropRejected`."""
    lower = name.lower()
    packed = next((c for c in (".gz", ".zst") if lower.endswith(c)), "")
    stem = lower.removesuffix(packed) if packed else lower
    for ending in FORMATS:
        if stem.endswith(ending):
            return ending, packed
    raise DropRejected(
        f"file name ends in none of {', '.join(FORMATS)} (each also with .gz or .zst); rename it to what it holds"
    )


def read_rows(path: Path, required: Sequence[str], batch_rows: int = BATCH_ROWS) -> Iterator[list[RawRow]]:
    """Rows of a drop file in batches. ``required`` are columns a CSV or Parquet file must have.

    Raises :class:`DropRejected` at the first batch or in the middle, e.g. for a truncated gzip: then nothing of the
    file may be kept.
    """
    ending, packed = split_name(path.name)
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise DropRejected("not a regular file; deliver the file itself, not a link")
        if path.stat().st_size == 0:
            raise DropRejected("the file is empty; deliver at least a header or one row, or leave the file out")
        if ending == ".parquet":
            yield from _parquet_rows(path, packed, required, batch_rows)
        else:
            with _unpacked(path, packed) as stream:
                start = stream.peek(4)[:4]
                if start[:2] in (b"\xff\xfe", b"\xfe\xff") or start == b"\x00\x00\xfe\xff":
                    raise DropRejected("the file is UTF-16 or UTF-32; save it as UTF-8")
                if start[:3] == b"\xef\xbb\xbf":
                    stream.read(3)
                elif not start:
                    raise DropRejected("the file is empty; deliver at least a header or one row, or leave the file out")
                if ending == ".csv":
                    yield from _csv_rows(stream, required, batch_rows)
                else:
                    yield from _jsonl_rows(stream, batch_rows)
    except DropRejected:
        raise
    except PermissionError as error:
        raise DropRejected(f"the file may not be read ({error.strerror}); check its permissions") from None
    except _READ_ERRORS as error:
        raise DropRejected(_what_broke(error, ending, packed)) from None
    except _DAMAGED_PARQUET_ERRORS:
        if ending != ".parquet":
            raise
        raise DropRejected(_DAMAGED_PARQUET) from None


def _what_broke(error: BaseException, ending: str, packed: str) -> str:
    kind = {".gz": "gzip", ".zst": "zstd"}.get(packed, "")
    text = str(error).lower()
    if kind and (isinstance(error, EOFError) or "truncated" in text):
        return f"the {kind} stream ends in the middle: the file is truncated; deliver it again in full"
    if kind and (isinstance(error, gzip.BadGzipFile | zlib.error) or "zstd" in text or "decompress" in text):
        return f"not a valid {kind} file, or damaged; compress it again or drop the ending {packed}"
    if ending == ".parquet":
        return _DAMAGED_PARQUET
    return f"the file cannot be read ({type(error).__name__})"


def _unpacked(path: Path, packed: str) -> io.BufferedReader:
    if packed == ".gz":
        return io.BufferedReader(cast(io.RawIOBase, gzip.open(path, "rb")), 1 << 18)
    if packed == ".zst":
        return io.BufferedReader(_ArrowRaw(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")), 1 << 18)
    return cast(io.BufferedReader, path.open("rb", buffering=1 << 18))


class _ArrowRaw(io.RawIOBase):
    """An Arrow stream as a raw Python stream. Arrow notices a truncated zstd frame, which zstandard does not."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


def _lines(stream: IO[bytes]) -> Iterator[tuple[int, bytes, bool]]:
    """Lines with their number; the flag says the line was too long and was cut."""
    number = 0
    while line := stream.readline(LINE_LIMIT + 1):
        number += 1
        if len(line) <= LINE_LIMIT or line.endswith(b"\n"):
            yield number, line, False
            continue
        head = line[:RAW_LIMIT]
        while (rest := stream.readline(LINE_LIMIT)) and not rest.endswith(b"\n"):
            pass
        yield number, head, True


def _jsonl_rows(stream: IO[bytes], batch_rows: int) -> Iterator[list[RawRow]]:
    yield from _batched(
        (_jsonl_row(n, line.strip(), cut) for n, line, cut in _lines(stream) if line.strip()), batch_rows
    )


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


def checked_header(header: Sequence[str], required: Sequence[str]) -> None:
    """Raises :class:`DropRejected` for missing or repeated columns.

    Other cells of the line are not named: where the header is missing they are item text.
    """
    missing = [c for c in required if c not in header]
    repeated = [i for i, c in enumerate(header, start=1) if header.index(c) + 1 < i]
    mistakes = []
    for column in missing:
        near = nearest(column, header)
        hint = f'; did you mean "{near}"?' if near else "; is the header there?"
        mistakes.append(f'column "{column}" is missing{hint}')
    mistakes += [f"column {i} has the name of an earlier one" for i in repeated]
    if mistakes:
        raise DropRejected("; ".join(mistakes)[:1000])


class _CutLine(Exception):
    """A line too long to be read stands inside a record."""


class _LineFeed:
    """Physical lines for the csv module, with a way back: a record that turns out broken gives its lines back."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._source = _lines(stream)
        self._waiting: deque[tuple[int, bytes, bool]] = deque()
        self.taken: list[tuple[int, bytes, bool]] = []

    def peek(self) -> tuple[int, bytes, bool] | None:
        """The line the next record begins with; the record before it is done with."""
        self.taken = []
        if not self._waiting:
            line = next(self._source, None)
            if line is None:
                return None
            self._waiting.append(line)
        return self._waiting[0]

    def skip(self) -> None:
        self._waiting.popleft()

    def give_back(self) -> None:
        """All lines of the record but its first will be read again, as records of their own."""
        self._waiting.extendleft(reversed(self.taken[1:]))
        self.taken = []

    def __iter__(self) -> _LineFeed:
        return self

    def __next__(self) -> str:
        line = self._waiting.popleft() if self._waiting else next(self._source)
        self.taken.append(line)
        if line[2] or len(self.taken) > RECORD_LINES:
            raise _CutLine
        return line[1].decode("utf-8", "surrogateescape")


def _csv_records(feed: _LineFeed) -> Iterator[tuple[int, list[str] | None, RawRow | None]]:
    """(line, cells, None) of each record, or (line, None, broken row). A broken record costs its first line only."""
    reader = csv.reader(feed, strict=True)
    while (first := feed.peek()) is not None:
        number, raw, cut = first
        if cut:
            feed.skip()
            message = f"line is over {LINE_LIMIT:,} bytes; one item or vote per row"
            yield number, None, RawRow(number, {}, raw, "overlong_line", message)
            continue
        try:
            yield number, next(reader), None
        except (csv.Error, _CutLine) as error:
            feed.give_back()
            reader = csv.reader(feed, strict=True)
            what = error if isinstance(error, csv.Error) else "a quote is opened and not closed"
            message = f"not valid CSV ({what}); close quotes, and double those inside a cell"
            yield number, None, RawRow(number, {}, raw.rstrip(b"\r\n"), "broken_csv", message)


def _csv_rows(stream: IO[bytes], required: Sequence[str], batch_rows: int) -> Iterator[list[RawRow]]:
    feed = _LineFeed(stream)
    records = _csv_records(feed)
    _, cells, broken = next(records, (1, [], None))
    if broken is not None or cells is None:
        raise DropRejected(f"the header is {broken.message if broken else 'missing'}")
    header = [name.strip() for name in cells]
    if any("\udc80" <= c <= "\udcff" for name in header for c in name):
        raise DropRejected("the header is not UTF-8; save the file as UTF-8")
    checked_header(header, required)
    yield from _batched((_csv_row(n, c, b, header) for n, c, b in records if c != []), batch_rows)


def _csv_row(line: int, cells: list[str] | None, broken: RawRow | None, header: Sequence[str]) -> RawRow:
    if broken is not None or cells is None:
        assert broken is not None
        return broken
    row = RawRow(line, {})
    joined = "\x1f".join(cells)
    if len(cells) != len(header):
        row.raw = ",".join(cells).encode("utf-8", "surrogateescape")
        row.rule = "ragged_row"
        row.message = f"row has {len(cells)} cells, the header {len(header)}; quote cells that hold commas or newlines"
    elif "\x00" in joined:
        row.raw = ",".join(cells).encode("utf-8", "surrogateescape")
        row.rule, row.message = "nul_byte", "row holds a NUL byte; remove it"
    elif not joined.isascii() and any("\udc80" <= c <= "\udcff" for c in joined):
        row.raw = ",".join(cells).encode("utf-8", "surrogateescape")
        row.rule, row.message = "invalid_utf8", "row is not UTF-8; save the file as UTF-8"
    else:
        row.fields = {name: cell for name, cell in zip(header, cells, strict=True) if cell != ""}
    row.size = len(joined)
    return row


def _batched(rows: Iterator[RawRow], batch_rows: int) -> Iterator[list[RawRow]]:
    """Rows in batches of so many rows, or fewer where they are large, so that a batch stays small in memory."""
    batch: list[RawRow] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += row.size
        if len(batch) >= batch_rows or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _parquet_rows(path: Path, packed: str, required: Sequence[str], batch_rows: int) -> Iterator[list[RawRow]]:
    if packed:
        with tempfile.TemporaryFile() as plain, _unpacked(path, packed) as stream:
            while block := stream.read(1 << 20):
                plain.write(block)
            plain.seek(0)
            yield from _parquet_batches(plain, required, batch_rows)
    else:
        yield from _parquet_batches(str(path), required, batch_rows)


def _parquet_batches(source: Any, required: Sequence[str], batch_rows: int) -> Iterator[list[RawRow]]:
    try:
        file = pq.ParquetFile(source)
        names = file.schema_arrow.names
    except (*_READ_ERRORS, *_DAMAGED_PARQUET_ERRORS):
        raise DropRejected(_DAMAGED_PARQUET) from None
    with file:
        checked_header(names, required)
        number = 0
        per_row = sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups))
        per_row = max(1, per_row // max(1, file.metadata.num_rows))
        for record_batch in file.iter_batches(batch_size=max(1, min(batch_rows, BATCH_BYTES // per_row))):
            names = record_batch.schema.names
            try:
                columns = [column.to_pylist() for column in record_batch.columns]
            except (UnicodeDecodeError, ValueError, OverflowError):
                columns = [_cells_one_by_one(column) for column in record_batch.columns]
            batch = []
            for cells in zip(*columns, strict=True):
                number += 1
                row = RawRow(number, {n: c for n, c in zip(names, cells, strict=True) if c is not None})
                bad = next((n for n, c in row.fields.items() if isinstance(c, _Unreadable)), None)
                if bad is not None:
                    row.rule, row.message = (
                        "invalid_utf8",
                        f'column "{bad}" cannot be read as its type; write it again',
                    )
                    row.fields = {n: c for n, c in row.fields.items() if not isinstance(c, _Unreadable)}
                elif any(isinstance(c, str) and "\x00" in c for c in cells):
                    row.rule, row.message = "nul_byte", "row holds a NUL byte; remove it"
                batch.append(row)
            yield batch
        if number != file.metadata.num_rows:
            raise DropRejected(_DAMAGED_PARQUET)


class _Unreadable:
    """A cell that Arrow holds but Python cannot."""


def _cells_one_by_one(column: Any) -> list[Any]:
    cells = []
    for scalar in column:
        try:
            cells.append(scalar.as_py())
        except (UnicodeDecodeError, ValueError, OverflowError):
            cells.append(_Unreadable())
    return cells
