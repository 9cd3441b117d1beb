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
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa

from moderation_pipelines.foundation.errors import nearest
from moderation_pipelines.foundation.registry import Registry
from moderation_pipelines.tables import store

BATCH_ROWS = 20_000
LINE_LIMIT = 16 * 1024 * 1024
BATCH_BYTES = 32 * 1024 * 1024
RAW_LIMIT = 10_000
READ_ERRORS = (OSError, EOFError, zlib.error, pa.ArrowException)
_PACKED = {".gz": "gzip", ".zst": "zstd"}
_EMPTY = "the file is empty; deliver at least a header or one row, or leave the file out"


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
    """One file to read: where it is, and how it is compressed (``.gz``, ``.zst`` or nothing)."""

    path: Path
    packed: str = ""

    @contextmanager
    def plain(self) -> Iterator[io.BufferedReader]:
        """The bytes, unpacked."""
        with _unpacked(self.path, self.packed) as stream:
            yield stream

    @contextmanager
    def text(self) -> Iterator[io.BufferedReader]:
        """The bytes of a UTF-8 text, unpacked, after its byte-order mark. Raises :class:`DropRejected`."""
        with self.plain() as stream:
            start = stream.peek(4)[:4]
            if start[:2] in (b"\xff\xfe", b"\xfe\xff") or start == b"\x00\x00\xfe\xff":
                raise DropRejected("the file is UTF-16 or UTF-32; save it as UTF-8")
            if start[:3] == b"\xef\xbb\xbf":
                stream.read(3)
            elif not start:
                raise DropRejected(_EMPTY)
            yield stream


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


def read_rows(path: Path, required: Sequence[str], batch_rows: int = BATCH_ROWS) -> Iterator[list[RawRow]]:
    """Rows of a drop file in batches. ``required`` are columns a CSV or Parquet file must have.

    Raises :class:`DropRejected` at the first batch or in the middle, e.g. for a truncated gzip: then nothing of the
    file may be kept.
    """
    reader, packed = reader_of(path.name)
    try:
        if not store.is_regular_file(path):
            raise DropRejected("not a regular file; deliver the file itself, not a link")
        if store.size(path) == 0:
            raise DropRejected(_EMPTY)
        yield from reader.rows(Source(path, packed), required, batch_rows)
    except DropRejected:
        raise
    except PermissionError as error:
        raise DropRejected(f"the file may not be read ({error.strerror}); check its permissions") from None
    except READ_ERRORS as error:
        raise DropRejected(_what_broke(error, reader, packed)) from None
    except reader.errors:
        raise DropRejected(reader.damaged or "the file cannot be read") from None


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


def lines_of(stream: IO[bytes]) -> Iterator[tuple[int, bytes, bool]]:
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
