"""Print docs/tables.md from the table schemas. `make docs` writes the file; a test holds it to the schemas."""

from __future__ import annotations

from moderation_pipelines.eval_sets.tables import EVAL_SET_ITEMS
from moderation_pipelines.orchestration.stages import all_stages
from moderation_pipelines.tables.column import Column
from moderation_pipelines.tables.table import Table


def page() -> str:
    """The page as Markdown."""
    parts = [
        "# Tables",
        "",
        "Made from each stage's `tables.py` by `make docs`. Daily tables lie under",
        "`data/warehouse/<table>/drop_date=YYYY-MM-DD/part-0.parquet`, the others as",
        "`data/warehouse/<table>/part-0.parquet`. `modpipe sql` has them all by these names, with a column `known_at`:",
        "since when a row is known.",
        "",
        "Facts of a column: *null* may be null; *text* holds item text and is never shown outside the table;",
        "*volatile* may differ when an old day is made again; *about* names whom the row is about. Bounds are",
        "inclusive.",
    ]
    for stage in all_stages():
        for table in stage.tables:
            parts += ["", *section(table)]
            if table.name == "releases":
                parts += ["", *section(EVAL_SET_ITEMS)]
    return "\n".join(parts) + "\n"


def section(table: Table) -> list[str]:
    """One table: what a row is, its key, its columns with their facts."""
    where = "daily" if table.daily else "not daily"
    if table is EVAL_SET_ITEMS:
        where = "`items.parquet` of every release; in SQL with `eval_set` and `version` in front"
    rows = [
        f"| `{name}` | {str(c.dtype).replace('|', ' ')} | {facts(c)} | {c.meaning.replace('|', '/')} |"
        for name, c in table.columns.items()
    ]
    return [
        f"## {table.name}",
        "",
        f"One row is {table.row}. Key: {', '.join(f'`{k}`' for k in table.key)}; {where}.",
        "",
        "| column | type | facts | meaning |",
        "| --- | --- | --- | --- |",
        *rows,
    ]


def facts(column: Column) -> str:
    """What is known of a column, in a few words."""
    found = [
        word
        for word, holds in (
            ("null", column.nullable),
            ("unique", column.unique),
            ("text", column.holds_text),
            ("volatile", column.volatile),
        )
        if holds
    ]
    if column.about is not None:
        found.append(f"about the {column.about}")
    if column.minimum is not None and column.maximum is not None:
        found.append(f"{column.minimum:g} to {column.maximum:g}")
    elif column.minimum is not None:
        found.append(f"from {column.minimum:g}")
    elif column.maximum is not None:
        found.append(f"to {column.maximum:g}")
    if column.choices:
        found.append(" / ".join(column.choices))
    if column.unit:
        found.append(column.unit)
    return ", ".join(found)


if __name__ == "__main__":
    print(page(), end="")
