"""Which layout the files of a warehouse have, and how one of an earlier layout is brought over.

Layout 1: partitions without anything beside them. Layout 2: ``part-0.json`` beside each, and ``layout.json``. What
can be read of layout 1 is read as it lies; since when its rows are known is then the time its files were written, which
a copy of the home changes: bringing it over writes that down.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from moderation_pipelines.foundation.errors import Problem, UserError
from moderation_pipelines.tables import store
from moderation_pipelines.tables.table import Table

LAYOUT = 2
_MARK = "layout.json"
_AGAIN = "run its day again, from its drops"


def layout_of(warehouse: Path) -> int:
    """Layout of a warehouse; the newest for one without tables. Raises :class:`UserError` for one not known here."""
    mark = warehouse / _MARK
    if not store.is_file(mark):
        has_tables = any(not name.startswith(("_", ".")) for name in store.names(warehouse))
        return 1 if has_tables else LAYOUT
    stored = store.read_json(mark)
    found = stored.get("layout") if isinstance(stored, dict) else None
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise UserError(f'{mark}: must be {{"layout": NUMBER}}; restore it from a copy')
    if found > LAYOUT:
        raise UserError(f"{mark}: layout {found} is newer than this version knows ({LAYOUT}); install that version")
    return found


def mark_new(warehouse: Path) -> None:
    """Note the layout of a warehouse that holds no table yet."""
    if not store.is_file(warehouse / _MARK) and layout_of(warehouse) == LAYOUT:
        mark(warehouse)


def mark(warehouse: Path) -> None:
    store.write_json(warehouse / _MARK, {"layout": LAYOUT})


def stored_name(table: Table, column: str, found: Iterable[str]) -> str | None:
    """The name a column has in a file: today's or an earlier. None where the file lacks it."""
    there = set(found)
    names = (column, table.columns[column].formerly)
    return next((name for name in names if name is not None and name in there), None)


def other_columns(table: Table, found: Iterable[str]) -> list[str]:
    """What a file's columns lack of the table's, and have beside them, in words.

    Not what earlier versions had under another name, nor columns that came later.
    """
    there = list(found)
    names = {name: stored_name(table, name, there) for name in table.columns}
    lacking = [f'has no column "{name}"' for name, at in names.items() if at is None and not table.columns[name].added]
    return lacking + [f'has a column "{name}" that is not known' for name in there if name not in names.values()]


def as_today(table: Table, stored: pl.LazyFrame, found: pl.Schema | None = None) -> pl.LazyFrame:
    """Rows of a file with the names of today; null in columns that came later."""
    found = stored.collect_schema() if found is None else found
    return stored.select(
        pl.lit(None, column.dtype).alias(name)
        if (at := stored_name(table, name, found)) is None and column.added
        else pl.col(at or name).alias(name)
        for name, column in table.columns.items()
    )


def retyped(table: Table, file: Path, shown: str) -> pl.DataFrame | list[Problem] | None:
    """The rows of a file with its table's types; None when they have them; or why they cannot have them.

    A column of another type is cast where every value comes back the same. One that is missing is told: it may have
    had another name, and is filled with nulls only where its table says that it came later.
    """
    stored = pl.scan_parquet(file, glob=False, hive_partitioning=False)
    found, wanted = stored.collect_schema(), table.schema
    if mistakes := other_columns(table, found):
        return [Problem(shown, None, f"{mistake}; {_AGAIN}") for mistake in mistakes]
    if found == wanted:
        return None
    stored = as_today(table, stored, found)
    found, rows = stored.collect_schema(), stored.collect()
    problems, columns = [], []
    for name, dtype in wanted.items():
        try:
            column = rows[name].cast(dtype)
            same = column.cast(found[name]).equals(rows[name], null_equal=True)
        except pl.exceptions.PolarsError:
            same = False
        if not same:
            problems.append(Problem(shown, None, f'column "{name}" is {found[name]}, not {dtype}; {_AGAIN}'))
        else:
            columns.append(column)
    return problems or pl.DataFrame(columns)
