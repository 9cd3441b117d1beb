"""SQL over the warehouse with DuckDB: every table by its name, read only, nothing else on the disk within reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from moderation_pipelines.foundation.errors import UserError
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.tables.table import Table
from moderation_pipelines.tables.warehouse import Warehouse


@dataclass(frozen=True)
class Releases:
    """Files of rows that lie as ``<eval set>/<version>/items.parquet``, and the table they are."""

    table: Table
    files: list[Path]


def run_sql(
    home: Home, query: str, tables: Sequence[Table], releases: Releases | None = None, as_of: datetime | None = None
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """(column names, rows) of a query over ``tables``, as they stand or as they were known at a time.

    Raises :class:`UserError` with DuckDB's message.
    """
    connection = duckdb.connect(":memory:", config={"threads": 2})
    try:
        folder = str(home.warehouse).replace("'", "''")
        connection.execute(f"SET allowed_directories=['{folder}/']")
        connection.execute("SET enable_external_access=false")
        for name, source in _sources(home, tables, releases, as_of).items():
            connection.execute(f'CREATE VIEW "{name}" AS SELECT {source}')
        connection.execute("SET lock_configuration=true")
        statements = connection.extract_statements(query)
        if len(statements) != 1 or statements[0].type.name not in ("SELECT", "EXPLAIN"):
            raise UserError("SQL: one SELECT at a time; the warehouse is written by the pipeline alone")
        result = connection.execute(statements[0])
        columns = [d[0] for d in result.description or []]
        return columns, result.fetchall()
    except duckdb.Error as error:
        raise UserError(f"SQL: {str(error).strip()}") from None
    finally:
        connection.close()


def _sources(home: Home, tables: Sequence[Table], releases: Releases | None, as_of: datetime | None) -> dict[str, str]:
    """What each view selects, after the word SELECT: the files there are, or no rows of the right columns."""
    warehouse = Warehouse(home)
    out = {}
    for table in tables:
        schemas = warehouse.schemas(table, warehouse.files(table, as_of=as_of))
        out[table.name] = (
            _known(warehouse, table, schemas)
            if schemas
            else _no_rows(list(dict.fromkeys([*table.schema.names(), "known_at"])))
        )
    if releases is not None:
        files, where = releases.files, "parse_path(filename)"
        there = {name for file in files for name in pl.read_parquet_schema(file)}
        named = f"{where}[-3] AS eval_set, {where}[-2] AS version, {', '.join(_columns(releases.table, there))}"
        columns = ["eval_set", "version", *releases.table.schema.names()]
        out[releases.table.name] = f"{named} FROM {_parquet(files, True)} r" if files else _no_rows(columns)
    return out


def _known(warehouse: Warehouse, table: Table, schemas: Mapping[Path, pl.Schema]) -> str:
    """A table's rows with the time since when each is known."""
    if "known_at" in table.columns:
        return f"* FROM {_parquet(list(schemas))}"
    columns = ", ".join(_columns(table, {name for schema in schemas.values() for name in schema}))
    known = ", ".join(
        f"({_quoted(str(f))}, {_quoted(warehouse.known_at(f).isoformat())}::TIMESTAMPTZ)" for f in schemas
    )
    listed = f"(VALUES {known}) k(file, known_at)"
    return f"{columns}, k.known_at FROM {_parquet(list(schemas), True)} r JOIN {listed} ON filename = k.file"


def _columns(table: Table, there: Set[str]) -> list[str]:
    """The table's columns where files have the columns ``there`` together, some of which may be of earlier versions."""
    out = []
    for name, column in table.columns.items():
        names = [f'r."{n}"' for n in (name, column.formerly) if n in there]
        out.append(f'{"coalesce(" + ", ".join(names) + ")" if names else "NULL"} AS "{name}"')
    return out


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _parquet(files: list[Path], filename: bool = False) -> str:
    listed = ", ".join(_quoted(str(f)) for f in files)
    more = ", filename=true" if filename else ""
    return f"read_parquet([{listed}], union_by_name=true, hive_partitioning=false{more})"


def _no_rows(columns: list[str]) -> str:
    return ", ".join(f'NULL AS "{c}"' for c in columns) + " WHERE false"
