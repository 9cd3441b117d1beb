"""The tables of one home: partitions in and out, what is known of each, and what they were before.

A partition is ``<table>/drop_date=<day>/part-0.parquet`` (or ``<table>/part-0.parquet``) with ``part-0.json`` beside
it: since when its rows are known, the hash of its bytes, and the versions of what it was made from. A partition that
is replaced by other rows is kept under ``_replaced/`` for a while, so that what was known at a time can be read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from moderation_pipelines.foundation.errors import Problem, ReadFailure
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.tables import store
from moderation_pipelines.tables.checks import checked
from moderation_pipelines.tables.column import UTC as UTC_TIME
from moderation_pipelines.tables.layout import (
    as_today,
    layout_of,
    mark,
    mark_new,
    other_columns,
    retyped,
    stored_name,
)
from moderation_pipelines.tables.table import Table

# Arrow's own allocator keeps what was freed: reading a long file in chunks would take tens of MiB more.
pa.set_memory_pool(pa.system_memory_pool())

KEEP_REPLACED = timedelta(days=90)
_PART = "part-0.parquet"
_FOOTER = 8
_ROWS_TO_COMPARE = 2_000_000


@dataclass(frozen=True)
class Partition:
    """What is known of one stored partition.

    ``version``: SHA-256 of its bytes. ``known_at``: since when its rows are known. ``made_from``: version of everything
    it was made from, by name. ``file``: where the rows lie.
    """

    version: str
    known_at: datetime
    rows: int
    file: Path
    made_from: Mapping[str, str] = field(default_factory=dict)


def write_parquet(frame: pl.LazyFrame | pl.DataFrame, temporary: Path) -> None:
    """Write rows as Parquet; same rows, same bytes. Lazy frames are streamed."""
    if isinstance(frame, pl.DataFrame):
        frame.write_parquet(temporary, compression="zstd", statistics=True)
    else:
        frame.sink_parquet(temporary, compression="zstd", statistics=True)


class Warehouse:
    """The tables of one home.

    ``scan`` gives a lazy frame with the table's columns even where nothing was written yet: that is "no rows", and
    differs from a file that cannot be read, which raises :class:`ReadFailure`.
    """

    def __init__(self, home: Home, keep_replaced: timedelta = KEEP_REPLACED) -> None:
        self.home = home
        self.keep_replaced = keep_replaced
        layout_of(home.warehouse)  # one not known here is told before anything is read as something else

    def folder(self, table: Table) -> Path:
        return self.home.warehouse / table.name

    def file(self, table: Table, day: date | None = None) -> Path:
        """Where the rows of a table (of one day) lie."""
        if table.daily != (day is not None):
            raise ValueError(f"table {table.name}: a day is {'needed' if table.daily else 'not used'}")
        folder = self.folder(table)
        return folder / _PART if day is None else folder / f"drop_date={day}" / _PART

    def days(self, table: Table) -> list[date]:
        """Days of a daily table that were written, in order."""
        folder = self.folder(table)
        found = [n.removeprefix("drop_date=") for n in store.names(folder) if n.startswith("drop_date=")]
        return sorted(
            date.fromisoformat(d) for d in found if _is_day(d) and store.is_file(folder / f"drop_date={d}" / _PART)
        )

    def _partition_days(self, table: Table) -> Sequence[date | None]:
        """The day of each partition; None for that of a table without days."""
        return self.days(table) if table.daily else [None]

    def scan(
        self, table: Table, days: Iterable[date] | None = None, as_of: datetime | None = None, known_at: bool = False
    ) -> pl.LazyFrame:
        """The table's rows, for the named days (those that exist) or for all.

        ``as_of``: the rows that were known at that time, for as long as replaced partitions are kept. ``known_at``:
        with a column that says since when each row is known.
        """
        files = self.files(table, days, as_of)
        schemas = self.schemas(table, files)
        if not known_at:
            return _scanned(table, schemas) if files else table.empty().lazy()
        parts = [_scanned(table, {f: schemas[f]}).with_columns(known_at=pl.lit(self.known_at(f))) for f in files]
        return pl.concat(parts) if parts else table.empty().lazy().with_columns(known_at=pl.lit(None, UTC_TIME))

    def files(self, table: Table, days: Iterable[date] | None = None, as_of: datetime | None = None) -> list[Path]:
        """The file of each partition, in order of its day: as it stands, or as it was known at a time."""
        wanted: Sequence[date | None]
        if not table.daily:
            wanted = [None]
        elif as_of is None:
            wanted = sorted(self.days(table) if days is None else set(days))
        else:
            kept = [n.removeprefix("drop_date=") for n in store.names(self._replaced(table))]
            there = {*self.days(table), *(date.fromisoformat(d) for d in kept if _is_day(d))}
            wanted = sorted(there if days is None else there & set(days))
        if as_of is None:
            return [f for d in wanted if store.is_file(f := self.file(table, d))]
        known = ([p for p in self.history(table, d) if p.known_at <= as_of] for d in wanted)
        return [max(versions, key=lambda p: p.known_at).file for versions in known if versions]

    def known_at(self, file: Path) -> datetime:
        """Since when the rows of a partition's file are known."""
        return _described(file).known_at

    def partition(self, table: Table, day: date | None = None) -> Partition | None:
        """What is known of a stored partition; None if it was never written."""
        file = self.file(table, day)
        return _described(file) if store.is_file(file) else None

    def version(self, table: Table, day: date | None = None) -> str | None:
        """Version of a partition's rows; None if it was never written."""
        found = self.partition(table, day)
        return None if found is None else found.version

    def history(self, table: Table, day: date | None = None) -> list[Partition]:
        """The partition as it stands and as it was before, oldest first."""
        folder = self._replaced(table, day)
        before = [_described(folder / n) for n in store.names(folder) if n.endswith(".parquet")]
        now = self.partition(table, day)
        found = {p.version: p for p in [*before, *([] if now is None else [now])]}
        return sorted(found.values(), key=lambda p: p.known_at)

    def _replaced(self, table: Table, day: date | None = None) -> Path:
        folder = self.home.warehouse / "_replaced" / table.name
        return folder / f"drop_date={day}" if day is not None else folder if table.daily else folder / "whole"

    def schemas(self, table: Table, files: Iterable[Path]) -> dict[Path, pl.Schema]:
        """The schema of each file. Raises :class:`ReadFailure` for one that has not its table's columns."""
        return {file: self._as_its_table(table, file) for file in files}

    def _as_its_table(self, table: Table, file: Path) -> pl.Schema:
        """The file's schema. Raises :class:`ReadFailure` if it cannot be read or has other columns than its table."""
        try:
            found = _schema_of(file)
        except (OSError, pl.exceptions.PolarsError) as error:
            hint = "cannot be read; run its day again, or restore it from a copy"
            raise ReadFailure([Problem(self.home.relative(file), None, hint)]) from error
        mistakes = other_columns(table, found)
        for name, dtype in table.schema.items():
            at = stored_name(table, name, found)
            if at is not None and found[at] != dtype:
                mistakes.append(f'has column "{at}" as {found[at]}, not {dtype}')
        if mistakes:
            said = f"{', '.join(mistakes)}: it was written by another version; run modpipe migrate, or its day again"
            raise ReadFailure([Problem(self.home.relative(file), None, said)])
        return found

    def write(
        self,
        table: Table,
        frame: pl.DataFrame | pl.LazyFrame,
        day: date | None = None,
        made_from: Mapping[str, str] | None = None,
    ) -> Path:
        """Replace the table's rows (of one day), once they are what the table says.

        Raises :class:`SchemaMismatch` for missing, extra and mistyped columns and :class:`SchemaViolation` for rows
        that break the schema; nothing is written then.
        """
        rows = table.exactly(frame.lazy())
        with self.replacing(table, day, made_from) as temporary:
            write_parquet(rows.collect() if isinstance(frame, pl.DataFrame) else rows, temporary)
        return self.file(table, day)

    @contextmanager
    def replacing(
        self, table: Table, day: date | None = None, made_from: Mapping[str, str] | None = None
    ) -> Iterator[Path]:
        """A temporary Parquet file that becomes the partition when the block ends well and its rows are valid.

        Equal rows keep the stored bytes and the time since when they are known.
        """
        with self.replacing_all([table], day, made_from) as (temporary,):
            yield temporary

    @contextmanager
    def replacing_all(
        self, tables: Sequence[Table], day: date | None = None, made_from: Mapping[str, str] | None = None
    ) -> Iterator[list[Path]]:
        """A temporary Parquet file for each table; all of them become partitions when the rows of all are valid."""
        with store.staging(self.home.warehouse) as folder:
            files = [folder / f"{table.name}.parquet" for table in tables]
            yield files
            for table, file in zip(tables, files, strict=True):
                checked(table, _scanned(table, {file: _schema_of(file)}))
            for table, file in zip(tables, files, strict=True):
                with store.lock(self.home.warehouse / "_locks" / f"{table.name}.lock"):
                    self._put(table, day, file, dict(made_from or {}))

    def _put(self, table: Table, day: date | None, temporary: Path, made_from: dict[str, str]) -> None:
        final = self.file(table, day)
        facts = _facts_of(final)
        mark_new(self.home.warehouse)
        store.make_folder(final.parent)
        before = self.partition(table, day)
        version = store.sha256(temporary)
        same = before is not None and (before.version == version or _equal_rows(table, final, temporary))
        if same and before is not None:
            entry = _entry(before.version, before.known_at, before.rows, final, made_from)
            store.write_json(facts, {"current": entry})
            return
        entry = _entry(version, datetime.now(UTC), pq.read_metadata(temporary).num_rows, temporary, made_from)
        former = None
        if before is not None:
            former = _entry(before.version, before.known_at, before.rows, final, dict(before.made_from))
            kept = self._replaced(table, day) / f"{before.version[:16]}.parquet"
            store.keep_copy(final, kept)
            store.write_json(_facts_of(kept), {"current": former})
            self._forget(table, day)
        # Facts first, with those of before: whichever rename a kill comes between, the rows have theirs.
        store.write_json(facts, {"current": entry, **({} if former is None else {"former": former})})
        store.put(temporary, final)

    def _forget(self, table: Table, day: date | None) -> None:
        """Remove kept partitions whose successor has been known for longer than they are kept."""
        folder, now = self._replaced(table, day), datetime.now(UTC)
        for old, later in pairwise(self.history(table, day)):
            if now - later.known_at > self.keep_replaced and old.file.parent == folder:
                store.remove(old.file)
                store.remove(_facts_of(old.file))

    def migrate(self, tables: Iterable[Table]) -> Iterator[tuple[Table, str]]:
        """Bring every partition over to the layout of today, and say of each table what was done; rows stay, and since
        when they are known. Raises :class:`ReadFailure` naming every file that cannot be, after all others were."""
        problems: list[Problem] = []
        tables, again = list(tables), {}
        for table in tables:
            changed, described = 0, 0
            for day in self._partition_days(table):
                file = self.file(table, day)
                if not store.is_file(file):
                    continue
                made = retyped(table, file, self.home.relative(file))
                if isinstance(made, list):
                    problems += made
                    continue
                with store.lock(self.home.warehouse / "_locks" / f"{table.name}.lock"):
                    known = _described(file)
                    if made is not None:
                        with store.replacing(file) as temporary:
                            write_parquet(made, temporary)
                    described += not store.is_file(_facts_of(file))
                    changed += made is not None
                    version = store.sha256(file)
                    again[known.version] = version
                    entry = _entry(version, known.known_at, known.rows, file, dict(known.made_from))
                    store.write_json(_facts_of(file), {"current": entry})
            if changed or described:
                yield table, f"{described} partitions described, {changed} with other columns rewritten"
        self._now_made_from(tables, {old: new for old, new in again.items() if old != new})
        if problems:
            raise ReadFailure(problems)
        mark(self.home.warehouse)

    def _now_made_from(self, tables: Sequence[Table], again: Mapping[str, str]) -> None:
        """What was made from rows that have another version now, and are the same, is not stale for that."""
        for table in tables if again else ():
            for day in self._partition_days(table):
                known = self.partition(table, day)
                if known is None or not set(known.made_from.values()) & set(again):
                    continue
                made_from = {name: again.get(version, version) for name, version in known.made_from.items()}
                entry = _entry(known.version, known.known_at, known.rows, known.file, made_from)
                store.write_json(_facts_of(known.file), {"current": entry})

    def rows(self, table: Table, day: date | None = None) -> int:
        """Rows written for the day, from the file's footer; 0 if nothing was written."""
        file = self.file(table, day)
        return int(pq.read_metadata(file).num_rows) if store.is_file(file) else 0


def _is_day(text: str) -> bool:
    try:
        return str(date.fromisoformat(text)) == text
    except ValueError:
        return False


def _scanned(table: Table, schemas: Mapping[Path, pl.Schema]) -> pl.LazyFrame:
    """The rows of files of the table, with the names of today."""
    wanted = set(table.schema)
    if all(set(found) == wanted for found in schemas.values()):
        return pl.scan_parquet(list(schemas), schema=table.schema, hive_partitioning=False, glob=False)
    parts = [
        as_today(table, pl.scan_parquet(f, glob=False, hive_partitioning=False), found) for f, found in schemas.items()
    ]
    return pl.concat(parts)


def _schema_of(file: Path) -> pl.Schema:
    return pl.scan_parquet(file, glob=False, hive_partitioning=False).collect_schema()


def _footer(file: Path) -> str:
    """Hash of a Parquet file's footer: sizes, offsets and bounds of every column. Tells files apart at little cost."""
    length = int.from_bytes(store.tail(file, _FOOTER)[:4], "little")
    return hashlib.sha256(store.tail(file, length + _FOOTER)).hexdigest()[:24]


def _entry(version: str, known_at: datetime, rows: int, file: Path, made_from: dict[str, str]) -> dict[str, Any]:
    return {
        "version": version,
        "known_at": known_at.isoformat(),
        "rows": rows,
        "footer": _footer(file),
        "made_from": dict(sorted(made_from.items())),
    }


def _facts_of(file: Path) -> Path:
    """Where the facts of a partition's file lie, wherever it lies itself."""
    return file.with_suffix(".json")


def _described(file: Path) -> Partition:
    """The facts that belong to the file; of one without facts (an older layout, or put there by hand) what it shows."""
    footer, facts = _footer(file), _facts_of(file)
    stored = store.read_json(facts) if store.is_file(facts) else {}
    for entry in (stored.get("current"), stored.get("former")):
        if entry and entry["footer"] == footer:
            known_at = datetime.fromisoformat(entry["known_at"])
            return Partition(entry["version"], known_at, entry["rows"], file, entry["made_from"])
    known_at = datetime.fromtimestamp(store.changed_at(file), UTC)
    return Partition(store.sha256(file), known_at, int(pq.read_metadata(file).num_rows), file)


def _equal_rows(table: Table, one: Path, other: Path) -> bool:
    """Whether two files hold the same rows, whatever wrote them. Large ones are taken to differ when their bytes do."""
    rows = pq.read_metadata(one).num_rows
    if rows != pq.read_metadata(other).num_rows or rows > _ROWS_TO_COMPARE:
        return False
    schema = _schema_of(one)
    if schema != _schema_of(other):
        return False
    first, second = pl.collect_all(_scanned(table, {f: schema}) for f in (one, other))
    return first.equals(second)
