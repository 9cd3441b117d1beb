"""Drop files as batches of raw rows, in bounded memory. A format is one file of ``readers/``.

A reader knows its format and nothing of policies. It yields batches of :class:`RawRow`; a row it cannot make sense of
comes with the rule it broke. A file it cannot read at all raises :class:`DropRejected`.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa

from moderation_pipelines.foundation.registry import Registry
from moderation_pipelines.foundation.settings import Bounds
from moderation_pipelines.ingest.looks_like import HEAD, column_meant, what_it_is
from moderation_pipelines.tables import store

DEFAULT = Bounds()
BATCH_ROWS = 20_000
BATCH_BYTES = 32 * 1024 * 1024
RAW_LIMIT = 10_000
NAME_LIMIT = 256
READ_ERRORS = (OSError, EOFError, zlib.error, pa.ArrowException)
# A file may always grow to this when it is read, and have so many rows, and rows for each of its bytes beyond.
FREE_BYTES, FREE_ROWS, ROWS_PER_BYTE = 64 * 1024 * 1024, 1_000_000, 10
_PACKED = {".gz": "gzip", ".zst": "zstd"}
_EMPTY = "the file is empty; deliver at least a header or one row, or leave the file out"


class Unreadable:
    """A cell that stands in a file and cannot be had as a value."""

    def __str__(self) -> str:
        return "(unreadable)"


class DropRejected(Exception):
    """The file as a whole cannot be read. The message says why and how to fix it."""


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


@dataclass(frozen=True)
class Source:
    """One file to read: where it is, and how it is compressed (``.gz``, ``.zst`` or nothing).

    ``known``: fields of its feed, which no hint takes for another; ``ending``: of its name, without the compression.
    """

    path: Path
    packed: str = ""
    bounds: Bounds = DEFAULT
    known: tuple[str, ...] = ()
    ending: str = ""

    @cached_property
    def size(self) -> int:
        """Bytes as delivered."""
        return store.size(self.path)

    @property
    def allowed(self) -> int:
        """Bytes it may have when it is read."""
        return min(self.bounds.bytes, max(FREE_BYTES, self.bounds.expansion * self.size))

    @contextmanager
    def plain(self) -> Iterator[io.BufferedReader]:
        """The bytes, unpacked. Raises :class:`DropRejected` where there are more than the bounds allow."""
        with _unpacked(self.path, self.packed) as stream:
            if not self.packed:
                yield stream
                return
            with io.BufferedReader(_Counted(stream, self), 1 << 18) as counted:
                yield cast(io.BufferedReader, counted)

    @contextmanager
    def text(self) -> Iterator[io.BufferedReader]:
        """The bytes of a UTF-8 text, unpacked, after its byte-order mark. Raises :class:`DropRejected`."""
        with self.plain() as stream:
            start = stream.peek(HEAD)[:HEAD]
            if not start:
                raise DropRejected(_EMPTY)
            # Of a plain file that was asked before any reader.
            if self.packed and (what := what_it_is(start, self.ending)) is not None:
                twice = what.startswith("packed by")
                raise DropRejected(f"the file is {'packed twice; pack it once' if twice else what}")
            if start[:3] == b"\xef\xbb\xbf":
                stream.read(3)
            yield stream

    def too_large(self, rows: int, size: int) -> str | None:
        """Which bound so many rows with so many bytes break; None if none. What a few bytes stand for has no end, so
        both are counted against the size of the file too."""
        if rows > self.bounds.rows:
            return f"the file has over {self.bounds.rows:,} rows; divide it, or raise MODERATION_DROP_ROWS"
        if rows > FREE_ROWS + ROWS_PER_BYTE * self.size:
            told = f"{self.size:,} bytes stand for over {rows - 1:,} rows"
            return f"{told}: such rows cannot each hold an id; write it again"
        if size > self.allowed:
            return _too_much(self)
        return None


def _too_much(source: Source) -> str:
    if source.allowed == source.bounds.bytes:
        return f"the file has over {source.bounds.bytes:,} bytes; divide it, or raise MODERATION_DROP_BYTES"
    return (
        f"{source.size:,} bytes stand for over {source.allowed:,}, which is more than "
        f"{source.bounds.expansion} times as many; deliver it less packed, or raise MODERATION_DROP_EXPANSION"
    )


class _Counted(io.RawIOBase):
    """The unpacked bytes of a file, up to what its bounds allow."""

    def __init__(self, stream: io.BufferedReader, source: Source) -> None:
        self._stream, self._source, self._left = stream, source, source.allowed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        n = self._stream.readinto(buffer)
        self._left -= n
        if self._left < 0:
            raise DropRejected(_too_much(self._source))
        return n


@dataclass(frozen=True)
class Reader:
    """One format. ``endings``: of file names; ``rows(source, required, batch_rows)``: the rows in batches.

    ``required``: columns the file must have, where the format has a header. ``damaged``: what a file is that cannot be
    read, in words, and ``errors``: what its library raises for one beside the usual.
    """

    name: str
    order: int
    endings: tuple[str, ...]
    rows: Callable[[Source, Sequence[str], int], Iterator[list[RawRow]]]
    damaged: str | None = None
    errors: tuple[type[Exception], ...] = ()


READERS: Registry[Reader] = Registry("reader", "moderation_pipelines.ingest.readers", "READER", Reader, "order")


def reader_of(name: str) -> tuple[Reader, str]:
    """The reader for a file's name, and its compression, e.g. (csv, ".gz"). Raises :class:`DropRejected`."""
    lower = name.lower()
    packed = next((c for c in _PACKED if lower.endswith(c)), "")
    stem = lower.removesuffix(packed) if packed else lower
    for reader in READERS:
        if stem.endswith(reader.endings):
            return reader, packed
    known = ", ".join(ending for reader in READERS for ending in reader.endings)
    raise DropRejected(f"file name ends in none of {known} (each also with .gz or .zst); rename it to what it holds")


def read_rows(
    path: Path,
    required: Sequence[str],
    batch_rows: int = BATCH_ROWS,
    bounds: Bounds = DEFAULT,
    known: Sequence[str] = (),
) -> Iterator[list[RawRow]]:
    """Rows of a drop file in batches. ``required`` are columns a CSV or Parquet file must have; ``known``: those that
    mean something.

    Raises :class:`DropRejected` at the first batch or in the middle, e.g. for a truncated gzip: then nothing of the
    file may be kept.
    """
    reader, packed = reader_for(path)
    ending = _ending(path.name, packed)
    source = Source(path, packed, bounds, tuple(known), ending)
    try:
        _check_whole(source)
        rows = size = 0
        for batch in reader.rows(source, required, batch_rows):
            rows, size = rows + len(batch), size + sum(row.size for row in batch)
            if (broken := source.too_large(rows, size)) is not None:
                raise DropRejected(broken)
            yield batch
    except DropRejected:
        raise
    except PermissionError as error:
        raise DropRejected(f"the file may not be read ({error.strerror}); check its permissions") from None
    except READ_ERRORS as error:
        raise DropRejected(_what_broke(error, reader, packed)) from None
    except reader.errors:
        raise DropRejected(reader.damaged or "the file cannot be read") from None


def reader_for(path: Path) -> tuple[Reader, str]:
    """As :func:`reader_of`; where the name says nothing, what the file says is told."""
    try:
        return reader_of(path.name)
    except DropRejected:
        what = None
        if store.is_regular_file(path):
            with suppress(OSError):
                what = what_it_is(_head(path), path.suffix.lower())
        if what is not None:
            raise DropRejected(f"the file is {what}") from None
        raise


def _ending(name: str, packed: str) -> str:
    stem = name.lower().removesuffix(packed) if packed else name.lower()
    return Path(stem).suffix


def _head(path: Path) -> bytes:
    with store.opened(path) as stream:
        return bytes(stream.read(HEAD))


def _check_whole(source: Source) -> None:
    """What can be told of a file before it is read."""
    path = source.path
    if not store.is_regular_file(path):
        raise DropRejected("not a regular file; deliver the file itself, not a link")
    if source.size == 0:
        raise DropRejected(_EMPTY)
    if source.size > source.bounds.bytes:
        raise DropRejected(_too_much(replace(source, bounds=replace(source.bounds, expansion=1 << 40))))
    if not source.packed and (what := what_it_is(_head(path), source.ending)) is not None:
        raise DropRejected(f"the file is {what}")


def _what_broke(error: BaseException, reader: Reader, packed: str) -> str:
    kind = _PACKED.get(packed, "")
    text = str(error).lower()
    if kind and (isinstance(error, EOFError) or "truncated" in text):
        return f"the {kind} stream ends in the middle: the file is truncated; deliver it again in full"
    if kind and (isinstance(error, gzip.BadGzipFile | zlib.error) or "zstd" in text or "decompress" in text):
        return f"not a valid {kind} file, or damaged; compress it again or drop the ending {packed}"
    if reader.damaged is not None:
        return reader.damaged
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


def lines_of(stream: IO[bytes], limit: int = DEFAULT.record) -> Iterator[tuple[int, bytes, bool]]:
    """Lines with their number; the flag says the line was longer than ``limit`` bytes and was cut."""
    number = 0
    while line := stream.readline(limit + 1):
        number += 1
        if len(line) <= limit or line.endswith(b"\n"):
            yield number, line, False
            continue
        head = line[:RAW_LIMIT]
        while (rest := stream.readline(limit)) and not rest.endswith(b"\n"):
            pass
        yield number, head, True


def checked_header(
    header: Sequence[str], required: Sequence[str], known: Sequence[str] = (), columns: int = DEFAULT.columns
) -> None:
    """Raises :class:`DropRejected` for missing, repeated or too many columns.

    ``known``: fields that mean something, which are never taken for another. Other cells of the line are not named:
    where the header is missing they are item text.
    """
    if len(header) > columns:
        raise DropRejected(
            f"the header has {len(header):,} columns; at most {columns:,}: is the header there? Or raise "
            "MODERATION_DROP_COLUMNS"
        )
    there = set(header)
    mistakes = [
        f"column {i} has a name of {len(name):,} characters; at most {NAME_LIMIT}: is the header there?"
        for i, name in enumerate(header, start=1)
        if len(name) > NAME_LIMIT
    ]
    for column in (c for c in required if c not in there):
        near = column_meant(column, header, {*required, *known})
        hint = f'; did you mean "{near}"?' if near else "; is the header there?"
        mistakes.append(f'column "{column}" is missing{hint}')
    first: dict[str, int] = {}
    for i, name in enumerate(header, start=1):
        if first.setdefault(name, i) < i:
            mistakes.append(f"column {i} has the name of an earlier one")
    if mistakes:
        raise DropRejected("; ".join(mistakes)[:1000])


def batched(rows: Iterator[RawRow], batch_rows: int) -> Iterator[list[RawRow]]:
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
