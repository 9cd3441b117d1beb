"""CSV: a header, commas, quotes doubled inside quotes, UTF-8."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator, Sequence
from typing import IO

from moderation_pipelines.ingest.looks_like import first_line_is
from moderation_pipelines.ingest.reading import (
    DropRejected,
    RawRow,
    Reader,
    Source,
    batched,
    checked_header,
    lines_of,
)

RECORD_LINES = 1_000
REREAD = 64 * 1024 * 1024


class _CutLine(Exception):
    """A record is too long to be read, or a line too long stands inside it."""


class _LineFeed:
    """Physical lines for the csv module, with a way back: a record that turns out broken gives its lines back."""

    def __init__(self, stream: IO[bytes], record: int) -> None:
        self.record = record
        self._source = lines_of(stream, record)
        self._bytes = self._reread = 0
        self._waiting: deque[tuple[int, bytes, bool]] = deque()
        self.taken: list[tuple[int, bytes, bool]] = []

    def peek(self) -> tuple[int, bytes, bool] | None:
        """The line the next record begins with; the record before it is done with."""
        self.taken, self._bytes = [], 0
        if not self._waiting:
            line = next(self._source, None)
            if line is None:
                return None
            self._waiting.append(line)
        return self._waiting[0]

    def skip(self) -> None:
        self._waiting.popleft()

    def give_back(self) -> None:
        """All lines of the record but its first will be read again, as records of their own.

        Raises :class:`DropRejected` where that happens without end: then no line can be trusted.
        """
        self._waiting.extendleft(reversed(self.taken[1:]))
        self._reread += self._bytes - len(self.taken[0][1])
        if self._reread > REREAD:
            raise DropRejected(
                f"quotes are opened and not closed, again and again up to line {self.taken[0][0]:,}; close quotes, and "
                "double those inside a cell"
            )
        self.taken = []

    def __iter__(self) -> _LineFeed:
        return self

    def __next__(self) -> str:
        line = self._waiting.popleft() if self._waiting else next(self._source)
        self.taken.append(line)
        self._bytes += len(line[1])
        if line[2] or self._bytes > self.record:
            raise _CutLine
        return line[1].decode("utf-8", "surrogateescape")


def _csv_records(feed: _LineFeed) -> Iterator[tuple[int, list[str] | None, RawRow | None]]:
    """(line, cells, None) of each record, or (line, None, broken row).

    A record that is not CSV costs its first line only. One of over 1,000 lines that is CSV is one broken row: what
    stands in its cells are no rows.
    """
    reader = csv.reader(feed, strict=True)
    while (first := feed.peek()) is not None:
        number, raw, cut = first
        if cut:
            feed.skip()
            message = f"line is over {feed.record:,} bytes; one item or vote per row"
            yield number, None, _broken(number, raw, "overlong_line", message)
            continue
        try:
            cells = next(reader)
        except (csv.Error, _CutLine) as error:
            feed.give_back()
            reader = csv.reader(feed, strict=True)
            what = error if isinstance(error, csv.Error) else "a quote is opened and not closed"
            message = f"not valid CSV ({what}); close quotes, and double those inside a cell"
            yield number, None, _broken(number, raw.rstrip(b"\r\n"), "broken_csv", message)
            continue
        if len(feed.taken) > RECORD_LINES:
            message = f"a cell makes the row {len(feed.taken):,} lines long; at most {RECORD_LINES:,}"
            yield number, None, _broken(number, raw, "overlong_line", message)
        else:
            yield number, cells, None


def _broken(number: int, raw: bytes, rule: str, message: str) -> RawRow:
    return RawRow(number, {}, raw, rule, message, len(raw))


def csv_rows(source: Source, required: Sequence[str], batch_rows: int) -> Iterator[list[RawRow]]:
    """A row per record; empty cells are absent. Raises :class:`DropRejected` for a header that cannot be used."""
    with source.text() as stream:
        yield from _rows(source, stream, required, batch_rows)


def _rows(source: Source, stream: IO[bytes], required: Sequence[str], batch_rows: int) -> Iterator[list[RawRow]]:
    csv.field_size_limit(max(csv.field_size_limit(), source.bounds.record))
    feed = _LineFeed(stream, source.bounds.record)
    records = _csv_records(feed)
    _, cells, broken = next(records, (1, [], None))
    if broken is not None and isinstance(broken.raw, bytes) and b"\r" in broken.raw:
        raise DropRejected("lines end in CR only; save the file with LF at the ends of lines")
    if broken is not None or cells is None:
        raw = b"" if broken is None or isinstance(broken.raw, str) else broken.raw
        said = first_line_is(raw.decode("utf-8", "replace").replace('"', ""), required)
        raise DropRejected(said or f"the header is {broken.message if broken else 'missing'}")
    header = [name.strip() for name in cells]
    while len(header) > 1 and not header[-1]:
        header.pop()  # a spreadsheet's empty columns
    if any("\udc80" <= c <= "\udcff" for name in header for c in name):
        raise DropRejected("the header is not UTF-8; save the file as UTF-8")
    if any(c not in header for c in required) and (said := first_line_is(",".join(cells), required)):
        raise DropRejected(said)
    checked_header(header, required, source.known, source.bounds.columns)
    yield from batched((_csv_row(n, c, b, header) for n, c, b in records if c != []), batch_rows)


def _csv_row(line: int, cells: list[str] | None, broken: RawRow | None, header: Sequence[str]) -> RawRow:
    if broken is not None or cells is None:
        assert broken is not None
        return broken
    row = RawRow(line, {})
    while len(cells) > len(header) and not cells[-1]:
        cells.pop()
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
    row.size = len(joined) + sum(map(len, row.fields))
    return row


READER = Reader("csv", 2, (".csv",), csv_rows)
