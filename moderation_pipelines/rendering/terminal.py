"""What commands share: where they print, how tables look, the options that mean the same everywhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", help="Home folder. Default: MODERATION_HOME, else the repository root."),
]


class Format(StrEnum):
    """How rows are printed."""

    table = "table"
    csv = "csv"
    json = "json"


def failed(message: str, code: int = 1) -> typer.Exit:
    """Print a message to standard error; raise what is returned to end with ``code``."""
    err.print(escape(message), style="red")
    return typer.Exit(code)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[int] = ()) -> None:
    """Rows as an aligned table; columns by number in ``right`` stand to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape("–" if v is None else str(v)) for v in row))
    wide = Console(soft_wrap=not sys.stdout.isatty(), highlight=False, width=None if sys.stdout.isatty() else 160)
    wide.print(table)


def comma_names(labels: str | None) -> list[str] | None:
    """The names in a text with commas; None for None."""
    return [x.strip() for x in labels.split(",")] if labels else None


def print_frame(frame: Any, format_: Format, columns: Sequence[str]) -> None:
    """Rows for people (some columns, rounded) or for programs (all of them)."""
    if format_ is Format.csv:
        sys.stdout.write(frame.write_csv())
        return
    if format_ is Format.json:
        sys.stdout.write(frame.write_ndjson())
        return
    shown = frame.select(columns)
    numeric = [i for i, dtype in enumerate(shown.dtypes) if dtype.is_numeric()]
    rows = [[f"{v:.4f}" if isinstance(v, float) else v for v in row] for row in shown.iter_rows()]
    print_table(list(columns), rows, numeric)
