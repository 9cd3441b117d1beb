"""Groups, kinds, owners and metadata of assets, set in one place. Belongs here: how assets present themselves."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg
import polars as pl

from moderation_pipelines.foundation.errors import UserError
from moderation_pipelines.tables.table import Table

OWNERS = ["team:trust-and-safety-data"]
CODE_VERSION = "1"
PREVIEW_ROWS = 8


def table_asset(table: Table, group: str, **more: Any) -> dict[str, Any]:
    """Arguments of ``@asset`` for a warehouse table: group, kinds, owner, description, columns."""
    return {
        "name": table.name,
        "group_name": group,
        "kinds": {"polars", "parquet"},
        "owners": OWNERS,
        "code_version": CODE_VERSION,
        "description": describe(table),
        "metadata": {"dagster/column_schema": column_schema(table)},
        **more,
    }


def table_spec(table: Table, group: str, **more: Any) -> dg.AssetSpec:
    """The same as an ``AssetSpec``, for an op that makes several tables."""
    arguments = table_asset(table, group, **more)
    return dg.AssetSpec(key=arguments.pop("name"), **arguments)


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


def frame_metadata(table: Table, frame: pl.DataFrame, path: object, **more: Any) -> dict[str, Any]:
    """What every table shows: row count, path, preview, and what the asset adds."""
    return {
        "dagster/row_count": frame.height,
        "path": dg.MetadataValue.path(str(path)),
        "preview": preview(table, frame),
        **more,
    }


def check_specs(asset: str, expectations: Iterable[Any]) -> list[dg.AssetCheckSpec]:
    """One asset check per expectation: its id and why it exists."""
    return [
        dg.AssetCheckSpec(e.id, asset=asset, description=f"{e.why[0].upper()}{e.why[1:]}. Severity: {e.severity}.")
        for e in expectations
    ]


def check_results(
    asset: str, specs: Iterable[dg.AssetCheckSpec], audited: Mapping[str, list[dict[str, Any]]]
) -> Iterator[dg.AssetCheckResult]:
    """Per-expectation results over all subjects: passed if it held on each; counts and examples by id."""
    for spec in specs:
        mine = {subject: r for subject, results in audited.items() for r in results if r["id"] == spec.name}
        broken = {subject: r for subject, r in mine.items() if not r["passed"]}
        critical = any(r["severity"] == "critical" for r in mine.values())
        metadata: dict[str, Any] = {
            "subjects": len(mine),
            "rows looked at": sum(r["n"] for r in mine.values()),
        }
        if broken:
            metadata["broken on"] = ", ".join(broken)
            metadata["rows broken"] = sum(r["n_unexpected"] or 0 for r in broken.values())
            metadata["examples by id"] = ", ".join(x for r in broken.values() for x in r["examples"]) or "none"
            metadata["found"] = "; ".join(f"{s}: {r['observed']}" for s, r in broken.items() if r["observed"]) or "–"
        yield dg.AssetCheckResult(
            asset_key=asset,
            check_name=spec.name,
            passed=not broken,
            severity=dg.AssetCheckSeverity.ERROR if critical else dg.AssetCheckSeverity.WARN,
            metadata=metadata,
            description=None if mine else "Nothing to look at yet.",
        )


@contextmanager
def told_plainly() -> Iterator[None]:
    """Turns mistakes of people into failures that say what to do, without a stack of code in front of it."""
    try:
        yield
    except UserError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from None
