"""Print docs/tables.md from the table schemas. `make docs` writes the file; a test holds it to the schemas."""

from __future__ import annotations

from moderation_pipelines.eval_sets.tables import EVAL_SET_ITEMS
from moderation_pipelines.orchestration.stages import TABLES
from moderation_pipelines.tables.table import Table


def page() -> str:
    """The page as Markdown."""
    parts = [
        "# Tables",
        "",
        "Made from `moderation_pipelines/tables/schema.py` by `make docs`. Daily tables lie under",
        "`data/warehouse/<table>/drop_date=YYYY-MM-DD/part-0.parquet`, the others as",
        "`data/warehouse/<table>/part-0.parquet`. `modpipe sql` has them all by these names.",
    ]
    for table in [*TABLES.values(), EVAL_SET_ITEMS]:
        parts += ["", *section(table)]
    return "\n".join(parts) + "\n"


def section(table: Table) -> list[str]:
    where = "daily" if table.daily else "not daily"
    if table is EVAL_SET_ITEMS:
        where = "`items.parquet` of every release; in SQL with `eval_set` and `version` in front"
    rows = [f"| `{name}` | {str(c.dtype).replace('|', ' ')} | {c.meaning} |" for name, c in table.columns.items()]
    return [
        f"## {table.name}",
        "",
        f"One row is {table.row}. Key: {', '.join(f'`{k}`' for k in table.key)}; {where}.",
        "",
        "| column | type | meaning |",
        "| --- | --- | --- |",
        *rows,
    ]


if __name__ == "__main__":
    print(page(), end="")
