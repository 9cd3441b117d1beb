"""A table: its columns in order, the key that names a row, and what a row is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from moderation_pipelines.foundation.errors import did_you_mean
from moderation_pipelines.tables.column import Column


class SchemaMismatch(TypeError):
    """A frame that is not its table: columns missing, extra or of another type. A defect of the stage that made it."""


@dataclass(frozen=True)
class Table:
    """One warehouse table.

    ``daily`` tables lie as ``<name>/drop_date=YYYY-MM-DD/part-0.parquet``, others as ``<name>/part-0.parquet``.
    ``key``: columns that together name a row; no two rows of a partition share them, null counting as a value.
    """

    name: str
    row: str
    key: tuple[str, ...]
    columns: Mapping[str, Column]
    daily: bool = True

    def __post_init__(self) -> None:
        unknown = [c for c in self.key if c not in self.columns]
        if unknown:
            raise SchemaMismatch(f"table {self.name}: key {unknown} is not among its columns")

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def schema(self) -> pl.Schema:
        return pl.Schema({name: column.dtype for name, column in self.columns.items()})

    @property
    def shown(self) -> list[str]:
        """Columns that may be shown outside the table: those that hold no item text and name no person."""
        return [n for n, c in self.columns.items() if not c.holds_text and c.about in (None, "item")]

    @property
    def stable(self) -> list[str]:
        """Columns that are equal whenever a partition is made again from the same inputs."""
        return [n for n, c in self.columns.items() if not c.volatile]

    def empty(self) -> pl.DataFrame:
        return pl.DataFrame(schema=self.schema)

    def exactly(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """The frame in this table's column order and types.

        Raises :class:`SchemaMismatch` for missing, extra and differently typed columns, all at once. Types convert only
        where no value can change: a null column, integers, Int to Float, categories to text, time units.
        """
        extra = [c for c in frame.collect_schema() if c not in self.columns]
        return self._converted(frame, [f'column "{c}" is not known' for c in extra])

    def picked(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """This table's columns of a wider frame, in order and type. Raises as :meth:`exactly` does."""
        return self._converted(frame, [])

    def _converted(self, frame: pl.LazyFrame, mistakes: list[str]) -> pl.LazyFrame:
        schema = frame.collect_schema()
        extra = [c for c in schema if c not in self.columns]
        for name, wanted in self.schema.items():
            if name not in schema:
                mistakes.append(f'column "{name}" is missing{did_you_mean(name, extra) if extra else ""}')
            elif not _fits(schema[name], wanted):
                mistakes.append(f'column "{name}" is {schema[name]}, not {wanted}')
        if mistakes:
            raise SchemaMismatch(f"table {self.name}: " + "; ".join(mistakes))
        return frame.select(pl.col(name).cast(column.dtype) for name, column in self.columns.items())

    def filled(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """The frame with this table's columns: those it lacks are null, others are left out. For rows on the way."""
        there = set(frame.collect_schema().names())
        return frame.select(
            pl.col(name).cast(column.dtype) if name in there else pl.lit(None, dtype=column.dtype).alias(name)
            for name, column in self.columns.items()
        )


def _fits(found: pl.DataType, wanted: pl.DataType) -> bool:
    if found == wanted or found == pl.Null:
        return True
    if found.is_integer() and wanted.is_numeric():
        return True
    if found.is_float() and wanted.is_float():
        return True
    if isinstance(found, pl.Categorical | pl.Enum) and wanted == pl.String:
        return True
    if isinstance(found, pl.Datetime) and isinstance(wanted, pl.Datetime):
        return found.time_zone == wanted.time_zone
    if isinstance(found, pl.List) and isinstance(wanted, pl.List):
        return _fits(found.inner, wanted.inner)  # type: ignore[arg-type]
    if isinstance(found, pl.Struct) and isinstance(wanted, pl.Struct):
        mine, theirs = {f.name: f.dtype for f in found.fields}, {f.name: f.dtype for f in wanted.fields}
        return list(mine) == list(theirs) and all(_fits(mine[k], theirs[k]) for k in mine)  # type: ignore[arg-type]
    return False
