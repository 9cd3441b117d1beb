"""How assets present themselves: owners, descriptions, versions, previews, checks. Belongs here: nothing of any
stage."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import polars as pl

from moderation_pipelines.foundation.errors import UserError
from moderation_pipelines.tables.table import Table

OWNERS = ["team:trust-and-safety-data"]
PREVIEW_ROWS = 8


def describe(table: Table) -> str:
    return f"One row is {table.row}."


def column_schema(table: Table) -> dg.TableSchema:
    return dg.TableSchema(
        columns=[dg.TableColumn(name, str(c.dtype), description=c.meaning) for name, c in table.columns.items()]
    )


def preview(table: Table, frame: pl.DataFrame) -> dg.MetadataValue:
    """The first rows as Markdown, without any column that holds item text or names a person."""
    shown = frame.select(table.shown).head(PREVIEW_ROWS)
    if shown.is_empty():
        return dg.MetadataValue.md("no rows")
    head = " | ".join(shown.columns)
    lines = [f"| {head} |", "|" + " --- |" * shown.width]
    for row in shown.iter_rows():
        lines.append("| " + " | ".join(_cell(v) for v in row) + " |")
    return dg.MetadataValue.md("\n".join(lines))


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = " ".join(str(value).split())
    return (text if len(text) <= 60 else text[:57] + "…").replace("|", "\\|").replace("<", "&lt;")


@contextmanager
def user_errors_as_failures() -> Iterator[None]:
    """Turns mistakes of people into failures that say what to do, without a stack of code in front of it."""
    try:
        yield
    except UserError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from None
