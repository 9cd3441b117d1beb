"""Whether rows are what their table says: one lazy pass over a partition, all mistakes at once."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from moderation_pipelines.tables.column import Column
from moderation_pipelines.tables.table import Table


@dataclass(frozen=True)
class Violation:
    """One rule of the schema that rows broke. ``n``: rows. Names columns and bounds, never a value."""

    rule: str
    column: str
    n: int
    message: str


class SchemaViolation(RuntimeError):
    """Rows that are not what their table says. Nothing was written: the former rows stay in force."""

    def __init__(self, table: Table, found: list[Violation]) -> None:
        self.violations = found
        super().__init__(f"table {table.name}: " + "; ".join(v.message for v in found) + "; nothing was written")


def violations(table: Table, frame: pl.LazyFrame) -> list[Violation]:
    """Every rule of ``table`` that the rows of ``frame`` break: nulls, bounds, closed lists, unique columns, the key.

    ``frame`` has the table's columns and types. Empty when all hold; a frame without rows holds.
    """
    rules = _rules(table)
    counted = [rule.alias(str(i)) for i, (_, _, rule) in enumerate(rules)]
    distinct = _distinct(table)
    hashes = [pl.struct(columns).hash(7).n_unique().alias(f"u{i}") for i, columns in enumerate(distinct)]
    found = frame.select(pl.len().alias("rows"), *counted, *hashes).collect(engine="streaming").row(0, named=True)
    out = [
        Violation(
            rule,
            column,
            int(n),
            f'column "{column}": {n:,} of {found["rows"]:,} rows {_broken(rule, table.columns[column])}',
        )
        for i, (rule, column, _) in enumerate(rules)
        if (n := found[str(i)])
    ]
    for i, columns in enumerate(distinct):
        if found["rows"] - found[f"u{i}"]:
            # Hashes of different rows can be equal: only equal rows are.
            n = frame.select(pl.struct(columns).is_duplicated().sum()).collect().item()
            if n:
                named = ", ".join(columns)
                out.append(
                    Violation("unique", named, int(n), f"key ({named}): {n:,} of {found['rows']:,} rows share it")
                )
    return out


def checked(table: Table, frame: pl.LazyFrame) -> None:
    """Raises :class:`SchemaViolation` with everything that does not hold."""
    found = violations(table, frame)
    if found:
        raise SchemaViolation(table, found)


def _rules(table: Table) -> list[tuple[str, str, pl.Expr]]:
    out: list[tuple[str, str, pl.Expr]] = []
    for name, column in table.columns.items():
        here = pl.col(name)
        if not column.nullable:
            out.append(("null", name, here.is_null().sum()))
        if column.dtype.is_float():
            out.append(("nan", name, here.is_nan().sum()))
        if column.minimum is not None:
            out.append(("minimum", name, (here < column.minimum - _slack(column)).sum()))
        if column.maximum is not None:
            above = here > column.maximum + _slack(column)
            out.append(("maximum", name, (above & here.is_not_nan() if column.dtype.is_float() else above).sum()))
        if column.choices:
            out.append(("one_of", name, (here.is_not_null() & ~here.is_in(list(column.choices))).sum()))
    return out


def _slack(column: Column) -> float:
    """Sums of weights round: a share may be beside its bound by what rounding leaves."""
    return 1e-9 if column.dtype.is_float() else 0.0


def _distinct(table: Table) -> list[tuple[str, ...]]:
    found = dict.fromkeys([table.key, *((name,) for name, c in table.columns.items() if c.unique)])
    return list(found)


def _broken(rule: str, column: Column) -> str:
    if rule == "null":
        return "have no value, and it may not be null"
    if rule == "nan":
        return "are not a number; undefined is null"
    if rule == "minimum":
        return f"are below {column.minimum:g}"
    if rule == "maximum":
        return f"are above {column.maximum:g}"
    return f"are none of {', '.join(column.choices)}"
