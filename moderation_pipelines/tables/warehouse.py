"""Reading and writing warehouse tables. Every write is one rename, so a reader never sees half a file."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from moderation_pipelines.errors import Problem, ReadFailure
from moderation_pipelines.home import Home
from moderation_pipelines.tables.schema import TABLES, Table

# Arrow's own allocator keeps what was freed: reading a long file in chunks would take tens of MiB more.
pa.set_memory_pool(pa.system_memory_pool())


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """A temporary path beside ``final`` that replaces it in one step when the block ends well."""
    final.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{final.name}.", suffix=".tmp", dir=final.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, final)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def write_text(final: Path, text: str) -> None:
    """Write a text file as UTF-8 in one rename."""
    with atomic_path(final) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_parquet(frame: pl.LazyFrame | pl.DataFrame, final: Path) -> None:
    """Write one Parquet file in one rename; same rows, same bytes. Lazy frames are streamed."""
    with atomic_path(final) as temporary:
        if isinstance(frame, pl.DataFrame):
            frame.write_parquet(temporary, compression="zstd", statistics=True)
        else:
            frame.sink_parquet(temporary, compression="zstd", statistics=True)


class Warehouse:
    """The tables of one home.

    ``scan`` gives a lazy frame with the table's columns even where nothing was written yet: that is «no rows»,
    and differs from a file that cannot be read, which raises :class:`ReadFailure`.
    """

    def __init__(self, home: Home) -> None:
        self.home = home

    def folder(self, table: Table) -> Path:
        return self.home.warehouse / table.name

    def file(self, table: Table, day: date | None = None) -> Path:
        if table.daily != (day is not None):
            raise ValueError(f"table {table.name}: a day is {'needed' if table.daily else 'not used'}")
        folder = self.folder(table)
        return folder / "part-0.parquet" if day is None else folder / f"drop_date={day}" / "part-0.parquet"

    def days(self, table: Table) -> list[date]:
        """Days of a daily table that were written, in order."""
        folder = self.folder(table)
        if not folder.exists():
            return []
        return sorted(
            date.fromisoformat(p.name.removeprefix("drop_date="))
            for p in folder.iterdir()
            if p.name.startswith("drop_date=") and (p / "part-0.parquet").is_file()
        )

    def scan(self, table: Table, days: Iterable[date] | None = None) -> pl.LazyFrame:
        """The table's rows, for the named days (those that exist) or for all."""
        if not table.daily:
            files = [f] if (f := self.file(table)).is_file() else []
        elif days is None:
            files = [self.file(table, day) for day in self.days(table)]
        else:
            files = [f for day in sorted(set(days)) if (f := self.file(table, day)).is_file()]
        if not files:
            return table.empty().lazy()
        for file in files:
            try:
                pq.read_metadata(file)
            except (OSError, pa.ArrowException) as error:
                hint = "run its day again, or restore it from a copy"
                raise ReadFailure([Problem(self.home.relative(file), None, f"cannot be read; {hint}")]) from error
        # The table's schema, not the first file's: days written before a column was added read as null there.
        frame = pl.scan_parquet(
            files,
            schema=table.schema,
            hive_partitioning=False,
            glob=False,
            missing_columns="insert",
            extra_columns="ignore",
        )
        return table.conform(frame)

    def write(self, table: Table, frame: pl.DataFrame | pl.LazyFrame, day: date | None = None) -> Path:
        """Replace the table's rows (of one day). Columns are brought into the table's order and types."""
        final = self.file(table, day)
        if isinstance(frame, pl.DataFrame):
            write_parquet(table.conform(frame.lazy()).collect(), final)
        else:
            write_parquet(table.conform(frame), final)
        return final

    def rows(self, table: Table, day: date | None = None) -> int:
        """Rows written for the day, from the file's footer; 0 if nothing was written."""
        file = self.file(table, day)
        return int(pq.read_metadata(file).num_rows) if file.is_file() else 0


def table_named(name: str) -> Table:
    return TABLES[name]
