"""Drop files as batches of raw rows, in bounded memory.

A reader knows formats and nothing of policies. It yields batches of :class:`RawRow`; a row it cannot make sense of
comes with the rule it broke. A file it cannot read at all raises :class:`DropRejected`.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import stat
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from moderation_pipelines.errors import did_you_mean

BATCH_ROWS = 20_000
LINE_LIMIT = 16 * 1024 * 1024
RAW_LIMIT = 10_000
FORMATS = (".jsonl", ".ndjson", ".csv", ".parquet")
_READ_ERRORS = (OSError, EOFError, zlib.error, pa.ArrowException)

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


def _what_broke(error: BaseException, ending: str, packed: str) -> str:
    kind = {".gz": "gzip", ".zst": "zstd"}.get(packed, "")
    text = str(error).lower()
    if kind and (isinstance(error, EOFError) or "truncated" in text):
        return f"the {kind} stream ends in the middle: the file is truncated; deliver it again in full"
    if kind and (isinstance(error, gzip.BadGzipFile | zlib.error) or "zstd" in text or "decompress" in text):
        return f"not a valid {kind} file, or damaged; compress it again or drop the ending {packed}"
    if ending == ".parquet":
        return "not a valid Parquet file, or damaged; write it again"
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
    batch: list[RawRow] = []
    loads = orjson.loads
    for number, line, cut in _lines(stream):
        stripped = line.strip()
        if not stripped:
            continue
        row = RawRow(number, {}, stripped)
        if cut:
            row.rule, row.message = (
                "overlong_line",
                f"line is over {LINE_LIMIT:,} bytes; one item or vote per line",
            )
        elif b"\x00" in stripped:
            row.rule, row.message = "nul_byte", "line holds a NUL byte; remove it"
        else:
            try:
                value = loads(stripped)
            except orjson.JSONDecodeError as error:
                row.rule, row.message = _json_trouble(stripped, error)
            else:
                if isinstance(value, dict):
                    row.fields = value
                else:
                    row.rule = "broken_json"
                    row.message = f'line is a JSON {_json_kind(value)}, not an object; write {{"item_id": …}}'
        batch.append(row)
        if len(batch) >= batch_rows:
            yield batch
            batch = []
    if batch:
        yield batch


def _json_trouble(line: bytes, error: orjson.JSONDecodeError) -> tuple[str, str]:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as bad:
        return "invalid_utf8", f"byte {bad.start + 1} of the line is not UTF-8; save the file as UTF-8"
    reason = error.msg.split(":")[0]
    return "broken_json", f"not valid JSON at column {error.colno} ({reason}); one complete object per line"


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
    """Raises :class:`DropRejected` for missing or repeated columns."""
    missing = [c for c in required if c not in header]
    repeated = sorted({c for c in header if header.count(c) > 1})
    mistakes = [f'column "{c}" is missing{did_you_mean(c, list(header))}' for c in missing]
    mistakes += [f'column "{c}" stands twice' for c in repeated]
    if mistakes:
        text = "; ".join(mistakes)
        raise DropRejected(text.encode("utf-8", "backslashreplace").decode()[:1000])


def _csv_rows(stream: IO[bytes], required: Sequence[str], batch_rows: int) -> Iterator[list[RawRow]]:
    lines = (line.decode("utf-8", "surrogateescape") for _, line, _ in _lines(stream))
    reader = csv.reader(lines, strict=True)
    try:
        header = [name.strip() for name in next(reader)]
    except StopIteration:
        raise DropRejected("the file is empty; deliver at least a header") from None
    except csv.Error as error:
        raise DropRejected(f"the header is not valid CSV ({error})") from None
    if any("\udc80" <= c <= "\udcff" for name in header for c in name):
        raise DropRejected("the header is not UTF-8; save the file as UTF-8")
    checked_header(header, required)
    width = len(header)
    batch: list[RawRow] = []
    while True:
        first_line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            batch.append(RawRow(first_line, {}, "", "broken_csv", f"not valid CSV ({error}); quote the cell"))
            continue
        if not cells:
            continue
        row = RawRow(first_line, {})
        joined = "\x1f".join(cells)
        if len(cells) != width:
            row.raw = ",".join(cells)
            row.rule = "ragged_row"
            row.message = f"row has {len(cells)} cells, the header {width}; quote cells that hold commas or newlines"
        elif "\x00" in joined:
            row.raw = ",".join(cells)
            row.rule, row.message = "nul_byte", "row holds a NUL byte; remove it"
        elif any("\udc80" <= c <= "\udcff" for c in joined) if not joined.isascii() else False:
            row.raw = ",".join(cells).encode("utf-8", "surrogateescape")
            row.rule, row.message = "invalid_utf8", "row is not UTF-8; save the file as UTF-8"
        else:
            row.fields = {name: cell for name, cell in zip(header, cells, strict=True) if cell != ""}
        batch.append(row)
        if len(batch) >= batch_rows:
            yield batch
            batch = []
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
    with pq.ParquetFile(source) as file:
        checked_header(file.schema_arrow.names, required)
        number = 0
        for record_batch in file.iter_batches(batch_size=batch_rows):
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
